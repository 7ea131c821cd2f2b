"""Tuning on validation rows, budgets, and which checkpoint is kept."""

from __future__ import annotations

import itertools
import json
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import comparison as comparing
from harness import worker
from harness.commands import gc
from harness.commands import report as reports
from harness.commands import run as runs
from harness.commands.plan import describe_plan
from harness.commands.session import open_suite
from harness.core.errors import SuiteError
from harness.planning.tuning import judge_of
from harness.scheduling.schedule import Outcome
from harness.scorers.rouge import Rouge
from harness.stages.base import WORK
from harness.store.stage import Record, Stage, write_record
from harness.suite.tune import Range, Tune, propose
from tests.conftest import Workspace, chat_rows, write_jsonl
from tests.whole.test_run import kinds, labels, outputs

TUNE: dict[str, Any] = {
    "trials": 2,
    "search": "grid",
    "space": {"sft.learning_rate": [1e-3, 1e-2], "lora.lora_dropout": [0.0]},
    "metric": "answers",
}


@pytest.fixture
def tuned(workspace: Workspace) -> Workspace:
    """Full and LoRA, two rates each, judged by the perplexity of validation answers."""
    write_jsonl(workspace.folder / "validation.jsonl", chat_rows(200, 8))
    splits = {"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl"}
    workspace.write(
        data={"letters": splits},
        matrix={
            "method": ["full", {"lora": {"r": 2}}],
            "objective": [{"sft": {"per_device_train_batch_size": 8, "max_length": 64}}],
        },
        scorers=["exact_match", {"perplexity": {"label": "answers"}}],
        tune=TUNE,
    )
    return workspace


def one_method(workspace: Workspace) -> None:
    """Full alone, where one method shows as much as two."""
    workspace.tree["matrix"]["method"] = ["full"]
    workspace.tree["tune"] = {**TUNE, "space": {"sft.learning_rate": [1e-3, 1e-2]}}


def selected(outcome: Outcome) -> dict[str, dict[str, Any]]:
    return {r.label: r.metrics for r in outcome.records.values() if r.kind == "select" and r.ok}


def ancestors(stage: Stage) -> set[Stage]:
    return {stage}.union(*(ancestors(source) for source in stage.inputs.values()))


def test_every_method_gets_as_many_trials_and_the_winner_is_not_trained_again(
    tuned: Workspace,
) -> None:
    tuned.write(seeds=[0, 1])
    opened = tuned.open()
    assert {path.train for path in opened.plan.paths} == {None}
    assert "planned once `select` has chosen" in describe_plan(opened, why=False)
    outcome = runs.run_stages(opened)
    assert not outcome.failed
    told = runs.ledger(outcome, opened)
    once, alone = map(float, re.findall(r"([\d.]+) s(?:  \(each| if every)", told))
    assert alone > once  # a path holds the trials that its hyper-parameters came from
    chosen = selected(outcome)
    assert {name: len(found["trials"]) for name, found in chosen.items()} == {
        "full-sft": 2,
        "lora-sft": 2,
    }
    # Two trials for each of two methods, and seed 1 of each winner; seed 0 was a trial.
    assert sorted(labels(outcome, "train")) == [
        "full-sft trial 1", "full-sft trial 2", "full-sft#1",
        "lora-sft trial 1", "lora-sft trial 2", "lora-sft#1",
    ]  # fmt: skip
    for path in opened.plan.paths:
        if path.train is not None and path.tuning is not None:
            found = chosen[path.variant.group]
            values = [trial["value"] for trial in found["trials"]]
            assert found["winner"]["value"] == min(values)
            assert path.train.config["objective"] == found["winner"]["config"]["objective"]
            if path.variant.seed == 0:
                trial = path.tuning.trials[found["winner"]["number"] - 1]
                assert path.train in ancestors(trial.scores[0])
    again = tuned.run()
    assert again.ran == []


@pytest.mark.parametrize(
    ("scorer", "metric"),
    [("bleu", "bleu"), ({"distinct": {"orders": [1, 2]}}, "distinct_2"),
     ({"distinct": {"orders": [1], "label": "variety"}}, "variety")],
)  # fmt: skip
def test_metrics_that_a_scorers_fields_choose_can_be_tuned_on(
    tuned: Workspace, scorer: Any, metric: str
) -> None:
    one_method(tuned)
    tuned.write(scorers=[scorer], tune={**tuned.tree["tune"], "metric": metric})
    (tuning,) = tuned.open().plan.tunings()
    assert tuning.select is not None


def test_selection_depends_on_no_test_row(tuned: Workspace) -> None:
    one_method(tuned)
    opened = tuned.open()
    tests = {stage for (_, split), stage in opened.plan.data.items() if split == "test"}
    assert tests
    for tuning in opened.plan.tunings():
        assert tuning.select is not None
        assert {stage.kind for stage in tuning.select.inputs.values()} == {"score"}
        assert not tests & ancestors(tuning.select)
    runs.run_stages(opened)
    write_jsonl(tuned.folder / "test.jsonl", chat_rows(500, 5))
    assert set(kinds(tuned.run())) == {"contamination", "generate", "score"}
    tuned.tree["data"]["letters"]["validation"] = "test.jsonl"
    with pytest.raises(SuiteError, match="are the test rows"):
        tuned.open()


def test_failed_trial_counts_cannot_win_and_is_not_tried_again(tuned: Workspace) -> None:
    one_method(tuned)
    tuned.write(
        tune={**TUNE, "space": {"sft.learning_rate": [1e30, 1e-2]}},
        overrides=[{"match": {}, "set": {"sft.max_grad_norm": 0}}],
    )
    outcome = tuned.run()
    assert not outcome.failed
    for found in selected(outcome).values():
        first, second = found["trials"]
        assert (first["status"], second["status"]) == ("failed", "ok")
        assert "the loss of step" in first["error"]
        assert found["winner"]["number"] == 2
    again = tuned.run()
    assert again.ran == []
    assert not again.failed


def test_cell_whose_every_trial_failed_is_reported_failed_with_the_reasons(
    tuned: Workspace,
) -> None:
    tuned.write(
        matrix={**tuned.tree["matrix"], "method": ["full"]},
        tune={**TUNE, "space": {"sft.learning_rate": [1e29, 1e30]}},
        overrides=[{"match": {}, "set": {"sft.max_grad_norm": 0}}],
    )
    opened = tuned.open()
    outcome = runs.run_stages(opened)
    assert [record.kind for record in outcome.failed] == ["select"]
    comparison = comparing.compare(opened.plan, outcome.records, opened.store)
    (failed,) = comparison.failed
    assert failed.group == "full-sft"
    assert "all 2 trials failed" in failed.reasons[0]
    assert "trial 2: " in failed.reasons[0]
    assert comparison.row("zero-shot", "exact_match").n == 12
    assert reports.stored(tuned.open())  # `harness report` has all it needs


def test_report_shows_every_trial_the_winner_and_the_curve(tuned: Workspace) -> None:
    one_method(tuned)
    opened = tuned.open()
    outcome = runs.run_stages(opened)
    folder = tuned.folder / "report"
    reported = reports.report(opened, outcome.records, folder, examples=False)
    assert reported.comparison is not None
    page, text = (folder / "index.html").read_text(), (folder / "report.md").read_text()
    assert "perplexity on validation rows of letters against sft.learning_rate" in page
    assert "ring is round the trial that won: 2 full-sft, trial" in page
    for name, found in selected(outcome).items():
        rows = [
            row for row in text.splitlines() if row.startswith(f"| {name} | ") and "rate = " in row
        ]
        assert len(rows) == 2
        assert [" won " in row for row in rows] == [
            trial["number"] == found["winner"]["number"] for trial in found["trials"]
        ]
    assert "2 trials (grid search, one seed a trial) for every cell alike" in text
    assert "| letters | 2 variants, 0 trials |" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"sft.learning_rate": [1e-3]}}, "fewer than 2 trials"),
        ({"space": {"lora.r": [2, 4]}}, "nothing is tuned for full-sft"),
        ({"space": {"sft.learning_rat": [1, 2]}}, "did you mean 'learning_rate'"),
        ({"space": {"sfd.learning_rate": [1, 2]}}, "did you mean 'sft'"),
        ({"metric": "answer"}, "did you mean 'answers'"),
        ({"data": "letter"}, "did you mean 'letters'"),
        ({"space": {"sft.max_steps": [1, 2]}}, "`budget:` ends every training alike"),
        ({"space": {"sft.learning_rate": {"low": 0, "high": 1, "log": True}}}, "above 0"),
    ],
)
def test_tuning_that_cannot_be_fair_is_refused(
    tuned: Workspace, changes: dict[str, Any], message: str
) -> None:
    tuned.write(tune={**TUNE, **changes}, budget={"steps": 3})
    with pytest.raises(SuiteError, match=message):
        tuned.open()


def test_tuning_without_validation_rows_is_refused(tuned: Workspace) -> None:
    del tuned.tree["data"]["letters"]["validation"]
    with pytest.raises(SuiteError, match="trials are judged on it"):
        tuned.open()


def tune_of(**fields: Any) -> Tune:
    return Tune.model_validate({"trials": 4, "metric": "m", "space": {"sft.x": [1]}, **fields})


@given(
    seed=st.integers(0, 99),
    trials=st.integers(1, 12),
    low=st.floats(1e-6, 1e-2),
    factor=st.floats(2, 1e4),
    log=st.booleans(),
)
def test_random_search_gives_methods_the_same_draws_and_only_adds_to_them(
    seed: int, trials: int, low: float, factor: float, log: bool
) -> None:
    rate = Range(low=low, high=low * factor, log=log)
    small = propose(tune_of(trials=trials, seed=seed), {"sft.lr": rate}, [], True)
    more = propose(tune_of(trials=trials + 3, seed=seed), {"sft.lr": rate}, [], True)
    assert len(small) == trials
    assert more[:trials] == small
    assert all(rate.low <= settings["sft.lr"] <= rate.high for settings in more)
    both = propose(
        tune_of(trials=trials, seed=seed),
        {"lora.a": Range(low=0, high=1e6), "sft.lr": rate},
        [],
        True,
    )
    assert [settings["sft.lr"] for settings in both] == [s["sft.lr"] for s in small]


def test_metric_that_two_scorers_share_needs_its_rows_named() -> None:
    entries, twice = {"a": 1, "b": 1, "c": 1}, [Rouge(data="a"), Rouge(data="b")]
    with pytest.raises(SuiteError, match=r"scorers\[0\] on data\.a, scorers\[1\] on data\.b"):
        judge_of(tune_of(metric="rougeL"), twice, entries)
    found = [judge_of(tune_of(metric="rougeL", data=name), twice, entries) for name in entries]
    assert [(judge.scorer, judge.data) for judge in found] == [(0, "a"), (1, "b"), (0, "c")]
    stemmed = [Rouge(data="a", use_stemmer=True), Rouge(data="b", use_stemmer=False)]
    with pytest.raises(SuiteError, match="give one of the scorers a `label:`"):
        judge_of(tune_of(metric="rougeL", data="c"), stemmed, entries)
    labelled = [Rouge(data="a"), Rouge(data="b", label="other")]
    assert judge_of(tune_of(metric="other rougeL"), labelled, entries).scorer == 1


def test_grid_divides_ranges_evenly_and_covers_lists() -> None:
    tune = tune_of(trials=3, search="grid")
    rate = Range(low=1e-4, high=1e-2, log=True)
    assert propose(tune, {"sft.lr": rate}, [], True) == [
        {"sft.lr": 1e-4}, {"sft.lr": 1e-3}, {"sft.lr": 1e-2},
    ]  # fmt: skip
    tune = tune_of(trials=6, search="grid")
    found = propose(tune, {"sft.lr": rate, "lora.r": [4, 8, 16]}, [], True)
    assert len({tuple(settings.values()) for settings in found}) == 6
    assert {settings["lora.r"] for settings in found} == {4, 8, 16}


def test_optuna_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SuiteError, match=r"finetune-harness\[tune\]"):
        propose(tune_of(search="optuna"), {"sft.lr": [1, 2]}, [], True)


def test_optuna_replays_its_batches(tuned: Workspace) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed (extra `tune`)")
    tune = tune_of(trials=6, batch=2, search="optuna")
    space = {"sft.lr": Range(low=1e-4, high=1e-2, log=True), "lora.r": [4, 8]}
    assert len(propose(tune, space, [], True)) == 2
    first = propose(tune, space, [0.1, None], True)
    assert len(first) == 4
    assert propose(tune, space, [0.1, None, 0.3, 0.2], True)[:4] == first


class LastValue:
    """Stands in for optuna's study: asks for 1e-3, then halves it with every value it was told."""

    def __init__(self, told: list[float]) -> None:
        self.told = told

    def ask(self, distributions: dict[str, Any]) -> SimpleNamespace:
        return SimpleNamespace(params={name: 1e-3 / 2 ** len(self.told) for name in distributions})

    def tell(self, trial: SimpleNamespace, value: float | None = None, state: str = "ok") -> None:
        self.told.append(float("nan") if value is None else value)


@pytest.fixture
def halving(tuned: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[LastValue]:
    """The suite of one cell searched by the stand-in, trial by trial; its studies, as planned."""
    studies: list[LastValue] = []

    def create_study(direction: str, sampler: object) -> LastValue:
        assert direction == "minimize"
        studies.append(LastValue([]))
        return studies[-1]

    stub: Any = SimpleNamespace(
        logging=SimpleNamespace(set_verbosity=lambda level: None, WARNING=0),
        samplers=SimpleNamespace(
            TPESampler=lambda seed, n_startup_trials: (seed, n_startup_trials)
        ),
        distributions=SimpleNamespace(FloatDistribution=lambda low, high, log: (low, high, log)),
        trial=SimpleNamespace(TrialState=SimpleNamespace(FAIL="failed")),
        create_study=create_study,
    )
    monkeypatch.setitem(sys.modules, "optuna", stub)
    space = {"sft.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    tuned.write(
        matrix={**tuned.tree["matrix"], "method": [{"lora": {"r": 2}}]},
        tune={**TUNE, "search": "optuna", "batch": 1, "trials": 3, "space": space},
    )
    return studies


def test_search_that_learns_is_planned_batch_by_batch_from_records(
    tuned: Workspace, halving: list[LastValue]
) -> None:
    opened = tuned.open()
    assert "1 of 3 trials" in describe_plan(opened, why=False)
    outcome = runs.run_stages(opened)
    found = selected(outcome)["lora-sft"]
    assert [t["set"]["sft.learning_rate"] for t in found["trials"]] == [1e-3, 5e-4, 2.5e-4]
    told = [trial["value"] for trial in found["trials"]]
    assert halving[-1].told == told
    assert tuned.run().ran == []


def untrained(folder: Path, emit: object) -> None:
    """Stands in for the worker where weights are needed: leaves records, as if it had worked."""
    spec = json.loads((folder / "stage.json").read_text())
    if spec["kind"] in ("data", "lengths", "contamination", "select"):
        worker._run(folder, emit)
        return
    metrics = {
        "train": {"first_loss": 1.0, "final_loss": 0.5, "steps": 3},
        "generate": {"rows": 12},
        "score": {"metrics": {"perplexity": {"value": float(int(spec["key"][:4], 16))}}},
    }[spec["kind"]]
    cost = {"phases": {"train": 0.0}, "tokens": 0.0}
    made = {name: spec[name] for name in ("key", "kind", "label", "config")}
    write_record(folder, Record(**made, status="ok", metrics=metrics, cost=cost))


def test_killed_trials_fail_for_their_run_and_for_reports_but_not_for_the_next_run(
    tuned: Workspace, halving: list[LastValue], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path, emit: object) -> None:
        if folder.parent.name != "train":
            untrained(folder, emit)

    monkeypatch.setattr(worker, "run_stage", killed)
    first = tuned.run()
    assert [math.isnan(value) for value in halving[-1].told] == [True, True, True]
    ended = open_suite(str(tuned.path), (), tuned.store, None, None, ended=True)
    found = reports.stored(ended)
    assert {key: r.status for key, r in found.items()} == {
        key: r.status for key, r in first.records.items()
    }
    assert gc.collect([str(tuned.path)], tuned.store, None, False, dry_run=True).endswith(
        "0.0 MiB: 0 stages removed, 0 checkpoints released"
    )
    monkeypatch.setattr(worker, "run_stage", untrained)
    assert "1 of 3 trials" in describe_plan(tuned.open(), why=False)
    resumed, whole = tuned.run(), tuned.run(store=tuned.folder / "whole")
    assert selected(resumed) == selected(whole)
    assert tuned.run().ran == []


def step_log(workspace: Workspace, label: str, store: Path | None = None) -> list[dict[str, Any]]:
    for path in (store or workspace.store).glob("train/*/steps.jsonl"):
        if json.loads((path.parent / "stage.json").read_text())["label"] == label:
            return [json.loads(line) for line in path.read_text().splitlines()]
    raise AssertionError(f"no step log of {label}")


def trained(outcome: Outcome, label: str) -> Any:
    (record,) = [r for r in outcome.records.values() if (r.kind, r.label) == ("train", label)]
    return record


KEEP = {"sft.keep": "best", "sft.eval_steps": 2}


@pytest.fixture
def overfitting(tuned: Workspace) -> Workspace:
    """LoRA with dropout, on rows that half of the validation rows contradict; no tuning."""
    rows = chat_rows(200, 8)
    for row in rows[::2]:
        row["messages"][-1]["content"] = "!!"
    write_jsonl(tuned.folder / "validation.jsonl", rows)
    sft = {
        "learning_rate": 0.1, "max_steps": 9, "per_device_train_batch_size": 4, "max_length": 64,
        "lr_scheduler_type": "constant",
    }  # fmt: skip
    tuned.write(
        matrix={"method": [{"lora": {"r": 2, "lora_dropout": 0.1}}], "objective": [{"sft": sft}]},
        base={}, scorers=["exact_match"],
    )  # fmt: skip
    del tuned.tree["tune"]
    return tuned


CURVE = {2: 5.0, 4: 4.0, 6: 4.5, 8: 4.0, 9: 6.0}
"""Validation losses by step, with a clear lowest one, whatever a processor's last digits are."""


def test_kept_checkpoint_is_that_of_the_lowest_validation_loss(
    overfitting: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.objectives._trl.keep_best import KeepBest

    validate, measured = KeepBest.on_evaluate, []

    def on_the_curve(
        self: Any, args: Any, state: Any, control: Any, metrics: dict[str, float], **rest: Any
    ) -> None:
        measured.append(metrics["eval_loss"])
        told = {**metrics, "eval_loss": CURVE[state.global_step]}
        validate(self, args, state, control, metrics=told, **rest)

    overfitting.write(overrides=[{"match": {}, "set": KEEP}])
    with monkeypatch.context() as patched:
        patched.setattr(KeepBest, "on_evaluate", on_the_curve)
        best = trained(overfitting.run(), "lora-sft")
    assert len(set(measured)) == len(CURVE)  # each of other weights
    kept = best.metrics["kept"]
    assert kept["validated"] == [list(point) for point in CURVE.items()]
    assert (kept["step"], kept["validation_loss"]) == (4, 4.0)  # of equal ones, the first
    # Trained for just so many steps, without validation, it is the same checkpoint and losses.
    short = {"sft.max_steps": kept["step"]}
    overfitting.write(overrides=[{"match": {}, "set": short}])
    last = trained(overfitting.run(store=overfitting.folder / "short"), "lora-sft")
    weights = "checkpoint/adapter_model.safetensors"
    assert best.outputs[weights] == last.outputs[weights]
    assert last.metrics["kept"] == {"policy": "last", "step": kept["step"]}
    log = step_log(overfitting, "lora-sft")
    assert log[: kept["step"]] == step_log(overfitting, "lora-sft", overfitting.folder / "short")


def test_resumed_run_keeps_the_same_best_checkpoint(
    overfitting: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.objectives._trl.trainer import StepLog

    overfitting.write(
        overrides=[{"match": {}, "set": {**KEEP, "sft.eval_steps": 1}}],
        resources={"checkpoint_seconds": 0},
    )
    whole = overfitting.run(store=overfitting.folder / "whole")
    save = StepLog.on_save
    for moment in (3, 7):

        def killed(
            self: Any, args: Any, state: Any, control: Any, at: int = moment, **rest: Any
        ) -> None:
            if state.global_step == at:  # validated, and the checkpoint is only half written
                raise OSError("killed here")
            save(self, args, state, control, **rest)

        with monkeypatch.context() as patched:
            patched.setattr(StepLog, "on_save", killed)
            assert overfitting.run().failed
        (marked,) = overfitting.store.glob(f"train/*/{WORK}/checkpoint-{moment - 1}/complete")
        spent = float(marked.read_text())
    resumed = overfitting.run()
    assert outputs(resumed) == outputs(whole)
    (trained,) = [r for r in resumed.records.values() if r.kind == "train"]
    # What it took counts every attempt's share, not the last one's alone.
    assert trained.cost["train_seconds"] == pytest.approx(trained.cost["phases"]["train"] + spent)


def test_keeping_the_best_without_validation_rows_is_refused(overfitting: Workspace) -> None:
    overfitting.write(overrides=[{"match": {}, "set": KEEP}])
    del overfitting.tree["data"]["letters"]["validation"]
    with pytest.raises(SuiteError, match="keep: best of sft chooses by it"):
        overfitting.open()
    overfitting.write(overrides=[{"match": {}, "set": {"sft.keep": "best"}}])
    with pytest.raises(SuiteError, match="eval_steps go together"):
        overfitting.open()


def test_budget_in_tokens_stops_at_its_step_and_the_rate_follows_it(
    overfitting: Workspace,
) -> None:
    sft = {"learning_rate": 1e-3, "per_device_train_batch_size": 4, "max_length": 64}
    overfitting.write(
        matrix={"method": ["full"], "objective": [{"sft": sft}]}, budget={"tokens": 700}
    )
    outcome = overfitting.run()
    assert not outcome.failed
    log = step_log(overfitting, "full-sft")
    seen = [0.0, *(line["num_tokens"] for line in log)]
    assert seen[-1] >= 700 > seen[-2]
    assert trained(outcome, "full-sft").metrics["budget"] == {"tokens": 700, "spent": seen[-1]}
    for line, before in zip(log, seen, strict=False):
        assert line["learning_rate"] == pytest.approx(1e-3 * (1 - before / 700), rel=1e-6)
    assert outputs(overfitting.run(store=overfitting.folder / "again")) == outputs(outcome)


def test_budget_in_seconds_stops_by_the_clock_and_says_it_does_not_repeat(
    overfitting: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.objectives._trl import budget as _budget

    ticks = itertools.count()
    monkeypatch.setattr(_budget, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    del overfitting.tree["matrix"]["objective"][0]["sft"]["max_steps"]
    overfitting.write(budget={"seconds": 20})
    record = trained(overfitting.run(), "lora-sft")
    budget = record.metrics["budget"]
    assert budget["seconds"] == 20 <= budget["spent"] < 30
    assert "differ from run to run" in budget["note"]


@pytest.mark.parametrize(
    ("budget", "message"),
    [({"tokens": 100}, "sft.max_steps is set"), ({"steps": 1, "tokens": 2}, "one of steps")],
)
def test_two_ends_of_one_training_are_refused(
    overfitting: Workspace, budget: dict[str, int], message: str
) -> None:
    overfitting.write(budget=budget)
    with pytest.raises(SuiteError, match=message):
        overfitting.open()
