"""`make gpu-check` and `make gpu-bench`, as far as a machine without a GPU can show them."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import gpu_bench
import gpu_check
import gpu_machine
import gpu_suites

from harness.commands.session import open_suite
from tests.executors.test_processes import alive, until


def test_the_demo_has_what_its_verdicts_are_held_against(tmp_path: Path) -> None:
    """A demo that has changed would fail only on a GPU, where time is dear."""
    demo = gpu_suites.ROOT / "suites" / "pocket" / "demo.yaml"
    opened = open_suite(str(demo), gpu_suites.DEMO_SETTINGS, tmp_path, None, None)
    with gpu_suites.VERDICTS.open(encoding="utf-8", newline="") as handle:
        kept = {row["variant"] for row in csv.DictReader(handle)}
    assert kept == {path.variant.id for path in opened.plan.paths}


def part(log: list[str], name: str, *statuses: str) -> Callable[[float], dict[str, Any]]:
    """A part that notes that it ran, and ends so and so; it is killed where no status is left."""
    left = list(statuses)

    def work(seconds: float) -> dict[str, Any]:
        log.append(name)
        if not left:
            raise KeyboardInterrupt
        return {"status": left.pop(0)}

    return work


def test_a_check_goes_on_where_an_earlier_call_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "digest", lambda: "this code")
    log: list[str] = []
    file = tmp_path / "card" / "gpu-check.json"
    first = {"tests": part(log, "tests", "ok"), "demo": part(log, "demo")}
    with pytest.raises(KeyboardInterrupt):
        gpu_check.measure(first, file, 100, again=False, name="a card")
    assert gpu_machine.kept(file)["parts"].keys() == {"tests"}
    second = {"tests": part(log, "tests"), "demo": part(log, "demo", "failed", "ok")}
    assert not gpu_check.measure(second, file, 100, again=False, name="a card")
    assert gpu_check.measure(second, file, 100, again=False, name="a card")
    assert log == ["tests", "demo", "demo", "demo"]
    monkeypatch.setattr(gpu_check, "digest", lambda: "other code")
    third = {"tests": part(log, "tests", "ok"), "demo": part(log, "demo", "ok")}
    assert gpu_check.measure(third, file, 100, again=False, name="a card")
    assert log[4:] == ["tests", "demo"]


def test_a_check_begins_no_part_that_it_has_no_time_for(tmp_path: Path) -> None:
    log: list[str] = []
    file = tmp_path / "gpu-check.json"
    assert not gpu_check.measure({"tests": part(log, "tests")}, file, 0, again=False, name="a card")
    assert log == []
    assert "no time" in gpu_machine.kept(file)["parts"]["tests"]["status"]


def test_a_bench_goes_on_where_an_earlier_call_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    results = {"lora-7b": ["ok"], "score-1b": [KeyboardInterrupt, "out of memory", "ok"]}

    class Child:
        def __init__(self, name: str, dry: bool) -> None:
            self.name = name

        def result(self, limit: float) -> dict[str, Any]:
            begun.append(self.name)
            status: Any = results[self.name].pop(0)
            if status is KeyboardInterrupt:
                raise KeyboardInterrupt
            return {"status": status, "case_seconds": 1.0}

        def stop(self) -> None:
            pass

    monkeypatch.setattr(gpu_bench, "Child", Child)
    file = tmp_path / "gpu-bench.json"
    names = list(results)
    with pytest.raises(KeyboardInterrupt):
        gpu_bench.measure(names, file, 100, True, False)
    assert not gpu_bench.measure(names, file, 100, True, False)
    assert gpu_bench.measure(names, file, 100, True, False)
    assert begun == ["lora-7b", "score-1b", "score-1b", "score-1b"]


def test_a_command_that_takes_too_long_is_stopped() -> None:
    assert gpu_suites.call([sys.executable, "-c", "import time; time.sleep(600)"], 0.1) is None
    assert gpu_suites.call([sys.executable, "-c", "raise SystemExit(5)"], 600) == 5


CASE = "import sys, time, gpu_machine; gpu_machine.end_with(int(sys.argv[1])); time.sleep(600)"
SUITE = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
SCRIPTS = {
    "bench": "import os, subprocess, sys, time;"
    f"child = subprocess.Popen([sys.executable, '-c', {CASE!r}, str(os.getpid())]);"
    "print(child.pid, flush=True); time.sleep(600)",
    "check": "import sys, gpu_suites;"
    f"gpu_suites.call([sys.executable, '-c', {SUITE!r}], 600)",
}  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_script_began_ends_with_it(script: str) -> None:
    """Or it would take the GPU from the next call."""
    folder = Path(gpu_machine.__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPTS[script]], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )  # fmt: skip
    assert process.stdout is not None
    with process, process.stdout:
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    until(lambda: not alive(pid))


def test_a_try_on_a_cpu_is_no_result() -> None:
    assert gpu_machine.RESULTS in gpu_machine.folder_of(None, "NVIDIA H200", figures=True).parents
    tried = gpu_machine.folder_of(None, "cpu", figures=False)
    assert gpu_machine.RESULTS not in tried.parents
    ignored = (gpu_machine.ROOT / ".gitignore").read_text().split()
    assert f"{tried.relative_to(gpu_machine.ROOT).parts[0]}/" in ignored
