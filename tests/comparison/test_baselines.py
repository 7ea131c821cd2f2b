"""What each variant is compared with, where a suite has several models."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness import report as reporting
from harness.commands import run as runs
from harness.comparison import to_frame
from harness.core.errors import SuiteError
from tests.conftest import Workspace


@pytest.fixture
def two_models(workspace: Workspace, tiny_model: Path) -> Workspace:
    """The same model under two names, so that one tokenizer makes both comparable."""
    import torch
    from transformers import AutoModelForCausalLM

    other = workspace.folder / "other"
    shutil.copytree(tiny_model, other)
    model = AutoModelForCausalLM.from_pretrained(other)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(0.5)
    model.save_pretrained(other)
    workspace.write(
        models={"one": str(tiny_model), "two": str(other)},
        base={"zero-shot": {"max_new_tokens": 4}, "brief": {"max_new_tokens": 2}},
        scorers=["rouge", {"perplexity": {"data": "general", "label": "general"}}],
        matrix={**workspace.tree["matrix"], "method": ["lora"]},
    )
    return workspace


OWN = {
    f"{name}{model}": f"zero-shot@{model}"
    for model in ("one", "two")
    for name in ("zero-shot@", "brief@", "lora-sft-")
}


@pytest.mark.parametrize("baseline", [None, "zero-shot"])
def test_use_of_the_base_means_each_variants_own_model(
    two_models: Workspace, baseline: str | None
) -> None:
    two_models.write(baseline=baseline)
    planned = two_models.open().plan
    assert planned.baselines == OWN
    assert planned.baseline == "zero-shot of the same model"


def test_another_use_and_one_model_for_all_can_be_named(two_models: Workspace) -> None:
    two_models.write(baseline="brief")
    assert set(two_models.open().plan.baselines.values()) == {"brief@one", "brief@two"}
    two_models.write(baseline="zero-shot@two")
    planned = two_models.open().plan
    assert set(planned.baselines.values()) == {planned.baseline} == {"zero-shot@two"}


def test_what_is_neither_a_variant_nor_a_use_is_refused_with_both(two_models: Workspace) -> None:
    two_models.write(baseline="zero-shoot")
    with pytest.raises(SuiteError, match="did you mean 'zero-shot'") as caught:
        two_models.open()
    assert "zero-shot@one" in str(caught.value)


def test_only_keeps_the_baselines_of_what_is_kept(two_models: Workspace) -> None:
    kept = {path.variant.group for path in two_models.open(only="lora-sft-two").plan.paths}
    assert kept == {"lora-sft-two", "zero-shot@two"}


def test_one_model_has_its_use_as_it_was(workspace: Workspace) -> None:
    planned = workspace.open().plan
    assert set(planned.baselines.values()) == {planned.baseline} == {"zero-shot"}


def test_differences_are_from_the_variants_own_model(two_models: Workspace) -> None:
    opened = two_models.open()
    records = runs.run_stages(opened).records
    from harness.comparison import compare

    found = compare(opened.plan, records, opened.store)
    rows = {row.group: row for row in found.rows if row.metric == "general"}
    for model in ("one", "two"):
        base, trained = rows[f"zero-shot@{model}"], rows[f"lora-sft-{model}"]
        assert base.verdict == "baseline"
        assert trained.difference is not None
        change = trained.estimate.value - base.estimate.value
        assert trained.difference.value == pytest.approx(change)
    assert rows["zero-shot@one"].estimate.value != rows["zero-shot@two"].estimate.value
    frame = to_frame(found)
    assert dict(zip(frame["variant"], frame["baseline"], strict=True)) == OWN
    assert "zero-shot of the same model" in reporting.terminal_table(found)
    reporting.render(found, two_models.folder / "report", examples=True)


def test_untrained_models_alone_are_compared_with_the_first(two_models: Workspace) -> None:
    two_models.write(matrix={}, base={"zero-shot": {"max_new_tokens": 4}}, evaluate=["letters"])
    planned = two_models.open().plan
    assert set(planned.baselines.values()) == {planned.baseline} == {"zero-shot@one"}
