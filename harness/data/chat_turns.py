"""Locates a turn of the assistant in its rendered chat, and checks that no part of it is
missing."""

from __future__ import annotations

from jinja2.exceptions import TemplateError

from harness.data import chat, chat_style
from harness.data.chat import Span
from harness.data.chat_spans import RenderedChat
from harness.data.chat_style import Style


def turn(
    style: Style, rendered: RenderedChat, place: int, before: int, begins: int | None = None
) -> tuple[int, int, int]:
    """Three indices of characters: where an assistant's turn begins after its header, where its
    words end, and where its end-of-turn token ends.

    Args:
        place: the index of the turn's message.
        before: the lowest index at which its header may begin.
        begins: where the turn begins, if known.

    Raises:
        TemplateError: the template leaves out the turn or a part of it, or splits it.
    """
    messages, text = rendered.messages, rendered.text
    span = rendered.span(place)
    if span is None:
        raise TemplateError(f"the chat template leaves out turn {place + 1}, of the assistant")
    if messages[place].get("tool_calls"):
        _require_calls(rendered, place, span)
    start = begins
    if start is None and not style.asks and place:  # Llama 2 and Mistral write no header
        prompt = chat.render(
            rendered.tokenizer,
            messages[:place],
            add_generation_prompt=True,
            template_kwargs=rendered.template_kwargs,
        )
        start = len(prompt) if text.startswith(prompt) and len(prompt) <= span[0] else None
    if start is None:
        start = chat_style.turn_start(style, text, before, span[0])
    stop = chat_style.turn_end(style, text, start, span[1])
    if place + 1 < len(messages) and text[span[1] : stop].strip() not in ("", style.ends):
        # The end-of-turn token was not next to the words: it may belong to a later turn.
        after = rendered.span(place + 1)
        if after is not None and after[0] >= span[1]:
            stop = chat_style.turn_end(style, text[: after[0]], start, span[1])
    return start, span[1], stop


def _require_calls(rendered: RenderedChat, place: int, span: Span) -> None:
    """Check a turn with tool calls. Some templates write only its first call, or none of its words;
    Gemma 4's writes its words after the tool's result.

    Args:
        span: the turn's span.

    Raises:
        TemplateError: the template leaves out a part of the turn, or writes it too late.
    """
    messages = rendered.messages
    calls = list(messages[place]["tool_calls"])
    for number, call in enumerate(chat.other_words({"tool_calls": calls})["tool_calls"]):
        changed = {**messages[place], "tool_calls": [*calls[:number], call, *calls[number + 1 :]]}
        other = [*messages[:place], changed, *messages[place + 1 :]]
        text = chat.render(
            rendered.tokenizer,
            other,
            add_generation_prompt=rendered.asks,
            template_kwargs=rendered.template_kwargs,
        )
        if text == rendered.text:
            which = "the tool calls" if len(calls) == 1 else f"tool call {number + 1}"
            raise TemplateError(f"the chat template leaves out {which} of turn {place + 1}")
    after = rendered.span(place + 1) if place + 1 < len(messages) else None
    if after is not None and after[0] < span[1]:
        raise TemplateError(
            f"the chat template writes turn {place + 1} partly after what turn {place + 2} says"
        )
    if not _says_words(rendered, place):
        raise TemplateError(
            f"the chat template leaves out what turn {place + 1} says beside its tool calls"
        )


def _says_words(rendered: RenderedChat, place: int) -> bool:
    """True if the template writes the words of a turn with tool calls, at least when it is the
    chat's last turn (thoughts are cut from earlier turns)."""
    message = rendered.messages[place]
    if not str(message.get("content") or "").strip():
        return True
    other = {**message, **chat.other_words({"content": message["content"]})}
    for after in (rendered.messages[place + 1 :], ()):
        texts = {
            chat.render(
                rendered.tokenizer,
                [*rendered.messages[:place], version, *after],
                template_kwargs=rendered.template_kwargs,
            )
            for version in (message, other)
        }
        if len(texts) > 1:
            return True
    return False
