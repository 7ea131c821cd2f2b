"""What a service does last, and does badly."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.core.errors import StageFailed
from harness.data.steps import AdamW, Labelled, OptimizerStep, Schedule
from harness.methods._elsewhere import Work
from harness.methods.tinker import Tinker

STEP = OptimizerStep(1e-3, [[Labelled([1, 2], [1, 2])]], 1)
SCHEDULE = Schedule([STEP], AdamW(0.9, 0.99, 1e-8, 0.0, 0.0))


class Ends:
    """A future that has ended."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def result(self, timeout: float) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class Training:
    model_id = "run"
    last: Exception

    def forward(self, *_: object) -> Ends:
        return Ends(SimpleNamespace(loss_fn_outputs=[{"logprobs": np.zeros(1)}]))

    def save_weights_external(self, *_: object, **__: object) -> Ends:
        return Ends(self.last)


class Service:
    closing: Exception | None = None

    def __init__(self, **_: object) -> None:
        pass

    def create_training_client_from_state_with_optimizer(self, path: str) -> Ends:
        return Ends(Training())

    def close(self, status: str) -> Ends:
        return Ends(self.closing)


def ended(notes: list[str]) -> Work:
    """A training of which all steps were done by an earlier attempt."""
    state = {"step": 1, "path": "tinker://run/1", "losses": [1.0]}
    return Work("base", SCHEDULE, 0, "tml-key", state, lambda **_: None, lambda *_: None,
                notes.append)  # fmt: skip


@pytest.fixture(autouse=True)
def service(monkeypatch: pytest.MonkeyPatch) -> None:
    tinker = pytest.importorskip("tinker")
    monkeypatch.setattr(tinker, "ServiceClient", Service)


@pytest.mark.parametrize(
    ("fault", "said"),
    [(TimeoutError(), r"saving the weights: no answer within 1800 s \(the method's `timeout`\)"),
     (ConnectionError("it broke"), "saving the weights: it broke")],
)  # fmt: skip
def test_weights_that_cannot_be_saved_fail_the_stage_in_words(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, said: str
) -> None:
    monkeypatch.setattr(Training, "last", fault, raising=False)
    with pytest.raises(StageFailed, match=said):
        Tinker().train(ended([]))


@pytest.mark.parametrize(
    ("fault", "said"),
    [(TimeoutError(), "does not answer the end of the session"),
     (ConnectionError("it broke"), "ending the session: it broke")],
)  # fmt: skip
def test_a_session_that_does_not_end_is_told(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, said: str
) -> None:
    monkeypatch.setattr(Service, "closing", fault)
    monkeypatch.setattr(Training, "last", TimeoutError(), raising=False)
    notes: list[str] = []
    with pytest.raises(StageFailed):
        Tinker().train(ended(notes))
    assert any(said in note for note in notes), notes


@pytest.mark.parametrize("before", [None, "1"])
def test_the_environment_is_after_a_training_what_it_was(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    if before is None:
        monkeypatch.delenv("TINKER_TELEMETRY", raising=False)
    else:
        monkeypatch.setenv("TINKER_TELEMETRY", before)
    seen: list[str | None] = []

    def made(self: Service, **_: object) -> None:
        seen.append(os.environ.get("TINKER_TELEMETRY"))

    monkeypatch.setattr(Service, "__init__", made)
    monkeypatch.setattr(Training, "last", TimeoutError(), raising=False)
    with pytest.raises(StageFailed):
        Tinker().train(ended([]))
    assert seen == ["0"]
    assert os.environ.get("TINKER_TELEMETRY") == before
