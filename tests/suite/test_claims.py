"""Claims are read from one line or a mapping, and what is none is refused with the place and the
nearest name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.core.errors import SuiteError
from harness.suite.claims import Claim, parse_claim

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
