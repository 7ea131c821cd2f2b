"""What the control half knows of a checkpoint trained elsewhere: its files, digest and method."""

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
"""Starts of LoRA that change the base in a way that loading does not repeat."""
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
"""peft_type -> methods that load such a checkpoint, and their fields that its config tells."""

_ADAPTERS = frozenset(method for methods, _ in _KINDS.values() for method in methods)


class CheckpointSpec(BaseModel):
    """A checkpoint trained elsewhere: PEFT's folder of an adapter, or a whole model's."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    path: str
    """A folder with adapter_config.json and adapter_model.safetensors, as PEFT saves an adapter,
    or with config.json and safetensors, as transformers saves a model."""
    model: str | None = None
    """The model it was trained from, a key of `models:`; default: the suite's only one."""
    method: Any = None
    """Default: told by adapter_config.json, and `full` where there is none. An adapter that was
    trained on a 4-bit base says so only here: `method: qlora`; else it is scored on whole weights.
    """


@dataclass(frozen=True)
class CheckpointInfo:
    """A resolved checkpoint.

    Attributes:
        identity: what is hashed: the content digest of its files.
        method: the name of its method. fields: that method's fields, as far as they are told.
        warnings: what may be wrong with it, and cannot be known.
    """

    folder: Path
    identity: Mapping[str, Any]
    method: str
    fields: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


def resolve_checkpoint(
    folder: Path,
    base: ModelInfo,
    given: tuple[str, dict[str, Any]] | None,
    digest: Callable[[Path], str],
    where: str,
) -> CheckpointInfo:
    """Check a checkpoint's files against the model it is said to be trained from.

    Args:
        given: the method that the suite names, and the fields it gives.
        digest: sha256 of a file.

    Raises:
        ModelError: no checkpoint, pickled weights only, code of its own, of another method or
            another base.
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
        name, fields = given or ("full", {})
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
            f"its adapter is for {config['task_type']}, and writes no answers",
            where=where,
            fix="name the checkpoint of a language model (task_type CAUSAL_LM)",
        )
    name, fields = told_by(config, given, where)
    require_fitting_layers(folder, base, where)
    warnings = [_other_base(config, base, where)]
    rows = resized_to(folder, base, where)
    if (folder / "tokenizer_config.json").is_file():
        require_special_tokens(folder, rows or text_config(base.config).get("vocab_size"), where)
    if rows is not None:
        warnings.append(
            f"{where}: it brings embeddings of {rows} tokens, and the model's are resized to them"
        )
    told = tuple(warning for warning in warnings if warning)
    return CheckpointInfo(folder, identity, name, fields, told)


def _refuse_code(folder: Path, where: str) -> None:
    """A base's `trust_remote_code` is trust in its author, not in a checkpoint's."""
    for name in ("config.json", "tokenizer_config.json", ADAPTER_CONFIG):
        path = folder / name
        if path.is_file() and "auto_map" in read_object(path, where):
            raise ModelError(
                f"{path} names code of its own (auto_map), which is not run",
                where=where,
                fix="remove auto_map from the file, so that the model's own code is used",
            )


def require_weights(folder: Path, where: str) -> None:
    """An adapter's own safetensors file: without it PEFT turns to a pickle, which nothing hashed.

    Raises:
        ModelError: it is not there.
    """
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            f"{folder} holds no {ADAPTER_WEIGHTS}",
            where=where,
            fix="name a folder that PEFT's save_pretrained() wrote; pickled weights are not loaded",
        )


def read_config(folder: Path, where: str) -> dict[str, Any]:
    """adapter_config.json of a folder.

    Raises:
        ModelError: it is not there, or is no JSON object.
    """
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        raise ModelError(
            f"{folder} holds no {ADAPTER_CONFIG}",
            where=where,
            fix="name a folder that PEFT's save_pretrained() wrote",
        )
    return read_object(path, where)


def told_by(
    config: Mapping[str, Any], given: tuple[str, dict[str, Any]] | None, where: str
) -> tuple[str, dict[str, Any]]:
    """The method of an adapter_config.json, and its fields.

    A LoRA is `dora`, `rslora` or `pissa` where the config says so, else `lora`; nothing in it tells
    whether its base was in 4 bits.

    Args:
        given: what the user says of it; where both tell, the user's fields stand.

    Raises:
        ModelError: a type that no method here loads, or that the given method does not.
    """
    kind = str(config.get("peft_type")).upper()
    if given is not None and given[0] not in (*_ADAPTERS, "full"):
        return given  # a method from elsewhere knows its own checkpoints
    if kind not in _KINDS:
        raise ModelError(
            f"a checkpoint of peft_type {config.get('peft_type')!r}, which no method here loads",
            where=where,
            fix=f"known: {', '.join(_KINDS)}",
        )
    methods, names = _KINDS[kind]
    if given is not None and given[0] not in methods:
        raise ModelError(
            f"a checkpoint of peft_type {kind}, which method '{given[0]}' cannot load",
            where=f"{where}.method",
            fix=f"choose {' or '.join(methods)}",
        )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_REBASED):
        raise ModelError(
            f"it started as '{start}', which changed its base in a way that loading cannot repeat",
            where=where,
            fix="convert it to plain LoRA where it was trained: save_pretrained(...,"
            " path_initial_model_for_weight_conversion=...)",
        )
    fields = {n: config[n] for n in names if config.get(n) is not None and _plain(n, config[n])}
    if kind == "P_TUNING":
        fields["encoder"] = str(config.get("encoder_reparameterization_type", "mlp")).lower()
    if kind == "PREFIX_TUNING":
        fields["projection"] = bool(config.get("prefix_projection"))
    name = given[0] if given is not None else _lora(fields) if kind == "LORA" else methods[0]
    return name, {**fields, **(given[1] if given is not None else {})}


def _plain(name: str, value: Any) -> bool:
    """Whether a method's field can hold it; patterns and other starts only matter to training."""
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
    """A warning where the adapter names another base; a path from elsewhere proves nothing."""
    named = str(config.get("base_model_name_or_path") or "").rstrip("/")
    if not named or Path(named).name == Path(base.source).name:
        return None
    return (
        f"{where}: by its {ADAPTER_CONFIG} it was trained on '{named}', and it is put on"
        f" '{base.source}'; make sure that they are the same weights"
    )
