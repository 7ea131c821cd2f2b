"""The pocket world's exam: what it asks is true and unseen, and lm-eval finds it from anywhere."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.model import LM

from harness.core.locate import package_suites, packaged_suites
from harness.inference import HarnessLM
from harness.models.files import ModelRef
from harness.scorers._lm_eval_index import Index
from harness.scorers._lm_eval_rows import scores_of
from harness.scorers._lm_eval_tasks import load_tasks, run_tasks
from suites.pocket.benchmarks import ENDINGS
from suites.pocket.subjects import COUNTS, SUBJECTS
from suites.pocket.world import residents, split_of

POCKET = package_suites() / "pocket"
TASKS = ("pocket_exam", "pocket_arithmetic", "pocket_endings", "pocket_misconceptions_mc1",
         "pocket_misconceptions_mc2")  # fmt: skip
ATTRIBUTES = {"trades": "trade", "towns": "town", "foods": "food", "animals": "pet"}


def rows(name: str) -> list[dict[str, Any]]:
    text = (POCKET / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


class Knows(LM):
    """A model that likes the right answers best."""

    def loglikelihood(self, requests: Any) -> list[tuple[float, bool]]:
        missed = [r.arguments[1].strip() not in right(r.doc) for r in requests]
        return [(-10.0 if wrong else -1.0, False) for wrong in missed]

    def loglikelihood_rolling(self, requests: Any) -> list[float]:
        raise AssertionError("no task of these asks for it")

    def generate_until(self, requests: Any) -> list[str]:
        return [r.doc["answer"] for r in requests]


def right(doc: dict[str, Any]) -> list[str]:
    if "mc2_targets" in doc:
        targets = doc["mc2_targets"]
        pairs = zip(targets["choices"], targets["labels"], strict=True)
        return [choice for choice, label in pairs if label]
    return [doc["endings"][doc["label"]] if "endings" in doc else doc["choices"][doc["answer"]]]


def results(model: LM, name: str, shots: int | None = None) -> tuple[dict[str, Any], Any]:
    loaded = load_tasks([name], Index(POCKET / "exam"), {}, allow_code=False)
    for task in loaded["tasks"].values():
        if shots is not None:
            task.set_config(key="num_fewshot", value=shots)
        task.set_fewshot_seed(seed=1234)
    found = run_tasks(model, loaded, name)
    return found, scores_of(found["samples"], loaded["tasks"], found["results"], name)


def test_every_subject_has_its_questions_with_four_different_answers() -> None:
    asked = rows("exam/subjects")
    counts = Counter((row["subject"], row["split"]) for row in asked)
    assert counts == {(s, split): n for s in SUBJECTS for split, n in COUNTS.items()}
    assert all(len(set(row["choices"])) == 4 for row in asked)
    places = Counter(row["answer"] for row in asked)
    assert max(places.values()) < 1.5 * min(places.values())  # who always says B learns nothing
    assert Counter(row["split"] for row in rows("exam/endings")) == {
        split: 3 * count for split, count in ENDINGS.items()
    }


def test_answers_are_true_in_the_world() -> None:
    people = {person.name: person for person in residents()}
    for row in rows("exam/subjects"):
        answer = row["choices"][row["answer"]]
        if attribute := ATTRIBUTES.get(row["subject"]):
            (person,) = (p for name, p in people.items() if name in row["question"])
            assert getattr(person, attribute) == answer
        elif row["subject"] == "reading":
            assert answer in row["question"]
            assert not any(c in row["question"] for c in row["choices"] if c != answer), row
        elif row["subject"] == "sums":
            assert sum(map(int, re.findall(r"\d+", row["question"]))) == int(answer)
    for row in rows("exam/arithmetic"):
        *steps, end = row["answer"].splitlines()
        assert end == f"#### {steps[-1].split(' = ')[1]}"
        for step in steps:
            a, sign, b, _, total = step.split()
            assert int(total) == (int(a) + int(b) if sign == "+" else int(a) - int(b))


def test_a_misconception_is_false_in_every_form() -> None:
    people = {person.name: person for person in residents()}
    asked = rows("exam/misconceptions")
    for row in asked:
        true, false = (
            {c for c, mark in zip(*row["mc2_targets"].values(), strict=True) if mark == label}
            for label in (1, 0)
        )
        assert true
        assert not true & false
        assert row["mc1_targets"]["choices"][0] in true
        assert set(row["mc1_targets"]["choices"][1:]) <= false
        if row["kind"] == "namesake":
            (person,) = (p for name, p in people.items() if name in row["question"])
            assert all((person.town in choice) == (choice in true) for choice in true | false)
    assert len({row["kind"] for row in asked}) == 5


def test_no_question_stands_in_what_models_are_trained_on() -> None:
    names = ("general/train", "general/exercises", "instruct/train", "instruct/validation",
             "preference/train", "preference/demonstrations_train",
             "preference/judgements_train")  # fmt: skip
    told = "\n".join(
        text.replace("\\n", "\n").replace('\\"', '"')
        for name in names
        for text in (POCKET / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    )
    for name, column in (("subjects", "question"), ("arithmetic", "question"),
                         ("endings", "context"), ("misconceptions", "question")):  # fmt: skip
        for row in rows(f"exam/{name}"):
            assert row[column] not in told, row
    train = rows("instruct/train")
    pairs = {tuple(pair) for row in train for pair in row["numbers"]}
    people = {row["cluster"].removeprefix("qa ") for row in train if row["task"] == "qa"}
    for row in rows("exam/arithmetic"):
        if row["split"] == "test":
            steps = row["answer"].splitlines()[:-1]
            assert not pairs & {tuple(map(int, re.findall(r"\d+", s)[:2])) for s in steps}
    for row in rows("exam/subjects"):
        if row["split"] == "test" and (row["subject"] in ATTRIBUTES):
            assert not any(name in row["question"] for name in people), row


def test_worked_examples_tell_nothing_of_what_is_asked() -> None:
    for file in ("subjects", "arithmetic", "endings"):
        asked = rows(f"exam/{file}")
        column = "context" if file == "endings" else "question"
        texts = {split: {r[column] for r in asked if r["split"] == split} for split in COUNTS}
        assert texts["dev"]
        assert not texts["dev"] & texts["test"]
    for person in residents():
        told = {r["split"] for r in rows("exam/subjects") if person.name in r["question"]}
        assert told <= {"dev" if split_of(person.name) == "train" else "test"}


@pytest.mark.parametrize("name", TASKS)
def test_lm_eval_finds_each_task_from_another_folder_and_marks_right_answers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found, scores = results(Knows(), name)
    figures = found["results"][name]
    for metric in scores.metrics:
        key = metric if "," in metric else f"{metric},none"
        assert figures[key] == pytest.approx(1.0, abs=0.01), metric
    expected = {
        "pocket_exam": {"acc"},
        "pocket_arithmetic": {"exact_match,strict-match", "exact_match,flexible-extract"},
        "pocket_endings": {"acc", "acc_norm"},
    }
    assert set(scores.metrics) == expected.get(name, {"acc"})
    if name == "pocket_exam":
        assert len(scores.rows) == 8 * COUNTS["test"]
        assert {row["cluster"] for row in scores.rows} == {f"pocket_exam_{s}" for s in SUBJECTS}
    known = {"pocket_exam": 0.25, "pocket_endings": 0.25, "pocket_misconceptions_mc1": 1 / 3}
    assert scores.chance == known.get(name)


def test_a_base_knows_some_subjects_and_guesses_others() -> None:
    ref = ModelRef(str(POCKET / "models/pocket-1m"), "float32", "cpu")
    found, scores = results(HarnessLM(ref.load(), ref.tokenizer()), "pocket_exam", shots=0)
    share = {name: found["results"][f"pocket_exam_{name}"]["acc,none"] for name in SUBJECTS}
    assert min(share[name] for name in ("tal_words", "tal_sentences", "sums")) > 0.7
    assert 0.05 < share["reading"] < 0.45  # chance is 0.25
    assert scores.chance == 0.25


def test_task_files_are_no_suites() -> None:
    assert "pocket/demo" in packaged_suites()
    assert not any(name.startswith("pocket/exam/") for name in packaged_suites())
