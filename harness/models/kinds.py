"""Checks by config.json, without torch, whether a model can be tuned here."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_FIX = "name a decoder-only language model (AutoModelForCausalLM)"


def refuse_kind(config: Mapping[str, Any]) -> tuple[str, str] | None:
    """The reason why a model is not a decoder-only language model, and the fix; None if it may be
    one.

    Args:
        config: its config.json; empty until it is fetched.
    """
    kind = str(config.get("model_type") or "")
    if not kind or "auto_map" in config:
        return None
    decodes = bool(config.get("is_decoder"))
    if config.get("is_encoder_decoder") or (kind in _types("SEQ_TO_SEQ_CAUSAL_LM") and not decodes):
        return f"a model of type '{kind}' is an encoder with a decoder", _FIX
    if kind in _types("MASKED_LM") and not decodes:
        return (
            f"a model of type '{kind}' is an encoder: it reads both ways, and writes nothing",
            _FIX,
        )
    known = _types("CAUSAL_LM")
    if known and kind not in known:
        what = f"transformers has no language model (AutoModelForCausalLM) of type '{kind}'"
        sees = "text_config" in config
        fix = "save its language model alone, and name that" if sees else _FIX
        return what, fix
    return None


@cache
def _types(task: str) -> frozenset[str]:
    """The model types of a task, read from transformers' source, since importing it takes
    seconds."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    path = Path(spec.submodule_search_locations[0], "models", "auto", "modeling_auto.py")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    _, head, rest = text.partition(f"\nMODEL_FOR_{task}_MAPPING_NAMES = ")
    listed = rest.partition("\n)")[0] if head else ""
    return frozenset(re.findall(r'^\s*\("([^"]+)",', listed, re.MULTILINE))
