"""What scorers share that read long texts in windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import Field, model_validator

from harness.scorers.base import Asked, Scorer, Subject


class WindowScorer(Scorer):
    """Reads a row that is longer than a window in several windows; each token counts once."""

    max_length: int = Field(1024, gt=1)
    """Tokens of a window; at most the model's context."""
    stride: int = Field(512, gt=0)
    """Tokens by which a window moves. If the model's context makes the window shorter, this is made
    shorter by the same factor (512 of 1024 becomes 256 of 512)."""
    batch_tokens: int = Field(8192, gt=0)
    """Tokens of one forward pass; fewer if the logits that are used take more than 1 GiB."""

    @model_validator(mode="after")
    def _windows_overlap(self) -> Self:
        if self.stride > self.max_length:
            raise ValueError(
                f"stride {self.stride} would skip tokens (max_length {self.max_length})"
            )
        return self

    def asks(self, of: Subject) -> Mapping[str, Asked]:
        return {"model": of.model(), "rows": of.rows()}

    def shows(self) -> str:
        return "language"
