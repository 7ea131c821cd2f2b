"""Checks a checkpoint that was trained elsewhere: its files, digest and method. Imports no
torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from harness.core.errors import ModelError
from harness.models.checks import require_special_tokens, text_config
from harness.models.files import ModelInfo
from harness.models.fit import (
    read_object,
    require_fitting_layers,
    require_language_model,
    require_same_architecture,
    resized_to,
)
from harness.models.folder import content_identity

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_LORA_FIELDS = (
    "r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "use_dora", "bias",
    "init_lora_weights",
)  # fmt: skip
_REBASED = ("pissa_niter", "loftq", "corda")
"""Initialisations of LoRA that change the base in a way that loading does not repeat."""
_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "LORA": (("lora", "dora", "rslora", "pissa", "qlora"), _LORA_FIELDS),
    "IA3": (("ia3",), ()),
    "BOTTLENECK": (
        ("bottleneck",),
        ("placement", "reduction_factor", "activation", "dropout", "scaling"),
    ),
    "PROMPT_TUNING": (("prompt_tuning",), ("num_virtual_tokens",)),
    "P_TUNING": (("p_tuning",), ("num_virtual_tokens", "encoder_hidden_size")),
    "PREFIX_TUNING": (("prefix_tuning",), ("num_virtual_tokens",)),
}
"""peft_type -> the methods that load such a checkpoint, and the fields that its config holds."""

_ADAPTERS = frozenset(method for methods, _ in _KINDS.values() for method in methods)


class CheckpointSpec(BaseModel):
    """A checkpoint trained elsewhere: a folder with an adapter, as PEFT saves it, or with a whole
    model."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    path: str
    """A folder with adapter_config.json and adapter_model.safetensors, as PEFT saves an adapter,
    or with config.json and safetensors, as transformers saves a model."""
    model: str | None = None
    """The model it was trained from, a key of `models:`; default: the suite's only one."""
    method: Any = None
    """Default: read from adapter_config.json; `full` if there is no such file. Set `method: qlora`
    for an adapter that was trained on a 4-bit base, since its files do not say so; else it is
    scored on whole weights."""


@dataclass(frozen=True)
class CheckpointInfo:
    """A resolved checkpoint.

    Attributes:
        identity: the part of it that is hashed: the content digest of its files.
        method: the name of its method.
        fields: the method's fields, as far as they are known.
        warnings: possible faults that cannot be checked.
    """

    folder: Path
    identity: Mapping[str, Any]
    method: str
    fields: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


def resolve_checkpoint(
    folder: Path,
    base: ModelInfo,
    method: tuple[str, dict[str, Any]] | None,
    digest: Callable[[Path], str],
    where: str,
) -> CheckpointInfo:
    """Check a checkpoint's files against the model it was trained from, according to the suite.

    Args:
        base: that model.
        method: the name and fields of the method that the suite gives; None if it gives none.
        digest: computes the sha256 of a file.
        where: the place in the suite, for messages.

    Raises:
        ModelError: it is not a checkpoint, has only pickled weights, brings its own code, or
            belongs to another method or another base.
    """
    _refuse_code(folder, where)
    adapter = folder / ADAPTER_CONFIG
    if not adapter.is_file():
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"{folder} holds neither {ADAPTER_CONFIG} nor config.json",
                where=where,
                fix="name a folder that save_pretrained() of PEFT or of transformers wrote",
            )
        identity = content_identity(folder, digest, where)
        require_language_model(folder, where)
        require_same_architecture(folder, base, where)
        name, fields = method or ("full", {})
        if name in _ADAPTERS:
            raise ModelError(
                f"{folder} holds a whole model, which method '{name}' cannot load",
                where=f"{where}.method",
                fix="leave `method` out (it is full), or name the adapter's folder",
            )
        return CheckpointInfo(folder, identity, name, fields)
    identity = content_identity(folder, digest, where)
    require_weights(folder, where)
    config = read_config(folder, where)
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise ModelError(
            f"its adapter is for {config['task_type']}, and generates no answers",
            where=where,
            fix="name the checkpoint of a language model (task_type CAUSAL_LM)",
        )
    name, fields = adapter_method(config, method, where)
    require_fitting_layers(folder, base, where)
    warnings = [_other_base(config, base, where)]
    rows = resized_to(folder, base, where)
    if (folder / "tokenizer_config.json").is_file():
        require_special_tokens(folder, rows or text_config(base.config).get("vocab_size"), where)
    if rows is not None:
        warnings.append(
            f"{where}: it brings embeddings of {rows} tokens, and the model's are resized to them"
        )
    return CheckpointInfo(folder, identity, name, fields, tuple(filter(None, warnings)))


def _refuse_code(folder: Path, where: str) -> None:
    """Refuse a checkpoint with its own code: the model's `trust_remote_code` trusts the model's
    authors, not the checkpoint's.

    Raises:
        ModelError: one of its configs names code.
    """
    for name in ("config.json", "tokenizer_config.json", ADAPTER_CONFIG):
        path = folder / name
        if path.is_file() and "auto_map" in read_object(path, where):
            raise ModelError(
                f"{path} names code of its own (auto_map), which is not run",
                where=where,
                fix="remove auto_map from the file, so that the model's own code is used",
            )


def require_weights(folder: Path, where: str) -> None:
    """Check that an adapter has a safetensors file. Without it PEFT would load a pickle, which was
    not hashed.

    Raises:
        ModelError: it has none.
    """
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            f"{folder} holds no {ADAPTER_WEIGHTS}",
            where=where,
            fix="name a folder that PEFT's save_pretrained() wrote; pickled weights are not loaded",
        )


def read_config(folder: Path, where: str) -> dict[str, Any]:
    """The content of a folder's adapter_config.json.

    Raises:
        ModelError: there is no such file, or it is not a JSON object.
    """
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        raise ModelError(
            f"{folder} holds no {ADAPTER_CONFIG}",
            where=where,
            fix="name a folder that PEFT's save_pretrained() wrote",
        )
    return read_object(path, where)


def adapter_method(
    config: Mapping[str, Any], method: tuple[str, dict[str, Any]] | None, where: str
) -> tuple[str, dict[str, Any]]:
    """The name and the fields of the method that an adapter_config.json belongs to.

    A LoRA is `dora`, `rslora` or `pissa` if the config says so, else `lora`. The config does not
    say whether the base was in 4 bits.

    Args:
        config: the content of adapter_config.json.
        method: the name and fields that the user gives; these fields override the config's.

    Raises:
        ModelError: no method here loads such a checkpoint, or the user's method does not.
    """
    kind = str(config.get("peft_type")).upper()
    if method is not None and method[0] not in (*_ADAPTERS, "full"):
        return method  # a method of another package reads its own checkpoints
    if kind not in _KINDS:
        raise ModelError(
            f"a checkpoint of peft_type {config.get('peft_type')!r}, which no method here loads",
            where=where,
            fix=f"known: {', '.join(_KINDS)}",
        )
    methods, names = _KINDS[kind]
    if method is not None and method[0] not in methods:
        raise ModelError(
            f"a checkpoint of peft_type {kind}, which method '{method[0]}' cannot load",
            where=f"{where}.method",
            fix=f"choose {' or '.join(methods)}",
        )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_REBASED):
        raise ModelError(
            f"its initialisation '{start}' changed the base in a way that loading cannot repeat",
            where=where,
            fix="convert it to plain LoRA where it was trained: save_pretrained(...,"
            " path_initial_model_for_weight_conversion=...)",
        )
    fields = {n: config[n] for n in names if config.get(n) is not None and _plain(n, config[n])}
    if kind == "P_TUNING":
        fields["encoder"] = str(config.get("encoder_reparameterization_type", "mlp")).lower()
    if kind == "PREFIX_TUNING":
        fields["projection"] = bool(config.get("prefix_projection"))
    name = method[0] if method is not None else _lora(fields) if kind == "LORA" else methods[0]
    return name, {**fields, **(method[1] if method is not None else {})}


def _plain(name: str, value: Any) -> bool:
    """True if a method's field can hold the value. Patterns and other initialisations only matter
    in training."""
    if name == "target_modules":
        return isinstance(value, list)
    return name != "init_lora_weights" or value in (True, "gaussian", "pissa", "olora")


def _lora(fields: Mapping[str, Any]) -> str:
    if fields.get("use_dora"):
        return "dora"
    if fields.get("use_rslora"):
        return "rslora"
    return "pissa" if fields.get("init_lora_weights") == "pissa" else "lora"


def _other_base(config: Mapping[str, Any], base: ModelInfo, where: str) -> str | None:
    """A warning if the adapter names another base. It is no error, since the name may be a path of
    another machine."""
    named = str(config.get("base_model_name_or_path") or "").rstrip("/")
    if not named or Path(named).name == Path(base.source).name:
        return None
    return (
        f"{where}: its {ADAPTER_CONFIG} says that it was trained on '{named}', and it is put on"
        f" '{base.source}'; make sure that they are the same weights"
    )
