"""Finds where the sublayers of a model's blocks end, by the model's structure and a test pass.

A block has sublayers (attention, feed-forward, experts); the output of each is added to the
residual stream. The end of a sublayer is its last projection, if that is as wide as the residual
stream; experts are many parallel projections, so their end is the module that holds them. A test
pass proves the result: with the output of every end set to zero, the block's other weights must not
change the block's output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from harness.core.errors import ModelError
from harness.methods._peft.bottleneck_layer import output_width
from harness.methods._peft.bottleneck_layouts import Placement, targets
from harness.models.layers import targeted

_FIX = (
    "set target_modules to the names of the projections whose output is added to the residual"
    " stream, as [self_attn.o_proj, mlp.down_proj]"
)
_TOKENS = 4


def sublayer_ends(base: Any, placement: Placement) -> list[str]:
    """Full names of the modules whose output gets an adapter, block by block.

    Raises:
        ModelError: the model has no blocks or no clear sublayers, or the test pass shows that a
            block's weights reach the residual stream in another way.
    """
    if base.device.type == "meta":  # no forward pass is possible there
        layout = list(targets(base.config.model_type, placement))
        return [name for name, _ in _walk(base) if targeted(name, layout)]
    blocks = _blocks(base)
    training = base.training
    base.eval()
    try:
        with torch.no_grad():
            ends_by_block = _ends(base, blocks)
            _prove(base, blocks, ends_by_block)
    finally:
        base.train(training)
    first = 0 if placement == "houlsby" else -1
    return [name for ends in ends_by_block.values() for name in ends[first:]]


def suffixes(base: Any, names: list[str]) -> set[str]:
    """The shortest names for these modules in PEFT's `target_modules`: their names within a block,
    or the full names if the short ones match other modules too."""
    short = {name.split(".", _index(name) + 1)[-1] for name in names}
    meant = [name for name, _ in _walk(base) if targeted(name, sorted(short))]
    return short if sorted(meant) == sorted(names) else set(names)


def _index(name: str) -> int:
    """The position of the block's number among the parts of a name."""
    return next(i for i, part in enumerate(name.split(".")) if part.isdigit())


def _walk(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """All modules with their names; does not descend into a layer that carries an adapter."""
    for name, child in module.named_children():
        yield f"{prefix}{name}", child
        if not isinstance(child, BaseTunerLayer):
            yield from _walk(child, f"{prefix}{name}.")


def _blocks(base: Any) -> dict[str, nn.Module]:
    """The blocks by name: the list of modules with the most parameters in the text part."""
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else None
    names = {id(module): name for name, module in _walk(base)}
    lists = [m for _, m in _walk(decoder or base) if isinstance(m, nn.ModuleList) and len(m)]
    if not lists:
        raise ModelError("the model has no list of blocks", fix=_FIX)
    heaviest = max(lists, key=lambda modules: sum(p.numel() for p in modules.parameters()))
    return {names[id(block)]: block for block in heaviest}


def _projects(module: nn.Module) -> bool:
    """Whether a module itself has a weight matrix (a norm has only vectors)."""
    weights = module.parameters(recurse=isinstance(module, BaseTunerLayer))
    return any(parameter.dim() > 1 for parameter in weights)


def mixes_experts(sublayer: nn.Module) -> bool:
    """Whether a sublayer holds parallel projections, stacked in a tensor or in a list."""
    return any(
        isinstance(module, nn.ModuleList)
        or (
            any(p.dim() == 3 for p in module.parameters(recurse=False))
            and not isinstance(module, nn.Conv1d)
        )
        for _, module in _walk(sublayer)
    )


def _ends(base: Any, blocks: Mapping[str, nn.Module]) -> dict[str, list[str]]:
    """For each block, the ends of its sublayers in the order in which they run.

    Raises:
        ModelError: a block has fewer than two.
    """
    order: list[str] = []
    widths: dict[str, int] = {}

    def note(name: str) -> Any:
        def ended(module: nn.Module, inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            order.append(name)
            widths[name] = first.shape[-1] if isinstance(first, torch.Tensor) else 0

        return ended

    watched = dict(blocks)
    for name, block in blocks.items():
        watched |= {f"{name}.{inner}": module for inner, module in _walk(block)}
    with _hooked({name: (module, note(name)) for name, module in watched.items()}):
        _run(base)
    ends_by_block: dict[str, list[str]] = {}
    for path in blocks:
        ran = [name for name in order if name.startswith(f"{path}.")]
        sublayers = [name for name in ran if "." not in name[len(path) + 1 :]]
        # The block's direct projections form one sublayer, and the last of them is its end.
        loose = [name for name in sublayers if _projects(watched[name])]
        ends = [_end(watched, name, ran) for name in sublayers]
        kept = [e for e in ends if e and widths[e] == widths[path] and e not in loose[:-1]]
        if len(kept) < 2:
            clear = ", ".join(kept) or "none"
            raise ModelError(f"where the sublayers of {path} end is not clear ({clear})", fix=_FIX)
        ends_by_block[path] = kept
    return ends_by_block


def _end(modules: Mapping[str, nn.Module], sublayer: str, ran: list[str]) -> str | None:
    """The module that a sublayer ends with; None if it has no projection, as a norm."""
    if _projects(modules[sublayer]):
        return sublayer
    inside = [name for name in ran if name.startswith(f"{sublayer}.") and _projects(modules[name])]
    if inside and mixes_experts(modules[sublayer]):
        return sublayer
    wide = [name for name in inside if output_width(modules[name]) is not None]
    return wide[-1] if wide else None


def _prove(
    base: Any, blocks: Mapping[str, nn.Module], ends_by_block: Mapping[str, list[str]]
) -> None:
    """Check that a block's weights reach its output only through the ends of its sublayers.

    Raises:
        ModelError: with the ends set to zero, the other weights still change the output.
    """

    def silent(module: nn.Module, inputs: Any, output: Any) -> Any:
        return _zeros(output)

    ends = {name: base.get_submodule(name) for names in ends_by_block.values() for name in names}
    others = {
        f"{block}.{name}": module
        for block, module_of in blocks.items()
        for name, module in _walk(module_of)
        if _projects(module)
    }
    seen: list[dict[str, torch.Tensor]] = []
    for quiet in (ends, {**others, **ends}):
        outputs: dict[str, torch.Tensor] = {}

        def keep(name: str, outputs: dict[str, torch.Tensor] = outputs) -> Any:
            def ended(module: nn.Module, inputs: Any, output: Any) -> None:
                outputs[name] = output[0] if isinstance(output, tuple) else output

            return ended

        hooks = {name: (module, silent) for name, module in quiet.items()}
        hooks |= {name: (module, keep(name)) for name, module in blocks.items()}
        with _hooked(hooks):
            _run(base)
        seen.append(outputs)
    for block, output in seen[0].items():
        if not torch.equal(output, seen[1][block]):
            raise ModelError(
                f"{block} adds more to the residual stream than the outputs of"
                f" {' and '.join(ends_by_block[block])}",
                fix=_FIX,
            )


def _zeros(output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return torch.zeros_like(output) if output.is_floating_point() else output
    return tuple(map(_zeros, output)) if isinstance(output, tuple) else output


def _run(base: Any) -> None:
    """Run a few arbitrary tokens through the blocks."""
    vocabulary = base.get_input_embeddings().weight.shape[0]
    ids = torch.arange(_TOKENS, device=base.device).remainder(vocabulary)
    base.base_model(input_ids=ids.unsqueeze(0), use_cache=False)


@contextmanager
def _hooked(hooks: Mapping[str, tuple[nn.Module, Any]]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in hooks.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
