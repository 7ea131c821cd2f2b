"""What each variant is compared with, where a suite has several models."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness import comparison as compare
from harness import report as reporting
from harness.commands import run as runs
from harness.comparison import to_frame
from harness.core.errors import SuiteError
from harness.planning.graph import Plan
from harness.stages._predictions import read_predictions
from harness.store.stage import Stage
from tests.conftest import DPO, SFT, Workspace, chat_rows, write_jsonl


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


def compared(planned: Plan) -> dict[str, Stage]:
    """Variant -> the answers that the toy scorer holds its own against."""
    return {
        path.variant.id: scored.stage.inputs["baseline"]
        for path in planned.paths
        for scored in path.scores
        if scored.scorer == "longer"
    }


@pytest.mark.parametrize("baseline", ["zero-shot", "zero-shot@two", "lora-sft-one"])
def test_a_scorer_reads_the_answers_of_each_variants_baseline(
    two_models: Workspace, baseline: str
) -> None:
    two_models.write(baseline=baseline, scorers=["rouge", "longer"])
    planned = two_models.open().plan
    answers = {path.variant.id: path.generate["letters"] for path in planned.paths}
    assert compared(planned) == {
        name: answers[other] for name, other in planned.baselines.items() if name != other
    }
    skipped = sorted(set(planned.baselines.values()))
    notes = [warning for warning in planned.warnings if "does not score" in warning]
    assert notes == [
        f"scorers[1].longer does not score {name}: it compares with the baseline, which is {name}"
        " itself"
        for name in skipped
    ]


def test_scores_against_another_models_answers_are_what_they_say(two_models: Workspace) -> None:
    two_models.write(
        baseline="zero-shot@two", scorers=["length", "longer"],
        base={"zero-shot": {"max_new_tokens": 4}, "brief": {"max_new_tokens": 1}},
    )  # fmt: skip
    opened = two_models.open()
    outcome = runs.run_stages(opened)
    assert not outcome.failed, [record.error for record in outcome.failed]
    read = {
        path.variant.id: read_predictions(path.generate["letters"].path(opened.store.root))
        for path in opened.plan.paths
    }
    for path in opened.plan.paths:
        for scored in path.scores:
            if scored.scorer == "longer":
                pairs = zip(read[path.variant.id], read["zero-shot@two"], strict=True)
                signs = [
                    (len(a.text) > len(b.text)) - (len(a.text) < len(b.text)) for a, b in pairs
                ]
                value = outcome.records[scored.stage.key].metrics["metrics"]["longer"]["value"]
                assert value == pytest.approx(sum(0.5 + s / 2 for s in signs) / len(signs))
    found = compare.compare(opened.plan, outcome.records, opened.store)
    row = found.row("brief@one", "longer")
    assert row.difference is not None
    assert row.difference.value == pytest.approx(row.estimate.value - 0.5)
    assert "longer" not in {row.metric for row in found.rows if row.group == "zero-shot@two"}
    assert any("scorers[1].longer does not score zero-shot@two" in note for note in found.notes)


def test_a_seed_is_held_against_the_baselines_own_seed(workspace: Workspace) -> None:
    workspace.write(baseline="lora-sft", seeds=[0, 1], scorers=["rouge", "longer"])
    planned = workspace.open().plan
    answers = {path.variant.id: path.generate["letters"] for path in planned.paths}
    assert compared(planned) == {
        "zero-shot": answers["lora-sft#0"],
        "full-sft#0": answers["lora-sft#0"],
        "full-sft#1": answers["lora-sft#1"],
    }


def test_a_start_that_is_no_variant_is_held_against_the_baseline_of_its_model(
    aligned: Workspace,
) -> None:
    aligned.tree["matrix"] |= {"method": ["full"], "objective": [{"dpo": DPO}]}
    aligned.write(
        scorers=["rouge", "longer"], base={"zero-shot": {"max_new_tokens": 4}}, reward_model={}
    )
    planned = aligned.open().plan
    (start,) = planned.starts
    answers = {path.variant.id: path.generate["letters"] for path in planned.paths}
    (scored,) = (s.stage for s in start.scores if s.scorer == "longer")
    assert scored.inputs["baseline"] == answers["zero-shot"]


def test_a_start_that_is_the_baseline_is_not_compared_with_itself(aligned: Workspace) -> None:
    aligned.tree["matrix"] |= {"method": ["full"], "objective": [{"sft": SFT}, {"dpo": DPO}]}
    aligned.write(scorers=["rouge", "longer"], baseline="full-sft", reward_model={})
    planned = aligned.open().plan
    paths = {path.variant.id: path for path in planned.paths}
    assert set(compared(planned)) == {"full-dpo"}
    start = paths["full-dpo"].start
    assert start is not None
    assert [scored.scorer for scored in start.scores] == ["rouge"]


TUNE = {"metric": "rouge1", "trials": 2, "space": {"sft.learning_rate": [0.01, 0.001]}}


def test_scores_against_a_tuned_baseline_wait_for_its_settings(workspace: Workspace) -> None:
    letters = {**workspace.tree["data"]["letters"], "validation": "general-pairs.jsonl"}
    write_jsonl(workspace.folder / "general-pairs.jsonl", chat_rows(200, 3))
    workspace.write(
        data={**workspace.tree["data"], "letters": letters}, scorers=["rouge", "longer"],
        matrix={**workspace.tree["matrix"], "method": ["lora"]}, baseline="lora-sft", tune=TUNE,
    )  # fmt: skip
    assert compared(workspace.open().plan) == {}
    outcome = workspace.run()
    assert not outcome.failed, [record.error for record in outcome.failed]
    planned = workspace.open().plan
    answers = {path.variant.id: path.generate["letters"] for path in planned.paths}
    assert compared(planned) == {"zero-shot": answers["lora-sft"]}
    with pytest.raises(SuiteError, match="longer cannot score lora-sft: it compares with the base"):
        workspace.open("tune.metric=longer")


def test_a_baseline_that_does_not_answer_the_rows_is_told(workspace: Workspace) -> None:
    write_jsonl(workspace.folder / "more.jsonl", chat_rows(50, 6))
    more = {"train": "more.jsonl", "test": "test.jsonl"}
    workspace.write(
        data={**workspace.tree["data"], "more": more}, scorers=["rouge", "longer"], base={},
        matrix={
            **workspace.tree["matrix"], "method": ["full", "lora"], "data": ["letters", "more"],
        }, baseline="full-sft-letters",
    )  # fmt: skip
    planned = workspace.open().plan
    assert set(compared(planned)) == {"lora-sft-letters"}
    (told,) = [w for w in planned.warnings if "does not answer the rows of" in w]
    assert "full-sft-more, lora-sft-more" in told
