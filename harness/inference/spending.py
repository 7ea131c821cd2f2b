"""What is spent at an endpoint, and a budget that no request can exceed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.models.endpoint import CallBudget, Prices

_A_TURN, _A_REQUEST = 16, 64
"""Tokens that a chat template adds at most to a turn, and to a whole request."""


@dataclass(frozen=True)
class Amount:
    """A number of requests, and the tokens of their prompts and answers."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )

    def __sub__(self, other: Amount) -> Amount:
        less = (-other.calls, -other.prompt_tokens, -other.completion_tokens)
        return self + Amount(*less)

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens

    def money(self, prices: Prices) -> float:
        """What the tokens cost."""
        return prices.of(self.prompt_tokens, self.completion_tokens)

    def told(self, prices: Prices | None) -> str:
        """The amount for people: its money if there are prices, else its tokens."""
        return f"{self.tokens:,} tokens" if prices is None else f"{self.money(prices):.4g} spent"


def most(body: Mapping[str, Any]) -> Amount | None:
    """The most that a request can cost; None if it does not limit its answer.

    A token of a text has at least one byte, so that a prompt has no more tokens than bytes.
    """
    limits = [body.get(name) for name in ("max_tokens", "max_completion_tokens")]
    known = [limit for limit in limits if isinstance(limit, int)]
    if not known:
        return None
    turns = body.get("messages")
    if turns is None:
        return Amount(1, _bytes(body.get("prompt")) + _A_REQUEST, max(known))
    return Amount(1, _bytes(turns) + _A_TURN * len(turns) + _A_REQUEST, max(known))


def _bytes(value: Any) -> int:
    """The bytes of all texts in a tree; a number (a token's id) counts as one."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 1


def exceeds(spent: Amount, budget: CallBudget, prices: Prices | None) -> str:
    """Which limit of a budget an amount exceeds, for people; "" if it exceeds none."""
    if budget.calls is not None and spent.calls > budget.calls:
        return f"{budget.calls:,} calls"
    if budget.tokens is not None and spent.tokens > budget.tokens:
        return f"{budget.tokens:,} tokens"
    if budget.money is not None and prices is not None and spent.money(prices) > budget.money:
        return f"{budget.money:g} in money"
    return ""
