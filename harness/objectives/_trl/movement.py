"""Audits what a training moves: which tensors get gradients, and which elements a step moves.

At most 65,536 evenly spread elements of a tensor are examined, which gives the share that moved to
within half a percent (the standard error of a share of one half is 0.2%). A tensor can move while
most of its elements stand still: in bfloat16 rounding loses small steps.
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
"""Share of the elements that a float32 step moves which must have moved. In float32 almost all
move, since later steps rarely restore the same number. In bfloat16 a step below half the spacing of
numbers moves none, and a larger step moves some."""
_FEW = 32
"""Smallest number of such elements for which a tensor's share is judged."""
_ULP = 2.0**-23
"""Spacing of float32 numbers just above 1: the largest spacing relative to a number."""
_SURE = 16
"""Spacings that a step must have to count; later steps may undo a step of one or two spacings."""


def spread(tensor: Any) -> Any:
    """Copy at most PLACES evenly spread elements of a tensor, always the same ones; 1-D."""
    step = max(1, tensor.numel() // PLACES + bool(tensor.numel() % PLACES))
    width = tensor.shape[-1] if tensor.ndim else 1
    while math.gcd(step, width) > 1:  # or all places would be in a few columns
        step += 1
    return tensor.detach().reshape(-1)[::step].clone()


class Watch:
    """Reads the gradients before the optimizer's steps, without changing anything.

    Each tensor is watched, for at most 20 steps, until it had a nonzero gradient and a float32 step
    would move at least half of the elements with a gradient.

    Args:
        parameters: the trainable tensors by name.
        gates: tensor -> another tensor; while that is all zeros, no gradient can reach the first.

    Attributes:
        signal: whether any gradient was nonzero.
        reached: name -> the first step with a nonzero gradient.
        dues: name -> (step, mask of the places of `spread` that this step moves in float32).
        untold: tensors with an optimizer that is neither like Adam nor like SGD, so that the size
            of its steps is unknown.
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
        """Look at the gradients of a step, after clipping and before the optimizer's step.

        Does nothing if a gradient is not finite: with a scaled float16 loss the optimizer skips
        such a step, and in any other training the weights become NaN, which another audit reports.

        Args:
            step: number of the step, from 1; default: number of the call.
            scale: the factor that is still in the gradients (float16).
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
        """Tensors that got no gradient although they could have."""
        return tuple(sorted(self._waiting - set(self.behind_gates)))

    @property
    def behind_gates(self) -> tuple[str, ...]:
        """Tensors that no gradient could reach in the watched steps, as their gates were zero."""
        return tuple(
            sorted(n for n in self._waiting if n in self._gates and n not in self._gate_open)
        )

    def evidence(self, batches: Sequence[Mapping[str, Any]] = ()) -> Evidence:
        """The observations, together with the batches that entered the model."""
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
        """All observations: a part for JSON, and tensors by name."""
        dues = [(name, *due) for name, steps in self.dues.items() for due in steps]
        content = {
            "steps": self._steps,
            "signal": self.signal,
            "reached": self.reached,
            "dues": [[name, step] for name, step, _ in dues],
            **{name: sorted(getattr(self, attribute)) for name, attribute in _SETS.items()},
        }
        return content, {str(number): due for number, (_, _, due) in enumerate(dues)}

    def restore(self, content: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        """Restore the observations that `state` returned."""
        self._steps, self.signal, self.reached = (
            content["steps"],
            content["signal"],
            content["reached"],
        )
        self.dues = {}
        for number, (name, step) in enumerate(content["dues"]):
            self.dues.setdefault(name, []).append((step, tensors[str(number)]))
        for name, attribute in _SETS.items():
            setattr(self, attribute, set(content[name]))


_SETS = {
    "waiting": "_waiting",
    "undue": "_undue",
    "gate_open": "_gate_open",
    "untold": "untold",
}


def _finite(gradient: Any) -> bool:
    return gradient is None or bool(gradient.isfinite().all())


def due_by(dues: Mapping[str, Iterable[tuple[int, Any]]]) -> dict[str, Any]:
    """Name -> mask of the places that any of the steps moves."""
    union: dict[str, Any] = {}
    for name, steps in dues.items():
        for _, due in steps:
            union[name] = union[name] | due if name in union else due
    return union


def _step(gradient: Any, group: Mapping[str, Any] | None) -> Any:
    """The size of an optimizer's first step for gradients of these sizes; None if it is unknown.

    It is infinite without a group: the optimizer lacks the tensor, which any gradient should move.
    Sources: Kingma and Ba (2015, arXiv:1412.6980), algorithm 1; torch.optim.SGD.
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
    """Copies of a few elements of each tensor, to compare with after the training."""
    return {name: spread(tensor).cpu() for name, tensor in state.items()}


def elements(
    before: Mapping[str, Any],
    state: Mapping[str, Any],
    due: Mapping[str, Any],
    *,
    rounded: bool = False,
    name: str = ELEMENTS,
) -> dict[str, str]:
    """Audit: in each tensor, nine in ten of the elements that a float32 step moves have moved.

    Args:
        before: `places` of the tensors at the start.
        state: the tensors now.
        due: name -> mask of the places that should move, as in Evidence. Elements without a
            gradient are not among them, such as embeddings of tokens that no row has.
        rounded: the suite asks for low-precision weights: report the shares without judging them.
        name: name of the audit.

    Returns:
        An entry for the audit: check, status and detail.
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
        reason = "no watched step surely moves any, or the optimizer's step size is unknown"
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
