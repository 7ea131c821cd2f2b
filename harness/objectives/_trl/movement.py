"""What a training should move: where gradients arrive, and which elements a float32 step moves.

A tensor of billions is looked at in 65,536 places, spread evenly, which tells the share that moved
to within half a percent (one standard error of a share of a half is 0.2%). A tensor may move while
almost all of it stands still: in bfloat16 a small step is rounded away.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.objectives.base import Evidence

PLACES = 65_536
ELEMENTS = "no step was lost to rounding"
_STEPS = 20
_SHARE = 0.9
"""Of the elements that a step of float32 moves, as many must have moved. It moves all of them, and
what later steps bring back to the very same number is rare; with weights of bfloat16 a step that is
smaller than half their spacing moves none, and a larger one some."""
_FEW = 32
"""Of fewer such elements in a tensor, no share is told."""
_ULP = 2.0**-23
"""Spacing of float32 numbers just above 1; no number's spacing is a larger share of it."""
_SURE = 16
"""A step of so many spacings moves a number for good; after one or two, others may undo it."""


def spread(tensor: Any) -> Any:
    """At most PLACES elements of a tensor, always the same ones, evenly spread; a copy, 1-D."""
    step = max(1, tensor.numel() // PLACES + bool(tensor.numel() % PLACES))
    width = tensor.shape[-1] if tensor.ndim else 1
    while math.gcd(step, width) > 1 and step > 1:  # else every place would be in a few columns
        step += 1
    return tensor.detach().reshape(-1)[::step].clone()


class Watch:
    """Looks at gradients before the optimizer's steps, and touches nothing.

    Each tensor is watched until a gradient that is not zero has reached it, and a step in float32
    would move at least half of the elements that have one; for 20 steps at most.

    Args:
        parameters: what trains, by name.
        gates: a tensor -> another: while that is all zeros, no gradient can reach the first.

    Attributes:
        signal: whether any gradient was not zero.
        reached: name -> the step that the first gradient came before.
        dues: name -> a step, and which of the places of `spread` it moves where all is float32.
        untold: tensors whose optimizer's steps cannot be told: it is of neither Adam's nor SGD's
            kind.
    """

    def __init__(self, parameters: Mapping[str, Any], gates: Mapping[str, str]) -> None:
        self._parameters, self._gates = parameters, gates
        self._waiting, self._undue = set(parameters), set(parameters)
        self._gate_open: set[str] = set()
        self._steps, self.signal = 0, False
        self.reached: dict[str, int] = {}
        self.dues: dict[str, list[tuple[int, Any]]] = {}
        self.untold: set[str] = set()

    def look(self, optimizer: Any, step: int | None = None, scale: float = 1.0) -> None:
        """To be called when the gradients of a step are whole, clipped, and not used yet.

        A step with a gradient that is no number shows nothing: where the loss is scaled for
        float16, it is left out, and any other ends in weights that are no numbers.

        Args:
            step: its number, from 1; default: that of the call.
            scale: what the gradients are still multiplied by.
        """
        if not (self._waiting or self._undue) or self._steps >= _STEPS:
            return
        if not all(_finite(parameter.grad) for parameter in self._parameters.values()):
            return
        self._steps += 1
        number = self._steps if step is None else step
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        for name in sorted(self._waiting | self._undue):
            parameter = self._parameters[name]
            reached = parameter.grad is not None and bool((parameter.grad != 0).any())
            if reached:
                self.signal = True
                self._waiting.discard(name)
                self.reached.setdefault(name, number)
                self._find_due(name, groups.get(id(parameter)), number, scale)
            elif name in self._waiting and self._passes(name):
                self._gate_open.add(name)

    def _find_due(
        self, name: str, group: Mapping[str, Any] | None, number: int, scale: float
    ) -> None:
        parameter = self._parameters[name]
        gradient = spread(parameter.grad).float().abs() / scale
        value = spread(parameter).float().abs()
        size = _step(gradient, group)
        if size is None:
            self.untold.add(name)
            self._undue.discard(name)
            return
        due = size > _SURE * _ULP * value
        if bool(due.any()):
            self.dues.setdefault(name, []).append((number, due.cpu()))
        if int(due.sum()) * 2 >= int((gradient > 0).sum()):
            self._undue.discard(name)

    def _passes(self, name: str) -> bool:
        gate = self._parameters.get(self._gates.get(name, ""))
        return gate is None or bool((gate != 0).any())

    @property
    def without_gradient(self) -> tuple[str, ...]:
        """Tensors that no gradient reached, although one could have."""
        return tuple(sorted(self._waiting - set(self.behind_gates)))

    @property
    def behind_gates(self) -> tuple[str, ...]:
        """Tensors that no gradient could reach yet, at any step that was watched."""
        return tuple(
            sorted(n for n in self._waiting if n in self._gates and n not in self._gate_open)
        )

    def evidence(self, batches: Sequence[Mapping[str, Any]] = ()) -> Evidence:
        """What was seen, beside what entered the model."""
        return Evidence(
            batches=tuple({name: t.tolist() for name, t in batch.items()} for batch in batches),
            without_gradient=self.without_gradient,
            behind_gates=self.behind_gates,
            signal=self.signal,
            reached=self.reached,
            dues=self.dues,
            untold=frozenset(self.untold),
        )

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """All that was seen: what JSON holds, and tensors by name."""
        dues = [(name, *due) for name, own in self.dues.items() for due in own]
        told = {
            "steps": self._steps,
            "signal": self.signal,
            "reached": self.reached,
            "dues": [[name, step] for name, step, _ in dues],
            **{name: sorted(getattr(self, attribute)) for name, attribute in _SETS.items()},
        }
        return told, {str(number): due for number, (_, _, due) in enumerate(dues)}

    def restore(self, told: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        """Go on from what `state` told."""
        self._steps, self.signal, self.reached = told["steps"], told["signal"], told["reached"]
        self.dues = {}
        for number, (name, step) in enumerate(told["dues"]):
            self.dues.setdefault(name, []).append((step, tensors[str(number)]))
        for name, attribute in _SETS.items():
            setattr(self, attribute, set(told[name]))


_SETS = {
    "waiting": "_waiting",
    "undue": "_undue",
    "gate_open": "_gate_open",
    "untold": "untold",
}


def _finite(gradient: Any) -> bool:
    return gradient is None or bool(gradient.isfinite().all())


def due_by(dues: Mapping[str, Iterable[tuple[int, Any]]]) -> dict[str, Any]:
    """Name -> which places any of the steps moves."""
    found: dict[str, Any] = {}
    for name, steps in dues.items():
        for _, due in steps:
            found[name] = found[name] | due if name in found else due
    return found


def _step(gradient: Any, group: Mapping[str, Any] | None) -> Any:
    """The size of an optimizer's first step where gradients have these sizes; None where it cannot
    be told. Of a tensor that no group has, the optimizer forgot it: any gradient should move it.

    Kingma and Ba (2015, arXiv:1412.6980), algorithm 1; torch.optim.SGD.
    """
    if group is None:
        return (gradient > 0) * math.inf
    rate = float(group["lr"])
    if len(group.get("betas", ())) == 2 and isinstance(group.get("eps"), int | float):
        return rate * gradient / (gradient + group["eps"])
    if "dampening" in group:
        return rate * gradient
    return None


def places(state: Mapping[str, Any]) -> dict[str, Any]:
    """What is remembered of the tensors that train, before they do: a few of their elements."""
    return {name: spread(tensor).cpu() for name, tensor in state.items()}


def elements(
    before: Mapping[str, Any],
    state: Mapping[str, Any],
    due: Mapping[str, Any],
    *,
    rounded: bool = False,
    name: str = ELEMENTS,
) -> dict[str, str]:
    """Of the elements that a float32 step would move, nine in ten have moved, in every tensor.

    Args:
        before: `places` of the tensors at the start. state: the tensors now.
        due: as Evidence has it. Elements without a gradient are not among them: embeddings of
            tokens that no row has, experts that no token came to.
        rounded: as `moved` has it; the shares are told then, and not judged.
    """
    shares: dict[str, float] = {}
    hits = wanted = 0
    done = total = 0.0
    for tensor, old in before.items():
        changed = spread(state[tensor]).cpu() != old
        count = state[tensor].numel()
        done, total = done + float(changed.float().mean()) * count, total + count
        if tensor in due:
            right, asked = int((changed & due[tensor]).sum()), int(due[tensor].sum())
            hits, wanted = hits + right, wanted + asked
            if asked >= _FEW:
                shares[tensor] = right / asked
    detail = f"{done / max(total, 1):.1%} of {int(total):,} elements moved"
    if not wanted:
        reason = "no step was seen that surely moves any, or its optimizer's cannot be told"
        return {"check": name, "status": "skipped", "detail": f"{detail}; {reason}"}
    detail += f"; {hits / wanted:.1%} of those that a float32 step moves"
    least = min(shares, key=lambda tensor: shares[tensor], default=None)
    if least is not None:
        detail += f" (least: {shares[least]:.1%} of {least})"
    low = hits / wanted < _SHARE or (least is not None and shares[least] < _SHARE)
    if not low:
        return {"check": name, "status": "passed", "detail": detail}
    if rounded:
        return {"check": name, "status": "skipped", "detail": f"{detail}; the suite asks for it"}
    kind = str(state[least or next(iter(state))].dtype).removeprefix("torch.")
    fix = "raise the learning rate, or look at which step was kept"
    if kind != "float32":
        fix = "train float32 weights, or raise the learning rate"
    detail += f"; the weights are {kind}: {fix}"
    return {"check": name, "status": "failed", "detail": detail}
