"""No mistake in a suite is a traceback: thousands are made, and each is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz_suites import fuzz, stand_ins, suites


def test_no_mistake_in_a_suite_is_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_REAL_DATA", "")  # set anew, and as it was afterwards
    assert not fuzz(tmp_path, 300, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nor_is_any_of_5000(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_REAL_DATA", "")
    assert not fuzz(tmp_path, 5000, seed=1)


def test_suites_without_a_mistake_are_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is mutated is sound, or every refusal would be of something else."""
    import yaml
    from click.testing import CliRunner

    from harness.cli import main
    from tests.fuzz_suites import beside

    monkeypatch.setenv("HARNESS_REAL_DATA", "")
    trees = suites()
    stand_ins(tmp_path / "real", trees)
    beside(tmp_path)
    for name, tree in trees.items():
        file = tmp_path / "suite.yaml"
        file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        done = CliRunner().invoke(main, ["plan", str(file), "--store", str(tmp_path / "store")])
        assert done.exit_code == 0, (name, done.output)
