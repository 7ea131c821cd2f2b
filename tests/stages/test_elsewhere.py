"""What may come back from a service that trained a LoRA."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from harness.core.errors import StageFailed
from harness.methods.tinker import Tinker
from harness.stages._put_back import _alpha, _tensors, _trained

METHOD = Tinker(base_model="it", r=4)
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 32, "bias": "none", "use_dora": False}
NAME = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
WANTED = {NAME: torch.zeros(4, 8)}


def test_a_plain_lora_of_the_rank_is_taken_with_its_alpha(tmp_path: Path) -> None:
    path = tmp_path / "adapter_config.json"
    for alpha in (32, 32.0):
        path.write_text(json.dumps({**CONFIG, "lora_alpha": alpha, "auto_mapping": None}))
        assert _alpha(path, METHOD) == 32


@pytest.mark.parametrize(
    ("change", "said"),
    [({"r": 8}, "rank 8, where r is 4"), ({"r": True}, "its rank is True"),
     ({"r": None}, "its rank is None"), ({"lora_alpha": 0}, "lora_alpha is 0"),
     ({"lora_alpha": 0.5}, "lora_alpha is 0.5"), ({"lora_alpha": "32"}, "lora_alpha is '32'"),
     ({"lora_alpha": float("inf")}, "lora_alpha is inf"), ({"use_dora": True}, "use_dora"),
     ({"use_rslora": True}, "use_rslora"), ({"peft_type": "LOHA"}, "peft_type"),
     ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"), ({"bias": "all"}, "sets bias"),
     ({"modules_to_save": ["lm_head"]}, "modules_to_save")],
)  # fmt: skip
def test_another_adapter_is_refused_by_its_config(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**CONFIG, **change}))
    with pytest.raises(StageFailed, match=said):
        _alpha(path, METHOD)


@pytest.mark.parametrize("text", ["", "[]", "not JSON", "\ud800"])
def test_what_is_no_config_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "adapter_config.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(StageFailed, match=r"no JSON|no mapping"):
        _alpha(path, METHOD)


def saves(tensors: dict[str, Any]) -> Callable[[Path], None]:
    return lambda path: save_file(tensors, path)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (saves({}), f"has no {NAME}"),
        (saves({NAME: torch.zeros(4, 8), "lm_head.weight": torch.zeros(2)}), "lm_head.weight"),
        (saves({NAME: torch.zeros(8, 4)}), r"shape \[8, 4\], not \[4, 8\]"),
        (saves({NAME: torch.full((4, 8), float("nan"))}), "not finite"),
        (saves({NAME: torch.zeros(4, 8, dtype=torch.int64)}), "not finite"),
        (lambda path: path.write_bytes(pickle.dumps({NAME: 1})), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
    ],
)  # fmt: skip
def test_other_tensors_are_refused(
    tmp_path: Path, write: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "adapter_model.safetensors"
    write(path)
    with pytest.raises(StageFailed, match=said):
        _tensors(path, WANTED)


def test_short_formats_come_back_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "adapter_model.safetensors"
    save_file({NAME: torch.ones(4, 8, dtype=torch.bfloat16)}, path)
    assert _tensors(path, WANTED)[NAME].dtype == torch.float32


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"base_url": "localhost:8000"}, "base_url is an address"),
     ({"base_url": "http://me:secret@host"}, "holds a user, a password"),
     ({"api_key_env": "tml-4f3a"}, "is the name of an environment variable"),
     ({"train_attn": False, "train_mlp": False}, "one of train_attn, train_mlp"),
     ({"ttl_seconds": 60}, "greater than or equal to 3600"), ({"r": 0}, "greater than 0")],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Tinker(**fields)


@pytest.mark.parametrize(
    ("here", "short", "status"),
    [(1.19, False, "passed"), (1.25, False, "failed"), (1.25, True, "passed"),
     (1.30, True, "passed"), (1.40, True, "failed"), (1.10, True, "failed"),
     (float("nan"), True, "failed")],
)  # fmt: skip
def test_the_adapter_has_the_loss_that_it_had_there(here: float, short: bool, status: str) -> None:
    """Trained from 1.30 to 1.19; in a short format a part of it is rounded away."""
    assert _trained(here, 1.19, 1.30, short)["status"] == status
