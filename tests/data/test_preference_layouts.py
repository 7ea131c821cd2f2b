"""Judged answers come in as people have them and go out as rankings, each conversion stated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import DataError, HarnessError, SuiteError
from harness.core.locate import package_suites
from harness.data.cells import Unusable
from harness.data.layouts import detect, normal
from harness.data.mixture import mix
from harness.data.pairs import grouped, pairs_of
from harness.data.preferences import Reading
from harness.data.render import answer, encode, layout_of, trained_length
from harness.data.statistics import content_bytes
from harness.suite.data import Split
from harness.suite.suite import load_suite
from tests.conftest import Workspace, write_jsonl
from tests.data.test_data import load, said

POCKET = package_suites() / "pocket" / "preference"
FOUR = {"prompt": "q", "responses": ["a", "b", "c", "d"]}


def pairs(path: Path, **fields: Any) -> set[tuple[str, str]]:
    found, _ = pairs_of(load(path, **fields).rows, "error")
    return {(str(pair.chosen), str(pair.rejected)) for pair in found}


# --- rankings -----------------------------------------------------------------------------------

INSTRUCT_GPT = {("d", "c"), ("d", "a"), ("d", "b"), ("c", "a"), ("c", "b")}


@pytest.mark.parametrize(
    "judged",
    [
        {"ranking": "D > C > A = B"}, {"ranking": "D>C>B=A"}, {"ranks": [3, 3, 2, 1]},
        {"ranks": [40, 40, 7.5, -1]}, {"scores": [1, 1, 4, 7]},
    ],
)  # fmt: skip
def test_every_way_to_write_a_ranking_implies_the_same_pairs(
    tmp_path: Path, judged: dict[str, Any]
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{**FOUR, **judged}])
    found = load(path)
    assert found.layout == "ranked"
    assert pairs(path) == INSTRUCT_GPT
    assert found.rows[0]["references"] == ["d"]
    if "scores" not in judged:
        assert found.rows[0]["ranks"] == [3, 3, 2, 1]


@given(st.lists(st.integers(1, 7), min_size=2, max_size=6))
def test_ranks_are_dense_and_keep_order_and_ties(ranks: list[int]) -> None:
    row = {"prompt": "q", "responses": [f"a{i}" for i in range(len(ranks))], "ranks": ranks}
    made = normal(row, "ranked", chat=False)["ranks"]
    assert sorted(set(made)) == list(range(1, len(set(ranks)) + 1))
    for one, new in zip(ranks, made, strict=True):
        for other, newer in zip(ranks, made, strict=True):
            assert (one < other, one == other) == (new < newer, new == newer)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"ranks": [1, 2]}, "there is not one rank or score for each answer"),
        ({"scores": [1, 2, 3]}, "there is not one score for each answer"),
        ({"scores": [1, 2, 3, 8]}, "a score is outside 1 to 7"),
        ({"scores": [1, 2, 3, float("nan")]}, "a score is no number"),
        ({"scores": [1, 2, 3, "good"]}, "a score is no number"),
        ({"ranks": [1, 2, 3, True]}, "a score is no number"),
        ({"ranking": "D > C > A"}, "`ranking` does not name each answer once"),
        ({"ranking": "D > C > A = A = B"}, "`ranking` does not name each answer once"),
        ({"ranking": "D > C > A = E"}, "`ranking` does not name each answer once"),
        ({"responses": ["a", "b", "c", "a"], "ranks": [1, 2, 3, 4]}, "two answers are equal"),
        ({"responses": ["a", "b", "c", " "], "ranks": [1, 2, 3, 4]}, "empty"),
        ({"responses": ["a"], "ranks": [1]}, "`responses` is no list of two answers or more"),
        ({"responses": "abcd", "ranks": [1]}, "`responses` is no list of two answers or more"),
        ({"prompt": "", "ranks": [1, 2, 3, 4]}, "empty prompt"),
    ],
)
def test_unusable_ranking_is_counted_by_its_reason_or_an_error_as_the_suite_says(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    rows = [{"id": "good", **FOUR, "ranks": [1, 2, 3, 4]}, {"id": "bad", **FOUR, **row}]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    found = load(path, layout="ranked", scale=[1, 7])
    ((told, count),) = found.dropped.items()
    assert told.startswith(reason)
    assert (count, len(found.rows)) == (1, 1)
    with pytest.raises(DataError, match=f"row bad: {reason.split('`')[0]}"):
        load(path, layout="ranked", scale=[1, 7], unusable="error")


def test_pairs_keep_their_dimension_and_scores(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    rows = [
        {**row, "dimension": "true"}, row, {**row, "chosen_score": 6, "rejected_score": 2.5},
        {**row, "chosen_score": 9, "rejected_score": 2},
        {**row, "chosen_score": 1, "rejected_score": 2},
    ]  # fmt: skip
    found = load(write_jsonl(tmp_path / "rows.jsonl", rows), scale=[1, 7])
    made, _ = pairs_of(found.rows, "error")
    assert [(p.dimension, p.margin) for p in made] == [("true", None), ("", None), ("", 3.5)]
    assert found.dropped == {
        "a score is outside 1 to 7": 1, "the rejected answer has the higher score": 1,
    }  # fmt: skip


# --- scores -------------------------------------------------------------------------------------


def test_answers_scored_alone_become_one_ranking_a_prompt(tmp_path: Path) -> None:
    rows = [
        {"prompt": prompt, "completion": text, "score": score}
        for prompt, text, score in [
            ("q", "a", 2), ("r", "x", 1), ("q", "b", 5), ("q", "c", 2), ("r", "y", 1.0),
            ("alone", "z", 3), ("twice", "s", 3), ("twice", "s", 4), ("q", "a", 2),
        ]
    ]  # fmt: skip
    found = load(write_jsonl(tmp_path / "rows.jsonl", rows), layout="scored")
    assert found.layout == "ranked"
    assert [said(row) for row in found.rows] == [
        {"prompt": "q", "responses": ["a", "b", "c"], "scores": [2, 5, 2]},
        {"prompt": "r", "responses": ["x", "y"], "scores": [1, 1]},
    ]
    assert [(row["id"], row["references"]) for row in found.rows] == [
        ("0", ["b"]),
        ("1", ["x", "y"]),
    ]
    assert found.dropped == {
        "the prompt has no second answer": 1, "an answer to the prompt has two scores": 2,
    }  # fmt: skip
    assert found.gathered + sum(found.dropped.values()) == len(rows)
    made, counts = pairs_of(found.rows, "error")
    assert {(p.chosen, p.rejected, p.margin) for p in made} == {("b", "a", 3), ("b", "c", 3)}
    assert counts == {"ties": 2}


def test_a_score_column_alone_makes_no_ranking(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "q", "completion": "a", "score": 1}])
    assert load(path).layout == "prompt_completion"  # SFT data has such columns too


# --- several dimensions -------------------------------------------------------------------------

RATED = {"helpful": [5, 1, 3], "harmless": [1, 5, 3]}
THREE = {"prompt": "q", "responses": ["a", "b", "c"], "scores": RATED}


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ({"helpful": 2, "harmless": 1}, {("a", "b"), ("a", "c"), ("c", "b")}),
        ({"helpful": 1, "harmless": 2}, {("b", "a"), ("b", "c"), ("c", "a")}),
        ({"helpful": 0, "harmless": 1}, {("b", "a"), ("b", "c"), ("c", "a")}),
        ({"helpful": -1, "harmless": 0}, {("b", "a"), ("b", "c"), ("c", "a")}),
        ({"helpful": 0.1, "harmless": 0.1}, set()),
    ],
)
def test_weights_decide_the_ranking(
    tmp_path: Path, weights: dict[str, float], wanted: set[tuple[str, str]]
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [THREE])
    if wanted:
        assert pairs(path, weights=weights) == wanted
    else:
        assert load(path, weights=weights).rows[0]["scores"] == [3, 3, 3]
    alone = [
        {"prompt": "q", "completion": text, "scores": {n: RATED[n][i] for n in RATED}}
        for i, text in enumerate("abc")
    ]
    flat = load(write_jsonl(tmp_path / "flat.jsonl", alone), layout="scored", weights=weights)
    assert flat.rows[0]["scores"] == load(path, weights=weights).rows[0]["scores"]


def test_sums_equal_on_paper_tie(tmp_path: Path) -> None:
    row = {
        "prompt": "q",
        "responses": ["x", "y"],
        "scores": {"a": [1, 0], "b": [2, 0], "c": [0, 1]},
    }
    found = load(
        write_jsonl(tmp_path / "rows.jsonl", [row]), weights={"a": 0.1, "b": 0.1, "c": 0.3}
    )
    one, other = found.rows[0]["scores"]
    assert one == other  # 0.1 + 0.2 is not 0.3 in binary


def test_unknown_and_missing_dimensions_are_told(tmp_path: Path) -> None:
    rows = [THREE, {**THREE, "scores": {**RATED, "kind": [1, 1, 1]}},
            {**THREE, "scores": {"helpful": [1, 2, 3]}},
            {**THREE, "scores": {**RATED, "helpful": [1, 2, 9]}}]  # fmt: skip
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    weights = {"helpful": 1, "harmless": 1}
    assert load(path, weights=weights, scale=[1, 5]).dropped == {
        "dimension 'kind' has no weight": 1, "no scores for dimension 'harmless'": 1,
        "a score is outside 1 to 5": 1,
    }  # fmt: skip
    with pytest.raises(DataError, match="dimension 'kind' has no weight"):
        load(path, weights=weights, unusable="error")


def test_weights_without_dimensions_and_dimensions_without_weights_are_refused(
    tmp_path: Path,
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [THREE])
    with pytest.raises(
        DataError, match=r"harmless, helpful.*\n?.*fix.*|several dimensions"
    ) as told:
        load(path)
    assert told.value.where == "data.x.train.weights"
    path = write_jsonl(tmp_path / "b.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}])
    with pytest.raises(DataError, match="`weights` is for answers with scores by dimension"):
        load(path, weights={"helpful": 1})


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"scale": [7, 1]}, "the least score"), ({"weights": {"a": 0}}, "not all of them 0"),
     ({"weights": {"a": float("inf")}}, "finite number")],
)  # fmt: skip
def test_scales_and_weights_that_cannot_be_meant_are_refused(
    fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Split(path="x.jsonl", **fields)


# --- chats, thumbs, tokens ----------------------------------------------------------------------


def test_answers_take_the_form_of_their_prompt() -> None:
    user, bot = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    row = {"prompt": [user], "responses": ["a", [bot | {"content": "b"}]], "ranks": [1, 2]}
    made = normal(row, "ranked", chat=False)
    assert made["responses"] == [[bot], [bot | {"content": "b"}]]
    strings = {"prompt": "q", "responses": ["a ", "b"], "ranks": [1, 2]}
    assert normal(strings, "ranked", chat=True) == {**made, "prompt": [user]}
    alone = {"prompt": "q", "completion": "a", "score": 3}
    assert normal(alone, "scored", chat=True) == {
        "prompt": [user], "completion": [bot], "score": 3.0,
    }  # fmt: skip


@pytest.mark.parametrize(("thumb", "wanted"), [("up", True), ("Down", False), (1, True)])
def test_thumbs_are_read(thumb: Any, wanted: bool) -> None:
    row = {"prompt": "q", "completion": "a", "label": thumb}
    assert normal(row, "unpaired", chat=False)["label"] is wanted


def test_a_ranking_stands_for_its_best_answer_and_must_fit_with_its_longest(
    tiny_model: Path,
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    row = {"prompt": "ab", "responses": ["c", "dddd", "e"], "ranks": [2, 2, 1]}
    assert (answer(row), layout_of(list(row))) == ("e", "ranked")
    assert encode(tokenizer, row) == encode(tokenizer, {"prompt": "ab", "completion": "e"})
    assert trained_length(tokenizer, row) == 2 + 4 + 1
    assert content_bytes(row) == 2 + 6


def test_rankings_mix_whatever_optional_columns_they_have() -> None:
    base = {"cluster": "c", "group": "", "references": []}
    one = {"id": "1", **FOUR, "ranks": [1, 2, 3, 4], **base}
    other = {"id": "2", **FOUR, "scores": [1, 2, 3, 4], "dimension": "true", **base}
    mixed, _ = mix({"a": [one], "b": [other]}, {"a": 1, "b": 1}, 0, "all_exhausted")
    assert len({row["id"] for row in mixed}) == 2


# --- whole files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fields", "layout", "count"),
    [
        ("train", {}, "preference", 400),
        ("ranked_train", {}, "ranked", 100),
        ("scores_train", {"layout": "scored", "scale": [1, 7]}, "ranked", 60),
        ("thumbs_train", {}, "unpaired", 180),
        ("dimensions_train", {"weights": {"helpful": 1, "truthful": 2, "harmless": 3},
                              "scale": [1, 5]}, "ranked", 70),
        ("safety_test", {}, "messages", 80),
        ("demonstrations_train", {}, "messages", 520),
    ],
)  # fmt: skip
def test_the_pocket_worlds_forms_are_read_whole(
    name: str, fields: dict[str, Any], layout: str, count: int
) -> None:
    found = load(POCKET / f"{name}.jsonl", unusable="error", **fields)
    assert (found.layout, len(found.rows), dict(found.dropped)) == (layout, count, {})
    if layout == "preference":
        assert {row["dimension"] for row in found.rows} == {
            "polite",
            "complete",
            "true",
            "harmless",
        }
    if layout == "ranked":
        made, counts = pairs_of(found.rows, "error")
        assert len(grouped(made)) == count
        assert counts["ties"] > 0


def test_weights_turn_the_worlds_harmful_answers_from_best_to_worst() -> None:
    def best_are_harmless(weights: dict[str, float]) -> float:
        from suites.pocket.truth import asked, judge

        rows = load(POCKET / "dimensions_train.jsonl", weights=weights).rows
        harmful = [row for row in rows if row["group"] == "harmful"]
        assert len(harmful) > 5
        truth = asked()
        told = [judge(truth[row["id"]], row["references"][0])["harmless"] for row in harmful]
        return sum(told) / len(told)

    assert best_are_harmless({"helpful": 3, "truthful": 1, "harmless": 1}) < 0.3
    assert best_are_harmless({"helpful": 1, "truthful": 1, "harmless": 3}) == 1


def test_conversion_is_recorded_and_its_drops_are_reported(workspace: Workspace) -> None:
    rows = [
        {"id": f"{prompt}{text}", "prompt": prompt, "completion": text, "score": score}
        for prompt in "pqr"
        for text, score in (("yes", 5), ("no", 1), ("well", 1))
    ]
    rows += [{"id": "bad", "prompt": "p", "completion": "far", "score": 70}]
    write_jsonl(workspace.folder / "judged.jsonl", rows)
    workspace.tree["data"]["letters"]["train"] = {
        "path": "judged.jsonl", "layout": "scored", "scale": [1, 5], "chat": True,
    }  # fmt: skip
    fields = {"start": "base", "max_steps": 1, "max_length": 64}
    workspace.tree["matrix"] = {"method": ["full"], "objective": [{"dpo": fields}]}
    outcome = workspace.run()
    assert not [record.error for record in outcome.failed]
    record = next(r for r in outcome.records.values() if r.config.get("scale"))
    assert record.config["scale"] == [1, 5]
    assert record.config["layout"] == "scored"
    assert record.metrics["layout"] == "ranked"
    assert (record.metrics["rows"], record.metrics["gathered"]) == (3, 9)
    assert record.metrics["dropped"] == {"a score is outside 1 to 5": 1}


@pytest.mark.real
@pytest.mark.parametrize(
    ("path", "layout"),
    [("preference/dpo_kto/dpo_en_demo.json", "preference"),
     ("preference/hh_rlhf/harmless-base-test.jsonl.gz", "preference")],
)  # fmt: skip
def test_real_pairs_are_usable_for_preferences(real_data: Path, path: str, layout: str) -> None:
    found = load(real_data / path)
    assert found.layout == layout
    made, counts = pairs_of(found.rows, "drop")
    assert len(made) + sum(counts.values()) == len(found.rows)
    assert len(made) > 0.99 * len(found.rows)


def test_detection_names_rankings_only_with_their_judgments() -> None:
    assert detect({**FOUR, "ranks": [1, 2, 3, 4]}) == "ranked"
    assert detect({**FOUR, "ranking": "A > B"}) == "ranked"
    assert detect(FOUR) == "prompt"
    with pytest.raises(Unusable, match="no weight"):
        normal(THREE, "ranked", chat=False, reading=Reading())


def test_wrong_keys_of_a_split_are_errors_of_the_suite(tmp_path: Path) -> None:
    suite = {"name": "x", "models": {"m": "m"}, "matrix": {"method": ["full"]},
             "data": {"d": {"train": {"path": "x.jsonl", "unusable": "keep"}}}}  # fmt: skip
    path = tmp_path / "suite.yaml"
    path.write_text(json.dumps(suite), encoding="utf-8")
    with pytest.raises(SuiteError, match="unusable"):
        load_suite(str(path))
    assert issubclass(SuiteError, HarnessError)
