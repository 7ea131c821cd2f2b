"""What a variant is, cost and did: over its seeds, as far as there are results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.comparison import examples as read
from harness.comparison import tuning
from harness.comparison.costs import Conditions, comparable, conditions, result_of, succeeded
from harness.comparison.scores import Keys, Scores
from harness.comparison.statistics import Sample
from harness.planning.planner import Scored, VariantPath
from harness.store.stage import Stage
from harness.store.store import Store
from harness.variants.variant import Elsewhere
from tests.made_up import failed, path, plan, record, records_of, stage, variant, write_lines

SAMPLE = {"mean_tokens": 4.0, "eos_rate": 0.5}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_variant_is_told_over_its_seeds(store: Store) -> None:
    paths = [path(seed=0), path(seed=1)]
    costs = iter(({"seconds": 4.0, "flops": 6, "peak_memory": {"host_bytes": 8}},
                  {"seconds": 2.0, "flops": None, "predicted": {"seconds": 5.0}}))  # fmt: skip
    made = records_of(
        *paths,
        train=lambda _: {"cost": next(costs), "metrics": {"audit": [{"check": "a"}]}},
        generate={"metrics": SAMPLE, "cost": {"tokens_per_second": 7.0}},
    )
    assert paths[0].train is not None
    write_lines(store, paths[0].train, "steps.jsonl", [{"step": 1, "loss": 2.5}, {"step": 2}])
    found = result_of("lora", paths, made, store)
    assert (found.group, found.ids, found.seeds) == ("lora", ("lora-0", "lora-1"), (0, 1))
    assert found.labels == {"method": "lora"}
    assert (found.status, found.reasons, found.has_result) == ("ok", (), True)
    assert (found.trained, found.elsewhere) == (True, False)
    assert found.cost["seconds"] == found.cost["last_seconds"] == found.cost["train_seconds"] == 3.0
    assert (found.cost["flops"], found.cost["tokens"]) == (6, None)
    assert (found.cost["peak_host_bytes"], found.cost["peak_device_bytes"]) == (8, None)
    assert (found.cost["tokens_per_second"], found.cost["seconds_before"]) == (7.0, None)
    assert found.predicted == {"seconds": 5.0, "state_bytes": None, "tokens": None}
    assert found.generation == {"tasks": SAMPLE}
    assert found.audit == ({"check": "a"}, {"check": "a"})
    assert found.losses == (((1, 2.5),), ())
    assert found.spread["seconds"] == (2.0, 4.0)
    assert found.spread["flops"] == (6, 6)
    assert "tokens" not in found.spread


def test_energy_is_that_of_all_steps_of_a_path_and_unknown_after_a_stop(store: Store) -> None:
    earlier = stage("train", {"train": stage("data")}, "sft of lora")
    train = stage("train", {"start": earlier})
    own = path(train=train, generate={}, scores=())
    made = records_of(own)
    steps = {"phases": {"train": 2.0, "load": 8.0}, "train_seconds": 2.0}
    made[earlier.key] = record(earlier, cost={**steps, "joules": {"train": 300.0, "load": 40.0}})
    made[train.key] = record(train, cost={**steps, "joules": {"train": 700.0}, "mfu": 0.25})
    found = result_of("lora", [own], made, store)
    assert (found.cost["joules"], found.cost["mfu"]) == (1000.0, 0.25)
    goes_on = {**steps, "train_seconds": 9.0, "joules": {"train": 300.0}}
    made[earlier.key] = record(earlier, cost=goes_on)
    assert result_of("lora", [own], made, store).cost["joules"] is None


def test_what_was_trained_before_is_part_of_the_price(store: Store) -> None:
    earlier = stage("train", {"train": stage("data")}, "sft of lora")
    train = stage("train", {"start": earlier})
    own = path(train=train, generate={}, scores=())
    made = records_of(own)
    made[earlier.key] = record(earlier, cost={"train_seconds": 5.0, "seconds": 99.0})
    made[train.key] = record(train, cost={"phases": {"train": 2.0, "load": 8.0}, "seconds": 10.0})
    found = result_of("lora", [own], made, store)
    assert found.cost["seconds_before"] == 5.0
    assert found.cost["last_seconds"] == 2.0
    assert found.cost["train_seconds"] == 7.0
    assert found.cost["joules"] is None
    without = {key: kept for key, kept in made.items() if key != earlier.key}
    assert result_of("lora", [own], without, store).cost["train_seconds"] == 2.0
    untimed = {**made, earlier.key: record(earlier)}
    assert result_of("lora", [own], untimed, store).cost["train_seconds"] == 2.0
    unknown = {**made, train.key: record(train)}
    assert result_of("lora", [own], unknown, store).cost["train_seconds"] is None


def test_tokens_of_trainings_before_are_part_of_the_price(store: Store) -> None:
    """Else what goes on from an SFT is told to take fewer tokens than that SFT."""
    earlier = stage("train", {"train": stage("data")}, "sft of lora")
    train = stage("train", {"start": earlier})
    own = path(train=train, generate={}, scores=())
    made = records_of(own)
    made[earlier.key] = record(earlier, cost={"tokens": 900, "flops": 9})
    made[train.key] = record(train, cost={"tokens": 100, "flops": 1})
    found = result_of("lora", [own], made, store)
    assert (found.cost["tokens"], found.cost["last_tokens"]) == (1000, 100)
    assert found.spread["tokens"] == (1000, 1000)
    assert found.cost["flops"] == 10
    for lacking in ({**made, earlier.key: record(earlier)},
                    {key: kept for key, kept in made.items() if key != earlier.key}):  # fmt: skip
        assert result_of("lora", [own], lacking, store).cost["tokens"] is None


def test_price_is_of_every_training_of_a_long_path(store: Store) -> None:
    first = stage("train", {"train": stage("data")}, "cpt of lora")
    second = stage("train", {"start": first}, "sft of lora")
    train = stage("train", {"start": second})
    own = path(train=train, generate={}, scores=())
    made = records_of(own)
    for seconds, trained in ((1.0, first), (2.0, second), (4.0, train)):
        made[trained.key] = record(trained, cost={"seconds": seconds, "tokens": 10 * seconds})
    cost = result_of("lora", [own], made, store).cost
    assert (cost["seconds_before"], cost["train_seconds"], cost["tokens"]) == (3.0, 7.0, 70.0)
    made[first.key] = failed(first, "out of memory")
    assert result_of("lora", [own], made, store).reasons == ("train of cpt of lora: out of memory",)


def test_failure_is_told_with_its_stage_and_what_it_made_fail_is_not(store: Store) -> None:
    earlier = stage("train", {"train": stage("data")}, "sft of lora")
    train = stage("train", {"start": earlier})
    scored = Scored(stage("score", {"checkpoint": train}), "perplexity", "tasks", None)
    own = path(train=train, generate={}, scores=(scored,))
    made = records_of(own)
    made |= {
        earlier.key: failed(earlier, "out of memory"),
        train.key: failed(train, "input failed", skipped="yes"),
        scored.stage.key: failed(scored.stage, "input failed", skipped="yes"),
    }
    found = result_of("lora", [own], made, store)
    assert (found.status, found.has_result) == ("failed", False)
    assert found.reasons == ("train of sft of lora: out of memory",)
    assert (found.audit, found.losses) == ((), ())
    made[earlier.key] = record(earlier)
    assert result_of("lora", [own], made, store).reasons == ("an input failed",)
    made[train.key] = failed(train, "diverged")
    assert result_of("lora", [own], made, store).reasons == ("train of lora-0: diverged",)


def test_choice_that_failed_is_a_reason(store: Store) -> None:
    select = stage("select")
    for chosen, reasons in ((select, ("select of lora-0: no winner",)), (None, ())):
        tuned: Any = SimpleNamespace(select=chosen)
        own = path(tuning=tuned)
        made = {**records_of(own), select.key: failed(select, "no winner")}
        found = result_of("lora", [own], made, store)
        assert found.reasons == reasons
        assert found.status == ("partial" if chosen else "ok")


def test_variant_with_some_scores_failed_in_part(store: Store) -> None:
    own = path()
    other = Scored(stage("score"), "bleu", "tasks", None)
    own = replace(own, scores=(*own.scores, other))
    made = records_of(own)
    made[other.stage.key] = failed(other.stage)
    found = result_of("lora", [own], made, store)
    assert (found.status, found.reasons) == ("partial", ("score of lora-0: lost",))
    left = succeeded(own, made)
    assert left.scores == own.scores[:1]
    assert dict(left.generate) == dict(own.generate)
    (answers,) = own.generate.values()
    made[answers.key] = failed(answers)
    del made[own.scores[0].stage.key]
    left = succeeded(replace(own, start=own), made)
    assert (left.scores, dict(left.generate)) == ((), {})
    assert left.start is not None
    assert (left.start.scores, left.start.train) == ((), own.train)


def test_reward_model_that_failed_is_a_reason(store: Store) -> None:
    judge = stage("train", {"train": stage("data")}, "the judge")
    own = path()
    scored = Scored(stage("score", {"reward": judge}), "reward", "tasks", None)
    own = replace(own, scores=(scored,))
    made = records_of(own)
    made |= {judge.key: failed(judge), scored.stage.key: failed(scored.stage, skipped="yes")}
    assert result_of("lora", [own], made, store).reasons == ("train of the judge: lost",)


def test_of_a_checkpoint_from_elsewhere_the_price_is_not_known(store: Store) -> None:
    own = path(variant=variant(kind=Elsewhere))
    made = records_of(own, train={"cost": {"seconds": 4.0, "parameters": 10}})
    found = result_of("lora", [own], made, store)
    assert found.elsewhere
    assert (found.cost["parameters"], found.cost["seconds"]) == (10, None)
    assert found.spread == {}


@pytest.mark.parametrize(
    ("told", "device", "threads", "busy"),
    [
        ({"platform": "Linux", "threads": 2}, "Linux", 2, False),
        ({"platform": "Linux", "processor": "Epyc", "threads": 2, "waited": 0.2}, "Epyc", 2, True),
        ({"processor": "Epyc", "device_name": "H100", "threads": 2, "waited": 0.1}, "H100", None,
         False),
    ],
)  # fmt: skip
def test_a_time_depends_on_device_threads_and_load(
    told: dict[str, Any], device: str, threads: int | None, busy: bool
) -> None:
    found = conditions(record(stage("train"), provenance=told))
    assert (found.device, found.threads, found.busy) == (device, threads, busy)
    assert str(found).startswith(device)
    assert ("beside other work" in str(found)) is busy
    assert ("thread" in str(found)) is (threads is not None)


def test_times_are_compared_under_one_condition_without_other_work() -> None:
    alone, beside, other = (Conditions("Epyc", 2, busy) for busy in (False, True, False))
    assert comparable([alone], [alone, other])
    assert not comparable([alone], [Conditions("Epyc", 1, False)])
    assert not comparable([beside], [beside])


def test_what_services_counted_is_summed_over_answers_and_scores(store: Store) -> None:
    """A local model has no such cost, which is not the same as a cost of 0."""
    served = {"model": {"endpoint": {"base_url": "http://x"}}}
    answers, asked = Stage("generate", served), Stage("score", {**served, "number": 1})
    own = path(train=None, generate={"tasks": answers},
               scores=(Scored(asked, "rouge", "tasks", None),))  # fmt: skip
    counts = {"prompt_tokens": 30, "completion_tokens": 5, "money": 0.25}
    made = records_of(own, generate={"cost": counts}, score={"cost": {"prompt_tokens": 12}})
    cost = result_of("big", [own], made, store).cost
    assert (cost["service_prompt_tokens"], cost["service_completion_tokens"]) == (42, 5)
    assert cost["service_money"] == 0.25
    local = path()
    found = result_of("lora", [local], records_of(local, generate={"cost": counts}), store).cost
    assert found["service_prompt_tokens"] is found["service_money"] is None


def test_what_a_service_was_paid_for_tuning_counts_as_money_and_not_as_tokens(
    store: Store,
) -> None:
    """Its tokens are told as those trained on."""
    tuned = Stage("train", {"model": {"endpoint": {"base_url": "http://x"}}})
    answers = Stage("generate", {"number": 1}, {"checkpoint": tuned})
    own = path(train=tuned, generate={"tasks": answers}, scores=())
    counts = {"prompt_tokens": 30, "money": 0.25}
    made = records_of(own, generate={"cost": counts}, train={"cost": {**counts, "money": 2.0}})
    cost = result_of("tuned", [own], made, store).cost
    assert (cost["service_prompt_tokens"], cost["service_money"]) == (30, 2.25)
    made[tuned.key] = failed(tuned)
    assert result_of("tuned", [own], made, store).cost["service_money"] == 0.25
    trained_here = path(generate={"tasks": answers}, scores=())
    records = records_of(trained_here, generate={"cost": counts}, train={"cost": {"money": 2.0}})
    records[tuned.key] = record(tuned)
    assert result_of("own", [trained_here], records, store).cost["service_money"] == 2.25


def test_times_of_a_service_are_compared_with_those_of_the_same_service_alone() -> None:
    def asked(url: str) -> Conditions:
        served = Stage("generate", {"model": {"endpoint": {"base_url": url}}})
        told = {"platform": "Linux", "threads": 2, "waited": 0.9}
        return conditions(record(served, provenance=told))

    assert (asked("http://x").threads, asked("http://x").busy) == (None, False)
    assert comparable([asked("http://x")], [asked("http://x")])
    assert not comparable([asked("http://x")], [asked("http://y")])
    assert not comparable([asked("http://x")], [conditions(record(stage("generate")))])


def test_times_are_of_trainings_that_ended_well(store: Store) -> None:
    paths = [path(seed=seed) for seed in range(3)]
    threads = iter((1, 2, 3))
    made = records_of(
        *paths, train=lambda _: {"provenance": {"platform": "x", "threads": next(threads)}}
    )
    assert paths[2].train is not None
    made[paths[2].train.key] = failed(paths[2].train)
    assert [t.threads for t in result_of("lora", paths, made, store).timed] == [1, 2]


# --- answers --------------------------------------------------------------------------------------


def scored_on(count: int, offset: float = 0.0) -> dict[tuple[str, str], Scores]:
    ids = tuple(f"row-{i}" for i in range(count))
    values = np.arange(count) / 100 + offset
    mean = Scores(Keys(ids, ids, ids), Sample("mean", {"value": values}), True, "", "v")
    corpus = Scores(Keys(ids, ids, ids), Sample("ratio", {"value": values}), True, "", "v")
    other = Scores(Keys(ids, ids, ids), Sample("mean", {"value": values + 7}), True, "", "v")
    return {("rouge", "tasks"): mean, ("bleu", "tasks"): corpus, ("rouge", "other"): other}


def answered(store: Store, own: VariantPath, name: str, count: int) -> None:
    write_lines(store, own.generate["tasks"], "predictions.jsonl", [
        {"id": f"row-{i}", "group": "g", "prompt": f"ask {i}", "references": [f"ref {i}"],
         "text": f"{name} {i}"}
        for i in range(count)
    ])  # fmt: skip


def test_examples_are_rows_with_every_variants_answers(store: Store) -> None:
    first, second, bad = path("a", 0), path("b", 3), path("c", 0)
    # An evaluation that only a variant without a result has comes first.
    bad = replace(bad, generate={"lost": stage("generate"), **bad.generate})
    for own, name, count in ((first, "a", 30), (second, "b", 29), (bad, "c", 30)):
        answered(store, own, name, count)
    silent = path("b", 2, generate={})
    groups = {"c": [bad], "a": [first], "b": [silent, second]}
    scores = {"a": {0: scored_on(30)}, "b": {2: scored_on(1), 3: scored_on(29, 0.5)}}
    found = list(read.examples(groups, {"a", "b"}, scores, store))
    assert [example.id for example in found] == [f"row-{i}" for i in range(30)]
    second_row, last = found[1], found[-1]
    assert (second_row.evaluation, second_row.group, second_row.prompt) == ("tasks", "g", "ask 1")
    assert second_row.references == ("ref 1",)
    assert second_row.answers == {"a": "a 1", "b": "b 1"}
    assert second_row.scores == {"a": {"rouge": 0.01}, "b": {"rouge": 0.51}}
    assert last.answers == {"a": "a 29"}
    assert last.scores == {"a": {"rouge": 0.29}, "b": {}}
    assert list(read.examples(groups, set(), scores, store)) == []


def test_examples_are_fewer_where_variants_are_many(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {name: [path(name)] for name in "ab"}
    for name, (own,) in paths.items():
        answered(store, own, name, 30)
    scores = {name: {0: scored_on(30)} for name in "ab"}

    def shown() -> int:
        return len(list(read.examples(paths, {"a", "b"}, scores, store)))

    monkeypatch.setattr(read, "MAX_ANSWERS", 44)
    assert shown() == 22
    monkeypatch.setattr(read, "MAX_ANSWERS", 6)
    assert shown() == read.MIN_EXAMPLES == 20
    monkeypatch.setattr(read, "MAX_EXAMPLES", 7)
    assert shown() == 7
    example, *_ = read.examples(paths, {"a", "b"}, scores, store)
    assert example.scores["a"] == {"rouge": 0.0}


# --- tuning ---------------------------------------------------------------------------------------


def test_test_rows_are_counted_by_who_was_scored_on_them() -> None:
    on_test, on_validation = stage("score", {"data": path().scores[0].stage}), stage("score")
    trials = [SimpleNamespace(scores=(on_test,)), SimpleNamespace(scores=(on_validation,))]
    elsewhere = path("b", scores=(Scored(stage("score"), "rouge", "tasks", None),))
    made = plan(
        path("a"),
        path("a", 1),
        elsewhere,
        starts=(path("c"),),
        tunings=lambda: (SimpleNamespace(trials=trials),),
    )
    made.data = {("tasks", "train"): stage("data"), **made.data}
    assert tuning.test_uses(made) == {"tasks": {"variants": 2, "trials": 1}}


def test_tuning_and_budget_and_kept_checkpoints_are_told() -> None:
    class Budget(SimpleNamespace):
        def __str__(self) -> str:
            return "so much"

    best, last = path("a"), path("b")
    metrics = {"kept": {"policy": "best", "validation_loss": 1.23456, "step": 4}, "steps": 9}
    made = records_of(best, last, train=lambda s: {"metrics": metrics if s == best.train else {}})
    tune = SimpleNamespace(seeds=(0,), metric="loss", trials=7, search="random", match={})
    suite = SimpleNamespace(seeds=(0,), tune=tune, budget=Budget(seconds=5))
    tuned, ended, kept = tuning.notes(plan(best, last, suite=suite), made)
    assert "by loss: 7 trials (random search, one seed a trial)" in tuned
    assert "at the same budget: so much; runs that end by the clock" in ended
    assert kept == ("a-0 keeps the checkpoint of its lowest validation loss (1.235): step 4 of 9.")
    assert "for every cell alike. No trial was scored on test rows." in tuned
    tune.seeds, suite.budget = (0, 1), Budget(seconds=None)
    tune.match = {"method": ["lora", "full"], "objective": ["sft"]}
    tuned, ended, _ = tuning.notes(plan(best, last, suite=suite), made)
    assert "2 seeds a trial) for every cell with method lora or full and objective sft" in tuned
    assert " alike. The others have what the suite gives them. No trial was" in tuned
    assert ended == "Every training run ends at the same budget: so much."
    suite.tune, suite.budget = None, None
    assert best.train is not None
    made[best.train.key] = failed(best.train)
    assert list(tuning.notes(plan(best, last, suite=suite), made)) == []


def test_trials_are_told_as_the_select_stage_recorded_them() -> None:
    def tuned(select: Any) -> Any:
        return SimpleNamespace(
            group="a", metric="loss", evaluation="tasks", higher_is_better=False,
            logarithmic=("lr",), total=3, select=select,
        )  # fmt: skip

    good, bad, unknown = stage("select"), stage("select"), stage("select")
    made = {good.key: record(good, metrics={"trials": [1, 2], "winner": {"number": 2}}),
            bad.key: failed(bad, "no winner")}  # fmt: skip
    planned = plan(tunings=lambda: [tuned(s) for s in (unknown, good, None, bad)])
    first, second = tuning.tunings(planned, made)
    assert first == {
        "group": "a", "metric": "loss", "evaluation": "tasks", "higher_is_better": False,
        "logarithmic": ["lr"], "total": 3, "trials": [1, 2], "winner": 2,
    }  # fmt: skip
    assert (second["trials"], second["winner"], second["error"]) == ([], None, "no winner")
