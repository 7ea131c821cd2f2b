"""A model: what is known of its files without torch, and how a worker loads them with torch."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from harness.core.device import set_up
from harness.models.checks import number, text_config
from harness.models.endpoint import ServedModel
from harness.models.folder import held
from harness.models.generation_defaults import plain_config
from harness.models.layers import Layer, layers_of, parameters_of
from harness.models.precision import in_float32
from harness.models.spec import DEFAULT_ATTENTION


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
