"""The table of `make mutants` names modules and tests that are there."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def read(name: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / "tests" / "mutation" / name).read_text(encoding="utf-8"))


def test_every_module_and_every_test_of_the_table_is_there() -> None:
    for entry in read("modules.toml")["tests"]:
        assert all(list(ROOT.glob(pattern)) for pattern in entry["modules"]), entry["modules"]
        for part in shlex.split(entry["run"]):
            if part.startswith("tests/"):
                path, _, name = part.partition("::")
                assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8"), part


def test_every_mutant_that_may_live_has_its_reason() -> None:
    for entry in read("equivalent.toml")["mutant"]:
        assert (ROOT / entry["module"]).is_file()
        assert entry["was"] != entry.get("becomes")
        assert entry["reason"].endswith(".")
