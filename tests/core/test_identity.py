"""What defines a component's results is in what it is cached under."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import Field, ValidationError

from harness.core import registry
from harness.core.component import AXES, AddedLater, Component, NotHashed

NEEDED: Mapping[str, Mapping[str, Any]] = {
    "ppo_ptx": {"ptx_data": "general"},
    "classification": {"labels": ["a", "b"]},
    "evaluate": {"metric": "meteor", "values": ["meteor"], "trust_remote_code": True},
    "win_rate": {"rule": "pocket/truth.py:better"},
    "lm_eval": {"tasks": ["arc_easy"]},
    "pairwise": {"labeller": "reward"},
    "pointwise": {"labeller": "judge"},
    "listwise": {"labeller": "judge"},
    "panel": {"members": ["reward", "judge"]},
    "replay": {"file": "verdicts.jsonl"},
    "endpoint": {"base_url": "http://127.0.0.1:1/v1", "model": "m"},
}
MEMBERS = [(axis, name) for axis in AXES for name in registry.names(axis)]
SCORERS = [name for axis, name in MEMBERS if axis == "scorer"]

TOLD = {"data", "label", "forgetting"}
"""Fields of any scorer that are for people, or an input of the stage."""
IDLE: Mapping[str, set[str]] = {
    "kl": {"to"},  # an input of the stage
    "bertscore": {"digest"},  # filled in from the folder
    "evaluate": {"trust_remote_code"},  # nothing is scored without it
    # Files and folders count by their content.
    "lm_eval": {"files", "include_path", "datasets_path", "batch_tokens"},
}
DRAWN = {"evaluate", "exact_match", "length", "rouge", "squad", "token_f1"}
"""Scorers of one answer by itself whose metrics are means, which can score drawn answers."""
OTHER: Mapping[str, Mapping[str, Any]] = {
    "listwise": {"labeller": "endpoint", "prompt": "other.jinja"},
    "bertscore": {"model_type": "roberta-large", "baseline": (0.1, 0.1, 0.1), "num_layers": 3},
    "classification": {"labels": ["a", "c"]},
    "distinct": {"orders": [1, 3]},
    "lm_eval": {
        "tasks": ["mmlu"],
        "limit": 7,
        "gen_kwargs": {"max_gen_toks": 9},
        "metadata": {"count": 9},
        "datasets": {"a": "b.py:c"},
        "fewshot_as_multiturn": False,
    },
    "evaluate": {
        "values": ["other"],
        "bounds": (0.0, 7.0),
        "options": {"lang": "en"},
        "metric": "other",
    },
    "refusal": {"refuse": ["violence"], "openings": ["never"]},
    "win_rate": {"rule": "pocket/truth.py:worse"},
    "pairwise": {"labeller": "judge"},
    "pointwise": {
        "labeller": "endpoint",
        "dimensions": {"brief": {"about": "short"}},
        "prompt": "other.jinja",
    },
}


def made(axis: str, name: str, **fields: Any) -> Component:
    found = registry.find(axis, name)
    needed = NEEDED.get(name, {}) if axis != "objective" or name == "ppo_ptx" else {}
    return found(**{**needed, **fields})


def written(member: Component) -> str:
    return json.dumps(member.identity(), sort_keys=True)


@pytest.mark.parametrize(("axis", "name"), MEMBERS)
def test_a_version_is_part_of_the_identity(
    axis: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = made(axis, name)
    before = written(member)
    monkeypatch.setattr(type(member), "VERSION", member.VERSION + 1)
    assert written(member) != before


@pytest.mark.parametrize("name", SCORERS)
def test_every_field_that_changes_a_score_is_part_of_its_identity(name: str) -> None:
    member = made("scorer", name)
    for field, info in type(member).model_fields.items():
        if field in TOLD or field in IDLE.get(name, ()):
            continue
        value = OTHER.get(name, {}).get(field, _another(getattr(member, field), info.annotation))
        if field == "drawn" and name not in DRAWN:
            with pytest.raises(ValidationError, match="drawn: "):
                made("scorer", name, drawn=True)
            continue
        assert written(made("scorer", name, **{field: value})) != written(member), field


def _another(value: Any, annotation: Any) -> Any:
    """A value that a field may have, and does not have by itself."""
    kinds = [annotation, *get_args(annotation)]
    if isinstance(value, bool) or bool in kinds:
        return not value
    for kind in kinds:
        if get_origin(kind) is Literal:
            return next(choice for choice in get_args(kind) if choice != value)
    if isinstance(value, int):
        return value + 1
    return 1 if int in kinds else "(another)"


class Described(Component):
    axis = "scorer"
    name = "described"

    title: Annotated[str | None, NotHashed] = None
    seconds: Annotated[float, NotHashed] = Field(60.0, gt=0)
    rate: float = 0.5
    fold: Annotated[Literal["none", "case"], AddedLater] = "none"
    kept: Annotated[list[str] | None, AddedLater] = None


class Retitled(Described):
    """Gives marked fields other defaults."""

    title: str | None = "another"
    fold: Literal["none", "case"] = "case"


def test_field_marked_as_not_hashed_is_no_part_of_the_identity_whatever_it_says() -> None:
    assert Described().identity() == {"name": "described", "version": 1, "rate": 0.5}
    assert Described(title="a", seconds=1).identity() == Described().identity()
    assert Described(rate=0.25).identity() != Described().identity()
    with pytest.raises(ValidationError):
        Described(seconds=0)  # its other annotations hold


def test_field_that_was_added_later_is_part_of_the_identity_once_it_is_set_otherwise() -> None:
    assert Described(fold="case").identity()["fold"] == "case"
    assert Described(kept=[]).identity()["kept"] == []
    assert "fold" not in Described(kept=["a"]).identity()


def test_subclass_that_gives_a_marked_field_another_default_keeps_its_mark() -> None:
    assert Retitled().identity() == Described().identity()
    assert Retitled(title="b", fold="none").identity()["fold"] == "none"
    assert "title" not in Retitled(title="b").identity()
