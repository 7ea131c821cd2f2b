"""The audit of a checkpoint that was trained elsewhere: loaded onto its base, and compared."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import StageFailed
from harness.core.measure import free_leftovers, number_count
from harness.data.render import template_digest
from harness.methods._layers import loaded_layers
from harness.methods.base import Method
from harness.models.files import ModelRef
from harness.models.layers import vocabulary_rows
from harness.models.resolve import tensor_shapes
from harness.stages import _audit, _audit_movement
from harness.stages._models import own_tokenizer
from harness.stages.base import Job

_ROWS, _TOKENS = 4, 32


def audited(job: Job, method: Method, ref: ModelRef, checkpoint: Path) -> dict[str, Any]:
    """Load it and audit it; metrics: the findings, and the digest of its chat template. The job's
    costs get its parameters and bytes.

    Raises:
        StageFailed: a check failed.
    """
    with job.ledger.phase("load"):
        base = method.load(ref)
    with job.ledger.phase("audit"):
        files = tensor_shapes(checkpoint, str(checkpoint))
        ids = _probe(base, files)
        before, parameters = _audit.logits(base, ids), number_count(base.parameters())
    del base
    free_leftovers()  # never two models at once
    with job.ledger.phase("load"), warnings.catch_warnings():
        # The audit names what is missing, and fails; a warning would pass unseen.
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        model = method.load_trained(ref, checkpoint)
    with job.ledger.phase("audit"):
        audit = [
            _whole(method, model, ref, checkpoint),
            _audit_movement.changed(before, _audit.logits(model, ids)),
            _off(method, model, ids, before, checkpoint),
            *(
                _audit_movement.check(n, good, detail)
                for n, (good, detail) in method.proofs(model).items()
            ),
        ]
    names = files.keys() - set(method.brought(model, checkpoint))
    job.cost.update(
        {
            "parameters": parameters,
            "trainable_parameters": sum(math.prod(files[name]) for name in names),
            "checkpoint_bytes": sum(p.stat().st_size for p in checkpoint.glob("*.safetensors")),
        }
    )
    failed = [check for check in audit if check["status"] == "failed"]
    if failed:
        raise StageFailed("audit", "; ".join(f"{f['check']}: {f['detail']}" for f in failed))
    tokenizer = own_tokenizer(ref, checkpoint)
    return {
        "audit": audit,
        "chat_template": template_digest(tokenizer) if tokenizer.chat_template else None,
    }


def _probe(base: Any, files: Mapping[str, tuple[int, ...]]) -> Any:
    """Token ids to see a change with, drawn from a fixed seed; shape (rows, tokens)."""
    import torch

    size = int(base.get_input_embeddings().weight.shape[0])
    size = min(size, vocabulary_rows(files, loaded_layers(base), size) or size)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(size, (_ROWS, _TOKENS), generator=generator).to(base.device)


def _off(
    method: Method, model: Any, ids: Any, before: Any, checkpoint: Path
) -> _audit_movement.Check:
    """Switched off it is its base, but for weights of the base that it brings itself."""
    check = _audit.switched_off(method, model, ids, before)
    brought = method.brought(model, checkpoint)
    if check["status"] != "failed" or not brought:
        return check
    return {**check, "status": "skipped", "detail": f"it brings its own {brought[0]}"}


def _whole(method: Method, model: Any, ref: ModelRef, checkpoint: Path) -> _audit_movement.Check:
    """Checks that every tensor of the files has a place in the model, and every place a tensor."""
    name = "its files load whole"
    unmatched = method.unmatched(model, ref, checkpoint)
    if unmatched is None:
        return {"check": name, "status": "skipped", "detail": f"{method.name} cannot tell"}
    missing, unexpected = unmatched
    faults = [
        f"{len(names)} {what}, first {names[0]}"
        for what, names in (
            ("tensors are missing", missing),
            ("tensors have no place in the model", unexpected),
        )
        if names
    ]
    return _audit_movement.check(
        name, not faults, "; ".join(faults) or "no missing or unexpected tensor"
    )
