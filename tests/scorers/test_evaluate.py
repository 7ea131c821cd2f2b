"""Metrics of the evaluate library: loaded by name or folder, asked for, and honest about means."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.core import from_yaml
from harness.core.errors import StageFailed, SuiteError
from harness.scorers.base import Prediction
from harness.scorers.evaluate import Evaluate

MODULE = """
import datasets
import evaluate


class Shared(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        features = datasets.Features(
            {"predictions": text, "references": datasets.Sequence(text)}
        )
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="", features=features
        )

    def _compute(self, predictions, references, bonus=0):
        each = [
            float(any(set(p.split()) & set(r.split()) for r in own)) + bonus
            for p, own in zip(predictions, references)
        ]
        rate = max(each) if len(each) > 1 else each[0]
        return {"each": each, "rate": rate}
"""
ROWS = [("a b", ("b c", "d")), ("x", ("y",)), ("q", ("z", "q r"))]


def predictions() -> list[Prediction]:
    return [Prediction(str(i), "", "", "", text, refs) for i, (text, refs) in enumerate(ROWS)]


@pytest.fixture
def metric(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "shared.py").write_text(MODULE)
    return folder


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of the library as loading a folder takes, where it is not installed."""
    if importlib.util.find_spec("evaluate") is not None:
        return
    library = ModuleType("evaluate")
    library.__spec__ = ModuleSpec("evaluate", None)

    class Module:
        def compute(self, **arguments: Any) -> Any:
            return self._compute(**arguments)  # type: ignore[attr-defined]

    def load(path: str, **_: Any) -> Any:
        file = Path(path) / f"{Path(path).name}.py"
        if not file.is_file():
            raise FileNotFoundError(f"Couldn't find a module script at {file}")
        scope: dict[str, Any] = {}
        exec(file.read_text(), scope)
        return scope["Shared"]()

    vars(library).update(Metric=Module, load=load)
    monkeypatch.setitem(sys.modules, "evaluate", library)


@pytest.mark.usefixtures("stand_in")
def test_values_of_each_example_are_taken_as_they_are(metric: Path) -> None:
    scorer = Evaluate(metric=str(metric), values=["each"], trust_remote_code=True)
    assert scorer.score_all(predictions()) == [{"each": 1.0}, {"each": 0.0}, {"each": 1.0}]
    assert "note" not in scorer.provenance()
    more = Evaluate(
        metric=str(metric), values=["each"], trust_remote_code=True, options={"bonus": 2}
    )
    assert more.score_all(predictions())[1] == {"each": 2.0}


@pytest.mark.usefixtures("stand_in")
def test_value_of_a_whole_set_is_asked_for_each_example_and_said_so(metric: Path) -> None:
    scorer = Evaluate(metric=str(metric), values=["rate"], trust_remote_code=True)
    assert [row["rate"] for row in scorer.score_all(predictions())] == [1.0, 0.0, 1.0]
    made = scorer.provenance()
    assert made["whole_set"] == {"rate": 1.0}, "which is not the mean of 2/3"
    assert "one value for a whole set" in made["note"]
    strict = Evaluate(metric=str(metric), values=["rate"], trust_remote_code=True, one_by_one=False)
    with pytest.raises(StageFailed, match="one rate for a whole set"):
        strict.score_all(predictions())


@pytest.mark.usefixtures("stand_in")
def test_code_runs_only_when_asked_for_by_name(metric: Path) -> None:
    with pytest.raises(SuiteError, match="set trust_remote_code: true"):
        from_yaml.build("scorer", {"evaluate": {"metric": str(metric), "values": ["each"]}}, "s[0]")


@pytest.mark.usefixtures("stand_in")
def test_what_is_missing_is_named(metric: Path) -> None:
    unknown = Evaluate(metric="no-such-metric", values=["x"], trust_remote_code=True)
    with pytest.raises(StageFailed, match="'no-such-metric' is no folder here, and the hub"):
        unknown.score_all(predictions())
    wrong = Evaluate(metric=str(metric), values=["ech"], trust_remote_code=True)
    with pytest.raises(StageFailed, match="gives no ech; it gives each, rate"):
        wrong.score_all(predictions())


@pytest.mark.usefixtures("stand_in")
def test_changed_code_is_another_identity_and_is_refused(metric: Path) -> None:
    scorer = Evaluate(metric=str(metric), values=["each"], trust_remote_code=True)
    planned = scorer.identity()
    (metric / "shared.py").write_text(MODULE + "\n# changed\n")
    assert scorer.identity()["digest"] != planned["digest"]
    fields = {k: v for k, v in planned.items() if k not in ("name", "version")}
    with pytest.raises(StageFailed, match="has changed since it was planned"):
        Evaluate(**fields).score_all(predictions())


def test_missing_library_is_said_when_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "evaluate" else found(name)
    )
    with pytest.raises(SuiteError, match=r"s\[0\]: .* needs the package evaluate"):
        from_yaml.build("scorer", "evaluate", "s[0]")
