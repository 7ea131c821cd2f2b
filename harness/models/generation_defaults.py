"""What a model's own files ask of generation. No answer depends on it: answers are the suite's.

transformers fills what a call leaves open from the model's generation_config.json (and from
config.json, for old models), so that a suppressed token or a time limit in that file would change
"greedy" in silence. Only its token ids are taken; what else it asks is told, in plan and record.
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
"""What is taken from the file: with which token an answer begins, ends and is filled up."""
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
"""Fields of transformers' GenerationConfig that old config.json files hold too -> the value that
changes nothing."""
_SILENT = {*TOKEN_IDS, "_from_model_config", "transformers_version", "use_cache",
           "decoder_start_token_id"}  # fmt: skip


def asked_by(folder: Path) -> dict[str, Any]:
    """What a model's folder asks of generation, beyond token ids and what changes nothing."""
    return _asks(_told([folder / FILE, folder / "config.json"]))


def described(asks: Mapping[str, Any]) -> str:
    """The requests as a sentence has them: `temperature 0.6, top_p 0.9`."""
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in sorted(asks.items()))


def plain_config(source: str, revision: str | None) -> tuple[GenerationConfig, dict[str, Any]]:
    """The token ids of a model's files and nothing else, and what the files ask beside them.

    Args:
        source: a folder, or a name on the hub.
    """
    from transformers import GenerationConfig

    told = _told(_file(source, name, revision) for name in (FILE, "config.json"))
    inner = told[1].get("text_config")
    ids = {**(inner if isinstance(inner, dict) else {}), **told[1]}
    made = GenerationConfig(**{name: ids[name] for name in TOKEN_IDS if name in ids})
    return made, _asks(told)


def _file(source: str, name: str, revision: str | None) -> str | None:
    """Where a model's file lies here; None where the model has none of that name."""
    from transformers.utils import cached_file

    try:
        found: str | None = cached_file(source, name, revision=revision or "main")
    except OSError:  # what transformers raises for a file that is not there
        return None
    return found


def keep_asks(checkpoint: Path, base: Mapping[str, Any]) -> None:
    """Write a base's requests into a whole checkpoint's file: they are for who serves the model.

    Args:
        base: the requests, by name; nothing is written where there are none, or no file.
    """
    path = checkpoint / FILE
    if base and path.is_file():
        told = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**told, **base}, indent=2) + "\n", encoding="utf-8")


def _told(paths: Iterable[str | Path | None]) -> tuple[str, dict[str, Any]]:
    """Name and content of the first of some files that is there.

    Raises:
        ModelError: it is not JSON.
    """
    for path in paths:
        if path is not None and Path(path).is_file():
            try:
                found = json.loads(Path(path).read_text(encoding="utf-8"))
            except ValueError as error:
                raise ModelError(
                    f"{path} is not JSON: {error}", fix="fetch or write the file again"
                ) from None
            return Path(path).name, found if isinstance(found, dict) else {}
    return "", {}


def _asks(told: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    name, found = told
    names = set(found) - _SILENT if name == FILE else set(found) & set(_NEUTRAL)
    return {
        key: found[key]
        for key in sorted(names)
        if found[key] is not None and found[key] is not False and found[key] != _NEUTRAL.get(key)
    }
