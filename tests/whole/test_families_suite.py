"""Every family with every method through whole suites: sft and dpo, saved, reloaded and scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import DPO, SFT, Workspace, preferences, write_jsonl
from tests.families import FAMILIES, METHODS, info_of, make, refusal_of

STEPS = {"max_steps": 4}
EVERYDAY = ("qwen3_moe",)
"""Trained in every test run too: the family that most is special about."""


@pytest.mark.filterwarnings("ignore")  # the libraries' own, of what tiny models lack
@pytest.mark.parametrize("family", [
    family if family in EVERYDAY else pytest.param(family, marks=pytest.mark.slow)
    for family in FAMILIES
])  # fmt: skip
def test_a_family_goes_through_sft_and_dpo(
    workspace: Workspace, tmp_path: Path, family: str
) -> None:
    folder = make(family, tmp_path / family)
    info = info_of(folder)
    methods = [{name: dict(METHODS[name])} for name in METHODS if not refusal_of(info, name)]
    write_jsonl(workspace.folder / "preferences.jsonl", preferences(24))
    data = {**workspace.tree["data"], "preferences": {"train": "preferences.jsonl"}}
    objectives = [{"sft": SFT | STEPS}, {"dpo": DPO | STEPS}]
    workspace.write(
        models={"tiny": str(folder)}, data=data, base={},
        matrix={"data": ["letters"], "method": methods, "objective": objectives},
    )  # fmt: skip
    outcome = workspace.run()
    told = {(r.kind, r.config.get("method", {}).get("name")): r.error for r in outcome.failed}
    assert not told
    trained = [r for r in outcome.records.values() if r.kind == "train"]
    assert len(trained) == 2 * len(methods)
    assert all(r.cost["trainable_parameters"] for r in trained)
