"""Finds a model of the suite and describes it from its files, without torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.core.errors import ModelError
from harness.models.checks import require_whole_model
from harness.models.endpoint import ServedModel
from harness.models.files import ModelInfo
from harness.models.folder import content_identity, refuse_pickle
from harness.models.generation_defaults import asked_by
from harness.models.hub import commit_of
from harness.models.spec import ModelSpec


def resolve_served(endpoint: ServedModel) -> ModelInfo:
    """Describe a model that another server answers for."""
    identity = {"endpoint": endpoint.identity()}
    return ModelInfo(endpoint.base_url, None, identity, endpoint=endpoint)


def resolve_model(
    spec: ModelSpec, folder: Path | None, digest: Callable[[Path], str], where: str
) -> ModelInfo:
    """Resolve a model's files and identity.

    Args:
        folder: the local folder, or None for a hub name.
        digest: computes the sha256 of a file.
        where: the place in the suite, for messages.

    Raises:
        ModelError: there is no such folder or revision, the weights are pickled, or the model
            brings code that is not trusted.
    """
    if folder is None:
        return _resolve_hub(spec, where)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} holds no config.json",
            where=where,
            fix="name a folder saved by save_pretrained(), or `organisation/name` on the hub",
        )
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder} holds an adapter, and transformers would load the base that it names",
            where=where,
            fix="name the base here, and the adapter under `checkpoints:`",
        )
    identity = content_identity(folder, digest, where, code=spec.trust_remote_code)
    return _describe(spec, folder, None, identity, where)


def describe_folder(
    spec: ModelSpec, folder: Path, identity: dict[str, Any], where: str
) -> ModelInfo:
    """Describe a folder whose identity is known already."""
    return _describe(spec, folder, None, identity, where)


def _describe(
    spec: ModelSpec, folder: Path, revision: str | None, identity: dict[str, Any], where: str
) -> ModelInfo:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder / 'config.json'} is not JSON: {error}", where=where) from None
    if "auto_map" in config and not spec.trust_remote_code:
        raise ModelError(
            f"{folder} brings its own Python code, which is not run unless you say so",
            where=where,
            fix="read the code, then set `trust_remote_code: true` on this model",
        )
    shapes = tensor_shapes(folder, where)
    if revision is None:  # files of a hub model may be fetched later
        require_whole_model(folder, config, shapes, where)
    return ModelInfo(
        source=str(folder) if revision is None else spec.path,
        revision=revision,
        identity=identity,
        config=config,
        shapes=shapes,
        chat_template=_chat_template(folder),
        asks=asked_by(folder),
    )


def tensor_shapes(folder: Path, where: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor in a folder's safetensors files.

    Raises:
        ModelError: a file is damaged.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        shapes |= _safetensors_shapes(path, where)
    return shapes


def _chat_template(folder: Path) -> str:
    template = folder / "chat_template.jinja"
    if template.is_file():
        return template.read_text(encoding="utf-8")
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return str(config.get("chat_template") or "")


def _safetensors_shapes(path: Path, where: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes from the header of a safetensors file (8 bytes of length, then JSON)."""
    try:
        with path.open("rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            header = json.loads(handle.read(min(length, 100_000_000)))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        ends = [entry["data_offsets"][1] for entry in tensors.values()]
        size, stated = path.stat().st_size, 8 + length + max(ends, default=0)
        if size != stated:
            raise ValueError(f"its header states {stated:,} bytes, and it has {size:,}")
        return {name: tuple(entry["shape"]) for name, entry in tensors.items()}
    except (struct.error, ValueError, LookupError, TypeError) as error:
        raise ModelError(
            f"{path} is damaged: {error}", where=where, fix="fetch or write the file again"
        ) from None


def _resolve_hub(spec: ModelSpec, where: str) -> ModelInfo:
    """Describe a model on the hub, as far as its files are in the cache."""
    from huggingface_hub import try_to_load_from_cache

    commit = commit_of(spec.path, spec.revision, where)
    identity = {"hub": spec.path, "revision": commit}
    config = try_to_load_from_cache(spec.path, "config.json", revision=commit)
    if isinstance(config, str):
        folder = Path(config).parent
        if any(folder.glob("*.safetensors")) or any(folder.glob("*.bin")):
            refuse_pickle(folder, where)
        return _describe(spec, folder, commit, identity, where)
    return ModelInfo(spec.path, commit, identity)
