"""LoRA with a scaling that suits high ranks."""

from __future__ import annotations

from typing import Literal

from harness.methods.lora import Lora


class Rslora(Lora):
    """rsLoRA: W + (alpha / sqrt(r)) B A (Kalajdzievski, 2023).

    `lora` with `use_rslora: true`, under the name that papers use.

    Trainable parameters: r (d_in + d_out) for each target. State: as `lora`'s.
    """

    paper = "arXiv:2312.03732"

    use_rslora: Literal[True] = True
    """Always on here; `lora` has it as an option."""
