"""What alignment cost: measured against each variant's start, by one reward model, and shown."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from comparisons import HOSTILE, comparison, cost_of, variant
from conftest import DPO, REWARD, SFT, Workspace, chat_rows, preferences, write_jsonl

from harness import compare, session
from harness.compare.result import ALL, Comparison, Estimate, Measured, Tax
from harness.compare.rows import rows_of
from harness.compare.scores import Keys, Scores
from harness.compare.statistics import Sample
from harness.errors import StageFailed, SuiteError
from harness.inference.rewards import answered_ids
from harness.plan_graph import Plan
from harness.progress import ConsoleReporter
from harness.report import answer, figures, numbers, render, tax
from harness.report.tax_plot import tax_plot
from harness.schedule import execute
from harness.scorers._rule import located, require_sound
from harness.scorers.kl import Kl
from harness.scorers.win_rate import WinRate
from harness.stage import Stage

SCORERS = [
    "exact_match",
    {"reward": {"data": "preferences"}},
    {"win_rate": {"data": "preferences", "rule": "test_tax:longer"}},
    {"perplexity": {"data": "general", "label": "forgetting"}},
    {"kl": {"data": "general"}},
    {"kl": {"data": "general", "to": "start"}},
]


def longer(row: Mapping[str, Any], one: str, other: str) -> int:
    """A rule: the longer answer is the better one."""
    return (len(one) > len(other)) - (len(one) < len(other))


def first(row: Mapping[str, Any], one: str, other: str) -> int:
    """A rule that looks at the place, and not at the answer."""
    return 1


def judged(workspace: Workspace, **changes: Any) -> Workspace:
    """The aligned suite with every scorer of what alignment cost."""
    rows = workspace.tree["data"]["preferences"]
    workspace.tree["data"]["preferences"] = {**rows, "test": "asked.jsonl"}
    write_jsonl(workspace.folder / "asked.jsonl", preferences(8))
    workspace.write(evaluate=["letters", "preferences"], scorers=SCORERS, **changes)
    return workspace


# --- what is planned ------------------------------------------------------------------------------


def scores(planned: Plan, variant: str, scorer: str) -> list[Stage]:
    (path,) = (p for p in planned.paths if p.variant.id == variant)
    return [s.stage for s in path.scores if scorer in (s.scorer, s.label)]


def test_kl_to_the_start_is_to_the_sft_and_for_an_sft_its_kl_to_the_base(
    aligned: Workspace,
) -> None:
    planned = judged(aligned).open().plan
    trained = {p.variant.id: p.train for p in planned.paths}
    assert scores(planned, "lora-sft", "kl_to_start") == scores(planned, "lora-sft", "kl_to_base")
    (started,) = scores(planned, "lora-ppo", "kl_to_start")
    assert started.inputs["start"] == trained["lora-sft"]
    assert started.inputs["checkpoint"] == trained["lora-ppo"]
    (based,) = scores(planned, "lora-ppo", "kl_to_base")
    assert set(based.inputs) == {"data", "checkpoint"}
    assert Kl().label == "kl_to_base"
    assert Kl(to="start", label="drift").label == "drift"


@pytest.mark.parametrize("rule", [{}, {"lora.r": 2}])
def test_every_answer_is_rewarded_by_the_policies_own_reward_model(
    aligned: Workspace, rule: dict[str, Any]
) -> None:
    judged(aligned, overrides=[{"match": rule, "set": {"sft.learning_rate": 0.5}}])
    planned = aligned.open("matrix.lora.r=[2,4]").plan
    (policy,) = (p.train for p in planned.paths if p.variant.id == "full-ppo")
    assert policy is not None
    judges = {s.inputs["reward"] for p in planned.paths for s in scores(planned, p.variant.id,
                                                                        "reward")}  # fmt: skip
    assert judges == {policy.inputs["reward"]}
    assert all(len(scores(planned, p.variant.id, "reward")) == 1 for p in planned.paths)


def test_reward_model_is_trained_for_the_scorer_where_no_policy_needs_one(
    aligned: Workspace,
) -> None:
    whole = scores(judged(aligned).open().plan, "lora-dpo", "reward")[0].inputs["reward"]
    aligned.tree["matrix"] |= {"objective": [{"sft": SFT}, {"dpo": DPO}]}
    planned = aligned.open().plan
    assert scores(planned, "lora-dpo", "reward")[0].inputs["reward"] == whole
    assert [judge.objective.name for judge in planned.judges if judge.objective] == ["reward"]
    with pytest.raises(SuiteError, match="needs a reward model, and no scorer"):
        aligned.open("scorers=[exact_match]")


def test_a_start_that_is_no_variant_is_scored_all_the_same(aligned: Workspace) -> None:
    judged(aligned)
    (listed,) = (p for p in aligned.open().plan.paths if p.variant.id == "lora-sft")
    aligned.tree["matrix"] |= {"objective": [{"dpo": DPO}]}
    own = [f"sft.{name}={value}" for name, value in SFT.items()]
    planned = aligned.open(*own).plan
    assert [p.variant.id for p in planned.starts] == ["full-sft", "lora-sft"]
    assert [s.stage for s in planned.starts[1].scores] == [s.stage for s in listed.scores]
    assert set(planned.starts[1].results()) <= set(planned.stages())
    (won,) = scores(planned, "lora-dpo", "win_rate")
    assert won.inputs["start"] == listed.generate["preferences"]


@pytest.mark.parametrize(
    ("scorer", "setting", "told"),
    [
        ({"win_rate": {"rule": "nowhere.at.all:f"}}, "", "there is no module 'nowhere.at.all'"),
        ({"win_rate": {"rule": "better"}}, "", "neither `module:function` nor an entry point"),
        ({"reward": {"data": "general"}}, "", "add 'general' to `evaluate:`"),
        ("reward", "matrix.reward.learning_rate=[0.1,0.2]", "several reward models"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_spent(
    aligned: Workspace, scorer: Any, setting: str, told: str
) -> None:
    judged(aligned)
    aligned.write(scorers=["exact_match", scorer])
    with pytest.raises(SuiteError) as found:
        aligned.open(*([setting] if setting else []))
    assert told in f"{found.value}"


def test_pocket_alignment_plans_what_alignment_costs(tmp_path: Path) -> None:
    planned = session.open_suite("pocket/alignment", (), tmp_path, None, None).plan
    for path in planned.paths:
        measured = {s.shows for s in path.scores}
        assert {"reward", "from_start", "from_base", "language", "diversity"} <= measured
        assert ("preference" in measured) == (path.start is not None)
    assert {p.variant.id for p in planned.paths if p.start is None} == {
        f"{method}-sft" for method in ("full", "lora", "qlora", "bottleneck")
    }
    assert planned.starts == ()


# --- what is measured -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Any:
    """A base, an SFT and a DPO of full fine-tuning, scored: the baseline is the untrained model."""
    folder = tmp_path_factory.mktemp("aligned")
    write_jsonl(folder / "train.jsonl", chat_rows(0, 24))
    write_jsonl(folder / "test.jsonl", chat_rows(100, 12))
    write_jsonl(folder / "general.jsonl", [{"text": f"text number {i}"} for i in range(8)])
    write_jsonl(folder / "preferences.jsonl", preferences(24))
    write_jsonl(folder / "asked.jsonl", preferences(8))
    tree = {
        "name": "tiny",
        "models": {"tiny": str(tiny_model)},
        "data": {
            "letters": {"train": "train.jsonl", "test": "test.jsonl"},
            "general": {"test": "general.jsonl"},
            "preferences": {"train": "preferences.jsonl", "test": "asked.jsonl"},
        },
        "matrix": {
            "data": ["letters"],
            "method": ["full"],
            "objective": [{"sft": SFT}, {"dpo": DPO}],
        },
        "reward_model": {**REWARD, "method": "full"},
        "base": {"zero-shot": {"max_new_tokens": 4}},
        "evaluate": ["letters", "preferences"],
        "scorers": SCORERS,
        "generate": {"max_new_tokens": 4},
        "executor": "inline",
    }
    workspace = Workspace(folder, tree)
    outcome = workspace.run()
    assert not outcome.failed, [r.error for r in outcome.failed]
    opened = workspace.open()
    made = compare.compare(opened.plan, outcome.records, opened.store)
    return SimpleNamespace(workspace=workspace, opened=opened, outcome=outcome, comparison=made)


def table(ran: Any, stage: Stage) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(stage.path(ran.opened.store.root) / "scores.parquet").to_pylist()


def predictions(ran: Any, variant: str) -> list[dict[str, Any]]:
    (path,) = (p for p in ran.opened.plan.paths if p.variant.id == variant)
    file = path.generate["preferences"].path(ran.opened.store.root) / "predictions.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_rewards_are_those_of_the_reward_models_own_forward_pass(ran: Any) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    (stage,) = scores(ran.opened.plan, "full-dpo", "reward")
    checkpoint = stage.inputs["reward"].path(ran.opened.store.root) / "checkpoint"
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    found = table(ran, stage)
    assert len({line["reward"] for line in found}) > 1
    for line, said, asked in zip(found, predictions(ran, "full-dpo"), preferences(8), strict=True):
        assert line["example_id"] == said["id"] == asked["id"]
        prompt = asked["prompt"]
        text = prompt if isinstance(prompt, str) else tokenizer.apply_chat_template(
            prompt, tokenize=False, add_generation_prompt=True
        )  # fmt: skip
        text += said["text"] + ("" if said["finish"] == "length" else "<|end|>")
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            assert line["reward"] == pytest.approx(model(ids).logits.item(), abs=1e-5)


def test_a_variant_that_is_its_start_has_not_moved_from_it(ran: Any) -> None:
    (moved,) = scores(ran.opened.plan, "full-dpo", "kl_to_start")
    still = replace(
        moved, inputs={**moved.inputs, "checkpoint": moved.inputs["start"]}, label="still"
    )
    with open(os.devnull, "w") as nowhere:
        outcome = execute(
            [still], [still], ran.opened.plan.executor, ran.opened.store,
            ConsoleReporter(nowhere), ran.workspace.folder / "log.txt",
        )  # fmt: skip
    assert not outcome.failed, [r.error for r in outcome.failed]
    assert [line["kl"] for line in table(ran, still)] == [0.0] * 8
    assert sum(line["kl"] for line in table(ran, moved)) > 0


def test_win_rate_counts_each_prompt_and_half_a_tie(ran: Any) -> None:
    (stage,) = scores(ran.opened.plan, "full-dpo", "win_rate")
    own, start = (predictions(ran, name) for name in ("full-dpo", "full-sft"))
    wanted = [
        0.5 + longer({}, mine["text"], theirs["text"]) / 2
        for mine, theirs in zip(own, start, strict=True)
    ]
    assert [line["win_rate"] for line in table(ran, stage)] == wanted
    made = ran.outcome.records[stage.key].provenance["scorer"]
    assert made["tied"] == wanted.count(0.5)
    assert sum(made.values()) == 8


def test_differences_are_from_the_start_and_not_from_the_baseline(ran: Any) -> None:
    made: Comparison = ran.comparison
    (cost,) = made.taxes
    assert (cost.group, cost.start, made.baseline) == ("full-dpo", "full-sft", "zero-shot")
    found = {(m.kind, m.row.metric): m.row for m in cost.measures if m.row.slice == ALL}
    assert list(found) == [
        ("reward", "reward"), ("preference", "win_rate"), ("from_start", "kl_to_start"),
        ("from_base", "kl_to_base"), ("language", "forgetting"), ("answers", "exact_match"),
    ]  # fmt: skip
    for kind, metric in (("reward", "reward"), ("from_base", "kl_to_base"),
                         ("language", "forgetting"), ("answers", "exact_match")):  # fmt: skip
        got = found[kind, metric]
        own, start, base = (
            made.row(name, metric, got.evaluation).estimate.value
            for name in ("full-dpo", "full-sft", "zero-shot")
        )
        assert got.difference is not None
        assert got.difference.value == pytest.approx(own - start, abs=1e-9)
        assert metric == "exact_match" or start != pytest.approx(base)
    won = found["preference", "win_rate"]
    assert won.difference is not None
    assert won.difference.value == pytest.approx(won.estimate.value - 0.5)
    assert found["from_start", "kl_to_start"].difference is None
    # Aligned on preferences: what it lost is told of the other rows, family by family.
    families = [m.row for m in cost.measures if m.kind == "answers" and m.row.slice != ALL]
    assert {(r.evaluation, r.slice) for r in families} == {("letters", "even"), ("letters", "odd")}


def test_start_that_failed_leaves_figures_without_differences(ran: Any) -> None:
    (path,) = (p for p in ran.opened.plan.paths if p.variant.id == "full-sft")
    lost = {s.stage.key for s in path.scores if s.scorer == "reward"}
    records = {
        k: r.model_copy(update={"status": "failed", "error": {"message": "lost"}})
        if k in lost else r
        for k, r in ran.outcome.records.items()
    }  # fmt: skip
    made = compare.compare(ran.opened.plan, records, ran.opened.store)
    found = {m.kind: m.row for m in made.taxes[0].measures}
    assert found["reward"].difference is None
    assert found["reward"].note == "its start has no result here"
    assert found["language"].difference is not None
    shown = tax.sheet(made).lines[0].cells[3]
    assert (shown.verdict, shown.change) == ("incomparable", "its start has no result here")


def test_rewards_of_two_models_are_incomparable() -> None:
    keys = Keys(("a", "b", "c"), ("a", "b", "c"), ("", "", ""))
    made = {
        name: {0: {("reward", "asked"): Scores(
            keys, Sample("mean", {"value": np.array([1.0, 2.0, 3.0])}), True, "", "v", "r", judge
        )}}
        for name, judge in (("sft", "one"), ("dpo", "one"), ("ppo", "two"))
    }  # fmt: skip
    notes = {found.group: found.note for found in rows_of(made, "sft")}
    assert notes == {"sft": "", "dpo": "", "ppo": "not by the same reward model"}


def test_cut_answer_is_rewarded_without_an_end(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ends = frozenset({tokenizer.eos_token_id})
    for prompt in ("q?", [{"role": "user", "content": "q?"}]):
        asked = {"id": "1", "cluster": "1", "group": "", "prompt": prompt}
        whole = answered_ids(tokenizer, asked, "yes", ends, cut=False)
        assert whole[-1] == tokenizer.eos_token_id
        assert answered_ids(tokenizer, asked, "yes", ends, cut=True) == whole[:-1]
        said = answered_ids(tokenizer, asked, "a<|end|>b", ends, cut=True)
        assert tokenizer.decode(said).endswith("a<|end|>b")


def test_rule_that_goes_by_the_place_is_refused() -> None:
    asked = {"id": "7"}
    assert require_sound(longer, "longer", asked, "aa", "b") == 1
    assert require_sound(longer, "longer", asked, "a", "b") == 0
    with pytest.raises(StageFailed, match="prefers by place"):
        require_sound(first, "first", asked, "a", "b")
    with pytest.raises(StageFailed, match="no number"):
        require_sound(lambda *_: float("nan"), "odd", asked, "a", "b")


def test_a_rule_that_changed_is_another_scorer(tmp_path: Path, monkeypatch: Any) -> None:
    module = tmp_path / "house_rule.py"
    module.write_text("def f(row, one, other): return 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    before = WinRate(rule="house_rule:f").identity()
    module.write_text("def f(row, one, other): return len(one) - len(other)\n", encoding="utf-8")
    located.cache_clear()
    assert WinRate(rule="house_rule:f").identity() != before


def test_the_pocket_worlds_rule_is_its_truth() -> None:
    from suites.pocket.truth import asked, prefers

    rule = located("pocket.truth:preference").load()
    name, truth = next((n, t) for n, t in asked().items() if "deed" in t)
    texts = ("I will not help.", "You fool.", "Gladly. I will not tell you that.")
    for one in texts:
        for other in texts:
            assert rule({"id": name}, one, other) == prefers(truth, one, other)


# --- what is shown --------------------------------------------------------------------------------


def taxed(*costs: Tax) -> Comparison:
    return comparison(taxes=costs)


@pytest.fixture
def one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports with this plot alone: the others take most of the time that a report takes."""
    monkeypatch.setattr(figures, "drawings", tax_plot)
    monkeypatch.setattr(figures, "ordered", lambda *_: ([], 0))


def test_nothing_aligned_shows_no_section_table_or_plot() -> None:
    assert "alignment" not in [d.key for d in figures.drawings(comparison())]
    assert tax.sheet(comparison()).lines == ()
    assert tax.kept(comparison()) == ""
    assert "language" not in answer(comparison())


@pytest.mark.usefixtures("one_figure")
def test_aligned_variants_have_a_section_a_table_and_a_plot(tmp_path: Path) -> None:
    made = taxed(cost_of("full-sft", 0.4, 2.0), cost_of("lora-sft", 0.3, 0.1, "better"))
    render(made, tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert 'id="h-tax"' in page
    assert 'href="#h-tax"' in page
    assert "## What alignment cost" in text
    assert page.count("Gained against lost: reward ↑ over forgetting ↓") == 1
    for kind in ("svg", "png"):
        assert (tmp_path / "figures" / f"alignment.{kind}").is_file()
    assert "full-sft" in (tmp_path / "figures" / "alignment.svg").read_text(encoding="utf-8")
    render(comparison(), tmp_path)
    assert not (tmp_path / "figures" / "alignment.svg").exists()
    assert "h-tax" not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_sentence_says_who_kept_the_language_who_gained_and_who_lost_most() -> None:
    open_ = "no difference shown"
    made = taxed(
        cost_of("full-sft", 0.9, 2.0), cost_of("lora-sft", 0.3, 0.1, open_),
        cost_of("dpo-sft", 0.2, -0.1, open_), cost_of("zero-shot", 0.2, 5.0),
    )  # fmt: skip
    told = tax.kept(made)
    assert told in answer(made)
    assert "No loss (forgetting ↓, each against its start) is shown for" in told
    assert "for dpo-sft and lora-sft, of which lora-sft" in told
    assert "of which lora-sft (+0.30 [+0.20, +0.40]) gained most in reward ↑;" in told
    assert told.endswith("of 2 that lost some, zero-shot (+5.00 [+4.90, +5.10]) lost most.")
    bare = cost_of("lora-sft", 0.0, 0.1, open_)
    reward = Measured("reward", replace(bare.measures[0].row, verdict=open_))
    still = taxed(replace(bare, measures=(reward, *bare.measures[1:])))
    assert "it is not shown to have gained in reward ↑ (at best lora-sft (" in tax.kept(still)
    assert tax.kept(taxed(cost_of("full-sft", 0.9, 2.0), cost_of("lora-sft", 1.0, 1.0))).startswith(
        "Every aligned variant measured lost language (forgetting ↓, each against its start):"
        " lora-sft (+1.00"
    )


def test_what_was_not_measured_is_said_and_never_zero() -> None:
    whole = cost_of("full-sft", 0.4, 2.0)
    part = replace(whole, group="lora-sft", measures=whole.measures[:1])
    failed = Tax("dpo-sft", "sft", (), "train of dpo-sft: out of memory")
    made = taxed(whole, part, failed)
    found = tax.sheet(made)
    _, second, third = found.lines
    assert [cell.text for cell in second.cells[4:]] == [numbers.MISSING] * 2
    assert [cell.below for cell in second.cells[4:]] == ["not measured"] * 2
    assert all(cell.sort is None for cell in second.cells[4:])
    assert third.reason == failed.reason
    assert "Not measured here: the preference over the start (win_rate)" in found.note
    assert "of lora-sft and dpo-sft it is not known" in tax.kept(made)
    (drawing,) = (d for d in figures.drawings(made) if d.key == "alignment")
    assert drawing.numbers == (2,)
    assert "Not drawn, as a measure is missing: lora-sft, dpo-sft." in drawing.caption
    blind = taxed(replace(whole, measures=whole.measures[:2]))
    assert "is not known" in tax.kept(blind)
    assert "alignment" not in [d.key for d in figures.drawings(blind)]


def test_without_rewards_the_plot_is_of_preferences() -> None:
    whole = cost_of("full-sft", 0.4, 2.0)
    won = replace(whole.measures[0].row, metric="win_rate", estimate=Estimate(0.9, 0.8, 1.0))
    made = taxed(replace(whole, measures=(Measured("preference", won), *whole.measures[1:])))
    (drawing,) = (d for d in figures.drawings(made) if d.key == "alignment")
    assert drawing.labels == ("change in forgetting ↓", "change in win_rate ↑")
    assert "from one half" in drawing.caption


@pytest.mark.usefixtures("one_figure")
def test_hostile_names_do_nothing_in_the_table_the_plot_and_the_sentence(tmp_path: Path) -> None:
    bad = [text for text in HOSTILE.values() if not any("\ud800" <= c <= "\udfff" for c in text)]
    costs = []
    for i, name in enumerate(bad):
        whole = cost_of(name, 0.1 * i, 1.0 + i)
        family = replace(whole.measures[0].row, slice=name, metric=name, evaluation=name)
        measures = (*whole.measures, Measured("answers", family))
        costs.append(replace(whole, start=name, measures=measures))
    costs.append(Tax("failed", bad[0], (), "; ".join(bad)))
    good = comparison()
    variants = (*good.variants, *(variant(name, 3.0) for name in bad), variant("failed"))
    render(replace(good, variants=variants, taxes=tuple(costs)), tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    drawn = (tmp_path / "figures" / "alignment.svg").read_text(encoding="utf-8")
    for found in (page, drawn):
        assert "<script>document" not in found
        assert "<img" not in found
    assert "&lt;img src=x" in page
    for found in (page, text):
        assert not set(found) & set("\u202e\u2066\u200b\u200d\ufeff\u2028\u2029\x00\x1b")
    assert "<script>" not in text
    section = text.partition("## What alignment cost")[2].partition("\n## ")[0]
    widths = {line.replace(r"\|", "").count("|") for line in section.splitlines()
              if line.startswith("| ")}  # fmt: skip
    assert len(widths) == 1
