"""Adapters on the head, and modules trained in full, through whole trainings in both formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import HarnessError
from tests.conftest import DPO, Workspace

SFT = {"sft": {"learning_rate": 1e-3, "max_steps": 3, "per_device_train_batch_size": 4,
               "max_length": 64}}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Model.*tie_word_embeddings")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "options",
    [{"modules_to_save": ["norm"]}, {"modules_to_save": ["embed_tokens"]},
     {"target_modules": ["lm_head", "q_proj"]}],
    ids=["norm", "embedding", "head"],
)  # fmt: skip
def test_what_trains_beside_the_usual_layers_passes_its_audits(
    workspace: Workspace, tiny_model: Path, dtype: str, options: dict[str, Any]
) -> None:
    method = {"lora": {"r": 4, **options}}
    workspace.write(
        models={"tiny": {"path": str(tiny_model), "dtype": dtype}},
        matrix={"method": [method], "objective": [SFT]}, scorers=["exact_match"], base={},
    )  # fmt: skip
    outcome = workspace.run()
    assert [(r.label, r.error) for r in outcome.failed] == []


def test_an_adapter_on_the_head_is_refused_by_plan_where_it_would_not_train(
    aligned: Workspace,
) -> None:
    aligned.tree["matrix"] = {
        "data": ["letters"],
        "method": [{"lora": {"r": 4, "target_modules": ["lm_head", "q_proj"]}}],
        "objective": [{"dpo": DPO}],
    }
    aligned.tree.pop("reward_model")
    with pytest.raises(HarnessError, match="dpo reads the head's weight past an adapter"):
        aligned.open()
