"""Checks a model's files, without torch, for faults that would otherwise only appear when the model
is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import ModelError

Shapes = Mapping[str, tuple[int, ...]]

_VOCABULARIES = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model",
    "sentencepiece.bpe.model", "tekken.json", "*.tiktoken",
)  # fmt: skip
_BYTES_ALONE = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
"""Tokenizers without a vocabulary file: every byte or character is a token."""
_NO_DEFAULTS = ("PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend")
"""Tokenizers whose special tokens are only those that their files name."""
_BLOCKS = re.compile(r"^(?P<before>.*?)\b(?:layers|layer|h|blocks|block)\.(?P<number>\d+)\.")
_OTHER_PARTS = re.compile(r"vision|visual|audio|image|encoder|mtp|speech")
_GATES = re.compile(r"\.mlp\.(?:gate|up)_proj\.weight$")
_EMBEDDINGS = re.compile(r"(?:^|\.)(?:embed_tokens|wte|embed_in|word_embeddings)\.weight$")


def require_whole_model(
    folder: Path, config: Mapping[str, Any], shapes: Shapes, where: str
) -> None:
    """Check that transformers can load a folder as its config says.

    Args:
        config: its config.json.
        shapes: tensor name -> shape, for all its safetensors files.
        where: the place in the suite, for messages.

    Raises:
        ModelError: shards are missing, shapes differ from the config, there is no tokenizer, or
            special tokens are missing or have no row in the embedding.
    """
    _require_shards(folder, shapes, where)
    text = text_config(config)
    _require_shapes(folder, text, shapes, where)
    _require_tokenizer(folder, where)
    require_special_tokens(folder, embedding_rows(config, shapes), where)


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config with the fields of its language model, if it is a config of several models."""
    for name in ("text_config", "llm_config", "language_config"):
        if isinstance(config.get(name), dict):
            return {**config, **config[name]}
    return config


def _require_shards(folder: Path, shapes: Shapes, where: str) -> None:
    """Check that all files of the index are there, and that they hold all its tensors."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file() or (folder / "model.safetensors").is_file():
        return
    files: dict[str, str] = _read(index, where).get("weight_map", {})
    missing = sorted({name for name in files.values() if not (folder / name).is_file()})
    if missing:
        raise ModelError(
            f"{index} names {len(set(files.values()))} files of weights, and {missing[0]}"
            f"{f' and {len(missing) - 1} more are' if missing[1:] else ' is'} not there",
            where=where,
            fix="fetch the missing files",
        )
    lost = sorted(files.keys() - shapes.keys())
    if lost:
        raise ModelError(
            f"{index} names {len(lost)} tensors that its files lack, such as {lost[0]}",
            where=where,
            fix="fetch the files again, all of one revision",
        )


def _require_shapes(folder: Path, text: Mapping[str, Any], shapes: Shapes, where: str) -> None:
    for what, stated, actual, name in (*_sizes(text, shapes), *_layers(text, shapes)):
        if stated is not None and stated != actual:
            raise ModelError(
                f"{folder / 'config.json'} says {what} {stated}, and the weights have {actual}"
                f" ({name})",
                where=where,
                fix="the config and the weights are of two models: fetch both from one place",
            )


def _sizes(text: Mapping[str, Any], shapes: Shapes) -> Iterator[tuple[str, int | None, int, str]]:
    """Name of a size, the config's value, the weights' value, and the tensor that shows it."""
    hidden = number(text, "word_embed_proj_dim", "embedding_size", "hidden_size", "n_embd")
    vocabulary = number(text, "vocab_size")
    for name, shape in shapes.items():
        if len(shape) != 2 or _OTHER_PARTS.search(name):
            continue
        if _EMBEDDINGS.search(name):
            yield "vocab_size", vocabulary, shape[0], name
            yield "hidden_size", hidden, shape[1], name
        elif name == "lm_head.weight":
            yield "vocab_size", vocabulary, shape[0], name
        elif _GATES.search(name) and "quantization_config" not in text:  # else packed
            yield "intermediate_size", number(text, "intermediate_size"), shape[0], name


def _layers(text: Mapping[str, Any], shapes: Shapes) -> Iterator[tuple[str, int | None, int, str]]:
    """Compare the number of the decoder's blocks, in the form of `_sizes`. Nothing is compared if
    there are several stacks of blocks.

    transformers only warns if the number differs.
    """
    stated = number(text, "num_hidden_layers", "n_layer", "num_layers")
    stacks: dict[str, dict[int, str]] = {}
    for name in shapes:
        block = _BLOCKS.match(name)
        if block and not _OTHER_PARTS.search(name):
            stacks.setdefault(block["before"], {}).setdefault(int(block["number"]), name)
    if stated is None or len(stacks) != 1:
        return
    (blocks,) = stacks.values()
    beyond = number(text, "num_nextn_predict_layers") or 0  # heads for multi-token prediction
    last = max(blocks)
    if not stated <= last + 1 <= stated + beyond:
        yield "num_hidden_layers", stated, last + 1, blocks[last]


def _require_tokenizer(folder: Path, where: str) -> None:
    config = _tokenizer_config(folder, where)
    if any(any(folder.glob(name)) for name in _VOCABULARIES):
        return
    if "auto_map" in config or config.get("tokenizer_class") in _BYTES_ALONE:
        return
    raise ModelError(
        f"{folder} holds no tokenizer (none of {', '.join(_VOCABULARIES)})",
        where=where,
        fix="save the model's tokenizer beside it: AutoTokenizer.from_pretrained(X)"
        ".save_pretrained(Y)",
    )


def require_special_tokens(folder: Path, rows: int | None, where: str) -> None:
    """Check that a tokenizer has an EOS or a padding token, and that the embedding has a row for
    every special token and for every token of the chat template.

    Args:
        rows: the number of the embedding's rows; None if it is not known.

    Raises:
        ModelError: one of these is missing.
    """
    config = _tokenizer_config(folder, where)
    named = {key: _content(config.get(f"{key}_token")) for key in ("eos", "pad", "bos")}
    generic = config.get("tokenizer_class") in _NO_DEFAULTS
    none = [named[key] is None and (generic or f"{key}_token" in config) for key in ("eos", "pad")]
    if config and all(none):
        raise ModelError(
            f"the tokenizer of {folder} names neither an eos_token nor a pad_token: answers could"
            " not end, and batches not be padded",
            where=where,
            fix=f'name them in {folder / "tokenizer_config.json"}, such as "eos_token": "</s>"',
        )
    ids = _ids(folder, where)
    for key, token in named.items():
        if rows is not None and token in ids and ids[token] >= rows:
            raise ModelError(
                f"its {key}_token '{token}' has the id {ids[token]}, and the embedding of"
                f" {folder} has {rows} rows, 0 to {rows - 1}",
                where=where,
                fix="save the model again after model.resize_token_embeddings(len(tokenizer)), or"
                f" name a {key}_token that it has in {folder / 'tokenizer_config.json'}",
            )
    template = _template(folder, config)
    beyond = [token for token, number in ids.items() if rows is not None and number >= rows]
    if used := [token for token in beyond if token in template]:
        raise ModelError(
            f"the chat template of {folder} writes '{used[0]}', with the id {ids[used[0]]}, and the"
            f" embedding has {rows} rows",
            where=where,
            fix="save the model again after model.resize_token_embeddings(len(tokenizer))",
        )


def _template(folder: Path, config: Mapping[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    return (
        path.read_text(encoding="utf-8") if path.is_file() else str(config.get("chat_template", ""))
    )


def embedding_rows(config: Mapping[str, Any], shapes: Shapes) -> int | None:
    """The number of the embedding's rows; None if it is not known."""
    text = text_config(config)
    rows = [s[0] for name, s in shapes.items() if _EMBEDDINGS.search(name) and len(s) == 2]
    return min(rows, default=number(text, "vocab_size"))


def _ids(folder: Path, where: str) -> dict[str, int]:
    """Added token -> its id."""
    ids: dict[str, int] = {}
    if (folder / "tokenizer.json").is_file():
        added = _read(folder / "tokenizer.json", where).get("added_tokens", [])
        ids |= {token["content"]: token["id"] for token in added}
    if (folder / "added_tokens.json").is_file():
        ids |= _read(folder / "added_tokens.json", where)
    return ids


def _tokenizer_config(folder: Path, where: str) -> dict[str, Any]:
    """The content of tokenizer_config.json, with special_tokens_map.json for missing keys."""
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            config |= _read(folder / name, where)
    return config


def _content(token: Any) -> str | None:
    """A token's text. Some files hold an object with the token's options."""
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else None


def number(config: Mapping[str, Any], *names: str) -> int | None:
    """The first of these fields that is an integer in the config; None if there is none."""
    values = (config.get(name) for name in names)
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool)), None)


def _read(path: Path, where: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(
            f"{path} is not JSON: {error}", where=where, fix="fetch or write the file again"
        ) from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} is no JSON object", where=where, fix="fetch the file again")
    return content
