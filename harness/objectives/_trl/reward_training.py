"""Reward models through TRL's RewardTrainer, with all pairs of a prompt in one batch."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid
from transformers import TrainerCallback
from trl import RewardConfig, RewardTrainer

from harness.core.errors import DataError, unknown
from harness.data.pairs import Pair, grouped, pairs_of
from harness.data.render import asked_ids
from harness.models.precision import autocast
from harness.objectives._trl.accumulation import WholeBatch
from harness.objectives._trl.later import LoggedLater
from harness.objectives._trl.reward_figures import figures
from harness.objectives._trl.shown import pairs_by_row, sequences
from harness.objectives._trl.tokens import Tokenised, answered
from harness.objectives._trl.trainer import run
from harness.objectives.base import TrainJob, TrainResult
from harness.objectives.reward import Reward

Group = dict[str, Any]
_COLUMNS = ["candidates", "places", "margins", "weights"]


def train(objective: Reward, job: TrainJob) -> TrainResult:
    """Train `job.model`, a sequence classifier with one label, in place; then evaluate it."""
    groups, counts = _groups(objective, job, job.rows)
    held_out, _ = _groups(objective, job, job.validation) if job.validation else ([], {})
    if not held_out:
        groups, held_out = _split(groups, objective.held_out, job.data_seed)
    pad = job.tokenizer.pad_token_id
    options = {
        "max_length": None,  # dropped already, and counted
        "center_rewards_coefficient": objective.center_rewards_coefficient,
        "disable_dropout": objective.disable_dropout,
        "pad_to_multiple_of": None,
        "activation_offloading": False,
        "dataset_num_proc": None,
    }

    def make(training_args: dict[str, Any], callbacks: list[TrainerCallback]) -> RewardTrainer:
        return GroupedRewardTrainer(
            model=job.model,
            args=RewardConfig(**{**options, **training_args}),
            data_collator=GroupCollator(pad),
            train_dataset=Dataset.from_list([{n: g[n] for n in _COLUMNS} for g in groups]),
            processing_class=job.tokenizer,
            callbacks=callbacks,
        )

    result = run(make, objective, replace(job, rows=list(groups)))
    measured: dict[str, float] = {}
    if held_out:
        with autocast(job.dtype, job.device):
            measured = figures(job.model, held_out, GroupCollator(pad))
    pairs = {"prompts": len(groups), "pairs": sum(len(g["places"]) for g in groups)}
    left_out = {f"left_out/{reason}": float(n) for reason, n in counts.items()}
    return replace(result, metrics={**result.metrics, **pairs, **left_out, **measured})


def batches(objective: Reward, job: TrainJob) -> list[dict[str, Any]]:
    """The answers to each of the job's rows, as the trainer's collator prepares them; the token
    where the reward is read is marked."""
    by_row: dict[int, list[Pair]] = {}
    for number, pair in pairs_by_row(job.rows, objective.unusable):
        by_row.setdefault(number, []).append(pair)
    collate = GroupCollator(job.tokenizer.pad_token_id)
    prepared: list[dict[str, Any]] = []
    for number, pairs in by_row.items():
        batch = collate([_group(objective, job.tokenizer, pairs)])
        mask = batch["attention_mask"]
        last = torch.arange(mask.shape[1]) == mask.sum(1, keepdim=True) - 1
        names = [f"answer {i + 1}" for i in range(len(mask))]
        parts = ["chosen", "rejected"] if len(pairs) == 1 and len(mask) == 2 else names
        prepared += sequences({**batch, "completion_mask": last}, number, parts)
    return prepared


def _groups(
    objective: Reward, job: TrainJob, rows: Sequence[Any]
) -> tuple[list[Group], dict[str, int]]:
    """One group for each prompt, and the numbers of pairs left out by reason.

    A group holds the candidates' tokens, the pairs as indexes of candidates, and their weights.

    Raises:
        DataError: a pair is too long and `overlong` is `error`, or all pairs are.
    """
    pairs, counts = pairs_of(rows, objective.unusable, objective.score_range)
    _require_known(objective.dimension_weights, pairs)
    kept = [pair for pair in pairs if _longest(job.tokenizer, pair) <= objective.max_length]
    over = len(pairs) - len(kept)
    if not kept or (over and objective.overlong == "error"):
        raise DataError(
            f"{over} of {len(pairs)} pairs have a side over max_length {objective.max_length}",
            fix="raise max_length, or set overlong: drop",
        )
    groups = [_group(objective, job.tokenizer, group) for group in grouped(kept)]
    return groups, {**counts, **({"over max_length": over} if over else {})}


def _require_known(weights: Mapping[str, float], pairs: Sequence[Pair]) -> None:
    """Check that each weight names a dimension of the pairs.

    Raises:
        DataError: no pair has a dimension of that name, so its weight would be ignored.
    """
    known = sorted({pair.dimension for pair in pairs} - {""})
    for name in sorted(set(weights) - set(known)):
        raise DataError(
            unknown("dimension", name, known, hint="the rows' column `dimension`"),
            where="reward.dimension_weights",
        )


def _group(objective: Reward, tokenizer: Any, pairs: Sequence[Pair]) -> Group:
    tokens: dict[tuple[int, ...], int] = {}
    places, lengths = [], []
    for pair in pairs:
        sides = [tuple(_tokens(tokenizer, pair, s)) for s in (pair.chosen, pair.rejected)]
        places.append([tokens.setdefault(side, len(tokens)) for side in sides])
    weights = [objective.dimension_weights.get(pair.dimension, 1.0) / len(pairs) for pair in pairs]
    prompt = len(asked_ids(tokenizer, {"prompt": pairs[0].prompt, **pairs[0].template_columns}))
    lengths = [len(ids) - prompt for ids in tokens]
    return {
        "candidates": [list(ids) for ids in tokens],
        "places": places,
        "margins": [(pair.margin or 0.0) * objective.margin_scale for pair in pairs],
        "weights": weights,
        "dimensions": [pair.dimension for pair in pairs],
        "lengths": lengths,
    }


def _tokens(tokenizer: Any, pair: Pair, answer: Any) -> list[int]:
    """Prompt and answer as one sequence; the reward is read at its end."""
    return answered(tokenizer, {"prompt": pair.prompt, **pair.template_columns}, answer).ids


def _longest(tokenizer: Any, pair: Pair) -> int:
    return max(len(_tokens(tokenizer, pair, side)) for side in (pair.chosen, pair.rejected))


def _split(groups: list[Group], share: float, seed: int) -> tuple[list[Group], list[Group]]:
    """Split prompts into those for training and those for evaluation (none if there are too
    few)."""
    count = int(len(groups) * share)
    chosen = set(random.Random(f"held out {seed}").sample(range(len(groups)), count))
    kept = [group for i, group in enumerate(groups) if i not in chosen]
    return kept, [groups[i] for i in sorted(chosen)]


class GroupCollator:
    """Pads the candidates of several prompts to one batch; pairs are indexes into its rows."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, groups: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Returns input_ids and attention_mask (candidates, tokens), places (pairs, 2), margins and
        weights (pairs,)."""
        rows = [ids for group in groups for ids in group["candidates"]]
        ids = torch.full((len(rows), max(map(len, rows))), self.pad)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        places, start = [], 0
        for group in groups:
            places += [[start + a, start + b] for a, b in group["places"]]
            start += len(group["candidates"])
        flat = {
            name: torch.tensor([value for group in groups for value in group[name]])
            for name in ("margins", "weights")
        }
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "places": torch.tensor(places),
            **flat,
        }


class GroupedRewardTrainer(LoggedLater, WholeBatch, Tokenised, RewardTrainer):
    """RewardTrainer with a loss over prompts: the mean over a prompt's pairs, then over prompts.

    InstructGPT, equation 1. TRL's loss has no weights for pairs.
    """

    def counted(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        """The sum of the pairs' weights (`rows`); without dimension weights it is 1 per prompt."""
        return {"rows": float(inputs["weights"].sum())}

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = _COLUMNS

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The weighted mean of -log sigmoid(r_chosen - r_rejected - margin); logs TRL's figures."""
        share = self.share(inputs)
        places, margins, weights = (inputs.pop(n) for n in ("places", "margins", "weights"))
        outputs = model(**inputs, use_cache=False)
        rewards = outputs.logits.squeeze(-1)
        chosen, rejected = rewards[places[:, 0]], rewards[places[:, 1]]
        terms = -logsigmoid(chosen - rejected - margins)
        if self.args.center_rewards_coefficient is not None:
            terms = terms + self.args.center_rewards_coefficient * (chosen + rejected) ** 2
        # If all pairs of a batch have weight 0, the loss is 0.
        loss = (terms * weights).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)
        loss = loss if share == 1 else loss * share
        mode = "train" if self.model.training else "eval"
        if mode == "train":
            self._total_train_tokens = self._total_train_tokens + inputs["attention_mask"].sum()
        with torch.no_grad():
            self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
            for name, value in (
                ("min_reward", rewards.min()),
                ("mean_reward", rewards.mean()),
                ("max_reward", rewards.max()),
                ("accuracy", (chosen > rejected).float().mean()),
                ("margin", (chosen - rejected).mean()),
            ):
                self._metrics[mode][name].append(value)
        return (loss, outputs) if return_outputs else loss
