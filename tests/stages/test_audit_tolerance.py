"""How exactly a checkpoint must reload: next to nothing is allowed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from harness.core import registry
from harness.methods.base import Method
from harness.methods.full import Full
from harness.models.files import ModelRef
from harness.stages import _audit
from harness.stages._companions import promised, starts_there

REF = ModelRef("nowhere", "float32", "cpu")
IDS = torch.tensor([[1, 2, 3]])


class Fixed(torch.nn.Module):
    """A model whose output is what it was given, whatever is asked."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.found = logits

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.found)


@pytest.mark.parametrize(("share", "status"), [(0.0, "passed"), (0.5, "passed"), (2.0, "failed")])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_checkpoint_whose_logits_are_off_by_more_than_the_tolerance_fails_the_audit(
    monkeypatch: pytest.MonkeyPatch, share: float, status: str, scale: float
) -> None:
    after = torch.tensor([[-4.0, 1.0, 2.5]]) * scale
    reloaded = after.clone()
    reloaded[0, 1] += share * Full.reload_tolerance * 4.0 * scale  # of the largest, by its size
    monkeypatch.setattr(Full, "load_trained", lambda self, ref, checkpoint: Fixed(reloaded))
    found = _audit.reloads(Full(), REF, Path("checkpoint"), IDS, after)
    assert (found["check"], found["status"]) == ("the checkpoint reloads", status)
    begun = starts_there(Full(), promised(Full(), REF, Path("checkpoint"), IDS, "lm"), after)
    assert begun["status"] == status


def test_no_method_allows_more_than_the_last_digits_of_a_float32() -> None:
    for name in registry.names("method"):
        declared = cast(type[Method], registry.find("method", name))
        if declared.__module__.startswith("harness."):
            assert 0 < declared.reload_tolerance <= 1e-5, name
