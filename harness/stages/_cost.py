"""What a stage is expected to cost, by formula, before it runs.

Memory of training: weights, gradients and AdamW's two moments by the method's own formula, and the
activations autograd keeps. Time: 6 N D floating-point operations for a training run of D
tokens on N parameters (Kaplan et al., 2020, arXiv:2001.08361, section 2.1), 4 N D where the base's
weights take no gradient, over the rate that this store's own records measured, on the same class of
device and of models of about this size. Until there is one a time is unknown, and left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import median
from typing import Any

from harness.core import component
from harness.methods.base import BYTES, Method
from harness.models.files import ModelInfo
from harness.objectives.base import Objective
from harness.stages._cost_memory import Batch, activation_bytes, peak_bytes
from harness.store.stage import kind_of
from harness.store.store import Store

BYTES_A_TOKEN = 3.5
"""Of English text, for lengths before anything is tokenised."""
_NEAR = 3.0
"""A rate holds for models of up to so many times more or fewer parameters."""


def _rated() -> list[str]:
    """The kinds of stage that take long: their rates are worth asking for."""
    return [name for name in component.names("stage") if kind_of(name).long]


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
        found = self._median(kind, "tokens_per_second", parameters)
        return None if found is None else found / parameters

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


def predict_train(
    info: ModelInfo,
    method: Method,
    objective: Objective,
    data: Mapping[str, Any],
    rates: Rates,
    dtype: str,
) -> dict[str, float]:
    """Expected seconds, tokens, bytes of state and checkpoint; what is not known is left out."""
    found: dict[str, float] = {}
    total, trainable = info.parameters, method.count_trainable(info)
    parts = method.state_bytes(info, dtype)
    if total is None or trainable is None or parts is None:
        return found
    if objective.head == "lm":
        found["trainable_parameters"] = float(trainable)
        found["checkpoint_bytes"] = float(parts["gradients"])  # what trains, in its format
    if not objective.predictable:  # references, pairs, rollouts: unknown rather than wrong
        return found
    size, state = BYTES[dtype], sum(parts.values())
    batch = int(getattr(objective, "per_device_train_batch_size", 1))
    limit = int(getattr(objective, "max_length", 1024))
    if "longest_bytes" not in data:
        return {**found, "state_bytes": float(state)}
    longest = min(limit, data["longest_bytes"] / BYTES_A_TOKEN)
    accumulate = int(getattr(objective, "gradient_accumulation_steps", 1))
    one_pass = Batch(
        tokens=batch * (int(longest) + method.added_tokens()),
        size=size,
        whole=not method.adapts,
        checkpointed=bool(getattr(objective, "gradient_checkpointing", False)),
        several=accumulate > 1,
    )
    # What autocast makes of float32 weights stands until the backward pass has used it.
    copies = size * trainable if size < 4 and method.keeps_float32() else 0
    found["state_bytes"] = float(state + copies + (activation_bytes(info.config, one_pass) or 0))
    peak = peak_bytes(parts, info.config, one_pass)
    if peak is not None:
        found["peak_bytes"] = float(peak + copies)
    steps = objective.steps(data["rows"])
    mean = min(limit, data["mean_bytes"] / BYTES_A_TOKEN)
    tokens = getattr(objective, "max_tokens", None) or int(steps * batch * accumulate * mean)
    found["tokens"] = float(tokens)
    rate = rates.flops("train", total)
    computed = tokens * (1 + method.added_tokens() / mean)
    found["flops"] = training_flops(total, trainable, computed)
    if rate is not None:
        found["seconds"] = found["flops"] / rate
        found |= rates.beside("train", total)
    if given := getattr(objective, "max_seconds", None):
        # As many tokens as the rate gives in that time; loading and audits come on top.
        done = given / found["seconds"] if "seconds" in found else None
        found = {k: v for k, v in found.items() if k not in ("tokens", "flops")}
        found |= {"tokens": tokens * done} if done is not None else {}
        found["seconds"] = float(given)
    return found


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
    found = {"tokens": tokens}
    if info.parameters is None:
        return found
    found["flops"] = 2.0 * info.parameters * tokens
    for kind in kinds:
        if rate := rates.tokens(kind, info.parameters):
            return {**found, "seconds": tokens / rate, **rates.beside(kind, info.parameters)}
    return found


def predict_label(
    info: ModelInfo | None,
    sequences: int,
    options: Mapping[str, Any],
    dtype: str,
    data: Mapping[str, Any],
    rates: Rates,
    calls_at_once: int = 0,
) -> dict[str, float]:
    """Expected cost of labels: calls and their seconds where another machine is asked, else forward
    passes (2 N D) over texts of a prompt and two answers, and the weights' bytes.

    Args:
        sequences: texts that are read for a prompt.
        options: of the sample stage.
        calls_at_once: requests under way at once; 0 where none are made.
    """
    found: dict[str, float] = {}
    if info is not None and info.parameters is not None:
        found["state_bytes"] = float(info.parameters * BYTES[dtype])
    if "mean_bytes" not in data:
        return found
    prompts = min(data["rows"], options["prompts"] or data["rows"])
    if calls_at_once:
        calls = float(prompts * sequences)
        a_second = rates.calls()
        return {**found, "calls": calls, **({"seconds": calls / a_second} if a_second else {})}
    if info is not None and info.parameters is not None:
        tokens = data["mean_bytes"] / BYTES_A_TOKEN + options["max_new_tokens"]
        found["flops"] = prompts * sequences * tokens * 2.0 * info.parameters
        rate = rates.flops("train", info.parameters)
        found |= {} if rate is None else {"seconds": found["flops"] / rate}
    return found


def predict_reference(
    info: ModelInfo, limit: int, dtype: str, data: Mapping[str, Any], rates: Rates
) -> dict[str, float]:
    """Expected seconds of one forward pass (2 N D) over both answers of each pair, and the weights'
    bytes. How many pairs a ranking makes is unknown until it is read.

    Args:
        limit: tokens of a sequence.
    """
    if info.parameters is None:
        return {}
    found = {"state_bytes": float(info.parameters * BYTES[dtype])}
    if data.get("layout") == "preference":
        # A row's bytes hold its prompt once, and each of its two sequences has it: some 4/3.
        tokens = data["rows"] * min(2.0 * limit, data["mean_bytes"] / BYTES_A_TOKEN * 4 / 3)
        found["flops"] = tokens * 2.0 * info.parameters
        for kind in ("reference", "train"):
            if rate := rates.flops(kind, info.parameters):
                beside = rates.beside("reference", info.parameters)
                return {**found, "seconds": found["flops"] / rate, **beside}
    return found
