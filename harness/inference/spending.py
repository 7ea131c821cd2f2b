"""What is spent at an endpoint, and a budget that no request can exceed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from harness.models.endpoint import CallBudget, Prices

_A_TURN, _A_REQUEST = 16, 64
"""Tokens that a chat template adds at most to a turn, and to a whole request."""


@dataclass(frozen=True)
class Amount:
    """A number of requests, and the tokens of their prompts and answers; of jobs, those that they
    train on."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    training_tokens: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.training_tokens + other.training_tokens,
        )

    def __sub__(self, other: Amount) -> Amount:
        return self + Amount(*(-count for count in astuple(other)))

    @property
    def tokens(self) -> int:
        """Tokens of prompts, answers and trainings."""
        return self.prompt_tokens + self.completion_tokens + self.training_tokens

    def money(self, prices: Prices) -> float:
        """What the tokens cost."""
        training = self.training_tokens * (prices.training or 0.0) / 1e6
        return prices.of(self.prompt_tokens, self.completion_tokens) + training

    def told(self, prices: Prices | None) -> str:
        """The amount for people: its money if there are prices, else its tokens."""
        return f"{self.tokens:,} tokens" if prices is None else f"{self.money(prices):.4g} spent"


def most(body: Mapping[str, Any]) -> Amount | None:
    """The most that a request can cost; None if it does not limit its answer.

    A token of a text has at least one byte, so that a prompt has no more tokens than bytes. Fields
    such as `tools` and `response_format` are written into the prompt by the server: they count as
    JSON with spaces.
    """
    limits = [body.get(name) for name in ("max_tokens", "max_completion_tokens")]
    known = [limit for limit in limits if isinstance(limit, int)]
    if not known:
        return None
    best_of = body.get("best_of")
    answers = max(1, best_of) if isinstance(best_of, int) else 1
    turns, beside = body.get("messages"), _A_REQUEST + _beside(body)
    if turns is None:
        return Amount(1, _bytes(body.get("prompt")) + beside, answers * max(known))
    spoken = sum(map(_of_turn, turns)) + _A_TURN * len(turns)
    return Amount(1, spoken + beside, answers * max(known))


def _of_turn(turn: Mapping[str, Any]) -> int:
    """The bytes of a turn; what is more than texts, such as calls of tools, is written as JSON."""
    texts = {name: value for name, value in turn.items() if isinstance(value, str)}
    more = {name: value for name, value in turn.items() if name not in texts}
    return _bytes(texts) + (_as_json(more) if more else 0)


def _beside(body: Mapping[str, Any]) -> int:
    """The bytes of the structures and texts that stand beside the turns."""
    more = {
        name: value
        for name, value in body.items()
        if name not in ("messages", "prompt", "model") and isinstance(value, Mapping | list | str)
    }
    return _as_json(more) if more else 0


def _as_json(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, indent=4).encode("utf-8", "replace"))


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
