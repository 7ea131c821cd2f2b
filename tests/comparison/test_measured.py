"""When two metrics from any source are of the same thing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from harness.comparison.measured import MODEL, PROMPTS, TEMPLATE, Examples, Measured


def of(**conditions: str) -> Measured:
    return Measured("m", "e", 0.5, conditions=conditions)


def test_conditions_that_both_know_must_be_equal() -> None:
    assert of(version="1").why_not(of(version="2")) == "not the same version: 1 and 2"
    assert of(version="1").why_not(of(version="1", shots="5")) == ""
    assert of(version="1").why_not(of()) == ""
    assert of(version="").why_not(of(version="2")) == "not the same version: none and 2"


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [("x" * 60, "y", True), ("x" * 61, "y", False), ("y", "x" * 60, True), ("y", "x" * 61, False),
     ("sha256:ab", "y", False)],
)  # fmt: skip
def test_short_values_are_told(one: str, other: str, told: bool) -> None:
    wanted = f": {one} and {other}" if told else ""
    assert of(version=one).why_not(of(version=other)) == f"not the same version{wanted}"


def test_prompts_may_differ_where_that_is_allowed_and_nothing_else() -> None:
    for name in (*PROMPTS, "version"):
        one, other = of(**{name: "a"}), of(**{name: "b"})
        assert one.why_not(other)
        assert bool(one.why_not(other, prompts=True)) is (name not in PROMPTS)


@pytest.mark.parametrize(("one", "other", "same"), [("a", "a", False), ("a", "b", True)])
def test_another_model_may_have_another_chat_template(one: str, other: str, same: bool) -> None:
    ours, theirs = of(**{MODEL: one, TEMPLATE: "x"}), of(**{MODEL: other, TEMPLATE: "y"})
    why = ours.why_not(theirs)
    # Of another model it is the model that differs.
    assert why.startswith("not the same untrained model" if same else "not the same chat template")
    ours.conditions.pop(MODEL)  # type: ignore[attr-defined]
    assert ours.why_not(theirs) == ""


def test_another_kind_of_metric_is_not_compared() -> None:
    one = Measured("m", "e", 0.5)
    for change in ({"aggregate": "perplexity"}, {"higher_is_better": False}):
        other: Any = Measured("m", "e", 0.5, **change)  # type: ignore[arg-type]
        assert one.why_not(other) == "not the same kind of metric"


def examples(ids: str, **more: Any) -> Examples:
    return Examples(pa.array(list(ids)), **more)


def prints(*values: int) -> Any:
    return np.asarray(values, dtype=np.uint32)


def test_examples_of_equal_ids_must_be_equal() -> None:
    one = examples("abc", contents=prints(1, 2, 3), prompts=prints(7, 8, 9))
    other = examples("bcd", contents=prints(2, 3, 4), prompts=prints(8, 0, 1))
    assert one.why_not(other) == "not the same prompts: 1 of 2 with equal ids differ"
    assert one.why_not(other, prompts=True) == ""
    moved = examples("abc", contents=prints(1, 0, 0), prompts=prints(7, 8, 9))
    assert one.why_not(moved, prompts=True) == "not the same examples: 2 of 3 with equal ids differ"
    assert one.why_not(examples("abc")) == ""


def test_examples_are_alike_with_the_same_ids_and_clusters() -> None:
    plain, clustered = examples("abc"), examples("abc", clusters=pa.array(["x", "x", "y"]))
    assert plain.alike(examples("abc"))
    assert clustered.alike(examples("abc", clusters=pa.array(["x", "x", "y"])))
    for other in (clustered, examples("abd")):
        assert not plain.alike(other)
        assert not other.alike(plain)
    assert not clustered.alike(examples("abc", clusters=pa.array(["x", "y", "y"])))


def test_shared_examples_are_found_on_either_side() -> None:
    ours, theirs = examples("acd").shared(examples("abcde"))
    assert (ours.tolist(), theirs.tolist()) == ([0, 1, 2], [0, 2, 3])
    ours, theirs = examples("xyz").shared(examples("abc"))
    assert (ours.tolist(), theirs.tolist()) == ([], [])


def test_a_metric_is_computed_anew_on_some_of_its_examples_and_sorted_by_their_ids() -> None:
    metric = Measured("m", "e", 0.5, columns={"value": np.asarray([1.0, 0, 0, 1])}, n=4,
                      examples=examples("dbca", clusters=pa.array(list("xxyy"))))  # fmt: skip
    some = metric.at(np.asarray([0, 3]))
    assert (some.value, some.n, some.examples and some.examples.keys.ids) == (1.0, 2, ("d", "a"))
    ordered = metric.sorted()
    assert ordered.examples is not None
    assert ordered.examples.keys.ids == ("a", "b", "c", "d")
    assert ordered.examples.keys.clusters == ("y", "x", "y", "x")
    assert ordered.columns["value"].tolist() == [1, 0, 0, 1]
