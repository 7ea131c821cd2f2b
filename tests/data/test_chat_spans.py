"""Turns that are found all at once stand where each is found by itself."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from jinja2.exceptions import TemplateError

from harness.data import chat_spans
from harness.data.chat import render, span_of
from harness.data.chat_spans import RenderedChat
from harness.data.render import encoded
from tests.chat_templates import CONVERSATIONS, assistant, names, tokenizer_of, user

LONG: dict[str, list[dict[str, Any]]] = {
    "spaces": [
        user(" a "), assistant("b\n"), user("\nc"), assistant(" d"), user("e"), assistant("f"),
    ],
    "alike": [user("a"), assistant("a"), user("a"), assistant("a"), user("aa"), assistant("a")],
    "marks": [
        user("user"), assistant("<|im_end|>\n<|im_start|>assistant\nno"), user("</think>"),
        assistant("<think>hm</think>yes"), user("x"), assistant("assistant"),
    ],
    "empty": [user("a"), assistant(""), user("b"), assistant("c"), user("d"), assistant("e")],
    "weights": [user("a"), assistant("b", weight=0), user("c"), assistant("d"), user("e"),
                assistant("f")],
    **CONVERSATIONS,
}  # fmt: skip
tokenizer = functools.cache(tokenizer_of)


@pytest.mark.parametrize("kind", LONG)
def test_every_span_is_that_of_the_turn_looked_for_alone(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_spans, "_FEW", 0)
    at_once = 0
    for name in names():
        for chat, asks in ((LONG[kind], False), (LONG[kind][:-1], True)):
            try:
                text = render(tokenizer(name), chat, add_generation_prompt=asks)
            except TemplateError:
                continue
            rendered = RenderedChat(tokenizer(name), chat, text, asks)
            at_once += len(rendered._plain)
            for place in range(len(chat)):
                alone = span_of(tokenizer(name), chat, place, text, asks=asks)
                assert rendered.span(place) == alone, (name, place)
    assert at_once or kind == "a call as the answer"


def test_a_long_chat_is_rendered_a_few_times_however_many_turns_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, counts = tokenizer_of("qwen2_5"), []
    apply = type(own).apply_chat_template

    def counted(self: Any, *args: Any, **options: Any) -> Any:
        counts.append(1)
        return apply(self, *args, **options)

    monkeypatch.setattr(type(own), "apply_chat_template", counted)
    seen = []
    for turns in (1, 5, 40):
        chat = [m for k in range(turns) for m in (user(f"q{k}"), assistant(f"a{k}"))]
        encoded(own, {"messages": chat})  # the template's style is learnt once
        counts.clear()
        encoded(own, {"messages": chat})
        seen.append(len(counts))
    assert seen[1] == seen[2] <= seen[0] + 3
