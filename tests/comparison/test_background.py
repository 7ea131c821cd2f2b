"""What stands behind a comparison is told: copies, machines, labels, lost rows, cut answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.comparison import provenance as background
from harness.comparison.costs import result_of
from harness.planning.planner import Scored
from harness.store.stage import Stage
from harness.store.store import Store
from harness.variants.variant import Untrained
from tests.made_up import ROWS, failed, path, plan, record, records_of, stage, variant

COPIES = {"exact": 3, "overlap": 2, "test_rows": 40, "n": 13}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is asked for what it has makes its index."""
    monkeypatch.chdir(tmp_path)


def told(planned: Any, records: Any, *variants: Any) -> list[str]:
    return list(background.notes(planned, records, variants, Store(Path("no-store"))))


def result(**changes: Any) -> Any:
    fields: dict[str, Any] = {"group": "lora", "trained": True, "timed": (), "generation": {}}
    return SimpleNamespace(**{**fields, **changes})


def test_nothing_is_said_where_nothing_is_the_matter() -> None:
    own = path()
    assert told(plan(own), records_of(own), result()) == []


def test_copies_of_test_rows_are_one_sentence_for_all_pairs() -> None:
    clean, few, many = (stage("contamination", label=f"pair {i}") for i in range(3))
    made = {
        clean.key: record(clean, metrics={**COPIES, "exact": 0, "overlap": 0}),
        few.key: record(few, metrics={**COPIES, "exact": 0, "overlap": 1}),
        many.key: record(many, metrics=COPIES),
    }

    def notes(*pairs: Stage) -> list[str]:
        return told(plan(contamination=pairs), made)

    assert notes(clean) == []
    assert notes(many) == [
        "Contamination: pair 2: 3 of 40 test rows stand in the training rows, and 2 more share half"
        " of their 13-grams; see the report's table."
    ]
    assert "pair 1: none of 40 test rows stands" in notes(few)[0]
    (whole,) = notes(clean, few, many)
    assert (
        "in 2 of 3 pairs of training and test rows, both share text; most in pair 2: 3 of 40"
        in whole
    )
    none = {**made, many.key: record(many, metrics={**COPIES, "exact": 0})}
    (whole,) = told(plan(contamination=(many,)), none)
    assert "none of 40 test rows stands in the training rows, but 2 share half of" in whole
    by_exact = {**made, few.key: record(few, metrics={**COPIES, "exact": 4, "overlap": 0})}
    (whole,) = told(plan(contamination=(few, many)), by_exact)
    assert "most in pair 2" in whole


def test_checks_that_could_not_be_made_say_why() -> None:
    good, bad = stage("contamination", label="a"), stage("contamination", label="b")
    made = {good.key: record(good, metrics=COPIES), bad.key: failed(bad, "no rows")}
    found = list(background.contamination(plan(contamination=(good, bad)), made))
    assert found == [{"pair": "a", **COPIES}, {"pair": "b", "error": {"message": "no rows"}}]


def test_data_stages_are_told_with_what_they_know() -> None:
    metrics = {"rows": 3, "layout": "text", "digest": "d1ce", "columns": ["text"]}
    made = {ROWS.key: record(ROWS, metrics=metrics)}
    assert list(background.data(plan(), made)) == [
        {"entry": "tasks", "split": "test", "rows": 3, "layout": "text", "dropped": None,
         "digest": "d1ce"},
    ]  # fmt: skip


def test_provenance_names_every_machine_version_and_stage() -> None:
    own = path()
    (answers,) = own.generate.values()
    asked = stage("generate", {"data": ROWS})
    base = path(
        train=None, generate={"tasks": asked}, scores=(), variant=variant("base", kind=Untrained)
    )
    made = records_of(own, base, train={"provenance": {"platform": "A", "cores": 2}},
                      generate={"provenance": {"platform": "B", "versions": {"torch": "1"}}},
                      score={"provenance": {"platform": "B",
                                            "versions": {"peft": "2"}}})  # fmt: skip
    info = SimpleNamespace(identity={"digest": "ab"}, parameters=7)
    found = background.provenance(plan(own, base, models={"m": info}), made)
    assert found["machine"] == {"platform": "B (3 stages); A (1 stage)", "cores": "2"}
    assert found["versions"] == {"torch": "1", "peft": "2"}
    assert found["models"] == {"m": {"digest": "ab", "parameters": 7}}
    assert own.train is not None
    assert found["stages"] == {
        "lora-0": {"train": own.train.key, "generate tasks": answers.key},
        "base-0": {"generate tasks": asked.key},
    }
    assert found["test_uses"] == {"tasks": {"variants": 1, "trials": 0}}


def test_ledger_adds_seconds_by_kind_and_phase_the_longest_first() -> None:
    first, second = path("a"), path("b")
    made = records_of(
        first, second, train={"cost": {"phases": {"load": 1.0, "train": 3.0}}},
        score={"cost": {"phases": {"score": 4.0}}},
    )  # fmt: skip
    assert second.train is not None
    del made[second.scores[0].stage.key]  # a trial before it failed
    found = background.ledger(plan(first, second), made)
    assert list(found.items()) == [("train train", 6.0), ("score score", 4.0), ("train load", 2.0)]


def test_few_seeds_and_several_versions_are_said() -> None:
    own = path()
    made = records_of(own, train={"provenance": {"versions": {"torch": "2.9"}}},
                      score={"provenance": {"versions": {"torch": "2.8"}}})  # fmt: skip
    planned = plan(own, warnings=("Mind the gap.",))
    (versions, gap) = told(planned, made)
    assert versions == "Stages ran under different torch versions: 2.8, 2.9."
    assert gap == "Mind the gap."
    for count, word in ((1, "One training seed"), (2, "Two training seeds")):
        planned.suite.seeds = tuple(range(count))
        assert told(planned, made)[0].startswith(word)
    answers = stage("generate", {"data": ROWS})
    untrained = plan(path(train=None, generate={"tasks": answers}, scores=()), warnings=())
    untrained.suite.seeds = (0,)
    assert not any("seed" in note for note in told(untrained, {}))


def test_trainings_speak_once_each_sentence_with_their_names() -> None:
    first, second, third = path("a"), path("b"), path("c")
    notes = {first.train: ["odd", "slow"], second.train: ["odd"], third.train: ["odd"]}
    made = records_of(first, second, third, train=lambda s: {"metrics": {"notes": notes[s]}})
    assert third.train is not None
    made[third.train.key] = failed(third.train)
    assert told(plan(first, second, third), made) == ["a-0, b-0: odd.", "a-0: slow."]


def test_only_trainings_that_ended_well_speak_of_training() -> None:
    first, lost = path("a"), path("b")
    made = records_of(
        first, lost, train={"metrics": {"notes": ["odd"]}},
        generate={"metrics": {"notes": ["no note of a training"]}},
    )  # fmt: skip
    assert lost.train is not None
    del made[lost.train.key]  # a trial before it failed
    assert told(plan(first, lost), made) == ["a-0: odd."]


def test_what_does_not_fit_its_model_is_told_once_without_the_suites_name() -> None:
    def notes_of(names: bool) -> list[str]:
        return ["s.yaml: named"] if names else ["s.yaml: 3 rows are too long.", "another"]

    fit = SimpleNamespace(notes=lambda *, names: notes_of(names))
    assert told(plan(unfit={"a": fit, "b": fit}), {}) == ["3 rows are too long.", "another"]


def test_scorers_speak_of_rows_and_of_answers() -> None:
    first, second = path("a"), path("b")
    scorer = {"notes": ["odd rows"], "answer_notes": ["odd answers"]}
    made = records_of(first, second, score={
        "provenance": {"scorer": scorer}, "metrics": {"unusable": {"x": 1, "y": 2}, "rows": 9},
    })  # fmt: skip
    rows, left_out, answers = told(plan(first, second), made)
    assert rows == "rouge on tasks: odd rows."
    assert left_out.startswith("rouge on tasks: 3 of 12 rows are left out, as the model's")
    assert answers == "rouge on tasks: odd answers (a, b)."
    named = Scored(first.scores[0].stage, "rouge", "tasks", "mine")
    assert told(plan(path("a", scores=(named,))), made)[0] == "mine on tasks: odd rows."
    assert told(plan(first, second), {}) == []


def test_evaluations_of_which_the_same_is_said_stand_in_one_note() -> None:
    """Five tasks of one benchmark, which all have the same fault, are no five notes."""
    names = ["one", "two", "three", "four", "five"]
    scored = tuple(Scored(stage("score"), "lm_eval", name, None) for name in names)
    records = records_of(path("a", scores=scored), score={
        "provenance": {"scorer": {"answer_notes": ["odd answers"]}},
    })  # fmt: skip
    assert told(plan(path("a", scores=scored)), records) == [
        "lm_eval on one, two, three and 2 more: odd answers (a)."
    ]
    assert told(plan(path("a", scores=scored[:3])), records) == [
        "lm_eval on one, two, three: odd answers (a)."
    ]
    both = plan(path("a", scores=scored[:2]), path("b", scores=scored[1:2]))
    assert told(both, records) == [
        "lm_eval on one: odd answers (a).", "lm_eval on two: odd answers (a, b)."
    ]  # fmt: skip


@pytest.mark.parametrize(("rate", "said"), [(0.1, False), (0.11, True)])
def test_variant_that_does_not_stop_is_told(rate: float, said: bool) -> None:
    cut = result(generation={"tasks": {"truncation_rate": rate}})
    found = told(plan(), {}, cut)
    wanted = "lora was cut at the length limit on 11% of tasks."
    assert found == ([wanted] if said else [])


@pytest.mark.parametrize(
    ("limit", "characters", "words"),
    [
        (48, 90, "on 11% of tasks: it does not stop by itself."),
        (48, 97, "48 tokens may be too few, as nine references of ten have up to 97 characters"),
        (4, 0, "on 11% of tasks, which is 4 tokens."),
    ],
)
def test_limit_is_blamed_where_references_have_no_room_either(
    limit: int, characters: int, words: str
) -> None:
    rows = stage("data", label="tasks/test")
    options = {"generate": {"max_new_tokens": limit}}
    said = replace(stage("generate", {"data": rows}), config=options)
    own = path("lora", generate={"tasks": said})
    statistics = {"rows": 5, "dropped": {}, "characters": {"answer": {"p90": characters}}}
    made = {rows.key: record(rows, metrics=statistics)}
    cut = result(generation={"tasks": {"truncation_rate": 0.11}})
    (found,) = told(plan(own), made, cut)
    assert words in found


def test_test_rows_that_were_trained_on_are_told_first() -> None:
    leaking = stage("contamination", label="mine/train in mine/test")
    mild = {leaking.key: record(leaking, metrics={**COPIES, "exact": 3})}
    severe = {leaking.key: record(leaking, metrics={**COPIES, "exact": 4})}
    suite = SimpleNamespace(seeds=[0], tune=None, budget=None, data={})
    own = path("lora")
    for made, first in ((mild, "One training seed"), (severe, "Contamination: mine/train in")):
        planned = plan(own, contamination=(leaking,), suite=suite, data={})
        notes = told(planned, {**records_of(own), **made})
        assert notes[0].startswith(first)
        assert sum(note.startswith("Contamination") for note in notes) == 1
    (sentence,) = background.severely([{**COPIES, "exact": 40, "pair": "a in b"}])
    assert "40 of 40 test rows stand in the training rows (a in b)" in sentence
    assert not list(background.severely([{"pair": "a in b", "error": {"message": "no rows"}}]))


def test_thinking_that_nobody_reads_is_told() -> None:
    figures = {"unread_thinking_rate": 0.25}
    (found,) = told(plan(), {}, result(generation={"tasks": figures}))
    assert found.startswith("25% of lora's answers to tasks begin with `<think>`")
    assert told(plan(), {}, result(generation={"tasks": {"unread_thinking_rate": 0.0}})) == []


def test_times_that_are_not_alike_are_said_to_be_so(tmp_path: Any) -> None:
    one, two = path("a"), path("b")
    threads = {one.train: 1, two.train: 2}
    made = records_of(
        one, two, train=lambda s: {"provenance": {"platform": "x", "threads": threads[s]}}
    )
    store = Store(tmp_path)
    alike, other = (result_of(p.variant.group, [p], made, store) for p in (one, two))
    (found,) = told(plan(), {}, alike, other)
    assert found == (
        "Training times are compared only among variants trained alike: a on x, 1 thread; b on x,"
        " 2 threads."
    )
    assert told(plan(), {}, alike, alike) == []
    assert told(plan(), {}, alike, result(trained=False, timed=("y",)), result(timed=())) == []


# --- labels ---------------------------------------------------------------------------------------

LABELS = {
    "pairs": 8, "ties": 1, "labeller": {"same_in_both_orders": 0.75},
    "answers_dropped": {"empty": 2}, "dropped": {}, "unlabelled": {"tied": 3, "unread": 1},
}  # fmt: skip
AGREED = {"share": 0.5, "n": 8, "low": 0.2, "high": 0.8, "tied_by_truth": 0}


def test_labels_are_held_against_what_is_known() -> None:
    labelled = stage("label", label="judge")
    truth, rows = stage("truth"), stage("check")
    own = path(train=stage("train", {"labels": labelled}))
    made = records_of(own, label={"metrics": LABELS})
    planned = plan(own, checks={labelled.key: (truth, rows)})
    (alone,) = told(planned, made)
    assert alone == (
        "AI labels, judge: 8 pairs, 1 of them ties; they were not checked, as no other preference"
        " is known of these answers; 75.0% of its verdicts are the same in both orders of the"
        " answers; answers left out: 2 empty; pairs left out: 3 tied, 1 unread."
    )
    made[truth.key] = record(truth, metrics={
        "agreement": {"truth": AGREED, "rows": {**AGREED, "seen": True, "tied_by_truth": 2}},
    })  # fmt: skip
    made[rows.key] = failed(rows, "lost\nline 2")
    (held,) = told(planned, made)
    assert "nothing is known" not in held
    assert (
        "; it agrees with the suite's own truth of the sampled answers on 50.0% of 8 pairs (95%:"
        " 20.0% to 80.0%, pairs as if independent); " in held
    )
    assert (
        "it agrees with the preferences that its rows hold, which it was trained on, on 50.0% of 8"
        in held
    )
    assert "and prefers an answer in 2 pairs that tie there" in held
    assert "not checked by the preferences that its rows hold: lost;" in held
    made[truth.key] = failed(truth, "gone")
    (neither,) = told(planned, made)
    assert "not checked by the suite's own truth of the sampled answers: gone;" in neither
    metrics = {**LABELS, "labeller": {}}
    (short,) = told(planned, {**made, labelled.key: record(labelled, metrics=metrics)})
    assert "both orders" not in short
    assert told(planned, {**made, labelled.key: failed(labelled)}) == []
