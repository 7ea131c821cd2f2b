"""PPO's terms against arithmetic, its loop against a known optimum, its resume, its verdicts."""

from __future__ import annotations

import copy
import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)

from harness.core.errors import DataError, StageFailed
from harness.inference import batches
from harness.inference.batches import budget_batches
from harness.inference.sampling import nucleus
from harness.methods.full import Full
from harness.objectives._ppo import losses
from harness.objectives._ppo.experience import experience
from harness.objectives._ppo.improve import _backward
from harness.objectives._ppo.models import Actor, at_places, batch_of, reference_logits, scorer
from harness.objectives._ppo.rollout import (
    Rollouts,
    Sampling,
    drawn,
    sample,
)
from harness.objectives._ppo.trainer import train
from harness.objectives.base import TrainJob
from harness.objectives.ppo import Ppo
from harness.objectives.ppo_ptx import PpoPtx
from harness.stages.base import WORK
from tests.stages.test_resumed_audit import same as same_evidence

MASK = torch.tensor([[1.0, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]).double()


def uniform(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


# --- the terms -----------------------------------------------------------------------------------


def test_gae_agrees_with_a_case_worked_by_hand() -> None:
    # gamma = 0.9, lambda = 0.5. One answer of three tokens, one of a single token:
    #   r = 1, 2, 3   V = 0.5, 1, 2
    #   delta_2 = 3 + 0.9 * 0 - 2   = 1      A_2 = 1
    #   delta_1 = 2 + 0.9 * 2 - 1   = 2.8    A_1 = 2.8 + 0.45 * 1    = 3.25
    #   delta_0 = 1 + 0.9 * 1 - 0.5 = 1.4    A_0 = 1.4 + 0.45 * 3.25 = 2.8625
    #   returns A + V: 3.3625, 4.25, 3
    # and r = -1, V = 4, with rubbish on the padding: delta_0 = -1 + 0 - 4 = -5; return -1.
    rewards = torch.tensor([[1.0, 2, 3], [-1, 7, 7]]).double()
    values = torch.tensor([[0.5, 1, 2], [4, 9, 9]]).double()
    mask = torch.tensor([[1.0, 1, 1], [1, 0, 0]]).double()
    advantages, returns = losses.gae(rewards, values, mask, gamma=0.9, lam=0.5)
    assert advantages[0].tolist() == pytest.approx([2.8625, 3.25, 1.0], abs=1e-12)
    assert returns[0].tolist() == pytest.approx([3.3625, 4.25, 3.0], abs=1e-12)
    assert advantages[1].tolist() == pytest.approx([-5.0, 0, 0])
    assert returns[1].tolist() == pytest.approx([-1.0, 0, 0])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.floats(0.5, 1), st.floats(0, 1), st.integers(0, 99))
def test_gae_is_the_sum_of_equation_16(length: int, gamma: float, lam: float, seed: int) -> None:
    rewards, values = uniform(1, length, seed=seed), uniform(1, length, seed=seed + 1)
    ones = torch.ones(1, length).double()
    advantages, _ = losses.gae(rewards, values, ones, gamma, lam)
    following = [*values[0, 1:].tolist(), 0.0]
    deltas = [rewards[0, t] + gamma * following[t] - values[0, t] for t in range(length)]
    for t in range(length):
        whole = sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, length))
        assert advantages[0, t].item() == pytest.approx(float(whole), abs=1e-10)


def test_score_and_kl_reach_the_tokens_they_belong_to() -> None:
    # beta = 0.5: answer 0 has three tokens with KL 1, 2, 3 and score 10: -0.5, -1, -1.5 + 10.
    kl = torch.tensor([[1.0, 2, 3, 99], [1, 1, 1, 1], [4, 99, 99, 99]]).double()
    scores = torch.tensor([10.0, 0, -1]).double()
    rewards = losses.token_rewards(scores, kl, MASK, 0.5)
    assert rewards.tolist() == [[-0.5, -1, 8.5, 0], [-0.5] * 4, [-3, 0, 0, 0]]


def test_missing_end_costs_the_penalty_only_where_it_misses() -> None:
    scores, finished = torch.tensor([1.0, 2.0]), torch.tensor([True, False])
    assert losses.missing_eos(scores, finished, 5.0).tolist() == [1.0, -3.0]
    assert losses.missing_eos(scores, finished, None).tolist() == [1.0, 2.0]


def test_whitening_sees_only_the_answers() -> None:
    values = uniform(3, 4) * 7 + 3
    dirty = torch.where(MASK == 1, values, 1e6)
    white = losses.whiten(dirty, MASK)
    inside = white[MASK == 1]
    assert inside.mean().item() == pytest.approx(0, abs=1e-12)
    assert inside.var().item() == pytest.approx(1, abs=1e-6)
    assert (white[MASK == 0] == 0).all()
    kept = losses.whiten(dirty, MASK, shift_mean=False)[MASK == 1]
    assert kept.mean().item() == pytest.approx(values[MASK == 1].mean().item())


@pytest.mark.parametrize("estimator", losses.KL_ESTIMATORS)
def test_kl_estimates_are_unbiased(estimator: str) -> None:
    policy, reference = torch.log_softmax(uniform(2, 6) * 4, -1)
    exact = (policy.exp() * (policy - reference)).sum()
    estimate = (policy.exp() * losses.kl_estimate(policy, reference, estimator)).sum()
    assert estimate.item() == pytest.approx(exact.item(), abs=1e-12)
    if estimator == "k3":
        assert (losses.kl_estimate(policy, reference, "k3") >= 0).all()


def test_entropy_bears_impossible_tokens() -> None:
    logits = torch.tensor([[[0.0, 0.0, float("-inf")]]]).double().requires_grad_()
    found = losses.entropy(logits)
    assert found.item() == pytest.approx(math.log(2))
    assert losses.entropy(torch.zeros(1, 1, 8), 2.0).item() == pytest.approx(math.log(8))


@pytest.mark.parametrize(
    ("kl", "factor"), [(6.0, 1.0), (6.6, 1.01), (60.0, 1.02), (0.0, 0.98), (5.4, 0.99)]
)
def test_beta_follows_ziegler(kl: float, factor: float) -> None:
    assert losses.adapted(0.2, kl, target=6.0, gain=0.1) == pytest.approx(0.2 * factor)


def test_explained_variance_of_good_poor_and_constant_values() -> None:
    returns = uniform(3, 4)
    assert losses.explained_variance(returns, returns, MASK).item() == pytest.approx(1)
    assert losses.explained_variance(0 * returns, returns, MASK).item() == pytest.approx(0)
    assert losses.explained_variance(returns, torch.ones(3, 4).double(), MASK).item() == 0


def old_and_advantages() -> tuple[Tensor, Tensor]:
    return -uniform(3, 4, seed=1), uniform(3, 4, seed=2) - 0.5


TOKENS = torch.tensor([[1, 2, 0, 0], [4, 3, 2, 1], [0, 0, 0, 0]])
TERMS: dict[str, Callable[[Tensor], Tensor]] = {
    "log_probs": lambda x: losses.token_log_probs(x, TOKENS, 0.7),
    "entropy": lambda x: losses.entropy(x, 1.3),
    "k1": lambda x: losses.kl_estimate(x[..., 0], -uniform(3, 4, seed=3), "k1"),
    "k3": lambda x: losses.kl_estimate(x[..., 0], -uniform(3, 4, seed=3), "k3"),
    "policy": lambda x: losses.policy_terms(x[..., 0] - 1, *old_and_advantages(), 0.2),
    "value": lambda x: losses.value_terms(x[..., 0], uniform(3, 4, seed=4), x[..., 1] * 2, None),
    "value clipped": lambda x: losses.value_terms(
        x[..., 0], uniform(3, 4, seed=4), uniform(3, 4, seed=5), 0.2
    ),
    "gae": lambda x: losses.gae(x[..., 0], x[..., 1], MASK, 0.9, 0.8)[0],
    "whiten": lambda x: losses.whiten(x[..., 0], MASK),
    "rewards": lambda x: losses.token_rewards(x[:, 0, 0], x[..., 1], MASK, 0.3),
}


@pytest.mark.parametrize("name", TERMS)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    def weighed(x: Tensor) -> Tensor:
        return (TERMS[name](x) * MASK * uniform(3, 4, seed=9)).sum()

    at = uniform(3, 4, 5, seed=7).requires_grad_()
    (gradient,) = torch.autograd.grad(weighed(at), at)
    assert gradient.abs().sum() > 0
    step = 1e-6
    for place in itertools.product(range(3), range(4), range(5)):
        moved = torch.zeros_like(at)
        moved[place] = step
        with torch.no_grad():
            difference = (weighed(at + moved) - weighed(at - moved)) / (2 * step)
        assert gradient[place].item() == pytest.approx(difference.item(), abs=1e-7)


def test_clipping_stops_the_gradient_only_on_the_good_side() -> None:
    # r = 1.5 with eps = 0.2: no more gain from a good token, but a bad one is still pushed down.
    old, new = torch.zeros(1, 2), torch.full((1, 2), math.log(1.5), requires_grad=True)
    terms = losses.policy_terms(new, old, torch.tensor([[1.0, -1.0]]), 0.2)
    assert terms.tolist()[0] == pytest.approx([-1.2, 1.5])
    terms.sum().backward()
    assert new.grad is not None
    assert new.grad.tolist()[0] == pytest.approx([0.0, 1.5])
    share = losses.clipped_share(new, old, torch.ones(1, 2), 0.2)
    assert share.item() == 1


# --- rollouts ------------------------------------------------------------------------------------


def sampling(**changes: Any) -> Sampling:
    given = {"eos": frozenset({0}), "pad": 1, "max_new_tokens": 6, "temperature": 1.0,
             "top_p": 1.0, "batch_tokens": 4096}  # fmt: skip
    return Sampling(**{**given, **changes})


def test_an_answer_does_not_depend_on_its_batch(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    prompts = [[40 + i] * (1 + i % 4) for i in range(8)]
    seeds = list(range(8))
    together = sample(model, prompts, seeds, sampling()).answers
    for budget in (1, 20):
        assert sample(model, prompts, seeds, sampling(batch_tokens=budget)).answers == together
    alone = sample(model, prompts[5:6], seeds[5:6], sampling()).answers
    assert alone == together[5:6]
    assert sample(model, prompts, seeds[::-1], sampling()).answers != together


def test_samples_follow_the_policy() -> None:
    torch.manual_seed(0)
    model = bandit()
    counts = torch.zeros(8)
    how = sampling(max_new_tokens=1, temperature=0.7)
    for answer in sample(model, [[3]] * 4000, list(range(4000)), how).answers:
        counts[answer[0]] += 1
    wanted = torch.softmax(model(torch.tensor([[3]])).logits[0, -1] / 0.7, -1).detach()
    assert wanted.max() > 2 * wanted.min()
    # chi-squared with 7 degrees of freedom: 24.3 is exceeded once in a thousand.
    assert (((counts - 4000 * wanted) ** 2) / (4000 * wanted)).sum() < 24.3


def test_answers_end_with_their_end_token(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    how = sampling(eos=frozenset(range(0, 260, 3)), max_new_tokens=5)
    found = sample(model, [[50], [51, 52]] * 10, list(range(20)), how)
    for answer, finished in zip(found.answers, found.finished, strict=True):
        assert all(token % 3 for token in answer[:-1])
        assert finished == (answer[-1] % 3 == 0)
        assert finished or len(answer) == 5
    assert len(set(found.finished)) == 2


def test_nucleus_keeps_the_likeliest() -> None:
    kept = nucleus(torch.tensor([[0.1, 0.5, 0.3, 0.1]]), 0.7)
    assert kept.tolist()[0] == pytest.approx([0, 0.5, 0.3, 0])


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 200))
def test_budget_batches_hold_every_row_once(lengths: list[int], budget: int) -> None:
    made = list(budget_batches(lengths, budget))
    assert sorted(itertools.chain(*made)) == list(range(len(lengths)))
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


def test_every_prompt_comes_once_an_epoch() -> None:
    places = [i for step in range(6) for i in drawn(10, 5, step, seed=1)]
    for epoch in range(3):
        assert sorted(places[epoch * 10 : epoch * 10 + 10]) == list(range(10))
    assert places[:10] != places[10:20]
    assert drawn(10, 35, 0, seed=1)[:30] == places  # whatever the steps' size


def test_a_step_of_many_answers_from_many_prompts_is_drawn_at_once() -> None:
    start = time.process_time()
    assert len(set(drawn(50_000, 512, 3, seed=1))) == 512
    assert time.process_time() - start < 2  # one shuffle; one for each answer takes 15 s


# --- the loop ------------------------------------------------------------------------------------


class Letters:
    """A tokenizer of eight letters, of which `a` ends an answer."""

    eos_token_id, pad_token_id, bos_token_id, eos_token = 0, 7, None, "a"

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": ["abcdefgh".index(c) for c in text]}


def bandit() -> Any:
    config = LlamaConfig(
        vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1, max_position_embeddings=16,
        eos_token_id=0, pad_token_id=7, bos_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight *= 10  # so that some letters are likelier than others
    return model


def job_of(model: Any, tokenizer: Any, folder: Path, reward: Any, rows: Any, **more: Any) -> Any:
    reference = copy.deepcopy(model)
    given = {
        "model": model, "tokenizer": tokenizer, "rows": rows, "validation": [],
        "checkpoints": folder / "work", "step_log": folder / "steps.jsonl", "seed": 1,
        "data_seed": 2, "dtype": "float32", "device": "cpu", "checkpoint_seconds": 1e9,
        "report_to": [], "label": "test", "progress": lambda *_: None, "reward_model": reward,
        "reference_logits": lambda ids, mask: reference(
            input_ids=ids, attention_mask=mask, use_cache=False).logits,
    }  # fmt: skip
    (folder / "work").mkdir(parents=True, exist_ok=True)
    return TrainJob(**{**given, **more})


def steps_of(job: TrainJob) -> list[dict[str, float]]:
    return [json.loads(line) for line in job.step_log.read_text().splitlines()]


def test_bandit_reaches_its_known_optimum(tmp_path: Path) -> None:
    """With one-token answers the optimum of reward less KL is reference * exp(r / beta) / Z."""
    torch.manual_seed(0)
    model, beta = bandit(), 0.5
    payoff = torch.tensor([0.0, 1.0, 0.5, -1.0, 0.2, 0.0, -0.5, 0.3])
    start = torch.log_softmax(model(torch.tensor([[1, 2]])).logits[0, -1], -1).detach()
    optimum = torch.softmax(start + payoff / beta, -1)

    def reward(prompts: list[list[int]], answers: list[list[int]]) -> list[float]:
        return [payoff[answer[0]].item() for answer in answers]

    objective = Ppo(
        learning_rate=5e-3, max_steps=60, rollout_batch_size=128, minibatch_size=64,
        ppo_epochs=2, max_new_tokens=1, max_length=16, kl_coef=beta, value="head",
        lr_scheduler_type="linear", whiten_advantages=False, value_coef=0.5, max_grad_norm=0,
    )  # fmt: skip
    job = job_of(model, Letters(), tmp_path, reward, [{"prompt": "bc"}])
    train(objective, job)
    reached = torch.softmax(model(torch.tensor([[1, 2]])).logits[0, -1], -1).detach()
    before = 0.5 * (start.exp() - optimum).abs().sum()
    distance = 0.5 * (reached - optimum).abs().sum()
    assert before > 0.3
    assert distance < 0.05, (reached, optimum)
    # Its value is beta log Z; the loop's own figure approaches it.
    value = beta * torch.logsumexp(start + payoff / beta, 0).item()
    last = [line["reward_less_kl"] for line in steps_of(job)[-10:]]
    assert sum(last) / 10 == pytest.approx(value, abs=0.05)


def quick(**changes: Any) -> dict[str, Any]:
    return {
        "learning_rate": 1e-3, "max_steps": 3, "rollout_batch_size": 6, "minibatch_size": 4,
        "ppo_epochs": 2, "max_new_tokens": 5, "max_length": 48, "batch_tokens": 64, **changes,
    }  # fmt: skip


ROWS = [{"prompt": f"say {letter}:"} for letter in "abcdefgh"]
TEXTS = [{"text": f"the quick brown fox number {i}"} for i in range(10)]


def tiny_job(tiny_model: Path, folder: Path, *, lora: bool = False, **more: Any) -> TrainJob:
    torch.manual_seed(3)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    reward = AutoModelForSequenceClassification.from_pretrained(
        tiny_model, num_labels=1, dtype=torch.float32
    )
    if lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(
            model,
            LoraConfig(
                r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
            ),
        )
    folder.mkdir(exist_ok=True)
    return job_of(model, tokenizer, folder, more.pop("reward", reward), ROWS, **more)


def weights(job: TrainJob) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in job.model.named_parameters()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first | second)


@pytest.mark.parametrize(("value", "lora"), [("reward_copy", False), ("head", True)])
def test_first_step_starts_at_the_reference(
    tiny_model: Path, tmp_path: Path, value: str, lora: bool
) -> None:
    job = tiny_job(tiny_model, tmp_path, lora=lora)
    before = weights(job)
    found = train(Ppo(value=value, **quick()), job)
    first = steps_of(job)[0]
    assert first["kl"] == 0
    assert found.metrics["final_kl"] != 0
    assert found.steps == len(steps_of(job)) == 3
    assert first["value_grad_norm"] > 0
    moved = {n for n, p in job.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert all(("lora_" in name) == lora for name in moved)


def test_first_gradient_step_is_on_policy(tiny_model: Path, tmp_path: Path) -> None:
    job = tiny_job(tiny_model, tmp_path)
    train(Ppo(**quick(max_steps=1, ppo_epochs=1, minibatch_size=6)), job)
    (line,) = steps_of(job)
    # The ratio is 1 everywhere, so the policy loss is the mean advantage, which is whitened to 0.
    assert line["approx_kl"] == pytest.approx(0, abs=1e-9)
    assert line["clip_fraction"] == 0
    assert line["policy_loss"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("lora", [False, True])
def test_logits_are_of_the_answers_alone(
    tiny_model: Path, tmp_path: Path, lora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.inference.positions.SMALL_BYTES", 0)
    job = tiny_job(tiny_model, tmp_path, lora=lora)
    job = replace(job, reference_logits=Full().add_reference(job.model).logits)
    actor = Actor(Ppo(**quick()), job)
    batch = batch_of([[40, 41, 42], [42]], [[50], [51, 52]], 1, "cpu")
    own = job.model(input_ids=batch.ids, attention_mask=batch.attention).logits
    given: list[torch.Size] = []
    hook = job.model.get_output_embeddings().register_forward_hook(
        lambda module, inputs, output: given.append(output.shape)
    )
    logits, _ = actor(batch)
    reference = reference_logits(job, batch)
    hook.remove()
    assert [shape[:2] for shape in given] == [(2, 2), (2, 2)]
    assert torch.equal(logits, at_places(own, batch.places))
    assert torch.equal(reference, logits)


@pytest.mark.parametrize("value", ["reward_copy", "head"])
def test_minibatch_gradient_is_that_of_the_mean_over_its_tokens(
    tiny_model: Path, tmp_path: Path, value: str
) -> None:
    options = {"value": value, "entropy_coef": 0.3, "value_coef": 0.7, "temperature": 0.8}
    objective = Ppo(**quick(batch_tokens=24, **options))
    job = tiny_job(tiny_model, tmp_path)
    actor = Actor(objective, job)
    prompts = [[40, 41], [42], [43, 44, 45], [46]]
    rollouts = Rollouts(prompts, [[50, 51, 0], [52], [53, 0], [54, 55, 56, 57]], [True] * 4)
    found = experience(objective, actor, scorer(job, 1, 64), rollouts, 0.1, 1)
    with torch.no_grad():  # away from the rollout's policy, so that ratios matter
        job.model.model.norm.weight += 0.3
    rows = [3, 0, 1]
    figures = _backward(objective, actor, found, rows, 1)
    gradients = {n: p.grad.clone() for n, p in job.model.named_parameters()}
    job.model.zero_grad()

    policy, values, entropies = [], [], []
    for row in rows:  # one by one, from the definitions
        answer = torch.tensor(rollouts.answers[row])
        ids = torch.tensor([prompts[row] + rollouts.answers[row]])
        start, size = len(prompts[row]) - 1, len(answer)
        out = job.model(ids, output_hidden_states=True)
        logs = torch.log_softmax(out.logits[0, start : start + size] / 0.8, -1)
        ratio = (logs[torch.arange(size), answer] - found.old[row, :size]).exp()
        gain = found.advantages[row, :size]
        policy.append(-torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain))
        entropies.append(-(logs.exp() * logs).sum(-1))
        if value == "head":
            new = actor.value_module(out.hidden_states[-1][0, start : start + size])[:, 0]
        else:
            hidden = job.reward_model.model(ids).last_hidden_state[0, start : start + size]
            new = job.reward_model.score(hidden)[:, 0]
        values.append(0.5 * (new - found.returns[row, :size]) ** 2)  # no value has moved: no clip
    mean = {name: torch.cat(parts).mean() for name, parts in
            {"policy": policy, "value": values, "entropy": entropies}.items()}  # fmt: skip
    (mean["policy"] + 0.7 * mean["value"] - 0.3 * mean["entropy"]).backward()
    assert figures["policy_loss"] == pytest.approx(mean["policy"].item(), rel=1e-4)
    assert figures["value_loss"] == pytest.approx(mean["value"].item(), rel=1e-4)
    for name, parameter in job.model.named_parameters():
        assert torch.allclose(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5), name


def test_token_budget_changes_only_rounding(tiny_model: Path, tmp_path: Path) -> None:
    found = []
    for budget in (16, 4096):
        job = tiny_job(tiny_model, tmp_path / str(budget))
        train(Ppo(**quick(batch_tokens=budget, max_steps=2)), job)
        found.append(steps_of(job))
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)


def test_no_pass_holds_more_logits_than_their_limit(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever batch_tokens says: of real vocabularies its default would take 10 GB."""
    job = tiny_job(tiny_model, tmp_path)
    limit = 4 * job.model.config.vocab_size * 16
    monkeypatch.setattr(batches, "LOGITS_BYTES", limit)
    seen = []
    forward = Actor.__call__

    def watched(self: Actor, batch: Any) -> Any:
        logits, values = forward(self, batch)
        seen.append((len(logits), 4 * logits.numel()))
        return logits, values

    monkeypatch.setattr(Actor, "__call__", watched)
    train(Ppo(**quick(batch_tokens=4096, max_steps=1)), job)
    assert len(seen) > 4
    assert all(size <= limit or rows == 1 for rows, size in seen)


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Ppo, {"kl_control": "adaptive", "kl_target": 0.01}),
        (PpoPtx, {"ptx_data": "general", "ptx_coef": 0.5, "value": "head"}),
    ],
)
def test_killed_run_goes_on_to_the_same_bits(
    tiny_model: Path, tmp_path: Path, kind: type[Ppo], options: dict[str, Any]
) -> None:
    # An epsilon so large that the first steps do not show yet what all of the tensors do.
    objective = kind(**quick(max_steps=4, lr_scheduler_type="linear", adam_epsilon=1.0, **options))
    more = {"more_rows": {"pretraining": TEXTS}, "checkpoint_seconds": 0}

    def kill(done: int, total: int, note: str) -> None:
        if done == 3:  # its third step is logged, and not in the last checkpoint
            raise Killed

    whole = tiny_job(tiny_model, tmp_path / "whole", **more)
    result = train(objective, whole)
    with pytest.raises(Killed):
        train(objective, tiny_job(tiny_model, tmp_path / "cut", **more, progress=kill))
    assert (tmp_path / "cut" / WORK / "checkpoint-2" / "complete").is_file()
    assert not list((tmp_path / "cut").rglob("*.bin")) + list((tmp_path / "cut").rglob("*.pt"))
    last = tmp_path / "cut" / WORK / "checkpoint-2"
    spent = json.loads((last / "state.json").read_text())["seconds"]
    resumed = tiny_job(tiny_model, tmp_path / "cut", **more)
    again = train(objective, resumed)
    assert again.earlier_seconds == spent > result.earlier_seconds == 0
    assert same(weights(whole), weights(resumed))
    assert whole.step_log.read_text() == resumed.step_log.read_text()
    assert result.metrics == again.metrics
    assert result.checks == again.checks
    assert same_evidence(result.evidence, again.evidence)
    coefs = {line["kl_coef"] for line in steps_of(whole)}
    assert (len(coefs) > 1) == (options.get("kl_control") == "adaptive")


def test_ptx_of_nothing_is_ppo_bit_for_bit(tiny_model: Path, tmp_path: Path) -> None:
    found = {}
    for name, objective in {
        "ppo": Ppo(**quick()),
        "zero": PpoPtx(**quick(), ptx_coef=0, ptx_data="general"),
        "some": PpoPtx(**quick(), ptx_coef=1, ptx_data="general"),
    }.items():
        job = tiny_job(tiny_model, tmp_path / name, more_rows={"pretraining": TEXTS})
        train(objective, job)
        found[name] = (weights(job), job.step_log.read_text())
    assert same(found["ppo"][0], found["zero"][0])
    assert found["ppo"][1] == found["zero"][1]
    assert not same(found["ppo"][0], found["some"][0])


def test_ptx_gradient_is_that_of_the_text(tiny_model: Path, tmp_path: Path) -> None:
    from harness.objectives._ppo.ptx import Pretraining

    job = tiny_job(tiny_model, tmp_path, more_rows={"pretraining": TEXTS[:1]})
    objective = PpoPtx(**quick(), ptx_coef=3.0, ptx_data="general", ptx_max_length=100)
    loss, tokens = Pretraining(objective, job, 1).backward(1, 0)
    gradient = job.model.model.norm.weight.grad.clone()
    job.model.zero_grad()
    ids = torch.tensor([[*job.tokenizer(TEXTS[0]["text"])["input_ids"], 0]])
    plain = job.model(input_ids=ids, labels=ids).loss
    (3.0 * plain).backward()
    assert loss == pytest.approx(plain.item(), rel=1e-5)
    assert tokens == ids.shape[1] - 1
    assert torch.allclose(gradient, job.model.model.norm.weight.grad, rtol=1e-4, atol=1e-6)


def test_early_stop_leaves_gradient_steps_undone(tiny_model: Path, tmp_path: Path) -> None:
    objective = quick(max_steps=1, learning_rate=1e-2, ppo_epochs=4)
    free, held = (
        tiny_job(tiny_model, tmp_path / "free"), tiny_job(tiny_model, tmp_path / "held")
    )  # fmt: skip
    train(Ppo(**objective), free)
    train(Ppo(**objective, stop_kl=1e-3), held)
    assert steps_of(free)[0]["gradient_steps"] == 8
    assert 1 <= steps_of(held)[0]["gradient_steps"] < 8
    assert steps_of(held)[0]["stopped_early"] == 1


# --- verdicts and refusals -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learning_rate": 0.5, "max_grad_norm": 0, "kl_coef": 0, "collapse_kl": 2.0,
          "collapse_entropy": 0}, "KL to the starting policy"),
        ({"learning_rate": 0.5, "max_grad_norm": 0, "kl_coef": 0, "collapse_kl": 1e9,
          "collapse_entropy": 0.01}, "entropy"),
    ],
)  # fmt: skip
def test_collapse_stops_with_a_verdict(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    torch.manual_seed(0)

    def reward(prompts: list[list[int]], answers: list[list[int]]) -> list[float]:
        return [float(answer.count(3)) for answer in answers]

    objective = Ppo(value="head", **quick(max_steps=60, **options))
    job = job_of(bandit(), Letters(), tmp_path, reward, [{"prompt": "bc"}])
    with pytest.raises(StageFailed, match=words) as failed:
        train(objective, job)
    assert failed.value.reason == "collapse"
    assert "in 3 steps running" in str(failed.value)
    assert 3 <= len(steps_of(job)) < 60


def test_empty_answers_are_a_collapse(tmp_path: Path) -> None:
    def reward(prompts: list[list[int]], answers: list[list[int]]) -> list[float]:
        return [1.0 for _ in answers]

    model = bandit()

    model.generation_config.eos_token_id = list(range(8))  # whatever comes first ends the answer
    job = job_of(model, Letters(), tmp_path, reward, [{"prompt": "bc"}])
    with pytest.raises(StageFailed, match="all 6 answers are empty"):
        train(Ppo(value="head", **quick(collapse_patience=1)), job)


def test_a_score_that_is_no_number_stops(tiny_model: Path, tmp_path: Path) -> None:
    job = tiny_job(tiny_model, tmp_path, reward=lambda prompts, answers: [math.nan] * len(answers))
    with pytest.raises(StageFailed, match="of step 1 is nan"):
        train(Ppo(value="head", **quick()), job)


def test_another_vocabulary_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import LlamaForSequenceClassification

    other = LlamaForSequenceClassification(LlamaConfig(
        vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_labels=1,
        num_attention_heads=1, num_key_value_heads=1))  # fmt: skip
    with pytest.raises(StageFailed, match="vocabulary of 9 tokens and the policy one of 260"):
        train(Ppo(**quick()), tiny_job(tiny_model, tmp_path, reward=other))


def test_a_function_has_no_value_model(tiny_model: Path, tmp_path: Path) -> None:
    job = tiny_job(tiny_model, tmp_path, reward=lambda prompts, answers: [0.0] * len(answers))
    with pytest.raises(StageFailed, match="set `value: head`"):
        train(Ppo(**quick()), job)


@pytest.mark.parametrize("policy", ["drop", "error"])
def test_overlong_prompts_are_counted_or_refused(
    tiny_model: Path, tmp_path: Path, policy: str
) -> None:
    job = tiny_job(tiny_model, tmp_path)
    job.rows = [*ROWS, {"prompt": "long " * 20}]
    objective = Ppo(overlong=policy, **quick(max_steps=1))
    if policy == "error":
        with pytest.raises(DataError, match="1 of 9 prompts"):
            train(objective, job)
    else:
        assert train(objective, job).metrics["prompts_dropped"] == 1


def test_conversations_are_asked_with_the_template(tiny_model: Path, tmp_path: Path) -> None:
    seen: list[list[int]] = []

    def reward(prompts: list[list[int]], answers: list[list[int]]) -> list[float]:
        seen.extend(prompts)
        return [0.0] * len(answers)

    job = tiny_job(tiny_model, tmp_path, reward=reward)
    turns = [{"role": "user", "content": "hi"}]
    job.rows = [{"prompt": turns}, {"messages": [*turns, {"role": "assistant", "content": "x"}]}]
    train(Ppo(value="head", **quick(max_steps=1)), job)
    assert set(map(job.tokenizer.decode, seen)) == {"<|user|>hi<|assistant|>"}
