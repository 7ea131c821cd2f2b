"""A tree of rows read by a model in packed passes: each token once, whoever shares it.

Attention is computed by the model's own function, block by block, over the keys that a block's
tokens really have before them. That needs a model whose attention goes through transformers'
AttentionInterface, and whose layers have no other memory: `harness.inference.sharing` finds out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from harness.core.device import upload
from harness.inference.padded import Read
from harness.inference.positions import logits_at
from harness.inference.trie import Interval, Pass, Trie

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

NAME = "harness_packed"
"""Under which transformers knows the attention function of packed passes."""

Attend = Callable[[Any, "Tensor", "Tensor", "Tensor", dict[str, Any]], "Tensor"]
"""(attention module, queries, keys, values, its other arguments) -> (1, tokens, heads, size)."""

_ATTEND: ContextVar[Attend] = ContextVar("attend")
_TAKEN: ContextVar[tuple[Any, dict[int, str | None]] | None] = ContextVar("taken", default=None)
"""The model whose attention is taken over, and what each config (by `id`) of it named before."""


class CannotShare(Exception):
    """A model's attention is given something that has no meaning in a packed pass."""


def read_packed(
    model: Any,
    trie: Trie,
    budget: int,
    reads: np.ndarray,
    costs: np.ndarray | None = None,
    keys: Keys | None = None,
) -> Iterator[Read]:
    """Read a tree, and yield the logits of some of its places.

    Args:
        budget, costs: of a pass; see `Trie.passes`.
        reads: (size of the tree,) booleans: the places whose logits are wanted.
        keys: where keys and values are kept, and what is known of them at the start.

    Raises:
        CannotShare: the model is none that packed passes can read.
    """
    import torch

    keys = Keys() if keys is None else keys
    for each in trie.passes(budget, costs, keys.known):
        keys.begin(each)
        chosen = reads[each.place : each.place + len(each.ids)]
        with torch.inference_mode(), attending(model, keys.attend):
            logits = logits_at(
                model,
                torch.from_numpy(chosen).unsqueeze(0),
                input_ids=upload(torch.from_numpy(each.ids), model.device).unsqueeze(0),
                position_ids=upload(torch.from_numpy(each.positions), model.device).unsqueeze(0),
            )
        if len(logits):
            yield each.place + chosen.nonzero()[0], logits


Layers = Mapping[Any, tuple["Tensor", "Tensor"]]
"""Keys and values, (1, heads, tokens, size) each, of every attention module."""


class Keys:
    """Keys and values of the pass at hand and of what it carries, layer by layer.

    Args:
        layers: of the first tokens of all rows, where they are known. known: how many those are.
        save: is given each pass's attention module, the pass, and keys and values of its tokens.
    """

    def __init__(
        self,
        layers: Layers | None = None,
        known: int = 0,
        save: Callable[[Any, Pass, Tensor, Tensor], None] | None = None,
    ) -> None:
        self.known = known
        self._layers: dict[Any, tuple[Tensor, Tensor]] = dict(layers or {})
        self._save = save
        self._pass: Pass | None = None
        self._biases: dict[tuple[Any, ...], Tensor] = {}

    def begin(self, each: Pass) -> None:
        """Take a pass, which is the next one."""
        self._pass, self._biases = each, {}

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, rest: dict[str, Any]
    ) -> Tensor:
        """A module's attention in the pass at hand."""
        import torch

        inner, takes_none = own_attention(module)
        assert self._pass is not None
        if self._save is not None:
            self._save(module, self._pass, key, value)
        if self._pass.keep:
            kept = self._layers[module]
            key = torch.cat([*_parts(kept[0], self._pass.keep), key], dim=2)
            value = torch.cat([*_parts(kept[1], self._pass.keep), value], dim=2)
        self._layers[module] = (key, value)
        window = rest.get("sliding_window") or 0
        outputs = []
        for number, block in enumerate(self._pass.blocks):
            own = (self._pass.carried + block.start, self._pass.carried + block.stop)
            places = (*block.context, own)
            bias = self._bias(number, window, takes_none, query)
            outputs.append(inner(
                module, query[:, :, block.start : block.stop], _taken(key, places),
                _taken(value, places), bias, **rest,
            )[0])  # fmt: skip
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def _bias(self, number: int, window: int, takes_none: bool, like: Tensor) -> Tensor | None:
        """What is added to the scores of a block; None: it is causal, and the function knows it.

        Args:
            window: how far back a token sees, itself included; 0: to the beginning.
            like: of its dtype and on its device.
        """
        import numpy as np
        import torch

        assert self._pass is not None
        block = self._pass.blocks[number]
        lines = self._pass.positions[block.start : block.stop]
        if lines.max() < window:
            window = 0
        if block.mask is None and takes_none and not window:
            return None
        key = (number, window, like.dtype, like.device)
        if key not in self._biases:
            allowed = np.tri(len(lines), dtype=bool) if block.mask is None else block.mask
            if window:
                # What stands above a block has the positions from 0 on.
                above = np.arange(allowed.shape[1] - len(lines))
                columns = np.concatenate([above, lines])
                allowed = allowed & (lines[:, None] - columns < window)
            self._biases[key] = as_bias(upload(torch.from_numpy(allowed), like.device), like.dtype)
        return self._biases[key]


def as_bias(allowed: Tensor, dtype: Any) -> Tensor:
    """What is added to the scores of attention, (1, 1, queries, keys), for booleans of two axes."""
    import torch

    bias = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return bias.masked_fill_(~allowed, torch.finfo(dtype).min)[None, None]


def _parts(states: Tensor, intervals: Sequence[Interval]) -> list[Tensor]:
    return [states[:, :, start:stop] for start, stop in intervals]


def _taken(states: Tensor, intervals: Sequence[Interval]) -> Tensor:
    """Keys or values of some places; neighbouring intervals are one view, without a copy."""
    import torch

    first, last = intervals[0][0], intervals[-1][1]
    if sum(stop - start for start, stop in intervals) == last - first:
        return states[:, :, first:last]
    return torch.cat(_parts(states, intervals), dim=2)


@contextmanager
def attending(model: Any, attend: Attend) -> Iterator[None]:
    """Within it the model's attention is computed by `attend`."""
    with taking_over(model):
        token = _ATTEND.set(attend)
        try:
            yield
        finally:
            _ATTEND.reset(token)


@contextmanager
def taking_over(model: Any) -> Iterator[None]:
    """Within it each `attending` of the model costs nothing: with adapters, a model has thousands
    of modules to look through."""
    from transformers import AttentionInterface

    taken = _TAKEN.get()
    if taken is not None and taken[0] is model:
        yield
        return
    AttentionInterface.register(NAME, _dispatch)
    configs: dict[int, Any] = {}
    for module in model.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation_internal"):
            configs[id(config)] = config
    names = {key: config._attn_implementation_internal for key, config in configs.items()}
    token = _TAKEN.set((model, names))
    try:
        for config in configs.values():
            config._attn_implementation_internal = NAME
        yield
    finally:
        _TAKEN.reset(token)
        for key, config in configs.items():
            config._attn_implementation_internal = names[key]


def own_attention(module: Any) -> tuple[Callable[..., tuple[Tensor, Any]], bool]:
    """The function that computes a module's attention outside of packed passes, and whether it
    takes a causal sequence without a mask.

    Kernels that take no mask (flash attention) are replaced by PyTorch's SDPA.
    """
    from transformers import AttentionInterface

    taken = _TAKEN.get()
    assert taken is not None  # no attention is dispatched here without
    if taken[1][id(module.config)] not in (None, "eager"):
        return AttentionInterface()["sdpa"], True
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if eager is None:
        raise CannotShare(f"{type(module).__name__} names no function of eager attention")
    return eager, False


def _dispatch(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **rest: Any,
) -> tuple[Tensor, None]:
    if attention_mask is not None:
        raise CannotShare("the model builds a mask of its own")
    for name, argument in rest.items():
        if getattr(argument, "ndim", 0) > 1 and name != "position_ids":
            raise CannotShare(f"attention is given {name}, of the whole row")
    return _ATTEND.get()(module, query, key, value, rest), None
