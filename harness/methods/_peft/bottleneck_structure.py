"""Where the sublayers of a model's blocks end, by its structure and a test pass.

A block has sublayers (attention, feed-forward, experts), each of which ends in what is added to the
residual stream. That end is the last projection that runs in the sublayer, where it is as wide as
the stream; of experts, which are many projections side by side, it is the module that holds them.
The test pass proves it: with every end silent, nothing that the block's other weights compute may
make a difference to what the block gives.
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
        ModelError: no blocks or no sublayers are found, or the test pass shows that a block's
            weights reach the residual stream by another way.
    """
    if base.device.type == "meta":  # nothing runs there
        layout = list(targets(base.config.model_type, placement))
        return [name for name, _ in _walk(base) if targeted(name, layout)]
    blocks = _blocks(base)
    training = base.training
    base.eval()
    try:
        with torch.no_grad():
            found = _ends(base, blocks)
            _prove(base, blocks, found)
    finally:
        base.train(training)
    first = 0 if placement == "houlsby" else -1
    return [name for ends in found.values() for name in ends[first:]]


def suffixes(base: Any, names: list[str]) -> set[str]:
    """The shortest way to name these modules to PEFT: as they are called in every block, or in full
    where that would mean others too."""
    short = {name.split(".", _index(name) + 1)[-1] for name in names}
    meant = [name for name, _ in _walk(base) if targeted(name, sorted(short))]
    return short if sorted(meant) == sorted(names) else set(names)


def _index(name: str) -> int:
    """Which part of a name is a block's number."""
    return next(i for i, part in enumerate(name.split(".")) if part.isdigit())


def _walk(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Modules by name; a layer that carries an adapter is one module."""
    for name, child in module.named_children():
        yield f"{prefix}{name}", child
        if not isinstance(child, BaseTunerLayer):
            yield from _walk(child, f"{prefix}{name}.")


def _blocks(base: Any) -> dict[str, nn.Module]:
    """The blocks by name: the heaviest list of modules in the part that reads text."""
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else None
    names = {id(module): name for name, module in _walk(base)}
    lists = [m for _, m in _walk(decoder or base) if isinstance(m, nn.ModuleList) and len(m)]
    if not lists:
        raise ModelError("the model has no list of blocks", fix=_FIX)
    heaviest = max(lists, key=lambda found: sum(p.numel() for p in found.parameters()))
    return {names[id(block)]: block for block in heaviest}


def _projects(module: nn.Module) -> bool:
    """Whether a module's own weights mix numbers, as a norm's do not."""
    own = module.parameters(recurse=isinstance(module, BaseTunerLayer))
    return any(parameter.dim() > 1 for parameter in own)


def mixes_experts(sublayer: nn.Module) -> bool:
    """Whether there are many projections side by side, stacked in a tensor or in a list."""
    return any(
        isinstance(module, nn.ModuleList)
        or (
            any(p.dim() == 3 for p in module.parameters(recurse=False))
            and not isinstance(module, nn.Conv1d)
        )
        for _, module in _walk(sublayer)
    )


def _ends(base: Any, blocks: Mapping[str, nn.Module]) -> dict[str, list[str]]:
    """Of each block the ends of its sublayers, in the order in which they run."""
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
    found: dict[str, list[str]] = {}
    for path in blocks:
        ran = [name for name in order if name.startswith(f"{path}.")]
        own = [name for name in ran if "." not in name[len(path) + 1 :]]
        # Projections of the block itself are one sublayer, which the last of them ends.
        loose = [name for name in own if _projects(watched[name])]
        ends = [_end(watched, name, ran) for name in own]
        kept = [e for e in ends if e and widths[e] == widths[path] and e not in loose[:-1]]
        if len(kept) < 2:
            told = ", ".join(kept) or "none"
            raise ModelError(f"where the sublayers of {path} end is not clear ({told})", fix=_FIX)
        found[path] = kept
    return found


def _end(modules: Mapping[str, nn.Module], sublayer: str, ran: list[str]) -> str | None:
    """The module that a sublayer ends with; None where it projects nothing, as a norm."""
    if _projects(modules[sublayer]):
        return sublayer
    inside = [name for name in ran if name.startswith(f"{sublayer}.") and _projects(modules[name])]
    if inside and mixes_experts(modules[sublayer]):
        return sublayer
    wide = [name for name in inside if output_width(modules[name]) is not None]
    return wide[-1] if wide else None


def _prove(base: Any, blocks: Mapping[str, nn.Module], found: Mapping[str, list[str]]) -> None:
    """Raise where a block's weights reach its output though its sublayers' ends are silent."""

    def silent(module: nn.Module, inputs: Any, output: Any) -> Any:
        return _zeros(output)

    ends = {name: base.get_submodule(name) for names in found.values() for name in names}
    others = {
        f"{block}.{name}": module
        for block, module_of in blocks.items()
        for name, module in _walk(module_of)
        if _projects(module)
    }
    seen: list[dict[str, torch.Tensor]] = []
    for quiet in (ends, {**others, **ends}):
        given: dict[str, torch.Tensor] = {}

        def keep(name: str, given: dict[str, torch.Tensor] = given) -> Any:
            def ended(module: nn.Module, inputs: Any, output: Any) -> None:
                given[name] = output[0] if isinstance(output, tuple) else output

            return ended

        hooks = {name: (module, silent) for name, module in quiet.items()}
        hooks |= {name: (module, keep(name)) for name, module in blocks.items()}
        with _hooked(hooks):
            _run(base)
        seen.append(given)
    for block, output in seen[0].items():
        if not torch.equal(output, seen[1][block]):
            raise ModelError(
                f"{block} adds more to the residual stream than what {' and '.join(found[block])}"
                " give",
                fix=_FIX,
            )


def _zeros(output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return torch.zeros_like(output) if output.is_floating_point() else output
    return tuple(map(_zeros, output)) if isinstance(output, tuple) else output


def _run(base: Any) -> None:
    """A few tokens through the blocks; what they are does not matter."""
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
