"""Models whose blocks hold something that an adapter cannot go on: it goes elsewhere, or plan says
so."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.errors import HarnessError
from tests.conftest import SFT, Workspace
from tests.families import LLAMA, make

PHIMOE = {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}
JAMBA = {
    **LLAMA, "num_experts": 2, "num_experts_per_tok": 1, "mamba_d_state": 4, "mamba_dt_rank": 4,
    "attn_layer_period": 2, "attn_layer_offset": 1,
}  # fmt: skip


def suite(workspace: Workspace, family: str, method: Any, **fields: Any) -> None:
    folder = make(family, workspace.folder / family, **fields)
    workspace.write(
        models={"m": str(folder)}, base={}, scorers=["exact_match"],
        matrix={"method": [method], "objective": [{"sft": SFT}]},
    )  # fmt: skip


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_router_that_is_a_linear_layer_by_its_class_alone_is_left_as_it_is(
    workspace: Workspace, method: str
) -> None:
    """Its output is which experts to ask, and PEFT would take it for numbers."""
    if method == "qlora":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: no qlora here")
    suite(workspace, "phimoe", {method: {"r": 2}}, **PHIMOE)
    outcome = workspace.run()
    assert not outcome.failed, [record.error for record in outcome.failed]
    (record,) = [r for r in outcome.records.values() if r.kind == "train"]
    # q, k, v and o of 2 layers; k and v are half as wide
    assert record.cost["trainable_parameters"] == 2 * 2 * (2 * (32 + 32) + 2 * (32 + 16))


def test_blocks_without_a_clear_end_are_refused_by_plan(workspace: Workspace) -> None:
    suite(workspace, "jamba", "bottleneck", **JAMBA)
    with pytest.raises(HarnessError, match="state-space blocks of 'jamba' end is not clear"):
        workspace.open()
