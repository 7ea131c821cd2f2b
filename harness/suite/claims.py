"""Claims: what a suite states about its variants, to be supported or refuted by the scores.

A claim is written as a mapping, or as one line:

    lora is not worse than full on rouge/rougeL by more than 0.01
    lora not_worse full on rougeL by 0.01
    qlora's state memory is at most 60% of full's
    every variant scores above chance on pocket/exam
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from harness.core.errors import SuiteError, near, shortened
from harness.core.from_yaml import explain

Relation = Literal["better", "worse", "not_worse", "equal", "at_most", "at_least"]
CHANCE, BASELINE = "chance", "baseline"
"""What a claim may compare with instead of a variant: guessing, and each variant's baseline."""
EVERY = "*"
"""The selector of every variant."""
STORED = "stored:"
"""What the name of a stored baseline begins with in a claim."""
COSTS: Mapping[str, str] = {
    "train_seconds": "training time",
    "trainable_parameters": "trainable parameters",
    "parameters": "parameters",
    "state_bytes": "state memory",
    "peak_host_bytes": "peak host memory",
    "peak_device_bytes": "peak device memory",
    "checkpoint_bytes": "checkpoint",
    "tokens": "tokens trained on",
    "flops": "training FLOPs",
    "joules": "training energy",
    "mfu": "MFU of the last training",
    "tokens_per_second": "generation speed",
}
"""The costs that a claim can be about: the key of each, and its name for people."""

FASTER = frozenset({"tokens_per_second", "mfu"})
"""The costs of which more is better."""


def _number(value: Any, what: str) -> Any:
    """A number, or a share such as "10%" as text; anything else is refused.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str) and not re.fullmatch(rf"{_NUMBER}(?: ?%)?", value.strip()):
        raise ValueError(f"{what} is a number, or a share such as 10%, not {shortened(value)!r}")
    if isinstance(value, bool):
        raise ValueError(f"{what} is a number, not {str(value).lower()}")
    if isinstance(value, str):
        text = value.strip()
        return text.replace(" ", "") if text.endswith("%") else float(text)
    return value


_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
Amount = Annotated[float | str, BeforeValidator(lambda value: _number(value, "the amount"))]
"""A number, or text such as "10%"."""
Values = Annotated[
    list[str | int | float],
    BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
    Field(min_length=1),
]
Selector = str | dict[str, Values]


class Claim(BaseModel):
    """A statement about variants that scores can support or refute."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    name: str = ""
    """What a report calls it; default: the claim as a sentence."""
    metric: str
    """A metric as reports call it (`rougeL`, `forgetting`), with its data entry or task where it
    has several (`rougeL/tasks`), or behind its scorer (`rouge/rougeL`); the name of a benchmark
    that has one metric; or a cost, such as `state_bytes` or `train_seconds`."""
    variant: Selector
    """The variants that the claim is about: a name, a pattern such as `lora*`, a method, objective
    or other value of the matrix, or a mapping such as `{method: lora, objective: sft}`. A claim
    about several variants is one claim about each of them."""
    relation: Relation
    """`better` and `worse`: by more than the margin. `not_worse`: by no more than the margin.
    `equal`: no farther away than the margin, either way. `at_most` and `at_least`: the value
    itself, whichever way is better."""
    than: float | Selector = BASELINE
    """What it is compared with: other variants, a number, `chance`, `baseline`, or a stored
    baseline, as `stored:NAME`. Of several variants, those pairs are compared that differ on the
    fewest axes."""
    margin: Amount = 0.0
    """The difference that matters, in the metric's unit, or as a share of the other's value, such
    as 10%."""
    ratio: Amount = 1.0
    """For `at_most` and `at_least`: how much of the other's value is meant, such as 60%."""
    confidence: float = Field(0.95, ge=0.5, lt=1)
    """The confidence of the interval that decides."""
    looks: Literal["once", "repeated"] = "once"
    """`repeated`: the interval stays valid however often one looks while examples are added, and is
    wider for it."""
    examples: Literal["same", "shared"] = "same"
    """`same`: both sides must have the same examples. `shared`: those that both have are compared,
    and their number is told."""
    expected: float | None = None
    """The true difference that you expect, for the plan's power; default: none for `not_worse` and
    `equal`."""
    source: str = ""
    """Where the claim comes from, such as a paper."""

    @model_validator(mode="before")
    @classmethod
    def _from_line(cls, value: Any) -> Any:
        return _fields_of(value) if isinstance(value, str) else value

    @field_validator("than", "confidence", "expected", mode="before")
    @classmethod
    def _no_truth(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(f"it is no truth value, such as {str(value).lower()}")
        return value

    @field_validator("variant", "than", mode="before")
    @classmethod
    def _a_selector(cls, value: Any) -> Any:
        if value is None or isinstance(value, list):
            raise ValueError("it is a name, a pattern such as `lora*`, or a mapping of axes")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.than in ("", {}):
            raise ValueError("`than` names no variant")
        if not self.variant:
            raise ValueError("`variant` names no variant")
        if self.relation == "equal" and not self.margin_size:
            raise ValueError("`equal` needs a margin above 0: no two values are equal to the last")
        if self.bound and self.margin_size:
            raise ValueError(f"`{self.relation}` takes no margin: write the limit itself")
        if not self.bound and self.ratio != 1.0:
            raise ValueError("`ratio` belongs to `at_most` and `at_least`")
        if self.times <= 0:
            raise ValueError("`ratio` is above 0")
        if self.margin_size < 0:
            raise ValueError("a margin is 0 or more; the relation says which way")
        return self

    @property
    def bound(self) -> bool:
        """Whether it is about the value itself, whichever way is better."""
        return self.relation in ("at_most", "at_least")

    @property
    def relative(self) -> bool:
        """Whether the margin is a share of the other's value."""
        return isinstance(self.margin, str)

    @property
    def margin_size(self) -> float:
        """The margin as a number; a share of 1 if it is relative."""
        return _amount(self.margin)

    @property
    def times(self) -> float:
        """How many times the other's value is meant."""
        return _amount(self.ratio)

    @property
    def alpha(self) -> float:
        """The probability of error that the confidence leaves."""
        return 1 - self.confidence

    @property
    def title(self) -> str:
        """Its name, else the claim as a sentence."""
        return self.name or self.sentence()

    def sentence(self, variant: str = "", than: str = "") -> str:
        """The claim in words.

        Args:
            variant, than: names to use instead of the selectors.
        """
        subject = variant or _written(self.variant)
        other = than or _written(self.than, other="other ")
        share = f"{self.ratio} of" if isinstance(self.ratio, str) else f"{self.times:.4g} times"
        about = "" if self.times == 1 else f"{share} "
        metric = COSTS.get(self.metric, self.metric)
        if self.bound:
            words = self.relation.replace("_", " ")
            return f"{subject} is {words} {about}{other} on {metric}"
        margin = self.margin if self.relative else f"{self.margin_size:.4g}"
        if self.relation == "equal":
            return f"{subject} equals {other} on {metric} within {margin}"
        by = f" by more than {margin}" if self.margin_size else ""
        return f"{subject} is {self.relation.replace('_', ' ')} than {other} on {metric}{by}"


def parse_claim(text: str, where: str = "claim") -> Claim:
    """A claim from its one-line form.

    Args:
        where: the line's place, for messages.

    Raises:
        SuiteError: the line is no claim; the message says what was understood and shows the form.
    """
    try:
        return Claim.model_validate(text)
    except ValidationError as error:
        raise SuiteError(explain(error, Claim, where)) from None


def _amount(value: float | str) -> float:
    return float(value[:-1]) / 100 if isinstance(value, str) else float(value)


def _written(selector: float | Selector, other: str = "") -> str:
    """A selector in words.

    Args:
        other: a word that tells every variant of the second side from those of the first.
    """
    if isinstance(selector, Mapping):
        axes = (f"{axis} {' or '.join(map(str, v))}" for axis, v in selector.items())
        return f"every variant with {' and '.join(axes)}"
    if isinstance(selector, str):
        return f"every {other}variant" if selector == EVERY else selector
    return f"{selector:.4g}"


_WORDS: tuple[tuple[str, Relation], ...] = (
    (r"(?:not|no)[ _-]worse(?: than)?", "not_worse"),
    (r"better(?: than)?", "better"),
    (r"worse(?: than)?", "worse"),
    (r"equals?(?: to)?|as good as", "equal"),
    (r"at[ _]most|below", "at_most"),
    (r"at[ _]least|above", "at_least"),
)
_HEAD = re.compile(
    r"(?P<variant>\S.*?)(?:['\u2019]s (?P<metric>\S.*?))?(?: (?:is|are|scores?|does|has))?"
    rf" (?P<relation>{'|'.join(words for words, _ in _WORDS)})"
    rf"(?: (?P<ratio>{_NUMBER} ?%|{_NUMBER}(?: times|x)) (?:of )?)? ?(?P<than>\S.*?)?"
)
_TAILS = {
    "margin": re.compile(
        rf"(?: by| within)(?: more than| at most| at least)? (?P<value>{_NUMBER} ?%?)"
    ),
    "confidence": re.compile(rf"(?: at| with)? (?P<value>{_NUMBER} ?%?) confidence"),
    "metric": re.compile(r" on (?P<value>\S.*?)"),
}
_EVERY = re.compile(r"\A(?:every|each|all|any)(?: other)?(?: (?:variants?|others?))?\Z")
_NOT = re.compile(
    r"(?:(?: |^)(?:not|no)|n['\u2019]t)[ _](?P<relation>better|equals?|at[ _](?:most|least))\b"
)
_LONGEST = 500
_FORM = "VARIANT not_worse OTHER on METRIC by 0.01"


def _fields_of(text: str) -> dict[str, Any]:
    """The fields of a claim in one line.

    Raises:
        ValueError: the line is no claim.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"a claim in one line has at most {_LONGEST} characters")
    head, fields = _without_tails(" ".join(text.split()).rstrip("."))
    if denied := _NOT.search(head):
        raise ValueError(
            f"{_quoted(text)}: `not {denied['relation']}` is no relation, as a claim says what is"
            " to be shown; write `worse` or `not_worse` with a margin, or turn the sides around"
        )
    match = _HEAD.fullmatch(head)
    if match is None:
        raise ValueError(_not_a_claim(text))
    named = {name: value for name, value in match.groupdict().items() if value}
    named["relation"] = next(
        relation for words, relation in _WORDS if re.fullmatch(words, named["relation"])
    )
    if named["relation"] in ("better", "worse") and " by at most " in text:
        raise ValueError(
            f"`{named['relation']}` by at most a margin is no claim: write `not_worse`, or `equals`"
        )
    if "ratio" in named:
        named["ratio"] = re.sub(r"(?: times|x)$", "", named["ratio"]).replace(" ", "")
    than: Any = _EVERY.sub(EVERY, re.sub(r"['\u2019]s$", "", named.pop("than", BASELINE)))
    named["variant"] = _EVERY.sub(EVERY, named["variant"])
    fields["than"] = float(than) if re.fullmatch(rf"-?{_NUMBER}", than) else than
    if "metric" in named and "metric" in fields:
        raise ValueError(f"two metrics, '{named['metric']}' and '{fields['metric']}'")
    fields |= named
    if "metric" not in fields:
        raise ValueError(f"{_quoted(text)} names no metric: write it as `{_FORM}`")
    if isinstance(share := fields.get("confidence"), str):
        fields["confidence"] = _amount(share) if share.endswith("%") else float(share)
    return fields


def _without_tails(text: str) -> tuple[str, dict[str, Any]]:
    """The text without what stands at its end in any order: metric, margin, confidence."""
    fields: dict[str, Any] = {}
    while True:
        for field, form in _TAILS.items():
            spaces = [match.start() for match in re.finditer(" ", text)]
            starts = [place for place in spaces if form.fullmatch(text, place)]
            if starts and field not in fields:
                start = starts[-1] if field == "metric" else starts[0]
                match = form.fullmatch(text, start)
                assert match is not None
                fields[field] = match["value"].replace(" %", "%")
                text = text[:start]
                break
        else:
            return text, fields


def _not_a_claim(text: str) -> str:
    words = text.split()
    known = get_args(Relation)
    guesses = (near(word, known) for word in words if word not in known)
    guess = next((name for name in guesses if name), "")
    meant = f"; did you mean `{guess}`?" if guess else "."
    return (
        f"{_quoted(text)} is no claim{meant} Write it as `{_FORM}`; the relations are"
        f" {', '.join(known)}"
    )


def _quoted(text: str) -> str:
    return repr(shortened(text))
