"""A comparison as a table of one row a figure, and lookups in a comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.comparison.frames import TABLE, load, to_frame
from harness.comparison.result import ALL, Conditions, Estimate, Measured, Tax
from harness.core.errors import HarnessError
from tests.comparisons import comparison, row, variant


def test_rows_carry_their_estimate_difference_axes_and_price() -> None:
    made = comparison()
    frame = to_frame(made)
    assert len(frame) == len(made.rows) + 1
    found = frame[(frame.variant == "lora-sft") & (frame.metric == "rougeL") & (frame.slice == ALL)]
    line = found.iloc[0].to_dict()
    assert (line["estimate"], line["low"], line["high"]) == pytest.approx((0.401, 0.383, 0.419))
    assert [line[f"difference_{end}"] for end in ("value", "low", "high")] == pytest.approx(
        [0.301, 0.281, 0.321]
    )
    assert (line["axis_method"], line["axis_objective"]) == ("lora-sft", "sft")
    assert (line["train_seconds"], line["tokens_per_second"], line["baseline"]) == (
        12.0, 910.0, "zero-shot",
    )  # fmt: skip
    assert (line["verdict"], line["p_holm"], line["n"], line["seeds"]) == ("better", 0.0002, 300, 3)
    assert not {"difference", "by_seed"} & set(frame.columns)


def test_failed_variants_have_a_row_that_says_why() -> None:
    made = replace(comparison(), variants=(
        *comparison().variants, variant("part", status="partial", reasons=("a", "b")),
    ))  # fmt: skip
    frame = to_frame(made).set_index("variant")
    assert frame.loc["part", ["verdict", "note"]].to_list() == ["failed", "a; b"]
    assert frame.loc["part", "axis_method"] == "part"
    assert frame.loc["dpo-sft", "verdict"] == "failed"
    assert frame.loc["dpo-sft", "note"].startswith("train of dpo-sft")
    assert frame["estimate"].isna().sum() == 2


def test_table_is_found_in_its_folder_or_by_its_name(tmp_path: Path) -> None:
    frame = to_frame(comparison())
    frame.to_parquet(tmp_path / TABLE)
    for place in (tmp_path, tmp_path / TABLE, str(tmp_path)):
        assert len(load(place)) == len(frame)
    with pytest.raises(HarnessError, match=f"holds no {TABLE}"):
        load(tmp_path / "elsewhere")


@pytest.mark.parametrize("where", ["whole", "middle"])
def test_a_damaged_table_is_told_with_its_place(tmp_path: Path, where: str) -> None:
    """A file that is no table, and one whose index is damaged: two errors of the library."""
    table = tmp_path / TABLE
    to_frame(comparison()).to_parquet(table)
    data = table.read_bytes()
    table.write_bytes(b"x" * 50 if where == "whole" else data[:-300] + b"\xff" * 200 + data[-100:])
    for place in (table, tmp_path):
        with pytest.raises(HarnessError, match=f"{TABLE} cannot be read") as error:
            load(place)
        assert "make it again" in str(error.value)


def test_rows_are_looked_up_by_variant_metric_evaluation_and_slice() -> None:
    rows = (row("a", "f1", 0.1), row("a", "f1", 0.2, evaluation="other"),
            row("a", "f1", 0.3, slice="part"), row("b", "bleu", 0.4))  # fmt: skip
    made = replace(comparison(), rows=rows)
    assert made.row("a", "f1") is rows[0]
    assert made.row("a", "f1", "other") is rows[1]
    assert made.row("a", "f1", slice="part") is rows[2]
    assert made.metrics() == [("f1", "tasks"), ("f1", "other"), ("bleu", "tasks")]
    for wrong, words in (
        (("aa", "f1"), "unknown variant 'aa'"),
        (("a", "f2"), "unknown metric 'f2'; did you mean 'f1'"),
        (("b", "f1"), "unknown metric 'f1'"),
        (("a", "f1", "none"), "a has no f1 on 'none'"),
        (("b", "bleu", "tasks", "part"), "and slice 'part'"),
    ):
        with pytest.raises(HarnessError, match=words):
            made.row(*wrong)


def test_what_is_shown_alone_has_a_p_below_the_level_and_no_verdict() -> None:
    for p, verdict, shown in ((0.04, "no difference shown", True), (0.04, "better", False),
                              (0.05, "no difference shown", False),
                              (None, "no difference shown", False)):  # fmt: skip
        assert row("a", "f1", 0.1, verdict=verdict, p=p).shown_alone is shown


@pytest.mark.parametrize(
    ("first", "other", "shared"),
    [
        ((0.0, 1.0), (0.5, 2.0), True), ((0.0, 1.0), (1.0, 2.0), True),
        ((0.0, 1.0), (1.1, 2.0), False), ((0.0, 9.0), (1.1, 2.0), True),
        ((None, 1.0), (1.1, 2.0), None), ((0.0, None), (1.1, 2.0), None),
    ],
)  # fmt: skip
def test_intervals_meet_where_they_share_a_number_and_unknown_ones_do_not_tell(
    first: tuple[float | None, float | None], other: tuple[float, float], shared: bool | None
) -> None:
    ours, theirs = Estimate(0.5, *first), Estimate(1.5, *other)
    assert ours.meets(theirs) is shared
    assert theirs.meets(ours) is shared


def test_conditions_of_a_time_are_told_in_words() -> None:
    told = [str(Conditions("x", *more)) for more in ((), (1,), (2,), (None, True), (2, True))]
    assert told == ["x", "x, 1 thread", "x, 2 threads", "x, beside other work",
                    "x, 2 threads, beside other work"]  # fmt: skip
    assert Conditions("x", 2) == Conditions("x", 2, False)
    assert Tax("a", "b") == Tax("a", "b", (), "")
    assert Measured("reward", row("a", "f1", 0.1)) == Measured("reward", row("a", "f1", 0.1))


def test_notes_are_joined() -> None:
    plain = row("a", "f1", 0.1)
    assert plain.noted("").note == ""
    assert plain.noted("x").noted("").noted("y").note == "x; y"


def test_variant_with_a_status_other_than_ok_failed_and_one_in_part_has_results() -> None:
    made = comparison()
    assert [v.group for v in made.failed] == ["dpo-sft"]
    assert [variant("a", status=s).has_result for s in ("ok", "partial", "failed")] == [
        True, True, False,
    ]  # fmt: skip
    assert Estimate(1.0) == Estimate(1.0, None, None)


def test_variant_was_trained_on_its_rows_and_on_all_on_the_way() -> None:
    own = variant("a", labels={"data": "tasks"}, learnt=("general",))
    assert [own.trained_on(entry) for entry in ("tasks", "general", "other")] == [True, True, False]
    assert not variant("a", labels={}).trained_on("tasks")
    assert not row("a", "f1", 0.1).forgetting
