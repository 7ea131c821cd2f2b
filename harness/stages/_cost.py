"""Arithmetic of expected costs that several kinds of stage share.

A time is a number of operations or tokens over the rate that this store's own records measured, on
the same class of device and of models of about this size. Until there is one a time is unknown, and
left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import median
from typing import Any

from harness.core import registry
from harness.core.text import number_of
from harness.methods.base import BYTES
from harness.models.endpoint import EndpointSettings
from harness.models.files import ModelInfo
from harness.store.kind import kind_of
from harness.store.store import Store

BYTES_A_TOKEN = 3.5
"""Of English text, for lengths before anything is tokenised."""
_NEAR = 3.0
"""A rate holds for models of up to so many times more or fewer parameters."""


def _rated() -> list[str]:
    """The kinds of stage that take long: their rates are worth asking for. Those of other packages
    are all among them, since nothing of a package is imported for a suite that does not use it."""
    elsewhere = registry.from_elsewhere("stage")
    return [n for n in registry.names("stage") if n in elsewhere or kind_of(n).long]


class Rates:
    """Rates of the stages that finished in a store, which is read once, when first asked.

    Args:
        device: the class of device (`cpu`, `cuda`) that is asked about.
    """

    def __init__(self, store: Store, device: str) -> None:
        self._store, self._device = store, device
        self._known: dict[tuple[str, str, int], float | None] = {}

    @cached_property
    def _costs(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return self._store.costs(_rated(), self._device)

    def flops(self, kind: str, parameters: int) -> float | None:
        """Floating-point operations a second, the median of a kind's stages with such models."""
        return self._median(kind, "flops_per_second", parameters)

    def tokens(self, kind: str, parameters: int) -> float | None:
        """Generated tokens a second; a model twice as large makes half as many."""
        rate = self._median(kind, "tokens_per_second", parameters)
        return None if rate is None else rate / parameters

    def beside(self, kind: str, parameters: int) -> dict[str, float]:
        """Seconds of such stages beside their work, as `beside`: loading, auditing, saving."""
        costs = [c for c in self._near(kind, parameters) if "seconds" in c and "phases" in c]
        spent = [c["seconds"] - c["phases"].get(kind, 0.0) for c in costs]
        return {"beside": median(spent)} if spent else {}

    def _near(self, kind: str, parameters: int) -> list[Mapping[str, Any]]:
        costs = (cost for cost in self._costs.get(kind, ()) if cost.get("parameters"))
        return [c for c in costs if 1 / _NEAR <= c["parameters"] / parameters <= _NEAR]

    def _median(self, kind: str, name: str, parameters: int) -> float | None:
        asked = (kind, name, parameters)
        if asked not in self._known:
            near = [cost for cost in self._near(kind, parameters) if cost.get(name)]
            by_size = name == "tokens_per_second"
            rates = [c[name] * (c["parameters"] if by_size else 1) for c in near]
            self._known[asked] = median(rates) if rates else None
        return self._known[asked]

    def calls(self) -> float | None:
        """Calls a second, over the label stages that asked another machine."""
        costs = self._costs.get("label", ())
        timed = [(cost.get("calls"), cost.get("phases", {}).get("label")) for cost in costs]
        known = [calls / seconds for calls, seconds in timed if calls and seconds]
        return median(known) if known else None


def training_flops(parameters: int, trainable: int, tokens: float) -> float:
    """Forward 2ND; backward 2ND for the inputs and 2ND for the weights that train."""
    return tokens * (4.0 * parameters + 2.0 * trainable)


def weights_bytes(info: ModelInfo, dtype: str) -> dict[str, float]:
    """Bytes that a model's weights take, as `state_bytes`."""
    return {} if info.parameters is None else {"state_bytes": float(info.parameters * BYTES[dtype])}


def answers_cost(
    info: ModelInfo, tokens: float, kinds: Sequence[str], rates: Rates
) -> dict[str, float]:
    """Operations and expected seconds of generating so many tokens.

    Args:
        kinds: stages whose rate holds here, the first one known.
    """
    cost = {"tokens": tokens}
    if info.parameters is None:
        return cost
    cost["flops"] = 2.0 * info.parameters * tokens
    for kind in kinds:
        if rate := rates.tokens(kind, info.parameters):
            return {**cost, "seconds": tokens / rate, **rates.beside(kind, info.parameters)}
    return cost


def service_cost(
    endpoint: EndpointSettings, calls: int, prompt_tokens: float, completion_tokens: float
) -> dict[str, float]:
    """Expected calls, tokens and, if there are prices, money of asking another server."""
    tokens = {"calls": float(calls), "tokens": prompt_tokens + completion_tokens}
    if endpoint.prices is None:
        return tokens
    return {**tokens, "money": endpoint.prices.of(prompt_tokens, completion_tokens)}


def service_words(cost: Mapping[str, Any]) -> str:
    """The calls, tokens and money of a service, for people."""
    tokens = cost["prompt_tokens"] + cost["completion_tokens"]
    money = f", {cost['money']:.4g} in money" if "money" in cost else ""
    return f"{number_of(cost['calls'], 'call')}, {number_of(tokens, 'token')}{money}"
