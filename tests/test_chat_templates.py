"""Every published chat template: one rendering for training and generation, and exact masks."""

from __future__ import annotations

import pytest
from chat_templates import END, names, of_family, tokenizer_of

from harness.data.chat import end_of_turn_ids


@pytest.mark.parametrize("name", names())
def test_the_end_of_a_turn_is_learnt_from_the_template(name: str) -> None:
    tokenizer = tokenizer_of(name)
    ends = set(tokenizer.convert_ids_to_tokens(sorted(end_of_turn_ids(tokenizer))))
    wanted = of_family(name, END)
    assert wanted in ends
    assert ends - {wanted} <= {"<|call|>", "<|observation|>", "<|tool_response>"}
