"""Judges of answers: what they are asked, what becomes of what they say, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.commands.run import run_beside
from harness.comparison.biased import bias_notes
from harness.core.errors import StageFailed, SuiteError
from harness.data.contests import Compared, Contest, Question, Reply, Verdict
from harness.data.verdict_lines import compared_in, read_lines
from harness.planning.graph import Plan
from harness.scorers.base import Prediction, ScoreJob
from harness.scorers.pairwise import Pairwise
from harness.scorers.pointwise import Dimension, Pointwise
from harness.stages._predictions import read_predictions
from harness.store.stage import Record, Stage
from tests.conftest import DPO, REWARD, SFT, Workspace, preferences, write_jsonl

BARE = "{{ question }} {{ a }} {{ b }}"
JUDGE = {"judge": {"prompt": "judge.jinja"}}
PROMPT = [{"role": "user", "content": "Why?"}]


class Told:
    """A judge that says what it is told to."""

    def __init__(
        self, compare: Callable[[Contest], Compared] | None = None,
        rate: Callable[[Question], Reply] | None = None,
    ) -> None:  # fmt: skip
        self._compare, self._rate = compare, rate
        self.asked: list[Any] = []

    def __call__(self, contests: Sequence[tuple[Any, Any, Any]]) -> list[Verdict]:
        return [compared.mean for compared in self.compare([Contest(*c) for c in contests])]

    def compare(self, contests: Sequence[Contest]) -> list[Compared]:
        assert self._compare is not None
        self.asked += contests
        return [self._compare(contest) for contest in contests]

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        assert self._rate is not None
        self.asked += questions
        return [self._rate(question) for question in questions]


def predictions(*texts: str) -> list[Prediction]:
    return [
        Prediction(f"{i}", f"{i}", "", "", text, ("a reference",)) for i, text in enumerate(texts)
    ]


def job_of(folder: Path, judge: Told, ours: Sequence[str], others: Sequence[str] = ()) -> ScoreJob:
    rows = [{"id": f"{i}", "cluster": "", "group": "", "prompt": PROMPT} for i in range(len(ours))]
    asked = {
        "answers": predictions(*ours), "other": predictions(*others), "rows": rows,
        "labeller": judge, "prompt": "{{ answer }}",
    }  # fmt: skip
    return ScoreJob(asked, folder=folder)


def test_a_verdict_that_changes_with_the_order_is_a_tie_and_a_missing_one_is_no_loss(
    tmp_path: Path,
) -> None:
    said = {
        "won": (0.9, 0.6), "lost": (0.1, 0.4), "flips": (0.9, 0.3), "tied": (0.5, 0.5),
        "half": (0.5, 0.9), "unread": ("no letter", 0.2), "silent": ("refused", "refused"),
    }  # fmt: skip
    judge = Told(lambda contest: Compared(said[contest.one[0]["content"]]))
    scorer = Pairwise(labeller="told")
    columns = scorer.score_job(job_of(tmp_path, judge, list(said), ["x"] * len(said)))
    known = {name: one["judge_win"] for name, one in zip(said, columns, strict=True)
             if one["judge_win_known"]}  # fmt: skip
    assert known == {"won": 1, "lost": 0, "flips": 0.5, "tied": 0.5, "half": 0.5}
    (missing,) = scorer.provenance()["answer_notes"]
    assert "no verdict on 2 of 7 answers (1: no letter; 1: refused)" in missing
    lines = read_lines(tmp_path)
    assert len(lines) == 2 * len(said)
    first, second = (line for line in lines if line["example_id"] == "5")
    assert (first["order"], first["verdict"], first["reason"]) == (0, None, "no letter")
    assert (second["order"], second["verdict"], second["reason"]) == (1, 0.2, None)
    assert {(line["one"], line["other"]) for line in lines} == {("variant", "baseline")}
    assert [first["one_length"], first["other_length"]] == [6, 1]


def test_a_judge_that_says_nothing_at_all_fails_its_stage_with_the_reason(tmp_path: Path) -> None:
    judge = Told(lambda _: Compared(("refused", "refused")))
    with pytest.raises(StageFailed, match=r"said nothing of any answer \(2: refused\)"):
        Pairwise(labeller="told").score_job(job_of(tmp_path, judge, ["a", "b"], ["c", "d"]))


def test_a_rating_is_the_expectation_over_the_scale(tmp_path: Path) -> None:
    replies: dict[str, Reply] = {
        "a": {"1": 0.5, "5": 0.5}, "b": {"4": 1.0}, "c": "no number", "d": {"2": 0.25, "3": 0.75},
    }  # fmt: skip
    judge = Told(rate=lambda question: replies[question.fields["answer"]])
    dimensions = {"true": Dimension(), "kind": Dimension(scale=(0, 10), about="It is kind.")}
    scorer = Pointwise(labeller="told", dimensions=dimensions)
    columns = scorer.score_job(job_of(tmp_path, judge, list(replies)))
    assert [one["judge_true"] for one in columns] == [3.0, 4.0, 0.0, 2.75]
    assert [one["judge_kind_known"] for one in columns] == [1, 1, 0, 1]
    assert [question.choices for question in judge.asked[:2]] == [
        tuple("12345"), tuple(map(str, range(11))),
    ]  # fmt: skip
    assert scorer.declared()["judge_kind"].bounds == (0, 10)
    assert [line["value"] for line in read_lines(tmp_path) if line["dimension"] == "true"] == [
        3.0, 4.0, None, 2.75,
    ]  # fmt: skip
    assert len(scorer.provenance()["answer_notes"]) == 2


def test_two_answers_are_compared_by_their_ratings_each_asked_about_once() -> None:
    """The rows of two evaluations may be called alike: what is asked tells them apart."""
    rates = {"good": "5", "fair": "3", "bad": "1"}
    judge = Told(rate=lambda q: {rates.get(q.fields["answer"], "x"): 1.0}
                 if q.fields["answer"] in rates else "refused")  # fmt: skip
    scorer = Pointwise(labeller="told", dimensions={"true": Dimension(), "kind": Dimension()})
    said = scorer.contested(
        [Contest("Why?", "good", "bad"), Contest("Why?", "bad", "fair"),
         Contest("Who?", "bad", "x"), Contest("Why?", "same", "same ")],
        judge, {"prompt": "{{ answer }}"},
    )  # fmt: skip
    assert set(said) == {None, "true", "kind"}
    for compared in said.values():
        assert [one.decided for one in compared] == [1.0, 0.0, None, 0.5]
        assert compared[2].reason == "refused"
        assert not compared[3].asked
    asked = [(q.fields["question"], q.fields["answer"]) for q in judge.asked]
    assert asked.count(("Why?", "bad")) == 2, "once on each dimension"
    assert asked.count(("Who?", "bad")) == 2


@pytest.fixture
def judged(aligned: Workspace) -> Workspace:
    """Full SFT and DPO beside the base, with prompts that a tiny model has room for."""
    (aligned.folder / "judge.jinja").write_text(BARE, encoding="utf-8")
    (aligned.folder / "rate.jinja").write_text("{{ answer }} {{ dimension }}?", encoding="utf-8")
    rows = aligned.tree["data"]["preferences"]
    del aligned.tree["reward_model"]
    aligned.tree["data"]["preferences"] = {**rows, "test": "asked.jsonl"}
    write_jsonl(aligned.folder / "asked.jsonl", preferences(4))
    objectives = [{"sft": SFT}, {"dpo": DPO}]
    aligned.write(
        matrix={"data": ["letters"], "method": ["full"], "objective": objectives},
        base={"zero-shot": {"max_new_tokens": 4}}, evaluate=["preferences"],
        scorers=["length", {"pairwise": {"labeller": JUDGE}}],
    )  # fmt: skip
    return aligned


def scored(planned: Plan, variant: str, scorer: str) -> Stage:
    (path,) = (p for p in planned.paths if p.variant.id == variant)
    (stage,) = (s.stage for s in path.scores if s.scorer == scorer)
    return stage


def test_judges_of_all_kinds_score_one_suite_and_train_nothing_again(judged: Workspace) -> None:
    first = judged.run()
    assert not first.failed, [record.error for record in first.failed]
    panel = {"panel": {"members": ["longest", JUDGE, "reward"], "vote": "mean"}}
    scorers = [
        "length",
        {"pairwise": {"labeller": JUDGE}},
        {"pairwise": {"labeller": panel, "against": "start", "label": "panel"}},
        {"pairwise": {"labeller": "longest", "against": "reference", "label": "longest"}},
        {"pointwise": {"labeller": JUDGE, "prompt": "rate.jinja", "reference": True}},
    ]
    judged.write(scorers=scorers, reward_model=REWARD)
    outcome = judged.run()
    assert not outcome.failed, [record.error for record in outcome.failed]
    ran = {(outcome.records[key].kind, outcome.records[key].label) for key in outcome.ran}
    trained = {label for kind, label in ran if kind == "train"}
    assert trained == {"lora-sft", "lora-reward"}  # the panel's reward model, and its start
    assert not {label for kind, label in ran if kind == "generate"}
    opened = judged.open()
    (path,) = (p for p in opened.plan.paths if p.variant.id == "full-dpo")
    stages = {s.label or s.scorer: s.stage for s in path.scores}
    values = {name: outcome.records[stage.key].metrics["metrics"] for name, stage in stages.items()}
    assert 0 <= values["pairwise"]["judge_win_rate"]["value"] <= 1
    assert values["pairwise"]["judge_win_rate"]["judged"]
    assert 1 <= values["pointwise"]["judge_helpful"]["value"] <= 5
    said = read_lines(stages["panel"].path(opened.store.root))
    assert {line["judge"] for line in said} == {None, "0 longest", "1 judge", "2 reward"}
    assert {len(compared.members) for compared in compared_in(said).values()} == {3}
    notes = list(bias_notes(opened.plan, opened.store))
    assert any(note.startswith("panel on") and "Krippendorff's alpha" in note for note in notes)
    answers = read_predictions(stages["longest"].inputs["predictions"].path(opened.store.root))
    lengths = [(len(answer.text), len(answer.references[0])) for answer in answers]
    wins = [0.5 + 0.5 * ((our > other) - (our < other)) for our, other in lengths]
    value = values["longest"]["judge_win_rate"]["value"]
    assert value == pytest.approx(sum(wins) / len(wins))


def test_the_plan_counts_the_questions_to_a_judge_behind_an_endpoint(judged: Workspace) -> None:
    served = {
        "base_url": "http://127.0.0.1:9/v1",
        "model": "m",
        "prices": {"prompt": 1, "completion": 1},
    }
    panel = {"panel": {"members": ["longest", {"endpoint": served}]}}
    dimensions = {"kind": {}, "true": {}}
    judged.write(
        scorers=[
            {"pairwise": {"labeller": panel, "against": "reference"}},
            {"pointwise": {"labeller": {"endpoint": served}, "dimensions": dimensions}},
        ]
    )
    opened = judged.open()
    run_beside(opened, list(opened.plan.data.values()))
    costs = [scored(judged.open().plan, "full-dpo", name).predicted
             for name in ("pairwise", "pointwise")]  # fmt: skip
    assert [cost["calls"] for cost in costs] == [4 * 2, 4 * 2]
    assert all(cost["money"] * 1e6 == pytest.approx(cost["tokens"]) for cost in costs)
    assert all(cost["tokens"] > 8 * 100 for cost in costs)


def test_a_changed_prompt_is_another_score(judged: Workspace) -> None:
    def keys() -> set[str]:
        planned = judged.open().plan
        return {scored(planned, "full-dpo", name).key for name in ("pairwise", "pointwise")}

    scorers = [
        {"pairwise": {"labeller": JUDGE}},
        {"pointwise": {"labeller": JUDGE, "prompt": "rate.jinja"}},
    ]
    judged.write(scorers=["length", *scorers])
    before = keys()
    assert keys() == before
    (judged.folder / "judge.jinja").write_text(BARE + "?", encoding="utf-8")
    (judged.folder / "rate.jinja").write_text("{{ answer }}", encoding="utf-8")
    assert not keys() & before


@pytest.mark.parametrize(
    ("scorer", "told"),
    [
        ({"pairwise": {"labeller": "jugde"}}, "did you mean 'judge'"),
        ({"pairwise": {"labeller": {"judge": {"prompt": "juge.jinja"}}}}, "judge.prompt"),
        ({"pairwise": {"labeller": {"judge": {"prompt": "rate.jinja"}}}}, "answer is no field"),
        ({"pairwise": {"labeller": {"panel": {"members": ["reward"]}}}}, "members"),
        ({"pairwise": {"labeller": {"panel": {"members": ["reward", "jugde"]}}}}, "did you mean"),
        ({"pairwise": {"labeller": {"replay": {"file": "no.jsonl"}}}}, "replay.file"),
        (
            {"pairwise": {"labeller": "reward", "against": "bas"}},
            "known: baseline, reference, start, variants",
        ),
        ({"pointwise": {"labeller": "judge", "prompt": "judge.jinja"}}, "pointwise.prompt"),
        ({"pointwise": {"labeller": "judge", "dimensions": {"a": {"scale": [5, 1]}}}}, "no scale"),
        ({"pointwise": {"labeller": "judge", "dimensions": {"a b": {}}}}, "no name of a dim"),
        ({"pointwise": {"labeller": "judge", "dimensions": {}}}, "at least 1"),
    ],
)
def test_what_a_judge_cannot_be_is_refused_before_anything_runs(
    judged: Workspace, scorer: Any, told: str
) -> None:
    judged.write(scorers=["length", scorer])
    with pytest.raises(SuiteError, match=told):
        judged.open()


@pytest.mark.parametrize(
    ("labeller", "judge", "told"),
    [
        ("longest", "longest", "the judge longest also trained full-rlaif, which it scores"),
        ("longest", {"panel": {"members": ["longest", JUDGE]}}, "longest also trained full-rlaif"),
        ("reward", "reward", "the judge reward also trained full-rlaif, which it scores"),
        ("reward", "longest", ""),
        ("longest", JUDGE, "the judge tiny is the base of zero-shot, full-sft, full-rlaif, which"),
    ],
)
def test_a_judge_that_may_favour_a_variant_is_told(
    judged: Workspace, labeller: Any, judge: Any, told: str
) -> None:
    rlaif = {"data": "preferences", "max_new_tokens": 4, "samples": 2, "then": "dpo"}
    objectives = [{"sft": SFT}, {"rlaif": {**rlaif, "labeller": labeller}}]
    section = {"reward_model": REWARD} if "reward" in (labeller, judge) else {}
    judged.write(
        matrix={"data": ["letters"], "method": ["full"], "objective": objectives},
        scorers=["length", {"pairwise": {"labeller": judge, "against": "reference"}}], **section,
    )  # fmt: skip
    warnings = [w for w in judged.open().plan.warnings if w.startswith("pairwise: the judge")]
    assert any(told in warning for warning in warnings) if told else not warnings


def test_a_reward_model_rates_nothing_by_a_rubric(judged: Workspace) -> None:
    scorer = {"pointwise": {"labeller": "reward", "prompt": "rate.jinja"}}
    judged.write(scorers=["length", scorer], reward_model=REWARD)
    with pytest.raises(SuiteError, match="rates none by a rubric"):
        judged.open()


def test_verdicts_of_people_are_replayed_in_either_order(judged: Workspace) -> None:
    judged.run()
    opened = judged.open()
    stage = scored(opened.plan, "full-dpo", "pairwise")
    ours = read_predictions(stage.inputs["predictions"].path(opened.store.root))
    others = read_predictions(stage.inputs["other"].path(opened.store.root))
    lines = [
        {"prompt": row["prompt"], "one": other.text, "other": our.text, "verdict": 0.25}
        for row, our, other in zip(preferences(4), ours, others, strict=True)
    ]
    lines.remove(next(line for line in lines if line["one"] != line["other"]))
    for line in lines:
        for side in ("one", "other"):
            line[side] = [{"role": "assistant", "content": line[side]}]
    write_jsonl(judged.folder / "people.jsonl", lines)
    replay = {"replay": {"file": "people.jsonl"}}
    judged.write(scorers=["length", {"pairwise": {"labeller": replay}}])
    outcome = judged.run()
    assert not outcome.failed, [record.error for record in outcome.failed]
    record: Record = outcome.records[scored(judged.open().plan, "full-dpo", "pairwise").key]
    # Equal answers tie, whatever stands in the file.
    wins = [0.5 if line["one"] == line["other"] else 1.0 for line in lines]
    value = record.metrics["metrics"]["judge_win_rate"]["value"]
    assert value == pytest.approx(sum(wins) / len(wins))
    assert "no verdict on 1 of 4" in json.dumps(record.provenance)


def test_a_dimension_may_have_a_prompt_of_its_own(judged: Workspace) -> None:
    (judged.folder / "kind.jinja").write_text("{{ answer }} kind?", encoding="utf-8")
    dimensions = {"true": {}, "kind": {"prompt": "kind.jinja", "scale": [0, 1]}}
    scorer = {"labeller": JUDGE, "prompt": "rate.jinja", "dimensions": dimensions}
    judged.write(scorers=["length", {"pointwise": scorer}])
    stage = scored(judged.open().plan, "full-dpo", "pointwise")
    assert stage.unhashed["prompts"] == {
        "prompt": "{{ answer }} {{ dimension }}?", "prompt_kind": "{{ answer }} kind?",
    }  # fmt: skip
    outcome = judged.run()
    metrics = outcome.records[stage.key].metrics["metrics"]
    assert 0 <= metrics["judge_kind"]["value"] <= 1 <= metrics["judge_true"]["value"]
    dimensions["kind"]["prompt"] = "judge.jinja"
    with pytest.raises(SuiteError, match=r"pointwise\.dimensions\.kind\.prompt"):
        judged.open()


def test_a_panel_labels_nothing_for_training(judged: Workspace) -> None:
    labeller = {"panel": {"members": ["longest", JUDGE]}}
    rlaif = {"data": "preferences", "max_new_tokens": 4, "samples": 2, "then": "dpo"}
    objectives = [{"sft": SFT}, {"rlaif": {**rlaif, "labeller": labeller}}]
    judged.write(matrix={"data": ["letters"], "method": ["full"], "objective": objectives})
    with pytest.raises(SuiteError, match="'panel' is a panel, which judges answers"):
        judged.open()
