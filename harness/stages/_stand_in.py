"""Trainers that prepare rows and compute nothing, and the model that they are given."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from harness.objectives.base import Objective, TrainJob
from harness.stages.base import Job

_SAVED_EVERY = 60.0
"""Seconds; nothing is trained that could be saved."""


def ask_trainer(
    function: str, objective: Objective, job: Job[Any], tokenizer: Any, rows: Sequence[Any],
    more_rows: Mapping[str, Any] | None = None,
) -> Any:  # fmt: skip
    """What a function of the objective's own trainer makes of the rows.

    Args:
        function: `module:function`, called with the objective and a training of a stand-in model.
        more_rows: role -> its rows, for an objective that reads more data.
    """
    module, _, name = function.partition(":")
    train = TrainJob(
        model=stand_in(),
        tokenizer=tokenizer,
        rows=list(rows),
        validation=[],
        checkpoints=job.work,
        step_log=job.work / "steps.jsonl",
        seed=job.config.seed,
        data_seed=job.config.data_seed,
        dtype="float32",
        device="cpu",
        checkpoint_seconds=_SAVED_EVERY,
        report_to=[],
        label=job.spec["label"],
        progress=lambda done, total, note: None,
        more_rows=dict(more_rows or {}),
    )
    return getattr(importlib.import_module(module), name)(objective, train)


def stand_in() -> Any:
    """The smallest model a trainer takes: how rows are prepared depends on the tokenizer alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=1, num_key_value_heads=1,
            bos_token_id=None, eos_token_id=None, pad_token_id=None,
        )
    )  # fmt: skip
