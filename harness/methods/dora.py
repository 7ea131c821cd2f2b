"""LoRA that trains the magnitude of the weights separately."""

from __future__ import annotations

from typing import Literal

from harness.methods.lora import Lora


class Dora(Lora):
    """DoRA: m (W + (alpha / r) B A) / |W + (alpha / r) B A|, row by row (Liu et al., 2024).

    `lora` with `use_dora: true`, under the name that papers use.

    Trainable parameters: r (d_in + d_out) + d_out for each target. State: as `lora`'s.
    """

    paper = "arXiv:2402.09353"

    use_dora: Literal[True] = True
    """Always on here; `lora` has it as an option."""
