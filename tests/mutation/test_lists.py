"""The lists of the mutation run name lines and modules that exist."""

from __future__ import annotations

import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]


def test_every_mutant_that_may_live_is_a_line_of_its_module() -> None:
    mutants = tomllib.loads((FOLDER / "equivalent.toml").read_text(encoding="utf-8"))["mutant"]
    lost = [
        (mutant["module"], mutant["was"])
        for mutant in mutants
        if mutant["was"] not in _lines(mutant["module"])
    ]
    assert mutants
    assert not lost


def _lines(module: str) -> list[str]:
    return [line.strip() for line in (ROOT / module).read_text(encoding="utf-8").splitlines()]


def test_every_module_to_mutate_and_every_test_of_it_exists() -> None:
    groups = tomllib.loads((FOLDER / "modules.toml").read_text(encoding="utf-8"))["tests"]
    tests = [word for group in groups for word in group["run"].split() if word.endswith(".py")]
    paths = [*(module for group in groups for module in group["modules"]), *tests]
    assert paths
    assert not [path for path in paths if not (ROOT / path).exists()]
