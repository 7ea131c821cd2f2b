"""ORPO through TRL's ORPOTrainer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback

with warnings.catch_warnings():  # TRL warns that it may change, but our version is pinned
    warnings.simplefilter("ignore")
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from harness.core.errors import DataError
from harness.data.pairs import Pair, pairs_of
from harness.objectives._trl.accumulation import WholeBatch
from harness.objectives._trl.shown import pairs_by_row, sequences
from harness.objectives._trl.tokens import IGNORED, pair_ids, with_room
from harness.objectives._trl.trainer import arguments, run
from harness.objectives.base import TrainJob, TrainResult
from harness.objectives.orpo import Orpo

_NLL = 4
"""Position of the likelihood in the result of TRL's concatenated_forward."""


def train(objective: Orpo, job: TrainJob) -> TrainResult:
    """Train `job.model` in place."""
    pairs, counts = pairs_of(job.rows, objective.unusable)
    _require_whole(pairs)

    def make(training_args: dict[str, Any], callbacks: list[TrainerCallback]) -> ORPOTrainer:
        return _trainer(objective, job, pairs, training_args, callbacks)

    result = run(make, objective, replace(job, rows=[{"prompt": p.prompt} for p in pairs]))
    left_out = {f"left_out/{reason}": float(n) for reason, n in counts.items()}
    return replace(result, metrics={**result.metrics, "pairs": len(pairs), **left_out})


def _require_whole(pairs: Sequence[Pair]) -> None:
    """Check that no turn is excluded from training, as ORPO's likelihood covers whole rows.

    Raises:
        DataError: a turn has `weight: 0`.
    """
    for pair in pairs:
        turns = [turn for part in (pair.prompt, pair.chosen) if isinstance(part, list)
                 for turn in part]  # fmt: skip
        if any(turn["role"] == "assistant" and turn.get("weight") == 0 for turn in turns):
            raise DataError(
                f"row {pair.row} has a turn of `weight: 0`, but orpo's likelihood covers the whole"
                " row, prompt and better answer",
                fix="leave out such rows (`where:`) or the weights, or train with dpo",
            )


def batches(objective: Orpo, job: TrainJob) -> list[dict[str, Any]]:
    """Both answers of the job's pairs, as the trainer's collator prepares them.

    The likelihood covers the better answer and its prompt; the odds ratio covers the answers alone.
    """
    numbered = pairs_by_row(job.rows, objective.unusable)
    training_args = arguments(objective, job, steps=1)
    trainer = _trainer(objective, job, [pair for _, pair in numbered], training_args, [])
    prepared_answers: list[dict[str, Any]] = []
    for (row, _), prepared in zip(numbered, trainer.train_dataset, strict=True):
        batch = trainer.data_collator([prepared])
        for part in ("chosen", "rejected"):
            ids, mask = batch[f"{part}_input_ids"], batch[f"{part}_attention_mask"]
            learnt = mask if part == "chosen" else batch[f"{part}_labels"] != -100
            collated = {"input_ids": ids, "attention_mask": mask, "completion_mask": learnt}
            prepared_answers += sequences(collated, row, [part])
    return prepared_answers


def _trainer(
    objective: Orpo,
    job: TrainJob,
    pairs: Sequence[Pair],
    training_args: dict[str, Any],
    callbacks: list[TrainerCallback],
) -> ORPOTrainer:
    # TRL wants these columns, but never reads the texts: the rows hold tokens.
    texts = {"prompt": "", "chosen": "+", "rejected": "-"}
    ids = with_room(pair_ids(job.tokenizer, pairs), objective.max_length)
    rows = [{**texts, **row} for row in ids]
    options = {
        "beta": objective.beta,
        "max_length": objective.max_length,
        "max_completion_length": None,
        "disable_dropout": objective.disable_dropout,
        "generate_during_eval": False,
        "remove_unused_columns": False,
        "dataset_num_proc": None,
    }
    return CountingTrainer(
        model=job.model,
        args=ORPOConfig(**{**options, **training_args}),
        train_dataset=Dataset.from_list(rows),
        processing_class=job.tokenizer,
        callbacks=callbacks,
    )


class CountingTrainer(WholeBatch, ORPOTrainer):
    """ORPOTrainer with three repairs.

    It counts tokens, for costs and budgets; it drops a soft prompt's logits before a row's; and its
    likelihood is a mean over the whole batch of a step, where TRL averages each forward pass.
    """

    def counted(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        """The numbers of pairs (`rows`) and of predicted tokens in better answers and their prompts
        (`tokens`)."""
        mask = inputs["chosen_attention_mask"]
        return {"rows": len(mask), "tokens": int(mask[:, 1:].sum())}

    def tokenize_row(self, feature: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        """TRL's columns from token ids; TRL would encode again, and end every chat with an EOS."""
        prompt = list(feature["prompt_ids"])
        columns: dict[str, Any] = {"prompt_input_ids": prompt}
        for side in ("chosen", "rejected"):
            ids = [*prompt, *feature[f"{side}_ids"]][: self.max_length]
            columns[f"{side}_input_ids"] = ids
            columns[f"{side}_labels"] = [IGNORED] * len(prompt) + ids[len(prompt) :]
            for place in feature[f"{side}_unlearnt"]:
                if (at := len(prompt) + place) < len(ids):
                    columns[f"{side}_labels"][at] = IGNORED
        masks = {
            name.replace("input_ids", "attention_mask"): [1] * len(ids)
            for name, ids in columns.items()
            if name.endswith("input_ids")
        }
        return {**columns, **masks}

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> Any:
        """TRL's forward pass without the logits of a soft prompt, and with the likelihood as a mean
        over the tokens of the step's whole batch."""

        def without_prompt(ids: Any, **options: Any) -> Any:
            outputs = model(ids, **options)
            outputs.logits = outputs.logits[:, -ids.shape[1] :]
            return outputs

        results = list(super().concatenated_forward(without_prompt, batch))
        weight = self.share(batch, "tokens") / self.share(batch)
        results[_NLL] = results[_NLL] if weight == 1 else results[_NLL] * weight
        return tuple(results)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """TRL's loss, weighted for the whole batch of a step; counts the tokens."""
        if self.model.training:
            masks = (inputs["chosen_attention_mask"], inputs["rejected_attention_mask"])
            self.state.num_input_tokens_seen += sum(int(mask.sum()) for mask in masks)
        return super().compute_loss(model, inputs, *args, **kwargs)
