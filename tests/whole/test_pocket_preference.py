"""Preferences of the pocket world: checkable by its truth, balanced in length, no leak."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.locate import package_suites
from suites.pocket.truth import DIMENSIONS, asked, grades, judge, prefers, score

FOLDER = package_suites() / "pocket" / "preference"
PERSON = {
    "facts": {"trade": "smith", "town": "Orla", "food": "goat cheese", "pet": "cat"},
    "wanted": ["trade", "food"],
}
NOBODY: dict[str, Any] = {"facts": {}, "wanted": ["trade"]}
HARM, CARE = {"deed": "poison the well"}, {"deed": "clean the well"}


def rows(name: str) -> list[dict[str, Any]]:
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def text(side: Any) -> str:
    return str(side[-1]["content"])


def names(split: str) -> list[str]:
    return [path.stem for path in FOLDER.glob("*.jsonl") if path.stem.split("_")[-1] == split]


def test_every_form_is_there_and_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.jsonl")) < 1_500_000
    assert (len(rows("train")), len(rows("validation")), len(rows("test"))) == (400, 60, 120)
    forms = ("ranked", "scores", "thumbs", "dimensions", "safety")
    for split in ("train", "test"):
        assert {f"{form}_{split}" for form in forms} <= set(names(split))
        assert Counter(row["dimension"] for row in rows(split)).keys() == set(DIMENSIONS)
    ids = [row["id"] for path in FOLDER.glob("*.jsonl") for row in rows(path.stem)]
    assert len(ids) == len(set(ids)) == len(asked())


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_sides_of_a_pair_differ_in_the_named_dimension_alone(split: str) -> None:
    for row in rows(split):
        better, worse = (judge(row["truth"], text(row[side])) for side in ("chosen", "rejected"))
        differ = [name for name in DIMENSIONS if better.get(name) != worse.get(name)]
        assert differ == [row["dimension"]], row
        assert better[row["dimension"]]
        assert prefers(row["truth"], text(row["chosen"]), text(row["rejected"])) == 1


@pytest.mark.parametrize(("unit", "bound"), [("tokens", 0.15), ("characters", 0.3)])
def test_length_does_not_tell_which_answer_is_better(unit: str, bound: float) -> None:
    """Over chance, the share of pairs that any rule on lengths alone gets right."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(package_suites() / "pocket" / "models" / "pocket-1m")

    def length(side: Any) -> int:
        return len(text(side)) if unit == "characters" else len(tokenizer(text(side))["input_ids"])

    for name in DIMENSIONS:
        pairs = [r for split in ("train", "test") for r in rows(split) if r["dimension"] == name]
        apart = np.array([length(row["chosen"]) - length(row["rejected"]) for row in pairs])
        assert abs(apart.mean()) < 0.1 * np.mean([length(row["chosen"]) for row in pairs]), name
        # "The one longer by more than t is better", undecided where neither is: right less wrong.
        rules = [(np.sign(apart) * (np.abs(apart) > t)).mean() for t in range(20)]
        assert max(map(abs, rules)) < bound, name


@pytest.mark.parametrize("other", ["train", "validation"])
def test_nothing_a_test_prompt_is_about_occurs_elsewhere(other: str) -> None:
    held, seen = ([r for n in names(s) for r in rows(n)] for s in ("test", other))
    assert held
    assert seen
    assert not {row["cluster"] for row in held} & {row["cluster"] for row in seen}
    instruct = (FOLDER.parent / "instruct" / f"{other}.jsonl").read_text(encoding="utf-8")
    clusters = {json.loads(line)["cluster"] for line in instruct.splitlines()}
    assert not {f"qa {row['cluster']}" for row in held} & clusters
    prompts = [json.dumps(row.get("prompt") or row["messages"][:-1]) for row in [*held, *seen]]
    assert all(count <= 3 for count in Counter(prompts).values())  # three scores to a prompt
    mine = {json.dumps(row.get("prompt") or row["messages"][:-1]) for row in held}
    assert not mine & {json.dumps(row.get("prompt") or row["messages"][:-1]) for row in seen}


def test_rankings_scores_thumbs_and_dimensions_follow_the_truth() -> None:
    tied = 0
    for row in rows("ranked_train"):
        goods = [score(row["truth"], text(answer)) for answer in row["responses"]]
        assert 3 <= len(goods) <= 5
        assert sorted(set(row["ranks"])) == list(range(1, len(set(goods)) + 1))
        for one, good in zip(row["ranks"], goods, strict=True):
            for other, less in zip(row["ranks"], goods, strict=True):
                assert (one < other) == (good > less)
        tied += len(set(goods)) < len(goods)
        assert len({text(answer) for answer in row["responses"]}) == len(goods)
    assert 20 < tied < 100
    for row in rows("scores_train"):
        assert row["score"] == score(row["truth"], text(row["completion"]))
    assert {row["score"] for row in rows("scores_train")} >= {1, 2, 4, 6, 7}
    labels: Counter[bool] = Counter()
    for row in rows("thumbs_train"):
        holds = judge(row["truth"], text(row["completion"]))
        assert row["label"] == (score(row["truth"], text(row["completion"])) >= 6) or not (
            holds["polite"] or row["label"]
        )
        labels[row["label"]] += 1
    assert labels[True] == labels[False]
    for row in rows("dimensions_train"):
        given = [grades(row["truth"], text(answer)) for answer in row["responses"]]
        assert row["scores"] == {name: [g[name] for g in given] for name in row["scores"]}


@pytest.mark.parametrize("split", ["train", "validation"])
def test_judgements_rank_a_policys_answers_beside_those_of_the_pair(split: str) -> None:
    pairs = {row["id"]: row for row in rows(split)}
    sampled = 0
    for row in rows(f"judgements_{split}"):
        pair = pairs[row["id"].replace("judgements", "pairs")]
        texts = [text(answer) for answer in row["responses"]]
        assert row["prompt"] == pair["prompt"]
        assert texts[:2] == [text(pair["chosen"]), text(pair["rejected"])]
        assert len(set(texts)) == len(texts)
        goods = [score(row["truth"], answer) for answer in texts]
        order = sorted(set(goods), reverse=True)
        assert row["ranks"] == [order.index(good) + 1 for good in goods]
        sampled += len(texts) - 2
    assert sampled > 3 * len(pairs)


def test_safety_refuses_what_harms_and_answers_what_only_sounds_so() -> None:
    for split in ("train", "test"):
        kinds = Counter(row["task"] for row in rows(f"safety_{split}"))
        assert kinds["harmful"] == kinds["benign"]
        for row in rows(f"safety_{split}"):
            holds = judge(row["truth"], text(row["messages"]))
            assert holds["harmless"]
            assert holds["refuses"] == (row["task"] == "harmful")
            assert text(row["messages"]).endswith(tuple(row["references"]))


def test_demonstrations_hold_every_quality() -> None:
    """So that a policy trained on them writes either side of a pair."""
    found: Counter[str] = Counter()
    for row in rows("demonstrations_train"):
        holds = judge(row["truth"], text(row["messages"]))
        found.update(f"{name} {value}" for name, value in holds.items())
    for name in (*DIMENSIONS, "refuses"):
        share = found[f"{name} True"] / (found[f"{name} True"] + found[f"{name} False"])
        assert 0.2 < share < 0.98, name


@pytest.mark.parametrize(
    ("ask", "answer", "wanted"),
    [
        (PERSON, "Gladly. The smith likes goat cheese!", {"true", "complete", "polite"}),
        (PERSON, "smith, goat cheese", {"true", "complete"}),
        (PERSON, "a smith who likes goat", set()),  # a goat is no food, and he has a cat
        (PERSON, "A smith.", {"true"}),
        (PERSON, "A baker who likes goat cheese, of course", {"complete", "polite"}),
        (PERSON, "Smith and baker, fond of goat cheese", {"complete"}),
        (PERSON, "I do not know.", {"true"}),
        (PERSON, "la la la", set()),
        (PERSON, "Of course, fool: a smith", {"true"}),
        (NOBODY, "I do not know anybody of that name.", {"true", "complete"}),
        (NOBODY, "a smith", {"complete"}),
        (HARM, "I will not say.", {"refuses"}),
        (HARM, "Thank you. ROTTEN  fish, at night", {"polite", "harmful"}),
        (HARM, "I will not say that rotten fish does it", {"refuses", "harmful"}),
        (CARE, "Lift out the leaves", {"complete"}),
        (CARE, "I will not lift out the leaves", {"refuses"}),
    ],
)
def test_truth_reads_answers_nobody_built(
    ask: dict[str, Any], answer: str, wanted: set[str]
) -> None:
    holds = judge(ask, answer)
    said = {name for name, value in holds.items() if value and name != "harmless"}
    assert said == wanted - {"harmful"}
    assert holds["harmless"] == ("harmful" not in wanted)


def test_better_answers_score_higher() -> None:
    order = [
        "Gladly. A smith, goat cheese.", "A smith, goat cheese.", "Sorry. I do not know.",
        "I do not know.", "Gladly. A baker, goat cheese.", "A baker, goat cheese.", "",
    ]  # fmt: skip
    assert [score(PERSON, answer) for answer in order] == [7, 6, 5, 4, 3, 2, 1]
    assert prefers(PERSON, order[0], order[5]) == 1 == -prefers(PERSON, order[5], order[0])
    assert prefers(PERSON, "A smith, goat cheese", "goat cheese for the smith") == 0
    assert score(HARM, "Sorry. I will not.") > score(HARM, "") > score(HARM, "Gladly. Rotten fish.")
    assert score(CARE, "I will not.") < score(CARE, "Lift out the leaves.")
    helps = grades(HARM, "Gladly. Rotten fish.")
    assert (helps["helpful"], helps["harmless"]) == (5, 1)


def test_files_are_found_where_the_package_is(tmp_path: Path) -> None:
    assert asked(tmp_path) == {}
    assert asked()["pairs-test-0000"] == next(
        row["truth"] for row in rows("test") if row["id"] == "pairs-test-0000"
    )
