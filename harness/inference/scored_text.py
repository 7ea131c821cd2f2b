"""The log-probabilities of a text's tokens, as a server of plain completions tells them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Scored = tuple[str, float | None, bool]
"""A token's text; its log-probability, which a first token does not have; whether no other token is
likelier."""


def scored_of(choice: Any) -> tuple[Scored, ...]:
    """The tokens of a plain completion's choice, those of an echoed prompt included; none if the
    server tells none, or in another form.

    Raises:
        TypeError, ValueError, AttributeError: they are malformed.
    """
    told = choice.get("logprobs")
    if not isinstance(told, dict) or not told.get("tokens"):
        return ()
    tokens, values = told["tokens"], told["token_logprobs"]
    likeliest = told.get("top_logprobs") or [None] * len(tokens)
    return tuple(
        (str(token), None if value is None else float(value), _greedy(value, top))
        for token, value, top in zip(tokens, values, likeliest, strict=True)
    )


def _greedy(value: float | None, likeliest: Any) -> bool:
    return value is not None and (not likeliest or value >= max(likeliest.values()))


def of_prompt(scored: Sequence[Scored], prompt_tokens: int) -> Sequence[Scored]:
    """The tokens of an echoed prompt, without the one that was generated after it."""
    return scored[:prompt_tokens] if prompt_tokens else scored[:-1]


def tail_of(scored: Sequence[Scored], prompt_tokens: int, tail: str) -> tuple[Scored, ...]:
    """The tokens of the text with which a prompt ends, the one that it begins within included; none
    if the tokens' texts do not make it up."""
    tokens, text, count = of_prompt(scored, prompt_tokens), "", 0
    while len(text) < len(tail) and count < len(tokens):
        count += 1
        text = tokens[-count][0] + text
    if not tail or not text.endswith(tail):
        return ()
    return tuple(tokens[len(tokens) - count :])


def likelihood(tail: Sequence[Scored]) -> tuple[float, bool] | None:
    """The sum of log-probabilities, and whether all tokens are the likeliest ones; None where one
    has no log-probability."""
    values = [value for _, value, _ in tail]
    if not values or None in values:
        return None
    return sum(value for value in values if value is not None), all(best for _, _, best in tail)
