"""No mistake in a suite is a traceback: thousands are made, and each is one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz_suites import digest, fuzz, suites
from tests.real_stand_ins import stand_ins


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Has small files in the place of the real data."""
    monkeypatch.setenv("HARNESS_REAL_DATA", "")  # set anew, and as it was afterwards
    stand_ins(tmp_path / "real", suites())
    return tmp_path


def test_no_mistake_in_a_suite_is_a_traceback(folder: Path) -> None:
    assert not fuzz(folder, range(300), seed=0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nor_is_any_of_5000(folder: Path) -> None:
    assert not fuzz(folder, range(5000), seed=1)


def test_seed_gives_the_same_mistakes_in_every_process() -> None:
    """Whatever was imported before them, and however Python hashes its strings."""
    loaded = "torch, tests.conftest, tests.fuzz_commands"
    code = f"import {loaded}\nfrom tests.fuzz_suites import digest\nprint(digest(300, 0))"
    settings = {"PYTHONHASHSEED": "7", "HARNESS_REAL_DATA": "/elsewhere"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2], env={**os.environ, **settings},
    )  # fmt: skip
    assert done.stdout.split() == [digest(300, 0)]


def test_suites_without_a_mistake_are_planned(folder: Path) -> None:
    """What is mutated is sound, or every refusal would be of something else."""
    import yaml
    from click.testing import CliRunner

    from harness.cli import main
    from tests.fuzz_suites import beside

    beside(folder)
    for name, tree in suites().items():
        file = folder / "suite.yaml"
        file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        done = CliRunner().invoke(main, ["plan", str(file), "--store", str(folder / "store")])
        assert done.exit_code == 0, (name, done.output)
