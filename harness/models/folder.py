"""Lists the files that are loaded from a model's folder, and computes the folder's identity."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from harness.core.errors import ModelError
from harness.core.files import digest_json
from harness.core.outside import Digest, as_planned
from harness.core.sealed import damaged

_CONFIGS = ("config.json", "generation_config.json", "adapter_config.json")
_TOKENIZERS = (
    "added_tokens.json", "bpe.codes", "byte_maps.json", "chat_template.jinja", "dict.txt",
    "emoji.json", "entity_vocab.json", "merges.txt", "normalizer.json", "prophetnet.tokenizer",
    "sentencepiece.bpe.model", "sentencepiece.model", "source.spm", "special_tokens_map.json",
    "spiece.model", "spm.model", "spm_char.model", "target.spm", "target_vocab.json", "tekken.json",
    "tiktoken.model", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "vocab-src.json", "vocab-tgt.json", "vocab.json", "vocab.txt", "word_pronunciation.json",
    "word_shape.json",
)  # fmt: skip
_PATTERNS = ("*.tiktoken", "additional_chat_templates/*.jinja")
"""Together with _TOKENIZERS: all files that a tokenizer of transformers reads."""
_LISTED = (
    ("config.json", "configuration_files"), ("tokenizer_config.json", "fast_tokenizer_files"),
)  # fmt: skip
"""File -> key that lists files for other versions of transformers."""
_READ_FOR_TOKENIZERS = frozenset(["model_type", "tokenizer_class"])
"""What transformers reads of a config.json to choose the class of a tokenizer."""
_CODE = ("config.json", "tokenizer_config.json")
_NEVER = frozenset(
    (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".h5", ".msgpack", ".md",
     ".png", ".jpg", ".jpeg", ".gif", ".svg", ".pdf", ".pyc")
)  # fmt: skip
"""Weights in other formats, and files for people, which no code of a model reads."""


def content_identity(
    folder: Path, digest: Digest, where: str, *, code: bool = False
) -> dict[str, Any]:
    """A folder's identity: one digest over the names and contents of the files that are loaded.

    Args:
        digest: computes the sha256 of a file.
        where: the place in the suite, for messages.
        code: whether Python code that came with the model is run.

    Raises:
        ModelError: its weights are pickled, or it has none.
    """
    refuse_pickle(folder, where)
    files = loaded_files(folder, code=code)
    return {"content": digest_json({name: digest(folder / name) for name in files})}


def tokenizer_identity(folder: Path, digest: Digest) -> dict[str, Any]:
    """The identity of a folder's tokenizer and chat template alone: models of one family that have
    other weights share it."""
    known = _READ_FOR_TOKENIZERS & _read(folder / "config.json").keys()
    named = {name: _read(folder / "config.json")[name] for name in sorted(known)}
    files = {name: digest(folder / name) for name in _tokenizer_files(folder)}
    return {"tokenizer": digest_json({"config": named, "files": files})}


def _tokenizer_files(folder: Path) -> list[str]:
    listed = _read(folder / "tokenizer_config.json").get("fast_tokenizer_files") or ()
    names = {*_TOKENIZERS, *(name for name in listed if isinstance(name, str))}
    names |= {
        path.relative_to(folder).as_posix() for each in _PATTERNS for path in folder.glob(each)
    }
    return sorted(name for name in names if (folder / name).is_file())


def loaded_files(folder: Path, *, code: bool = False) -> list[str]:
    """The names, relative to the folder, of the files that transformers and PEFT read: weights,
    configs, the tokenizer and its chat templates. With `code`, also all files that the model's code
    may import or read."""
    names = {*_weights(folder), *_CONFIGS, *_TOKENIZERS}
    for file, key in _LISTED:
        names |= {name for name in _read(folder / file).get(key) or () if isinstance(name, str)}
    paths = {path for pattern in _PATTERNS for path in folder.glob(pattern)}
    if code and any("auto_map" in _read(folder / name) for name in _CODE):
        paths |= set(_readable(folder))
    names |= {path.relative_to(folder).as_posix() for path in paths}
    return sorted(name for name in names if (folder / name).is_file())


def _weights(folder: Path) -> Iterator[str]:
    """The weight files that transformers chooses: the single file, else those of the index. If
    there is neither, as in an adapter's folder, all safetensors files."""
    single, index = "model.safetensors", "model.safetensors.index.json"
    if not (folder / single).is_file() and not (folder / index).is_file():
        yield from (path.name for path in folder.glob("*.safetensors"))
    elif (folder / single).is_file():
        yield single
    else:
        yield index
        shards = _read(folder / index).get("weight_map")
        yield from (str(name) for name in (shards.values() if isinstance(shards, dict) else ()))
    if (folder / "adapter_config.json").is_file():
        yield "adapter_model.safetensors"


def _readable(folder: Path) -> Iterator[Path]:
    """The files in and below a folder that its code may read, without hidden ones."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.suffix not in _NEVER:
            yield path


def _read(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file; empty if there is none. The library that loads it reports the
    fault."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def refuse_pickle(folder: Path, where: str) -> None:
    """Check that a folder has safetensors weights.

    Raises:
        ModelError: it has only other weights, or none.
    """
    if any(folder.glob("*.safetensors")):
        return
    pickled = [p.name for p in folder.glob("*.bin")] + [p.name for p in folder.glob("*.pt")]
    weights = f"only {pickled[0]}, whose pickle can run code" if pickled else "none"
    raise ModelError(
        f"{folder} holds no safetensors: {weights}",
        where=where,
        fix="convert once: AutoModelForCausalLM.from_pretrained(X).save_pretrained(Y)",
    )


def held(
    source: str, identity: Mapping[str, Any], *, code: bool = False
) -> AbstractContextManager[None]:
    """Check that the block loads the model that was planned, by its identity.

    A folder, or the tokenizer in it, must have the planned content. A folder that was converted
    from GGUF must be as the conversion wrote it. The files of a hub's snapshot must match the
    digests in their names.

    Args:
        source: a folder, or a name on the hub.
        identity: the model's identity in a stage's config.
        code: whether Python code that came with the model is run.

    Raises:
        StageFailed: the model differs, before or after the block.
    """
    folder = Path(source)
    if "content" in identity:

        def content(digest: Digest) -> str:
            return str(content_identity(folder, digest, source, code=code)["content"])

        return as_planned(folder, str(identity["content"]), content)
    if "tokenizer" in identity:

        def tokenizer(digest: Digest) -> str:
            return str(tokenizer_identity(folder, digest)["tokenizer"])

        return as_planned(folder, str(identity["tokenizer"]), tokenizer)
    if "gguf" in identity:
        return as_planned(folder, "", lambda digest: damaged(folder, digest))
    if identity.get("revision"):
        revision = str(identity["revision"])
        return as_planned(
            folder, "", lambda digest: _damaged_snapshot(source, revision, digest, code=code)
        )
    return contextlib.nullcontext()


def _damaged_snapshot(name: str, revision: str, digest: Digest, *, code: bool) -> str:
    """The first file of a hub's snapshot whose content does not match its name; empty if there is
    none.

    In the hub's cache, a file is a link to a file named after its etag: the sha256 of a large file,
    or the SHA-1 of a small file as git computes it (on some mirrors, of its bytes alone). Files
    with other names are not checked. Missing files are fetched when they are opened.
    """
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json", revision=revision)
    folder = Path(config).parent if isinstance(config, str) else None
    for file in loaded_files(folder, code=code) if folder is not None else ():
        path = Path(str(folder), file)
        etag = path.resolve().name if path.is_symlink() else ""
        if re.fullmatch(r"[0-9a-f]{64}", etag) and digest(path) != etag:
            return file
        if re.fullmatch(r"[0-9a-f]{40}", etag):
            content = path.read_bytes()
            known = (content, b"blob %d\0%b" % (len(content), content))
            if etag not in [
                hashlib.sha1(data, usedforsecurity=False).hexdigest() for data in known
            ]:
                return file
    return ""
