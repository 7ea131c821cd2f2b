"""Our PPO against what TRL 1.12.0's computed, on rollouts recorded from it.

The recording is made by tests/benchmarks/ppo_trl_record.py: one update of TRL's PPOTrainer in
float64 (8 answers, 2 epochs) in three cases. In `whole` and `whitened` every answer has the full
length, and everything is held equal, from the answers' tokens to the weights after the update. In
`early` some answers end before, where TRL and we differ by design.

Within 1e-5, not more closely: our rollouts are kept in float32, RMSNorm computes in it, and TRL
divides logits by the temperature plus 1e-7.

Where the two differ by design, and what is compared instead:

* The step after the end. We reward an answer's last token, and the value after it is 0 (GAE; the
  episode is over). TRL gives an answer that ends early one step more: the state after its end token
  has a value, is rewarded with the score, and counts in the value loss (its `padding_mask_p1`).
  Our functions, given that mask, give TRL's rewards, returns and losses; our policy gradient, given
  its advantages, is TRL's.
* Padding tokens. TRL takes one that the policy samples for the end of the answer, we for a token
  as any other; the recorder passes over rollouts with one.
* Clip fraction. Ours counts the ratios outside the clip range, on both sides; TRL's the tokens
  whose loss the clipping changes. TRL's is computed from our `policy_terms`.
* Approximate KL since the rollout. Ours is k3 over the answers' tokens; TRL's half the mean squared
  log-ratio over all places, padding too. They agree to the third order of the log-ratio.
* Entropy. TRL's mean takes padding in; without padding they are equal.
* TRL clips no gradients, and has no entropy bonus: ours are set to none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from harness.objectives._ppo import improve as steps
from harness.objectives._ppo import losses
from harness.objectives._ppo.experience import Experience, experience
from harness.objectives._ppo.models import Actor, scorer
from harness.objectives._ppo.optimizer import optimizer_of
from harness.objectives._ppo.rollout import Rollouts
from harness.objectives.base import TrainJob
from harness.objectives.ppo import Ppo

FIXTURE = Path(__file__).parents[1] / "fixtures" / "ppo_trl"
TENSORS = load_file(FIXTURE.with_suffix(".safetensors"))
ABOUT = json.loads(FIXTURE.with_suffix(".json").read_text(encoding="utf-8"))
EVERY, WHOLE = ("whole", "whitened", "early"), ("whole", "whitened")
UNCLIPPED = 1e9
NOTHING_AFTER: Any = SimpleNamespace(eos_token_id=None)
"""A tokenizer without a chat template: nothing is written after the token that ends an answer."""


def below(prefix: str) -> dict[str, Tensor]:
    """The recorded tensors whose names start so, by the rest of their names."""
    start = prefix + "."
    return {key.removeprefix(start): t for key, t in TENSORS.items() if key.startswith(start)}


def close(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(
        torch.as_tensor(ours).double(), torch.as_tensor(theirs).double(), rtol=0, atol=1e-5
    )


def compare(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for key, tensor in ours.items():
        close(tensor, theirs[key])


@dataclass
class Case:
    """One recorded update of TRL, and the same start for ours."""

    name: str

    def __post_init__(self) -> None:
        self.found = below(self.name)
        self.told = ABOUT["cases"][self.name]["arguments"]
        self.numbers = ABOUT["cases"][self.name]["numbers"]
        self.mask = (~self.found["padding_mask"]).double()
        self.mask_p1 = (~self.found["padding_mask_p1"]).double()
        self.pad = ABOUT["model"]["pad_token_id"]

    @property
    def objective(self) -> Ppo:
        told = self.told
        return Ppo(
            learning_rate=told["learning_rate"], adam_beta2=0.999,
            adam_epsilon=told["adam_epsilon"], max_grad_norm=0, ppo_epochs=told["num_ppo_epochs"],
            rollout_batch_size=len(self.mask), max_new_tokens=told["response_length"],
            minibatch_size=len(self.mask) // told["num_mini_batches"], batch_tokens=30,
            temperature=told["temperature"], kl_coef=told["kl_coef"],
            kl_estimator=told["kl_estimator"], gamma=told["gamma"], lam=told["lam"],
            clip_range=told["cliprange"], value_clip_range=told["cliprange_value"],
            value_coef=told["vf_coef"], whiten_rewards=told["whiten_rewards"],
            missing_eos_penalty=told["missing_eos_penalty"],
        )  # fmt: skip

    @property
    def rollouts(self) -> Rollouts:
        queries, answers, kept = self.found["queries"], self.found["responses"], self.mask.bool()
        return Rollouts(
            prompts=[row[row != self.pad].tolist() for row in queries],
            answers=[row[own].tolist() for row, own in zip(answers, kept, strict=True)],
            finished=self.found["contain_eos_token"].tolist(),
        )

    def actor(self) -> Actor:
        return Actor(self.objective, self.job())

    def job(self) -> TrainJob:
        reference = started("reference")
        nowhere = Path("unused")
        return TrainJob(
            model=started("policy"), tokenizer=NOTHING_AFTER, rows=[], validation=[],
            checkpoints=nowhere, step_log=nowhere, seed=0, data_seed=0, dtype="float64",
            device="cpu", checkpoint_seconds=1e9, report_to=[], label="oracle",
            progress=lambda *_: None, reward_model=started("reward"),
            value_model=lambda: started("value"),
            reference_logits=lambda ids, mask: reference(
                input_ids=ids, attention_mask=mask, use_cache=False).logits,
        )  # fmt: skip

    def experience(self, actor: Actor) -> Experience:
        score = scorer(actor.job, self.pad, 30)
        return experience(
            self.objective, actor, score, self.rollouts, self.told["kl_coef"], self.pad
        )

    def step(self, number: int) -> dict[str, Tensor]:
        return below(f"{self.name}.step{number}")

    @property
    def steps(self) -> int:
        return len(self.numbers["loss"])


def started(role: str) -> Any:
    kinds = {"policy": LlamaForCausalLM, "reference": LlamaForCausalLM}
    model = kinds.get(role, LlamaForSequenceClassification)(LlamaConfig(**ABOUT["model"])).double()
    tied = {"lm_head.weight"} if role in kinds else set()
    missing, unexpected = model.load_state_dict(below(f"start.{role}"), strict=False)
    assert set(missing) <= tied
    assert not unexpected
    return model


def improved(
    case: Case, actor: Actor, found: Experience, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[dict[str, float], dict[str, Tensor]]]:
    """Our gradient steps in the recorded order of the answers: the figures of each, and the
    gradients before Adam's step, named as in TRL."""
    every: list[tuple[dict[str, float], dict[str, Tensor]]] = []
    optimizer = optimizer_of(case.objective, actor)
    backward = steps._backward

    def order(*_: Any) -> Any:
        for number in range(case.steps):
            yield 0, number, case.step(number)["micro_batch_inds"].tolist()

    def recorded(*arguments: Any) -> dict[str, float]:
        figures = backward(*arguments)
        gradients = {
            f"{role}.{name}": parameter.grad.clone()
            for role, own in owned(actor).items()
            for name, parameter in own.items()
            if parameter.grad is not None
        }
        every.append((dict(figures), gradients))
        return figures

    monkeypatch.setattr(steps, "_minibatches", order)
    monkeypatch.setattr(steps, "_backward", recorded)
    steps.improve(case.objective, actor, optimizer, found, None, 0, case.pad)
    return every


def owned(actor: Actor) -> dict[str, dict[str, Any]]:
    return {"policy": actor.policy_parameters(), "value_model": actor.value_parameters()}


# --- each function, on the recorded numbers ------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_rewards_and_their_kl_are_those_of_trl(name: str) -> None:
    case = Case(name)
    found = case.found
    kl = losses.kl_estimate(found["logprobs"], found["ref_logprobs"], case.told["kl_estimator"])
    close(kl * case.mask, found["kl"])
    assert found["kl"].abs().max() > 0.1  # else nothing is compared
    rewards = losses.token_rewards(
        found["scores"], kl * case.mask, case.mask_p1, case.told["kl_coef"]
    )
    if case.told["whiten_rewards"]:
        close(rewards, found["raw_rewards"])
        rewards = losses.whiten(rewards, case.mask_p1, shift_mean=False)
    close(rewards, found["rewards"])


@pytest.mark.parametrize("name", EVERY)
def test_advantages_and_returns_are_those_of_trl(name: str) -> None:
    case = Case(name)
    found, told = case.found, case.told
    advantages, returns = losses.gae(
        found["rewards"], found["values"], case.mask_p1, told["gamma"], told["lam"]
    )
    close(advantages, found["raw_advantages"])
    close(returns, found["returns"])
    close(losses.whiten(advantages, case.mask), found["advantages"])


@pytest.mark.parametrize("name", EVERY)
def test_losses_of_each_minibatch_are_those_of_trl(name: str) -> None:
    case = Case(name)
    clip, clip_value = case.told["cliprange"], case.told["cliprange_value"]
    clipped = []
    for number in range(case.steps):
        step = case.step(number)
        rows = step["micro_batch_inds"]
        new, old = step["new_logprobs"], case.found["logprobs"][rows]
        mask, gain = case.mask[rows], case.found["advantages"][rows]
        terms = losses.policy_terms(new, old, gain, clip)
        policy = losses.masked_mean(terms, mask)
        close(policy, case.numbers["pg_loss"][number])
        value = losses.masked_mean(
            losses.value_terms(
                step["vpred"], case.found["values"][rows], case.found["returns"][rows], clip_value
            ),
            case.mask_p1[rows],
        )
        close(value, case.numbers["vf_loss"][number])
        close(policy + case.told["vf_coef"] * value, case.numbers["loss"][number])

        free = losses.policy_terms(new, old, gain, UNCLIPPED)
        changed = losses.masked_mean((terms > free).double(), mask)
        close(changed, case.numbers["pg_clipfrac_stats"][number])
        assert losses.clipped_share(new, old, mask, clip) >= changed
        clipped.append(float(changed))

        moved = ((new - old) * mask).abs().max()
        theirs = case.numbers["approxkl_stats"][number] * mask.numel() / mask.sum()
        third = moved**3 / 6 * moved.exp()  # what Taylor leaves of exp(x) - 1 - x beyond x^2 / 2
        assert (losses.approximate_kl(new, old, mask) - theirs).abs() <= third + 1e-6
    # The recording must hold what it is for: clipped policies and clipped values.
    assert clipped[0] == 0
    assert any(0 < share < 1 for share in clipped)
    assert any(0 < share < 1 for share in case.numbers["vf_clipfrac_stats"])


# --- the whole of ours, from TRL's answers -------------------------------------------------------


@pytest.mark.parametrize("name", WHOLE)
def test_our_experience_of_trls_answers_is_trls(name: str) -> None:
    case = Case(name)
    actor = case.actor()
    ours, theirs = case.experience(actor), case.found
    assert ours.mask.double().equal(case.mask)
    close(ours.old, theirs["logprobs"])
    close(ours.values, theirs["values"])
    close(ours.returns, theirs["returns"])
    close(ours.advantages, theirs["advantages"])
    close(ours.figures["kl"], theirs["kl"].sum(1).mean())
    judged = losses.missing_eos(
        scorer(actor.job, case.pad, 30)(case.rollouts.prompts, case.rollouts.answers),
        theirs["contain_eos_token"], case.told["missing_eos_penalty"],
    )  # fmt: skip
    close(judged, theirs["scores"])
    if case.told["missing_eos_penalty"]:
        assert 0 < sum(case.rollouts.finished) < len(judged)


@pytest.mark.parametrize("name", WHOLE)
def test_our_update_is_trls_in_every_gradient_and_weight(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(name)
    actor = case.actor()
    every = improved(case, actor, case.experience(actor), monkeypatch)
    assert len(every) == case.steps == 2 * case.told["num_mini_batches"]
    for number, (figures, gradients) in enumerate(every):
        close(figures["policy_loss"], case.numbers["pg_loss"][number])
        close(figures["value_loss"], case.numbers["vf_loss"][number])
        close(figures["new_entropy"], case.numbers["entropy_stats"][number])
        recorded = below(f"{name}.step{number}.gradient")
        compare(gradients, recorded)
        assert max(float(g.abs().max()) for g in recorded.values()) > 0.1
    after = {
        f"{role}.{k}": p.detach() for role, own in owned(actor).items() for k, p in own.items()
    }
    compare(after, below(f"{name}.after"))


def test_our_policy_gradient_on_answers_that_end_early_is_trls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case("early")
    assert (case.mask_p1.sum(1) > case.mask.sum(1)).any()
    actor = case.actor()
    ours, theirs = case.experience(actor), case.found
    close(ours.old, theirs["logprobs"] * case.mask)
    close(ours.values, theirs["values"] * case.mask)
    close(ours.figures["kl"], theirs["kl"].sum(1).mean())
    # The step after the end bootstraps from a value of its own, so that the advantages differ.
    assert (ours.advantages - theirs["advantages"]).abs().max() > 0.01
    with_theirs = Experience(
        case.rollouts, ours.mask, ours.old, ours.values, theirs["advantages"], ours.returns, {}
    )
    for number, (figures, gradients) in enumerate(improved(case, actor, with_theirs, monkeypatch)):
        close(figures["policy_loss"], case.numbers["pg_loss"][number])
        own = {key: tensor for key, tensor in gradients.items() if key.startswith("policy.")}
        recorded = below(f"early.step{number}.gradient.policy")
        compare(own, {f"policy.{key}": tensor for key, tensor in recorded.items()})


@pytest.mark.parametrize(
    "fault", ["token_rewards", "kl_estimate", "gae", "policy_terms", "value_terms", "whiten"]
)
def test_a_fault_of_one_percent_in_any_term_is_seen(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case("whole")
    true = getattr(losses, fault)

    def wrong(*arguments: Any, **named: Any) -> Any:
        found = true(*arguments, **named)
        return tuple(1.01 * part for part in found) if isinstance(found, tuple) else 1.01 * found

    monkeypatch.setattr(losses, fault, wrong)
    actor = case.actor()
    ((_, gradients), *_) = improved(case, actor, case.experience(actor), monkeypatch)
    with pytest.raises(AssertionError, match="not close"):
        compare(gradients, below("whole.step0.gradient"))
