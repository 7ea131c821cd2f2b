"""No step of a training or of sampling makes the host wait for a GPU more often than it must."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.core.device import upload
from harness.inference import token_scores
from harness.inference.continuous import Prompt
from harness.inference.decoding import answer, decode
from harness.inference.sampling import likeliest, sampled
from harness.inference.sharing import sharing_of
from harness.inference.token_scores import Asked, compare_tokens
from harness.models.files import ModelRef
from harness.objectives._ppo.log import Log
from harness.objectives._ppo.models import scorer
from harness.objectives._trl import head as _head
from harness.objectives._trl import loss as _loss
from harness.objectives._trl import movement as _movement
from harness.objectives._trl.trainer import StepLog
from tests.conftest import DPO, PPO, REWARD, SFT, Workspace
from tests.host_waits import HostWaits
from tests.objectives.test_loss import batch, family
from tests.objectives.test_ppo import tiny_job

WATCHED, STEP = 2, 4
"""The steps that the audits watch (20 elsewhere), and the step that is counted."""
LOG = {"objectives/_trl/later.py read: tolist": 1}
OURS: dict[str, dict[str, int]] = {
    "sft": LOG,
    "reward": LOG,
    "dpo": {},
    "ppo": {
        "inference/rewards.py rewards: tolist": 1,
        "objectives/_trl/later.py read: tolist": 2,  # of the rollout, and of the gradient steps
    },
}
TOKENS = "inference/continuous.py _go_on: tolist"
"""The tokens of all rows, once a step of decoding: they decide which rows go on."""
THEIRS = {
    "accelerate/data_loader.py __iter__": "the seed of a sampler, which is drawn on the CPU",
    "utils/operations.py send_to_device": "a batch goes to the device",
    "transformers/trainer.py _prepare_input": "a batch that is on the device already",
    "transformers/trainer.py _get_num_items_in_batch": "a number that is on the device already",
    "transformers/trainer.py _maybe_log_save_evaluate": "loss and gradient norm, for the log",
    "transformers/masking_utils.py _ignore_causal_mask_sdpa": "whether a mask hides anything",
    "transformers/masking_utils.py _preprocess_mask_arguments": "is on the device already",
    "transformers/masking_utils.py and_mask": "is on the device already",
    "transformers/modeling_layers.py forward": "is on the device already",
    "llama/modeling_llama.py forward": "is on the device already",
    "trainer/dpo_trainer.py _compute_loss": "TRL's figures, for the log",
    "trainer/utils.py _fused_forward": "is on the device already",
}
"""What transformers, accelerate and TRL do of their own accord, and why."""


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> dict[str, HostWaits]:
    """Objective -> what waited in its step STEP, with its log and the batch that follows."""
    seen: dict[str, HostWaits] = {}
    watching: list[Any] = []

    def begin(label: str) -> None:
        waits = seen[label.rpartition("-")[2]] = HostWaits()
        watching.append(waits.watching())
        watching[-1].__enter__()

    def end() -> None:
        while watching:
            watching.pop().__exit__(None, None, None)

    on_step_begin, write = StepLog.on_step_begin, Log.write

    def stepping(self: StepLog, args: Any, state: Any, control: Any, **rest: Any) -> None:
        end()
        if state.global_step == STEP - 1:
            begin(self.job.label)
        on_step_begin(self, args, state, control, **rest)

    def writing(self: Log, step: int, *rest: Any) -> None:
        end()
        write(self, step, *rest)
        if step == STEP - 1:
            begin(self.job.label)

    monkeypatch.setattr(_movement, "_STEPS", WATCHED)
    monkeypatch.setattr(StepLog, "on_step_begin", stepping)
    monkeypatch.setattr(Log, "write", writing)
    return seen


def train(workspace: Workspace, method: Any, rows: int, tokens: int) -> None:
    """Train by each objective, with so many rows in a batch and tokens in a rollout's answer."""
    steps = {"max_steps": STEP + 1, "learning_rate": 1e-3, "per_device_train_batch_size": rows}
    ppo = {**PPO, "max_steps": STEP + 1, "rollout_batch_size": rows, "minibatch_size": rows}
    workspace.write(
        matrix={
            "data": ["letters"], "method": [method],
            "objective": [{"sft": {**SFT, **steps}}, {"dpo": {**DPO, **steps}},
                          {"ppo": {**ppo, "ppo_epochs": 2, "max_new_tokens": tokens}}],
        },
        reward_model={**REWARD, **steps},
    )  # fmt: skip
    outcome = workspace.run()
    assert not outcome.failed, [r.error for r in outcome.failed]


@pytest.mark.parametrize(
    ("method", "rows", "tokens"),
    [
        ({"lora": {"r": 4}}, 4, 3),
        pytest.param({"lora": {"r": 4}}, 8, 9, marks=pytest.mark.slow),
        pytest.param("full", 4, 3, marks=pytest.mark.slow),
        pytest.param("full", 8, 9, marks=pytest.mark.slow),
    ],
)
def test_a_training_step_waits_as_often_whatever_its_batch(
    aligned: Workspace, waits: dict[str, HostWaits], method: Any, rows: int, tokens: int
) -> None:
    train(aligned, method, rows, tokens)
    assert waits.keys() == OURS.keys()
    for objective, each in waits.items():
        ours = {name: count for name, count in each.ours.items() if name != TOKENS}
        assert ours == OURS[objective], objective
        assert {name.partition(":")[0] for name in each.others} <= THEIRS.keys(), objective
    assert 0 < waits["ppo"].ours[TOKENS] <= tokens


def test_answers_wait_once_a_token_whatever_the_number_of_rows(tiny_model: Path) -> None:
    model = ModelRef(str(tiny_model), "float32", "cpu").load()
    draw = partial(sampled, temperature=1.0, top_p=1.0)
    for choose in (likeliest, draw):
        for rows, tokens in ((2, 4), (5, 7)):
            prompts = [Prompt([5 + i, 9], tokens, lambda _: False, seed=i) for i in range(rows)]
            answer(model, prompts, 512, (), 1, choose)  # what is found out once about a model
            with HostWaits().watching() as waits:
                answers = answer(model, prompts, 512, (), 1, choose)
            assert [len(each) for each in answers] == [tokens] * rows
            assert waits.ours == {TOKENS: tokens}
            with HostWaits().watching() as waits:
                decode(model, prompts, (), 1, choose)
            assert waits.ours == {
                "inference/decoding.py ended: tolist": tokens,
                "inference/decoding.py decode: tolist": 1,
                "inference/decoding.py decode: _local_scalar_dense": 1,
            }


@pytest.mark.parametrize("tiled", [("cpu",), ()])
@pytest.mark.parametrize("name", ["llama", "phi", "mixtral"])
def test_a_loss_over_labels_waits_for_none_of_them(
    name: str, tiled: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU and as on a GPU, with the places that the collator has counted."""
    monkeypatch.setattr(_head, "SMALL_BYTES", 0)
    monkeypatch.setattr(_head, "_TILED", tiled)
    model, inputs = family(name), batch()
    _loss.add_labelled_loss(model)
    inputs = _loss.WithPlaces(lambda _: inputs)([])
    places = inputs.pop(_loss.PLACES)
    wanted, count = model(**inputs, loss_over=_loss.Labels(10)).loss, torch.tensor(10)
    with HostWaits().watching() as waits:
        loss = model(**inputs, loss_over=_loss.Labels(count, places)).loss
        loss.backward()
    assert not waits.ours
    assert torch.equal(loss, wanted)


@pytest.mark.parametrize("shares", [True, False])
def test_scores_wait_once_a_pass_whatever_the_number_of_rows(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, shares: bool
) -> None:
    monkeypatch.setattr(token_scores, "_POSITIONS", 3)  # several parts of each pass
    model = ModelRef(str(tiny_model), "float32", "cpu").load()
    sharing = sharing_of(model) if shares else replace(sharing_of(model), shares=False)
    for rows in (3, 7):
        asked = [Asked([5 + i, *range(9, 16)], 6) for i in range(rows)]
        with HostWaits().watching() as waits:
            token_scores.score_tokens(model, asked, 512, 1, sharing=sharing)
        use = "inference/token_scores.py use"
        assert waits.ours == {f"{use}: cpu": 1, f"{use}: numpy": 1}  # the second one is no wait
        with HostWaits().watching() as waits:
            compare_tokens(model, model, asked, 512, 1, lambda one, other: (one - other).sum(-1))
        both = "inference/token_scores.py compare_tokens"
        assert waits.ours == {f"{both}: cpu": 1, f"{both}: numpy": 1}


def test_rewards_of_a_function_go_to_the_device_without_a_wait(
    tiny_model: Path, tmp_path: Path
) -> None:
    job = tiny_job(tiny_model, tmp_path, reward=lambda prompts, answers: [1.0, 2.0])
    score = scorer(job, 1, 512)
    with HostWaits().watching() as waits:
        assert score([[5], [6]], [[7], [8]]).tolist() == [1, 2]
    assert not {name for name in waits.ours if "_ppo" in name}


X = torch.arange(6.0).reshape(2, 3)
READS: dict[str, Callable[[], Any]] = {
    "item": X.sum().item, "tolist": X.tolist, "cpu": X.cpu, "numpy": X.numpy,
    "nonzero": X.nonzero, "unique": X.unique,
    "bool": lambda: bool(X[0, 0] == 0), "float": lambda: float(X[0, 0]),
    "format": lambda: f"{X[0, 0]:.1f}", "to": lambda: X.to("cpu"),
    "to device": lambda: X.to(device=torch.device("cpu")), "equal": lambda: torch.equal(X, X),
    "selection": lambda: X[X > 2], "assignment": lambda: X.clone().__setitem__(X > 2, 0.0),
    "masked_select": lambda: X.masked_select(X > 2), "rows": lambda: X[[0, 1]],
    "numbers": lambda: torch.tensor([1.0], device="cpu"),
    "repeated": lambda: torch.repeat_interleave(X, torch.ones(2, dtype=torch.long), 0),
}  # fmt: skip
NO_READS: dict[str, Callable[[], Any]] = {
    "sum": X.sum, "dtype": lambda: X.to(torch.float64), "upload": lambda: upload(X, X.device),
    "places": lambda: X[torch.tensor([0]), torch.tensor([1])], "where": lambda: X.where(X > 2, 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_what_waits_is_seen(name: str) -> None:
    with HostWaits().watching() as waits:
        READS[name]()
    assert waits.others


@pytest.mark.parametrize("name", NO_READS)
def test_what_does_not_wait_is_not_taken_for_it(name: str) -> None:
    with HostWaits().watching() as waits:
        NO_READS[name]()
    assert not waits.others
