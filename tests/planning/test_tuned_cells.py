"""Which cells are tuned, and what of a tuned variant no trial chooses."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.errors import SuiteError
from harness.planning.planner import Plan
from tests.conftest import Workspace, chat_rows, preferences, write_jsonl

SFT = {"sft": {"per_device_train_batch_size": 8, "max_length": 64, "learning_rate": 1e-3}}
DPO = {"dpo": {"data": "pairs", "max_steps": 2, "max_length": 64}}
SPACE = {"dpo.learning_rate": [1e-4, 1e-3]}


@pytest.fixture
def aligned(workspace: Workspace) -> Workspace:
    """SFT, and DPO that goes on from it, with validation rows for both."""
    write_jsonl(workspace.folder / "validation.jsonl", chat_rows(200, 8))
    write_jsonl(workspace.folder / "pairs.jsonl", preferences(8))
    workspace.write(
        data={
            "letters": {"train": "train.jsonl", "validation": "validation.jsonl",
                        "test": "test.jsonl"},
            "pairs": {"train": "pairs.jsonl"},
        },
        matrix={"data": ["letters"], "method": [{"lora": {"r": 2}}], "objective": [SFT, DPO]},
        scorers=["exact_match", {"perplexity": {"label": "answers", "data": "letters"}}],
        evaluate=["letters"],
    )  # fmt: skip
    return workspace


def planned(suite: Workspace, **tune: Any) -> Plan:
    suite.write(tune={"trials": 2, "search": "grid", "metric": "answers", **tune})
    return suite.open().plan


def test_cells_that_are_not_matched_keep_what_the_suite_gives_them(aligned: Workspace) -> None:
    with pytest.raises(SuiteError, match="nothing is tuned for lora-sft"):
        planned(aligned, space=SPACE)
    plan = planned(aligned, space=SPACE, match={"objective": "dpo"})
    assert [tuning.group for tuning in plan.tunings()] == ["lora-dpo"]
    sft = next(path for path in plan.paths if path.variant.group == "lora-sft")
    assert sft.train is not None
    assert sft.train.config["objective"]["learning_rate"] == 1e-3
    assert not [warning for warning in plan.warnings if "trials do not choose" in warning]


def test_a_rate_of_the_start_that_no_trial_chooses_is_told(aligned: Workspace) -> None:
    """Else the DPO of a tuned suite would go on from an SFT at a rate that nobody looked at."""
    plan = planned(aligned, space={**SPACE, "sft.learning_rate": [1e-2, 1e-1]})
    (said,) = [warning for warning in plan.warnings if "trials do not choose" in warning]
    assert said.startswith("lora-dpo: the trials do not choose sft.learning_rate of lora-sft")
    assert "0.001" in said


def test_a_rule_that_names_nothing_is_refused(aligned: Workspace) -> None:
    with pytest.raises(SuiteError, match=r"tune\.match\.objective.*'dpoo'"):
        planned(aligned, space=SPACE, match={"objective": "dpoo"})
