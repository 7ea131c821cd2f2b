"""LoRA that starts from the principal singular values."""

from __future__ import annotations

from typing import Literal

from harness.methods.lora import Lora


class Pissa(Lora):
    """PiSSA: B A starts at the r largest singular values of W, the residual is frozen (Meng, 2024).

    `lora` with `init_lora_weights: pissa`, under the name that papers use. The SVD is exact. The
    base is changed in place, so the adapter cannot be switched off, and several checkpoints cannot
    share a base.

    Trainable parameters: r (d_in + d_out) for each target. State: as `lora`'s.
    """

    paper = "arXiv:2404.02948"

    init_lora_weights: Literal["pissa"] = "pissa"
    """Always the exact SVD here; `lora` offers the other initial values."""
