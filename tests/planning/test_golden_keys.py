"""No stage of a committed suite gets another key unnoticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import golden_keys
from tests.golden_keys import golden, keys_of, packaged_suites


@pytest.mark.parametrize("name", packaged_suites())
def test_stages_of_a_committed_suite_keep_their_keys(name: str) -> None:
    """Cached stages stay cached, and committed records stay those of their suites."""
    before = {key_of(line) for line in golden().get(name, ())}
    now = keys_of(packaged_suites()[name])
    moved = [line for line in now if key_of(line) not in before]
    assert {key_of(line) for line in now} == before, (
        f"{len(moved)} of {len(now)} stages of {name} have another key, the first: {moved[:3]}."
        " Where that is meant, say why in CHANGELOG.md and write the list again:"
        " python tests/golden_keys.py"
    )


def key_of(line: str) -> str:
    """Names before it are for people, and may change."""
    return line.rpartition(" ")[2]


def test_the_list_has_no_suite_that_is_gone() -> None:
    assert set(golden()) == set(packaged_suites())
    assert all(golden().values())


def test_keys_are_the_same_wherever_and_whenever_they_are_planned(tmp_path: Path) -> None:
    """In another process, with another hash seed, from another folder; without torch."""
    script = (
        "import sys\nfrom golden_keys import keys_of, packaged_suites\n"
        "print('\\n'.join(keys_of(packaged_suites()['pocket/rlaif'])))\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    root = Path(golden_keys.__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path,
        env={"PYTHONPATH": f"{root}:{root.parent}", "PYTHONHASHSEED": "7", "PATH": "/usr/bin"},
    )  # fmt: skip
    assert done.stdout.splitlines() == golden()["pocket/rlaif"]
