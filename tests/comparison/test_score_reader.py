"""Scores are read from a stage's file with all that decides what they may be compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.comparison.judges import UNKNOWN, Trust
from harness.comparison.result import ALL
from harness.comparison.scores import Keys, Reader, Scores, columns_of
from harness.comparison.statistics import Sample
from harness.core import registry
from harness.core.errors import HarnessError
from harness.planning.planner import Scored
from harness.store.score_table import SCORES, write_scores
from harness.store.stage import Record, Stage
from harness.store.store import Store
from tests.made_up import ROWS, path, record, stage

F1 = {"aggregate": "mean", "columns": {"value": "f1"}, "higher_is_better": True, "unit": ""}
LOSS = {"aggregate": "perplexity", "columns": {"nll": "nll", "tokens": "n"},
        "higher_is_better": False, "unit": "ppl"}  # fmt: skip
TABLE = {"example_id": ["a", "b"], "cluster": ["x", "x"], "group": ["g", "h"], "f1": [0.25, 1.0],
         "nll": [1.5, 2.5], "n": [1, 3]}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def wrote(store: Store, of: Stage, **columns: Any) -> None:
    folder = of.path(store.root)
    folder.mkdir(parents=True)
    write_scores(folder, pa.table({**TABLE, **columns}))


def scored(
    store: Store,
    rows: Stage,
    *,
    config: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Stage] | None = None,
    metrics: Mapping[str, Any] | None = None,
    **told: Any,
) -> tuple[Scored, Record]:
    given = {"data": rows} if inputs is None else inputs
    made = Stage("score", {**stage("score").config, **(config or {})}, given)
    if not made.path(store.root).exists():
        wrote(store, made)
    fields = {"scorer": "toy", "evaluation": "tasks", "label": None, **told}
    return Scored(made, **fields), record(made, metrics={"metrics": metrics or {"f1": F1}})


def read(store: Store, rows: Mapping[str, Any], one: Scored, of: Record, **more: Any) -> Scores:
    (data,) = [s for s in (one.stage.inputs.get("predictions") or one.stage).inputs.values()
               if s.kind == "data"]  # fmt: skip
    records = {of.key: of, data.key: record(data, metrics=dict(rows))}
    (found,) = Reader(records, store, **more)(path(scores=(one,))).values()
    return found


def test_metrics_are_read_with_their_columns(store: Store) -> None:
    rows = stage("data")
    one, of = scored(store, rows, metrics={"f1": F1, "loss": LOSS})
    found = Reader({of.key: of}, store)(path(scores=(one,)))
    assert list(found) == [("f1", "tasks"), ("loss", "tasks")]
    first, second = found.values()
    assert first.sample.columns["value"].tolist() == [0.25, 1.0]
    assert second.sample.columns["tokens"].tolist() == [1.0, 3.0]
    assert second.sample.columns["tokens"].dtype == np.float64
    assert (second.sample.aggregate, second.higher_is_better, second.unit) == (
        "perplexity", False, "ppl",
    )  # fmt: skip
    assert first.keys is second.keys
    assert (first.keys.ids, first.keys.clusters, first.keys.groups) == (
        ("a", "b"), ("x", "x"), ("g", "h"),
    )  # fmt: skip
    assert (first.rows, first.measured, first.judge) == (rows.key, one.stage.key, "")
    assert (first.model, first.template, first.forgetting) == ("", "", False)


def test_what_drawing_the_answers_anew_would_change_is_read_where_it_is_declared(
    store: Store,
) -> None:
    drawn = {**F1, "columns": {"value": "n"}, "drawn": "f1"}
    one, of = scored(store, stage("data"), metrics={"spread": drawn, "loss": LOSS})
    spread, loss = Reader({of.key: of}, store)(path(scores=(one,))).values()
    assert spread.drawn.tolist() == [0.25, 1.0]
    assert spread.slice("h").drawn.tolist() == [1.0]
    assert loss.drawn is None
    assert loss.slice("h").drawn is None


@pytest.mark.parametrize(("told", "bounds"), [({}, (0.0, 1.0)), ({"bounds": [0, 9]}, (0.0, 9.0))])
def test_a_record_older_than_bounds_has_those_of_its_scorers_class(
    store: Store, told: dict[str, Any], bounds: tuple[float, float]
) -> None:
    scorer = registry.find("scorer", "token_f1")()
    made = Stage("score", {"scorer": {"name": "token_f1", **scorer.identity()}}, {"data": ROWS},
                 unhashed={"settings": scorer.planned()})  # fmt: skip
    wrote(store, made, token_f1=[0.25, 1.0])
    metric = {**F1, "columns": {"value": "token_f1"}, **told}
    records = {made.key: record(made, metrics={"metrics": {"token_f1": metric}})}
    own = path(scores=(Scored(made, "token_f1", "tasks", None),))
    assert Reader(records, store)(own)["token_f1", "tasks"].bounds == bounds


def test_a_metric_that_declares_nothing_more_is_no_judges_and_has_the_bounds_of_its_kind(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Trust("kappa 0.6", True)
    monkeypatch.setattr("harness.comparison.scores.trust_in", lambda of, root: known)
    more = {**F1, "bounds": [0.0, 100.0], "even": 0.5, "judged": True}
    one, of = scored(store, stage("data"), metrics={"f1": F1, "loss": LOSS, "wins": more})
    plain, loss, wins = Reader({of.key: of}, store)(path(scores=(one,))).values()
    assert (plain.even, plain.judged, plain.bounds) == (None, False, (-math.inf, math.inf))
    assert loss.bounds == (1.0, math.inf)
    assert (wins.even, wins.judged, wins.bounds) == (0.5, True, (0.0, 100.0))
    assert wins.trust is known
    one, of = scored(store, stage("data"))
    assert read(store, {}, one, of).trust is UNKNOWN


def test_lists_of_examples_that_are_alike_are_kept_once(store: Store) -> None:
    rows = stage("data")
    pairs = [scored(store, rows) for _ in range(3)]
    other = Stage("score", {"number": -1}, {"data": rows})
    wrote(store, other, group=["g", "other"])
    pairs.append(
        (Scored(other, "toy", "tasks", None), record(other, metrics={"metrics": {"f1": F1}}))
    )
    old = Stage("score", {"number": -2}, {"data": rows})  # an earlier version's, without a digest
    old.path(store.root).mkdir(parents=True)
    pq.write_table(pa.table(TABLE), old.path(store.root) / SCORES)
    pairs.append((Scored(old, "toy", "tasks", None), record(old, metrics={"metrics": {"f1": F1}})))
    reader = Reader({of.key: of for _, of in pairs}, store)
    keys = [next(iter(reader(path(scores=(one,))).values())).keys for one, _ in pairs]
    assert keys[0] is keys[1] is keys[2] is keys[4] is not keys[3]


def test_version_is_the_scorers_identity_with_its_encoder(store: Store) -> None:
    rows = stage("data")
    one, of = scored(store, rows)
    made = [
        of.model_copy(update={"config": {"scorer": scorer},
                              "provenance": {"scorer": {"encoder_digest": digest}}})
        for scorer, digest in (({"b": 1, "a": 2}, "x"), ({"a": 2, "b": 1}, "x"),
                               ({"b": 1, "a": 2}, "y"), ({"b": 1, "a": 3}, "x"))
    ]  # fmt: skip
    versions = [read(store, {}, one, each).version for each in made]
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3


def test_scores_by_two_models_as_judges_are_of_two_versions(store: Store) -> None:
    """And what else a score reads beside the variant makes none."""
    versions = []
    for digest in ("x", "x", "y"):
        config = {"others": {"by.0": {"model": digest}, "baseline": {"model": f"b{len(versions)}"}}}
        one, of = scored(store, stage("data"), config=config)
        stored = replace(one.stage, unhashed={"labellers": {"by": {}}})
        versions.append(read(store, {}, replace(one, stage=stored), of).version)
    assert versions[0] == versions[1] != versions[2]


def test_judge_and_training_are_told(store: Store) -> None:
    rows, judge = stage("data"), stage("train")
    one, of = scored(store, rows, inputs={"reward": judge, "data": rows})
    assert read(store, {}, one, of).judge == judge.key
    (found,) = Reader({of.key: of}, store)(path(train=None, scores=(one,))).values()
    assert not found.trained
    assert read(store, {}, one, of).trained


def chat(store: Store, asks: bool = True, **model: Any) -> Scores:
    """Of predictions of an untrained model on chats."""
    rows = stage("data")
    config: dict[str, Any] = {"model": {"digest": "m", **model}}
    if not asks:
        config["generate"] = {"apply_chat_template": False}
    answers = Stage("generate", config, {"data": rows})
    one, of = scored(store, rows, inputs={"predictions": answers})
    return read(store, {"conversational": True}, one, of)


def test_chats_are_of_a_model_and_a_template(store: Store) -> None:
    plain, other = chat(store, chat_template="a"), chat(store, chat_template="b")
    again, given = chat(store, chat_template="a"), chat(store, chat_template_kwargs={"x": 1})
    assert plain.model == other.model == again.model == given.model != ""
    assert plain.template == again.template
    assert len({plain.template, other.template, given.template, ""}) == 4
    assert chat(store, digest="n").model != plain.model
    without = chat(store, asks=False, chat_template="a")
    assert (without.model, without.template) == ("", "")
    one, of = scored(store, stage("data"), config={"model": {"digest": "m"}})
    assert read(store, {"conversational": False}, one, of).template == ""
    assert read(store, {"conversational": True}, one, of).template != ""


def test_a_scorer_that_brings_its_examples_tells_their_template_whatever_the_model_is(
    store: Store,
) -> None:
    one, of = scored(store, stage("data"), config={"model": {"digest": "m"}})
    of = of.model_copy(update={"provenance": {"scorer": {"chat_template_sha256": "abc"}}})
    made = read(store, {"conversational": True}, one, of)
    assert (made.model, made.template) == ("", "abc")


def test_two_scorers_may_not_give_one_figure_two_values(store: Store) -> None:
    pairs = [scored(store, stage("data")) for _ in range(2)]
    reader = Reader({of.key: of for _, of in pairs}, store)
    with pytest.raises(HarnessError, match="two scorers have a metric 'f1' on 'tasks'"):
        reader(path(scores=tuple(one for one, _ in pairs)))


@pytest.mark.parametrize(
    ("told", "layout", "learnt", "forgotten"),
    [
        ({"shows": "language"}, "text", frozenset(), True),
        ({"shows": "language"}, "text", frozenset({"tasks"}), False),
        ({"shows": "language"}, "messages", frozenset(), False),
        ({"shows": "from_base"}, "messages", frozenset(), True),
        ({"shows": "answers"}, "text", frozenset(), False),
        ({"shows": "answers", "forgetting": True}, "messages", frozenset(), True),
        ({"shows": "from_base", "forgetting": False}, "text", frozenset(), False),
    ],
)
def test_forgetting_is_what_the_suite_says_else_of_text_that_is_not_learnt(
    store: Store, told: dict[str, Any], layout: str, learnt: frozenset[str], forgotten: bool
) -> None:
    one, of = scored(store, stage("data"), **told)
    assert read(store, {"layout": layout}, one, of, learnt=learnt).forgetting is forgotten


def test_titles_are_the_metrics_or_the_label(store: Store) -> None:
    one, of = scored(store, stage("data"))
    both = record(one.stage, metrics={"metrics": {"f1": F1, "loss": LOSS}})
    assert columns_of(one, of) == [("f1", "tasks")]
    named = replace(one, label="mine")
    assert columns_of(named, of) == [("mine", "tasks")]
    assert columns_of(named, both) == [("mine f1", "tasks"), ("mine loss", "tasks")]


def test_parts_hold_their_examples_in_order() -> None:
    keys = Keys(("a", "b", "c"), ("x", "y", "x"), ("g", "h", "g"))
    own = Scores(keys, Sample("mean", {"value": np.asarray([1.0, 2.0, 3.0])}), True, "", "v")
    part = own.slice("g")
    assert (part.keys.ids, part.keys.clusters) == (("a", "c"), ("x", "x"))
    assert part.sample.columns["value"].tolist() == [1.0, 3.0]
    assert own.slice("g").keys is part.keys
    assert own.slice(ALL) is own
    assert keys.names == {"g", "h"}
    assert keys.at(np.arange(3)) is keys


def test_metric_is_about_its_class_and_about_all_where_it_has_none() -> None:
    keys = Keys(("a", "b", "c"), ("a", "b", "c"), ("", "", ""))

    def about(*of: float) -> Scores:
        columns = {"hits": np.asarray([1.0, 0.0, 1.0]), "of": np.asarray(of)}
        return Scores(keys, Sample("share", columns), True, "", "v").counted()

    assert about(1, 0, 1).keys.ids == ("a", "c")
    assert about(0, 0, 0).keys is about(1, 1, 1).keys is keys


def test_only_an_accuracy_has_the_chance_level_that_its_scorer_tells(store: Store) -> None:
    rows = stage("data")
    one, of = scored(store, rows, metrics={"acc": F1, "acc_norm": F1, "f1": F1}, label="exam")
    of = of.model_copy(update={"provenance": {"scorer": {"chance": 0.25}}})
    found = Reader({of.key: of}, store)(path(scores=(one,)))
    assert [scores.chance for scores in found.values()] == [0.25, 0.25, None]
