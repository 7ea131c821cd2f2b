"""The words of a mistake in a suite."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from harness.core.from_yaml import explain


class Key(BaseModel):
    size: int = 1
    key_variable: str = "KEY"

    @field_validator("key_variable")
    @classmethod
    def _name(cls, value: str) -> str:
        if not value.isupper():
            raise ValueError("that is no name of a variable")
        return value


def told(**values: object) -> str:
    with pytest.raises(ValidationError) as mistake:
        Key.model_validate(values)
    return explain(mistake.value, Key, "judge")


def test_a_value_that_may_be_a_secret_is_not_shown() -> None:
    assert told(key_variable="sk-secret-123") == "judge.key_variable: that is no name of a variable"


def test_any_other_value_is_shown_beside_what_is_wrong_with_it() -> None:
    assert "(given: 'many')" in told(size="many")
