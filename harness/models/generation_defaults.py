"""Reads the generation settings in a model's files. Answers depend only on the suite's settings.

transformers takes settings that a call leaves out from the model's generation_config.json (or from
config.json, for old models). A suppressed token or a time limit there would silently change greedy
decoding. So only the token ids are used; the plan and the record show the other settings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import ModelError

if TYPE_CHECKING:
    from transformers import GenerationConfig

FILE = "generation_config.json"
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
"""The settings that are used: the tokens that begin an answer, end it and pad it."""
_NEUTRAL: dict[str, Any] = {
    "max_length": 20, "max_new_tokens": None, "min_length": 0, "min_new_tokens": None,
    "do_sample": False, "early_stopping": False, "num_beams": 1, "temperature": 1.0, "top_k": 50,
    "top_p": 1.0, "min_p": None, "top_h": None, "typical_p": 1.0, "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0, "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0,
    "length_penalty": 1.0, "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None, "num_return_sequences": 1, "output_scores": False,
    "return_dict_in_generate": False, "forced_bos_token_id": None, "forced_eos_token_id": None,
    "remove_invalid_values": False, "exponential_decay_length_penalty": None,
    "suppress_tokens": None, "begin_suppress_tokens": None, "num_beam_groups": 1,
    "diversity_penalty": 0.0, "sequence_bias": None, "guidance_scale": None, "max_time": None,
    "stop_strings": None, "watermarking_config": None, "force_words_ids": None,
    "constraints": None, "penalty_alpha": None, "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant", "assistant_confidence_threshold": 0.4,
    "assistant_lookbehind": 10, "target_lookbehind": 10,
}  # fmt: skip
"""Field of transformers' GenerationConfig that old config.json files may hold -> the value that has
no effect."""
_SILENT = {*TOKEN_IDS, "_from_model_config", "transformers_version", "use_cache",
           "decoder_start_token_id"}  # fmt: skip


def asked_by(folder: Path) -> dict[str, Any]:
    """The generation settings in a model's folder, without token ids and settings without
    effect."""
    return _asks(*_first_of([folder / FILE, folder / "config.json"]))


def described(asks: Mapping[str, Any]) -> str:
    """The settings as text: `temperature 0.6, top_p 0.9`."""
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in sorted(asks.items()))


def plain_config(source: str, revision: str | None) -> tuple[GenerationConfig, dict[str, Any]]:
    """A config with only the token ids of a model's files, and the other settings in the files.

    Args:
        source: a folder, or a name on the hub.
    """
    from transformers import GenerationConfig

    file, content = _first_of(_file(source, name, revision) for name in (FILE, "config.json"))
    inner = content.get("text_config")
    ids = {**(inner if isinstance(inner, dict) else {}), **content}
    config = GenerationConfig(**{name: ids[name] for name in TOKEN_IDS if name in ids})
    return config, _asks(file, content)


def _file(source: str, name: str, revision: str | None) -> str | None:
    """The path of a model's file; None if the model has no such file."""
    from transformers.utils import cached_file

    try:
        path: str | None = cached_file(source, name, revision=revision or "main")
    except OSError:  # transformers raises this for a missing file
        return None
    return path


def keep_asks(checkpoint: Path, base: Mapping[str, Any]) -> None:
    """Write the base model's generation settings into the file of a whole checkpoint, for those who
    serve the model.

    Args:
        base: the base's settings. Nothing is written if there are none, or if there is no file.
    """
    path = checkpoint / FILE
    if base and path.is_file():
        own_requests = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**own_requests, **base}, indent=2) + "\n", encoding="utf-8")


def _first_of(paths: Iterable[str | Path | None]) -> tuple[str, dict[str, Any]]:
    """The name and the content of the first of these files that exists; empty if none does.

    Raises:
        ModelError: the file is not JSON.
    """
    for path in paths:
        if path is not None and Path(path).is_file():
            try:
                content = json.loads(Path(path).read_text(encoding="utf-8"))
            except ValueError as error:
                raise ModelError(
                    f"{path} is not JSON: {error}", fix="fetch or write the file again"
                ) from None
            return Path(path).name, content if isinstance(content, dict) else {}
    return "", {}


def _asks(file: str, content: dict[str, Any]) -> dict[str, Any]:
    """The settings in the content of a file, without token ids and settings without effect."""
    names = set(content) - _SILENT if file == FILE else set(content) & set(_NEUTRAL)
    settings = {name: content[name] for name in sorted(names)}
    return {
        name: value
        for name, value in settings.items()
        if value is not None and value is not False and value != _NEUTRAL.get(name)
    }
