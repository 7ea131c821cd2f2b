"""Finds, on a CPU, the operations for which a GPU would make the host wait.

An operation whose result the host needs (a number, the size of a selection), and every plain copy
between host and device, waits until the device has done all that was asked of it before. Torch's
own debug mode for this (torch.cuda.set_sync_debug_mode) needs a GPU. On a CPU the same operations
are seen as they are dispatched, and those that a CPU answers without dispatching (`tolist`, `cpu`,
`to`) as they are called.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

from harness.core.device import upload
from harness.inference.positions import logits_at
from harness.inference.sampling import uniform
from harness.objectives._trl.loss import WithPlaces

HARNESS = str(Path(upload.__code__.co_filename).parents[1])
_NUMBERS = {
    "aten::_local_scalar_dense", "aten::nonzero", "aten::nonzero_numpy", "aten::masked_select",
    "aten::equal", "aten::is_nonzero", "aten::_unique2", "aten::unique_dim",
    "aten::unique_consecutive",
}  # fmt: skip
"""Operations whose result, or its size, the host needs."""
_NO_WAITS = ("/torch/optim/", "/torch/nn/utils/clip_grad.py")
"""Parts of torch whose numbers are the CPU's own (counts of steps), or that move what is there."""
_ON_THE_CPU = {
    each.__code__ for each in (upload, uniform, logits_at, WithPlaces.__call__)
}  # fmt: skip
"""What the harness computes on the CPU in any case. `upload` copies without waiting; it raises an
error for what is on a GPU already."""
_INDEXED = {"aten::index", "aten::index_put_", "aten::index_put"}
_MASKS = (torch.bool, torch.uint8)
_COPIES = {"tolist", "cpu", "cuda", "numpy", "__array__"}
_FACTORIES = {"torch.tensor", "torch.as_tensor"}


class HostWaits:
    """Counts the waits of a block of code by where they come from.

    Attributes:
        ours: waits asked for by the harness, as `file.py function: operation`.
        others: waits that a library asks for without having been called for them, likewise.
    """

    def __init__(self) -> None:
        self.ours: Counter[str] = Counter()
        self.others: Counter[str] = Counter()

    @contextmanager
    def watching(self) -> Iterator[HostWaits]:
        """A context manager in which the operations of this thread are counted."""
        with _Dispatched(self), _Called(self):
            yield self

    def add(self, operation: str) -> None:
        """Count an operation for the innermost function that does not belong to torch."""
        frame: Any = sys._getframe(2)
        while frame is not None and _of_torch(frame.f_code.co_filename):
            if any(part in frame.f_code.co_filename for part in _NO_WAITS):
                return
            frame = frame.f_back
        if frame is None or {frame.f_code, frame.f_back.f_code} & _ON_THE_CPU:
            return
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        if path.startswith(HARNESS):
            self.ours[f"{Path(path).relative_to(HARNESS)} {name}: {operation}"] += 1
        else:
            self.others[f"{Path(path).parent.name}/{Path(path).name} {name}: {operation}"] += 1


def _of_torch(path: str) -> bool:
    return "/torch/" in path or path.startswith("<") or path == __file__


class _Dispatched(TorchDispatchMode):
    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function._schema.name
        if name in _NUMBERS or (name == "aten::repeat_interleave" and _sized(kwargs)):
            self._waits.add(name.removeprefix("aten::"))
        elif name in _INDEXED and any(t is not None and t.dtype in _MASKS for t in args[1]):
            self._waits.add("selection by booleans")
        return function(*args, **(kwargs or {}))


def _sized(kwargs: dict[str, Any] | None) -> bool:
    return (kwargs or {}).get("output_size") is None


class _Called(TorchFunctionMode):
    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name, options = resolve_name(function) or "", kwargs or {}
        method = name.removeprefix("torch.Tensor.")
        if method != name and method in _COPIES:
            self._waits.add(method)
        elif method == "to" and _moves(args[1:], options):
            self._waits.add("to a device")
        elif name in _FACTORIES and options.get("device") is not None and _of_host(args):
            self._waits.add(f"{name.removeprefix('torch.')} of numbers of the host")
        elif method in ("__getitem__", "__setitem__") and _lists(args[1]):
            self._waits.add("indexes of the host")
        return function(*args, **options)


def _moves(args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether `Tensor.to` names a device. Between the CPU and itself nothing is copied, but on a
    GPU the same call may copy."""
    named = [*args, options.get("device")]
    return any(isinstance(each, torch.device | str | int) and not isinstance(each, bool)
               for each in named)  # fmt: skip


def _of_host(args: tuple[Any, ...]) -> bool:
    return bool(args) and not torch.is_tensor(args[0])


def _lists(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, list) or type(part).__module__ == "numpy" for part in parts)
