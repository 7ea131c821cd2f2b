"""Claims are read from one line or a mapping, and what is none is refused with the place and the
nearest name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.core.errors import SuiteError
from harness.report.tables.columns import COSTS as REPORTED
from harness.report.tables.columns import Cost
from harness.suite.claims import COSTS, Claim, parse_claim

LORA_FULL = {
    "metric": "rougeL", "variant": "lora", "relation": "not_worse", "than": "full", "margin": 0.01,
}  # fmt: skip


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("lora not_worse full on rougeL by 0.01", LORA_FULL),
        ("lora is not worse than full on rougeL by more than 0.01", LORA_FULL),
        ("lora is not worse than full by more than 1e-2 on rougeL.", LORA_FULL),
        ("ppo_ptx is better than ppo on perplexity/general",
         {"metric": "perplexity/general", "variant": "ppo_ptx", "relation": "better",
          "than": "ppo"}),
        ("qlora's state memory is at most 60% of full's",
         {"metric": "state memory", "variant": "qlora", "relation": "at_most", "than": "full",
          "ratio": "60%"}),
        ("every variant scores above chance on pocket/exam",
         {"metric": "pocket/exam", "variant": "*", "relation": "at_least", "than": "chance"}),
        ("lora-* equals full-sft on rougeL within 10 % at 90% confidence",
         {"metric": "rougeL", "variant": "lora-*", "relation": "equal", "than": "full-sft",
          "margin": "10%", "confidence": 0.9}),
        ("lora at_least -0.5 on reward",
         {"metric": "reward", "variant": "lora", "relation": "at_least", "than": -0.5}),
        ("lora is better than full on rougeL by at least .01",
         LORA_FULL | {"relation": "better"}),
        ("lora not_worse on rougeL by 0.01",
         {"metric": "rougeL", "variant": "lora", "relation": "not_worse", "margin": 0.01}),
    ],
)  # fmt: skip
def test_line_says_what_the_mapping_says(line: str, fields: dict[str, Any]) -> None:
    assert parse_claim(line) == Claim(**fields)


@pytest.mark.parametrize(
    ("claim", "title"),
    [
        ("full better * on m", "full is better than every other variant on m"),
        ("* not_worse lora* on m by 0.1",
         "every variant is not worse than lora* on m by more than 0.1"),
        ({"metric": "m", "variant": {"method": "lora", "objective": ["sft", "dpo"]},
          "relation": "better", "than": {"method": "full"}},
         "every variant with method lora and objective sft or dpo is better than every variant with"
         " method full on m"),
    ],
)  # fmt: skip
def test_title_reads_as_a_sentence(claim: Any, title: str) -> None:
    assert Claim.model_validate(claim).title == title


def test_title_of_a_claim_is_a_claim_again() -> None:
    for line in (
        "lora not_worse full on rougeL by 0.01",
        "a equals b on m within 5%",
        "a is better than baseline on m",
        "a is at most 3 on m",
        "* at_most 0.6 times full on checkpoint_bytes",
        "full better * on m",
        "* equals every other variant on m within 0.1",
    ):
        claim = parse_claim(line)
        again = parse_claim(claim.title)
        named = {"metric": claim.metric}  # a title has the cost's name for people
        assert again.model_copy(update=named).sentence() == claim.sentence()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("lora notworse full on rougeL by 0.01", "did you mean `not_worse`?"),
        ("lora", "VARIANT not_worse OTHER on METRIC by 0.01"),
        ("lora better full", "names no metric"),
        ("lora better full on rougeL " * 20, "at most 500 characters"),
        ("lora's loss is at most 3 on rougeL", "two metrics, 'loss' and 'rougeL'"),
        ("lora is not better than full on rougeL", "`not better` is no relation"),
        ("lora isn't equal to full on rougeL by 1", "`not equal` is no relation"),
        ("lora is no better than full on rougeL", "write `worse` or `not_worse` with a margin"),
        ("lora equal full on rougeL", "`equal` needs a margin above 0"),
        ("lora at_most full on rougeL by 0.1", "`at_most` takes no margin"),
        ("lora is worse than full on rougeL by at most 0.1", "`worse` by at most a margin"),
        ("lora better 50% of full on rougeL", "`ratio` belongs to `at_most` and `at_least`"),
        ("lora better full on rougeL at 30% confidence", "confidence: input should be greater"),
    ],
)
def test_line_that_is_no_claim_is_refused_with_what_is_wrong(line: str, told: str) -> None:
    with pytest.raises(SuiteError, match="claims") as error:
        parse_claim(line, "claims[3]")
    assert told in str(error.value)
    assert str(error.value).startswith("claims[3]")


@pytest.mark.parametrize(
    "changed",
    [{"margin": -0.1}, {"margin": "0.1 points"}, {"margin": True}, {"margin": float("nan")},
     {"variant": {}}, {"than": []}, {"relation": "superior"}, {"marign": 0.1},
     {"confidence": 1.0}, {"looks": "often"}],
)  # fmt: skip
def test_mapping_that_is_no_claim_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Claim.model_validate(LORA_FULL | changed)


@pytest.mark.parametrize("field", ["variant", "than"])
@pytest.mark.parametrize("value", [["lora", "full"], None])
def test_what_is_no_selector_is_refused_in_one_line(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as error:
        Claim.model_validate(LORA_FULL | {field: value})
    (told,) = error.value.errors()
    assert "a pattern such as `lora*`" in told["msg"]


def claim(**fields: Any) -> Claim:
    return Claim(**{"metric": "m", "variant": "a", "relation": "not_worse", "than": "b"} | fields)


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        ({"margin": 0.1 + 0.2}, "a is not worse than b on m by more than 0.3"),
        ({"margin": "12.5%"}, "a is not worse than b on m by more than 12.5%"),
        ({"relation": "equal", "margin": "5%"}, "a equals b on m within 5%"),
        ({"relation": "equal", "margin": 0.25}, "a equals b on m within 0.25"),
        ({"relation": "worse", "margin": 0}, "a is worse than b on m"),
        ({"relation": "at_most", "than": 3}, "a is at most 3 on m"),
        ({"relation": "at_most", "ratio": "60%"}, "a is at most 60% of b on m"),
        ({"relation": "at_least", "ratio": 0.6}, "a is at least 0.6 times b on m"),
        ({"relation": "at_least", "ratio": "100%"}, "a is at least b on m"),
        ({"relation": "at_most", "ratio": 2}, "a is at most 2 times b on m"),
        ({"metric": "joules", "relation": "better"}, "a is better than b on training energy"),
        ({"name": "LoRA keeps up"}, "LoRA keeps up"),
    ],
)  # fmt: skip
def test_title_tells_the_amounts_as_a_person_would(fields: dict[str, Any], title: str) -> None:
    assert claim(**fields).title == title


def test_sentence_may_name_the_single_variants_that_the_selectors_mean() -> None:
    several = claim(variant="*", than={"method": "full"}, name="named")
    assert several.sentence("lora-sft", "full-sft") == "lora-sft is not worse than full-sft on m"
    assert several.sentence("lora-sft") == (
        "lora-sft is not worse than every variant with method full on m"
    )


@pytest.mark.parametrize(
    ("amount", "number"), [("10%", 0.1), ("12.5 %", 0.125), ("7%", 0.07), ("0.02", 0.02), (3, 3.0)]
)
def test_amount_is_a_number_or_a_share(amount: str | float, number: float) -> None:
    assert claim(margin=amount).margin_size == pytest.approx(number)
    assert claim(margin=amount).relative is str(amount).endswith("%")
    assert claim(relation="at_most", ratio=amount).times == pytest.approx(number)


def test_claim_that_says_no_more_is_against_the_baseline_beyond_doubt_by_any_margin() -> None:
    plain = Claim(metric="m", variant="a", relation="better")
    assert (plain.than, plain.margin_size, plain.times) == ("baseline", 0, 1)
    assert (plain.confidence, plain.alpha) == (0.95, pytest.approx(0.05))
    assert claim(confidence=0.5).alpha == 0.5
    assert not plain.relative


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"than": True}, "no truth value, such as true"),
        ({"expected": False}, "no truth value, such as false"),
        ({"confidence": True}, "no truth value, such as true"),
        ({"margin": True}, "the amount is a number, not true"),
        ({"margin": "a tenth"}, "or a share such as 10%, not 'a tenth'"),
        ({"than": float("inf")}, "finite number"),
        ({"expected": float("nan")}, "finite number"),
        ({"than": ""}, "`than` names no variant"),
        ({"than": {}}, "`than` names no variant"),
        ({"variant": ""}, "`variant` names no variant"),
        ({"variant": {"method": []}}, "at least 1 item"),
        ({"relation": "at_most", "ratio": 0}, "`ratio` is above 0"),
        ({"relation": "at_least", "ratio": "0%"}, "`ratio` is above 0"),
        ({"relation": "equal", "margin": "0%"}, "`equal` needs a margin above 0"),
        ({"margin": -1e-9}, "a margin is 0 or more"),
        ({"ratio": 2}, "`ratio` belongs to"),
        ({"confidence": 0.49}, "greater than or equal to 0.5"),
    ],
)  # fmt: skip
def test_amount_or_selector_that_says_nothing_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        claim(**fields)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("a not_worse b by at most 0.1 on m", {"margin": 0.1}),
        ("a not_worse b on m at 0.9 confidence", {"confidence": 0.9}),
        ("a not_worse b at 99 % confidence by 2% on m", {"confidence": 0.99, "margin": "2%"}),
        ("a on one card not_worse b on m", {"variant": "a on one card"}),
        ("a not_worse b on two cards on m", {"than": "b on two cards"}),
        ("each is at least 1.5 times all others on m",
         {"variant": "*", "relation": "at_least", "ratio": 1.5, "than": "*"}),
        ("a at_most 2x b on m", {"relation": "at_most", "ratio": 2.0}),
        ("a not_worse 3e-1 on m", {"than": 0.3}),
        ("a's m is no worse than b's", {}),
        ("a as good as b on m within 1", {"relation": "equal", "margin": 1.0}),
        ("a below b on m", {"relation": "at_most"}),
    ],
)  # fmt: skip
def test_parts_of_a_line_stand_in_any_order(line: str, fields: dict[str, Any]) -> None:
    assert parse_claim(line) == claim(**fields)


def test_line_may_be_as_long_as_the_message_says() -> None:
    longest = "a" * (500 - len(" better b on m")) + " better b on m"
    assert parse_claim(longest).than == "b"
    with pytest.raises(SuiteError, match="at most 500 characters"):
        parse_claim("a" + longest)


@pytest.mark.parametrize("cost", REPORTED, ids=lambda cost: cost.key)
def test_cost_of_the_report_may_be_claimed_by_the_name_that_it_has_there(cost: Cost) -> None:
    """But for those of a service, and for a part of another cost."""
    part = cost.key == "seconds_before" or cost.key.startswith("service_")
    assert COSTS.get(cost.key) == (None if part else cost.name)


def test_counts_that_the_report_has_no_column_for_may_be_claimed_too() -> None:
    assert {*COSTS} - {cost.key for cost in REPORTED} == {"parameters", "flops"}


def test_each_field_of_a_claim_is_explained() -> None:
    """`harness list keys claims` shows these texts."""
    assert [name for name, field in Claim.model_fields.items() if not field.description] == []
