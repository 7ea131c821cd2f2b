"""The PEFT config of bottleneck adapters; importing this module adds their type to PEFT's enum."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from peft import PeftConfig, PeftType

from harness.methods._peft.bottleneck_layouts import Placement

NAME = "BOTTLENECK"
BASE = "__base__"
"""PEFT's name for a row of a mixed batch that no adapter changes."""
Activation = Literal["relu", "gelu", "silu", "tanh"]


def _extend_peft_types() -> Any:
    """Add our type to PEFT's enum; PEFT registers no other names."""
    member = str.__new__(PeftType, NAME)
    member._name_ = member._value_ = NAME
    type.__setattr__(PeftType, NAME, member)  # from Python 3.12 on, members are attributes
    PeftType._member_map_[NAME] = PeftType._value2member_map_[NAME] = member
    PeftType._member_names_.append(NAME)
    return member


@dataclass
class BottleneckConfig(PeftConfig):
    """An adapter_config.json of peft_type BOTTLENECK, with the fields of the method."""

    placement: Placement = "houlsby"
    reduction_factor: int = 16
    activation: Activation = "gelu"
    dropout: float = 0.0
    scaling: float = 1.0
    target_modules: set[str] | str | None = None
    """Names (or one regular expression) of the adapted projections; default: by `placement`."""
    exclude_modules: set[str] | str | None = None
    modules_to_save: list[str] | None = None
    """Modules that train in full and are saved with the adapters."""
    layers_to_transform: list[int] | int | None = field(default=None)
    layers_pattern: list[str] | str | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = getattr(PeftType, NAME)
        for name in ("target_modules", "exclude_modules"):
            if isinstance(value := getattr(self, name), (list, tuple)):
                setattr(self, name, set(value))
        for name, value, known in (
            ("placement", self.placement, get_args(Placement)),
            ("activation", self.activation, get_args(Activation)),
        ):
            if value not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, not {value!r}")
        if self.reduction_factor < 1 or not 0 <= self.dropout < 1:
            raise ValueError("reduction_factor is at least 1, dropout from 0 to below 1")

    def to_dict(self) -> dict[str, Any]:
        """The fields, with sets as sorted lists: saved bytes are the same in every process."""
        fields = cast(dict[str, Any], super().to_dict())
        return {k: sorted(v) if isinstance(v, set) else v for k, v in fields.items()}


_extend_peft_types()
