"""Methods whose steps a service computes, and which get a LoRA back: what a stage hands to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness.core.component import NotHashed
from harness.data.steps import Schedule
from harness.methods._experts import has_experts
from harness.methods._layers import loaded_layers
from harness.methods._peft.shared import PeftMethod
from harness.methods.lora import Lora
from harness.models.endpoint import plain_address, variable_name
from harness.models.files import ModelInfo
from harness.models.layers import Layer

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

ATTENTION = frozenset({"self_attn", "self_attention", "attention", "attn", "linear_attn"})
"""What model families call the module of a block's attention."""
_OTHERWISE = (
    "use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias",
)  # fmt: skip
"""Options with which PEFT computes more than a plain LoRA."""
_MOST_ALPHA = 2**20


class TrainingPrices(BaseModel):
    """What a service charges for a million tokens that it trains on, in any currency."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    training: float = Field(ge=0, allow_inf_nan=False)
    """For a million tokens of the training rows, in each pass over them."""


@dataclass(frozen=True)
class Work:
    """A training that a service is to compute.

    Attributes:
        model: the base's name on the hub; None for a folder.
        key: the service's; None: none is sent.
        state: what `keep` has kept, in earlier attempts too.
        keep: keeps fields for a later attempt, at once and on disk.
        done: called with a step's number from 1, and its loss, once it is computed.
        note: tells a person something at once.
    """

    model: str | None
    schedule: Schedule
    seed: int
    key: str | None = field(repr=False)
    state: Mapping[str, Any]
    keep: Callable[..., None]
    done: Callable[[int, float], None]
    note: Callable[[str], None]


@dataclass(frozen=True)
class Weights:
    """Where the trained weights are to be had.

    Attributes:
        files: name of a file -> its address; empty where they are in an archive.
        archive: the address of a tar with them.
        headers: sent to `origin` alone.
        loss: of the first step's rows after the training, where the service was asked.
        about: further facts for the record.
    """

    files: Mapping[str, str]
    archive: str | None
    origin: str
    headers: Mapping[str, str] = field(repr=False)
    loss: float | None
    about: Mapping[str, Any]


class Elsewhere(PeftMethod):
    """A LoRA whose steps a service computes. The rows are rendered and tokenised here, the order,
    the schedule and the optimizer are those of the objective, and the weights come back."""

    elsewhere = True
    traits = frozenset({"gradient_checkpointing", "merge", "swap", "mixed_batch"})

    base_url: str = ""
    """Address of the service."""
    api_key_env: Annotated[str | None, NotHashed] = None
    """Name of the environment variable with the key, in capitals; null sends no key."""
    base_model: str | None = None
    """The model's name at the service; default: its name on the hub."""
    r: int = Field(16, gt=0)
    """Rank of the update."""
    train_attn: bool = True
    """Adapt the attention's layers."""
    train_mlp: bool = True
    """Adapt the layers of the MLP."""
    train_unembed: bool = False
    """Adapt the language model's head."""
    save_steps: Annotated[int, NotHashed] = Field(50, gt=0)
    """The state is saved at the service every so many steps; a killed run goes on from there."""
    timeout: Annotated[float, NotHashed] = Field(1800.0, gt=0)
    """Seconds to wait for the answer to one request, however often it is tried."""
    download_timeout: Annotated[float, NotHashed] = Field(3600.0, gt=0)
    """Seconds in which each file of the trained weights must have come back, however often it is
    tried."""
    prices: Annotated[TrainingPrices | None, NotHashed] = None
    """What a million tokens cost, as `{training: 0.4}`: plans and reports then show the money."""

    _address = field_validator("base_url")(plain_address)
    _variable = field_validator("api_key_env", mode="before")(variable_name)

    @field_validator("train_unembed")
    @classmethod
    def _trains(cls, value: bool, info: Any) -> bool:
        if not (value or info.data.get("train_attn") or info.data.get("train_mlp")):
            raise ValueError("one of train_attn, train_mlp and train_unembed must be true")
        return value

    def train(self, work: Work) -> Weights:
        """Have the service compute the steps, going on from the last state that was saved.

        Raises:
            StageFailed: the service refuses or fails.
        """
        raise NotImplementedError

    def lora(self, layers: Mapping[str, Layer]) -> Lora:
        """The method that trains the same weights here.

        Args:
            layers: of the model, by module name.
        """
        if self.train_attn and self.train_mlp and not self.train_unembed:
            return Lora(r=self.r)  # every linear layer
        return Lora(r=self.r, target_modules=[n for n in layers if self._adapts(n, layers[n])])

    def _adapts(self, name: str, layer: Layer) -> bool:
        if layer.kind != "linear":
            return layer.kind == "head" and self.train_unembed
        attends = any(part in ATTENTION for part in name.split("."))
        return self.train_attn if attends else self.train_mlp

    def price(self, tokens: float) -> float | None:
        """What training on so many tokens costs; None if the price is not told."""
        return None if self.prices is None else tokens * self.prices.training / 1e6

    def runs(self) -> tuple[str, ...]:
        key = f", with the key in {self.api_key_env}" if self.api_key_env else ""
        return (f"training rows are sent as tokens to {self.base_url}{key}, which charges for it",)

    def refuse_objective(self, objective: str, start: str | None) -> str | None:
        return None if start is None else f"{self.name} goes on from no checkpoint of {start}"

    def refuse_model(self, info: ModelInfo) -> str | None:
        if self.base_model is None and info.source and info.revision is None:
            return "it is a folder; name the model at the service with base_model"
        if has_experts(info):
            return "it is a mixture of experts, whose adapters come back in a format of the service"
        layers = info.layers()
        return self.lora(layers).refuse_model(info) if layers else None

    def config(self, base: PreTrainedModel, also_train: tuple[str, ...]) -> PeftConfig:
        return self.lora(loaded_layers(base)).config(base, also_train)

    def gates(self, model: Any) -> dict[str, str]:
        return Lora(r=self.r).gates(model)

    def adapts_head(self, info: ModelInfo) -> bool:
        return self.train_unembed

    def remarks(self, info: ModelInfo) -> tuple[str, ...]:
        return ("lora_alpha and the number format of the training are the service's own",)

    def count_trainable(self, info: ModelInfo) -> int | None:
        return self.lora(info.layers()).count_trainable(info)


def plain_lora(config: Mapping[str, Any]) -> tuple[int, int] | str:
    """The rank and alpha of a LoRA's config in PEFT's format; a reason where it is another thing.

    Args:
        config: as a service gave it; anything may stand in it.
    """
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank <= 0:
        return f"its rank is {rank!r}"
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        return f"its lora_alpha is {alpha!r}"
    if alpha not in range(1, _MOST_ALPHA):
        return f"its lora_alpha is {alpha!r}, and no whole number above 0"
    plain = {"peft_type": "LORA", "bias": "none"}
    other = [name for name, wanted in plain.items() if config.get(name, wanted) != wanted]
    other += [name for name in _OTHERWISE if config.get(name)]
    return f"it sets {other[0]}" if other else (rank, int(alpha))
