"""Where a turn of the assistant begins and ends in its chat's text, and whether it is all there."""

from __future__ import annotations

from jinja2.exceptions import TemplateError

from harness.data import chat, chat_style
from harness.data.chat import Span
from harness.data.chat_spans import Written
from harness.data.chat_style import Style


def turn(
    style: Style, written: Written, place: int, before: int, begins: int | None = None
) -> tuple[int, int, int]:
    """Where an assistant's turn begins after its header, stops saying anything, and ends.

    Args:
        before: where its header may begin at the earliest. begins: where it begins, if known.

    Raises:
        TemplateError: the template leaves out the turn or a part of it, or takes it apart.
    """
    messages, text = written.messages, written.text
    own = written.span(place)
    if own is None:
        raise TemplateError(f"the chat template leaves out turn {place + 1}, of the assistant")
    if messages[place].get("tool_calls"):
        _require_calls(written, place, own)
    start = begins
    if start is None and not style.asks and place:  # Llama 2 and Mistral write no header
        prompt = chat.render(
            written.tokenizer, messages[:place], add_generation_prompt=True, given=written.given
        )
        start = len(prompt) if text.startswith(prompt) and len(prompt) <= own[0] else None
    if start is None:
        start = chat_style.turn_start(style, text, before, own[0])
    stop = chat_style.turn_end(style, text, start, own[1])
    if place + 1 < len(messages) and text[own[1] : stop].strip() not in ("", style.ends):
        # An end that stands further off may be that of another turn, which ends otherwise.
        after = written.span(place + 1)
        if after is not None and after[0] >= own[1]:
            stop = chat_style.turn_end(style, text[: after[0]], start, own[1])
    return start, own[1], stop


def _require_calls(written: Written, place: int, span: Span) -> None:
    """Raise where the template leaves out a part of a turn that calls tools (some write the first
    call alone, or no words), or writes its words after the tool's result, as Gemma 4's.

    Args:
        span: where it stands.
    """
    messages = written.messages
    own = list(messages[place]["tool_calls"])
    for number, call in enumerate(chat.other_words({"tool_calls": own})["tool_calls"]):
        told = {**messages[place], "tool_calls": [*own[:number], call, *own[number + 1 :]]}
        other = [*messages[:place], told, *messages[place + 1 :]]
        text = chat.render(
            written.tokenizer, other, add_generation_prompt=written.asks, given=written.given
        )
        if text == written.text:
            which = "the tool calls" if len(own) == 1 else f"tool call {number + 1}"
            raise TemplateError(f"the chat template leaves out {which} of turn {place + 1}")
    after = written.span(place + 1) if place + 1 < len(messages) else None
    if after is not None and after[0] < span[1]:
        raise TemplateError(
            f"the chat template writes turn {place + 1} partly after what turn {place + 2} says"
        )
    if not _says_words(written, place):
        raise TemplateError(
            f"the chat template leaves out what turn {place + 1} says beside its tool calls"
        )


def _says_words(written: Written, place: int) -> bool:
    """Whether the template writes the words of a turn that calls tools too: there, or, as with
    thoughts that are cut from earlier turns, where the turn is the last."""
    message = written.messages[place]
    if not str(message.get("content") or "").strip():
        return True
    other = {**message, **chat.other_words({"content": message["content"]})}
    for after in (written.messages[place + 1 :], ()):
        texts = {
            chat.render(
                written.tokenizer, [*written.messages[:place], told, *after], given=written.given
            )
            for told in (message, other)
        }
        if len(texts) > 1:
            return True
    return False
