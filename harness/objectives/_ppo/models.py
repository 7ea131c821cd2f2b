"""The four models of PPO: policy, reference, value and reward."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from harness.core.device import upload
from harness.core.errors import StageFailed
from harness.data.render import turns_of
from harness.inference.batches import end_tokens, padded
from harness.inference.context import context_of
from harness.inference.positions import head_on
from harness.inference.rewards import after_end, require_all, rewards
from harness.models import precision
from harness.objectives._ppo.watches import Watches
from harness.objectives._trl.memory import KeptActivations
from harness.objectives.base import TrainJob
from harness.objectives.ppo import Ppo


@dataclass(frozen=True)
class Batch:
    """Prompts with their answers, padded on the right.

    Attributes:
        ids, attention: token ids and attention mask of whole rows, (B, L).
        tokens: the answers' tokens, (B, T).
        mask: (B, T), 1 on the answers' tokens.
        places: (B, T), the position in its row that predicts each answer token: the one before it.
    """

    ids: Tensor
    attention: Tensor
    tokens: Tensor
    mask: Tensor
    places: Tensor


def batch_of(
    prompts: Sequence[list[int]], answers: Sequence[list[int]], pad: int, device: Any
) -> Batch:
    """Pad prompts and answers to one batch."""
    ids, attention = padded([p + a for p, a in zip(prompts, answers, strict=True)], pad)
    tokens, mask = padded(answers, pad)
    starts = torch.tensor([len(prompt) - 1 for prompt in prompts]).unsqueeze(1)
    places = (starts + torch.arange(tokens.shape[1])).clamp(max=ids.shape[1] - 1)
    device = torch.device(device)
    return Batch(*(upload(each, device) for each in (ids, attention, tokens, mask, places)))


class Actor:
    """The policy and its value model or head: everything that PPO trains.

    Attributes:
        value_module: the value model or the value head.
        activations: measures what autograd keeps of policy and value in one pass.
        watches: observe the gradients of both.
    """

    def __init__(self, objective: Ppo, job: TrainJob) -> None:
        self.model, self.job = job.model, job
        self.model.eval()  # no dropout: the ratio of equation 6 must be 1 before the first step
        self.shared = objective.value == "head"
        self.value_module: Any = _head(job.model) if self.shared else _reward_copy(job)
        self.value_module.eval()
        self.watches = Watches(self.policy_parameters(), job.gates, self.value_parameters())
        everything = [*self.model.parameters(), *self.value_module.parameters()]
        self.activations = KeptActivations(everything)

    def policy_parameters(self) -> dict[str, nn.Parameter]:
        """The policy's trainable parameters by name."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def value_parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters of the value model or head, by name."""
        return {n: p for n, p in self.value_module.named_parameters() if p.requires_grad}

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) that predict the answers' tokens, and the values (B, T) of the states
        before these tokens."""
        with autocast(self.job), answers_alone(self.model, batch) as taken:
            out = self.model(
                input_ids=batch.ids,
                attention_mask=batch.attention,
                output_hidden_states=self.shared,
                use_cache=False,
            )
            if self.shared:
                hidden = at_places(_own(out.hidden_states[-1], batch), batch.places)
                values = self.value_module(hidden.to(self.value_module.weight.dtype)).squeeze(-1)
            else:
                values = self._separate(batch)
        return full(taken(out.logits)), full(values)

    def _separate(self, batch: Batch) -> Tensor:
        trunk = getattr(self.value_module, self.value_module.base_model_prefix)
        out = trunk(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)
        values = self.value_module.score(out.last_hidden_state)
        return at_places(values, batch.places).squeeze(-1)


def answers_alone(model: Any, batch: Batch) -> Any:
    """A context in which the model's head runs only where it predicts answers' tokens.

    It yields a function from the model's logits to those of the answers' tokens, (B, T, V).
    """
    return head_on(model, batch.ids.shape[1], lambda values: at_places(values, batch.places))


def reference_logits(job: TrainJob, batch: Batch) -> Tensor:
    """The starting policy's logits for the answers' tokens, (B, T, V).

    Raises:
        StageFailed: the job has no reference.
    """
    if job.reference_logits is None:
        raise StageFailed("reference", "PPO was given no reference policy", fix="use `sft` first")
    with torch.no_grad(), autocast(job), answers_alone(job.model, batch) as taken:
        return full(taken(job.reference_logits(batch.ids, batch.attention)))


def scorer(job: TrainJob, pad: int, batch_tokens: int) -> Callable[..., Tensor]:
    """A function (prompts, answers) -> scores, (B,), by the job's reward model.

    Raises:
        StageFailed: the job has no reward model, or its tokenizer is not the policy's.
    """
    model = job.reward_model
    if model is None:
        raise StageFailed("reward model", "PPO was given no reward model", fix="train `reward`")
    if not hasattr(model, "config"):
        device = torch.device(job.device)
        return lambda *asked: cast(Tensor, upload(torch.tensor(model(*asked)), device))
    _same_vocabulary(job)
    model.eval()
    ends, tail = _ends(job)

    def score(prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        rows = [
            [*prompt, *answer, *(tail if answer[-1] in ends else ())]
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        names = [f"answer {i}" for i in range(len(rows))]
        fix = "lower max_length or max_new_tokens"
        scores = require_all(rewards(model, pad, rows, batch_tokens), names, context_of(model), fix)
        return cast(Tensor, upload(torch.tensor(scores), torch.device(job.device)))

    return score


def reward_room(job: TrainJob) -> int | None:
    """Longest prompt with answer that the reward model can read, in tokens; None for no limit."""
    if not hasattr(job.reward_model, "config"):
        return None
    context = context_of(job.reward_model)
    return None if context is None else context - len(_ends(job)[1])


def answer_ends(job: TrainJob) -> frozenset[int]:
    """Tokens that end an answer to the job's rows."""
    chats = bool(job.rows) and turns_of(job.rows[0]) is not None
    return end_tokens(job.model, job.tokenizer, chats=chats)


def _ends(job: TrainJob) -> tuple[frozenset[int], list[int]]:
    """Tokens that end an answer, and the tokens that the chat template writes after them.

    A reward model is trained on whole chats, and reads them at their last token.
    """
    ends = answer_ends(job)
    return ends, after_end(job.tokenizer, job.rows[0], ends) if job.rows else []


def _same_vocabulary(job: TrainJob) -> None:
    policy_size, reward_size = job.model.config.vocab_size, job.reward_model.config.vocab_size
    if policy_size != reward_size:
        raise StageFailed(
            "reward model",
            f"the reward model has a vocabulary of {reward_size} tokens and the policy one of"
            f" {policy_size}",
            fix="train the reward model on a base with the policy's tokenizer",
        )
    tokenizer = job.reward_tokenizer
    if tokenizer is not None and tokenizer.get_vocab() != job.tokenizer.get_vocab():
        raise StageFailed(
            "reward model",
            "the reward model's tokenizer has the policy's size but not its tokens",
            fix="train the reward model on a base with the policy's tokenizer",
        )


def _reward_copy(job: TrainJob) -> Any:
    """A trainable float32 copy of the reward model without its adapter (InstructGPT, appendix C.4).

    Raises:
        StageFailed: the reward is a function, or the model has an adapter that cannot be merged.
    """
    if job.value_model is not None:
        return _trainable(job.value_model())
    reward_model = job.reward_model
    if not hasattr(reward_model, "config"):
        raise StageFailed(
            "value model",
            "value: reward_copy starts from a reward model, and the reward is a function",
            fix="set `value: head`",
        )
    model = copy.deepcopy(reward_model)
    if hasattr(model, "peft_config"):
        if not hasattr(model, "merge_and_unload"):
            raise StageFailed(
                "value model",
                "the reward model's adapter cannot be merged into a model to train",
                fix="set `value: head`, or train the reward model with lora",
            )
        model = model.merge_and_unload()
    return _trainable(model)


def _trainable(model: Any) -> Any:
    model.requires_grad_(True)
    precision.MasterWeights(model.parameters())
    return model


def _head(model: Any) -> nn.Linear:
    """A new value head with weights of zero, so that every value starts at 0."""
    head = nn.Linear(model.config.get_text_config().hidden_size, 1, device=model.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return cast(nn.Linear, precision.in_float32(head))


def at_places(values: Tensor, places: Tensor) -> Tensor:
    """Pick the values at each row's places: (B, L, X) and (B, T) -> (B, T, X)."""
    index = places.unsqueeze(-1).expand(-1, -1, values.shape[-1])
    return values.gather(1, index)


def _own(values: Tensor, batch: Batch) -> Tensor:
    """The values of the row's tokens, without those of a soft prompt before them."""
    return values[:, -batch.ids.shape[1] :]


def full(values: Tensor) -> Tensor:
    """Convert to float32, unless the values are float64."""
    return values if values.dtype == torch.float64 else values.float()


def autocast(job: TrainJob) -> Any:
    """Mixed precision in the job's dtype."""
    return precision.autocast(job.dtype, job.device)
