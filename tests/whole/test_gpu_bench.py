"""The GPU's benchmarks, as far as a machine without one can show them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # last: its coverage.py is not the package

import gpu_bench  # noqa: E402
import gpu_training  # noqa: E402
from gpu_table import table  # noqa: E402

EVERYDAY = ("qlora-7b", "generate-1b")


def of_cases(*everyday: str) -> list[Any]:
    return [
        pytest.param(name, marks=() if name in everyday else pytest.mark.slow)
        for name in gpu_bench.CASES
    ]


@pytest.mark.parametrize("name", of_cases(*EVERYDAY))
def test_each_case_runs_to_its_end_with_a_tiny_shape(name: str) -> None:
    found = gpu_bench.run_case(name, dry=True)
    assert found["status"] == "ok", found
    told = {**ABOUT, "cases": {name: json.loads(json.dumps(found))}}
    assert f"| {name} |" in table(told)


@pytest.mark.slow
def test_a_dry_run_writes_every_case_and_its_table(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu_bench.py"), "--dry-run", "--seconds", "600"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "dry-run" / "gpu-bench.json").read_text())
    assert {name: case["status"] for name, case in found["cases"].items()} == dict.fromkeys(
        gpu_bench.CASES, "ok"
    )
    assert found["commit"]
    assert found["versions"]["torch"]
    assert all(f"| {name} |" in done.stdout for name in gpu_bench.CASES)


ABOUT = {"device": "a card", "driver": "1", "date": "2026-11-27", "commit": "abc", "versions": {}}


class Played:
    """A case's process that gives what the test says."""

    results: dict[str, dict[str, Any]] = {}
    begun: list[str] = []

    def __init__(self, name: str, dry: bool) -> None:
        self.name = name

    def result(self, limit: float) -> dict[str, Any]:
        self.begun.append(self.name)
        return {**self.results.get(self.name, {"status": "ok"}), "case_seconds": 1.0}

    def stop(self) -> None:
        """Nothing runs."""


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> type[Played]:
    monkeypatch.setattr(gpu_bench, "Child", Played)
    monkeypatch.setattr(gpu_bench, "describe", lambda: ABOUT)
    Played.results, Played.begun = {}, []
    return Played


def test_a_case_that_fails_is_a_line_and_the_rest_goes_on(
    played: type[Played], tmp_path: Path
) -> None:
    names, file = list(gpu_bench.CASES), tmp_path / "card" / "gpu-bench.json"
    played.results = {names[1]: {"status": "out of memory", "error": "20 GiB were asked for"}}
    assert not gpu_bench.measure(names, file, 600, dry=True, again=False)
    cases = json.loads(file.read_text())["cases"]
    assert list(cases) == names
    assert [n for n in names if cases[n]["status"] != "ok"] == [names[1]]
    assert "20 GiB" in table(json.loads(file.read_text()))


def test_a_later_call_goes_on_where_an_earlier_one_stopped(
    played: type[Played], tmp_path: Path
) -> None:
    names, file = list(gpu_bench.CASES), tmp_path / "gpu-bench.json"
    gpu_bench.measure(names[:2], file, 600, dry=True, again=False)
    assert not gpu_bench.measure(names, file, gpu_bench.LEAST - 1, dry=True, again=False)
    cases = json.loads(file.read_text())["cases"]
    assert [cases[n]["status"] for n in names[:3]] == ["ok", "ok", "not run: no time was left"]
    assert gpu_bench.measure(names, file, 600, dry=True, again=False)
    assert played.begun == names
    assert gpu_bench.measure(names, file, 600, dry=True, again=True)
    assert played.begun == [*names, *names]


def test_a_case_that_takes_too_long_is_ended_and_told() -> None:
    found = gpu_bench.Child("score-1b", dry=True).result(0.01)
    assert found["status"].startswith("timed out")


def side(*losses: float) -> dict[str, Any]:
    return {"seconds": [0.1] * 4, "losses": list(losses), "flops_per_token": {"mfu": 1.0}}


def trained(monkeypatch: pytest.MonkeyPatch, **sides: Any) -> dict[str, Any]:
    """A training whose sides give what they are said to, of (case, device, checkpointing)."""
    monkeypatch.setattr(gpu_training, "SIDES", sides)
    monkeypatch.setattr(gpu_training, "matmul_rate", lambda _: 1e12)
    return gpu_training.train(gpu_bench.CASES["lora-7b"].tiny, "cpu")


def test_losses_that_differ_void_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    found = trained(monkeypatch, trl=lambda *_: side(7.0, 6.0), harness=lambda *_: side(7.0, 6.1))
    assert found["status"].startswith("void")
    told = table({**ABOUT, "cases": {"lora-7b": found}})
    assert "| lora-7b |" not in told
    assert "lora-7b: void" in told


def test_what_does_not_fit_is_tried_with_activations_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    def harness(case: Any, device: str, checkpointing: bool) -> dict[str, Any]:
        if not checkpointing:
            raise torch.OutOfMemoryError("20 GiB were asked for")
        return side(7.0)

    found = trained(monkeypatch, trl=lambda *_: side(7.0), harness=harness)
    assert found["status"] == "ok"
    assert found["checkpointing"]
    assert [tried["out_of_memory"] for tried in found["tried"]] == [["harness"]]


def test_a_side_that_never_fits_leaves_the_other_its_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    def trl(*_: Any) -> dict[str, Any]:
        raise torch.OutOfMemoryError("20 GiB were asked for")

    found = trained(monkeypatch, trl=trl, harness=lambda *_: side(7.0))
    assert found["status"] == "out of memory"
    assert found["harness"]["tokens_per_second"] > 0
    assert "| lora-7b |" in table({**ABOUT, "cases": {"lora-7b": found}})


def test_flops_of_full_training_are_6_a_parameter_and_of_adapters_4() -> None:
    from gpu_shapes import RandomRef

    case = replace(gpu_bench.CASES["full-1b"].tiny, method="full")
    ref = RandomRef("tiny", "float32", "cpu")
    model = ref.load()
    number = sum(p.numel() for p in model.parameters())
    assert gpu_training._flops_per_token(model, case)["mfu"] == 6 * number
    frozen = ref.load().requires_grad_(False)
    assert gpu_training._flops_per_token(frozen, case)["mfu"] == 4 * number
