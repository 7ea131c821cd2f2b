"""The examples in CONTRIBUTING.md work as they stand there: a package is made of them, and a suite
runs with it."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core import registry, sources
from harness.core.component import AXES
from tests.conftest import SFT, Workspace

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)
MODULES = {
    code.split("\n")[0].removeprefix("# "): code for kind, code in BLOCKS if kind == "python"
}
(POINTS,) = (
    tomllib.loads(text)["project"]["entry-points"] for kind, text in BLOCKS if kind == "toml"
)
LONGEST = 35
"""Lines of an example, that of an objective with its training loop included."""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The examples as an installed package."""
    folder = tmp_path / "site"
    info = folder / "contributed-0.1.dist-info"
    info.mkdir(parents=True)
    for name, code in MODULES.items():
        (folder / name).write_text(code, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: contributed\nVersion: 0.1\n")
    groups = (
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in points.items())])
        for group, points in POINTS.items()
    )
    (info / "entry_points.txt").write_text("\n\n".join(groups))
    (info / "top_level.txt").write_text("\n".join(name.removesuffix(".py") for name in MODULES))
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    remembered = (registry._entry_points, sources.digest_of, sources._installed_with)
    for cached in remembered:
        cached.cache_clear()
    yield
    for cached in remembered:
        cached.cache_clear()
    for name in MODULES:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_the_page_has_a_short_example_of_every_member() -> None:
    assert set(POINTS) == {f"harness.{axis}s" for axis in (*AXES, "stage")}
    named = {value.split(":")[0] for points in POINTS.values() for value in points.values()}
    assert {f"{name}.py" for name in named} == set(MODULES)
    for name, code in MODULES.items():
        assert len([line for line in code.splitlines() if line.strip()]) <= LONGEST, name


@pytest.mark.usefixtures("installed")
def test_a_suite_runs_with_every_example(workspace: Workspace) -> None:
    rlaif = {"then": "dpo", "labeller": "wordiest", "samples": 3, "prompts": 6,
             "max_new_tokens": 4, "check": 0, "unfinished": "keep"}  # fmt: skip
    workspace.write(
        data={"letters": {"train": "train.jsonl", "test": "test.jsonl"}},
        matrix={
            "method": ["full", "norms_only"],
            "objective": [{"sft": SFT}, {"row_by_row": {"learning_rate": 1e-3}},
                          {"rlaif": rlaif}],
        },
        exclude=[{"method": "norms_only", "objective": ["row_by_row", "rlaif"]}],
        scorers=["wordier"],
        executor="here",
    )  # fmt: skip
    outcome = workspace.run()
    assert not outcome.failed, [record.error for record in outcome.failed]
    trained = {r.label: r for r in outcome.records.values() if r.kind == "train"}
    assert {"full-sft", "norms_only-sft", "full-row_by_row", "full-rlaif"} <= set(trained)
    assert trained["full-row_by_row"].metrics["steps"] == 24
    assert "shouted" in {r.kind for r in outcome.records.values()}
    scored = {r.label for r in outcome.records.values() if r.kind == "score"}
    assert scored == {
        f"{name} wordier on letters"
        for name in ("full-sft", "norms_only-sft", "full-row_by_row", "full-rlaif")
    }
