"""The sample stage: several answers of a policy to each prompt, for a labeller to compare."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from harness.core.errors import DataError
from harness.core.measure import number_count
from harness.core.text import number_of
from harness.data.encode import after_prompt
from harness.data.render import asked_ids, prompt_row, require_template, template_digest, turns_of
from harness.data.usable import unrenderable
from harness.inference.context import context_of
from harness.inference.generate import generate
from harness.inference.reading import Answer
from harness.inference.sampling import seed_of
from harness.stages._cost import answers_cost, weights_bytes
from harness.stages._models import OnModel, load_subject
from harness.stages.base import Job, Known
from harness.stages.data import read_rows
from harness.store.kind import RowCounts
from harness.store.stage import Record, Stage

SAMPLES = "samples.jsonl"


class Sampling(BaseModel):
    """How answers are sampled; names as in transformers."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    samples: int
    """Answers to each prompt."""
    prompts: int | None
    """Answer the first so many prompts; None: all."""
    temperature: float
    """Logits are divided by it."""
    top_p: float
    """Only the likeliest tokens that together have this probability."""
    max_new_tokens: int
    """Tokens of an answer, its end-of-sequence token included."""
    batch_tokens: int
    """Tokens of a batch: rows times (longest prompt + max_new_tokens)."""
    seed: int
    """Each answer has a seed of its own, made of this one, the row's id and its number."""


class Sample(OnModel):
    """Several answers of a policy to each prompt, for a labeller to compare."""

    VERSION = 3
    purpose = "sampling"
    reads = {"data": "data", "checkpoint": "train"}
    long = True

    sample: Sampling
    """How answers are sampled."""

    def expected(self, known: Known, inputs: Mapping[str, Stage]) -> dict[str, float]:
        """Seconds when every answer takes half of what it may, and the weights' bytes."""
        if known.model is None:
            return {}
        cost = weights_bytes(known.model, known.dtype)
        rows = known.rows.get("rows")
        if rows is None:
            return cost
        prompts = min(rows, self.sample.prompts or rows)
        tokens = prompts * self.sample.max_new_tokens * self.sample.samples / 2
        return {**cost, **answers_cost(known.model, tokens, ("sample", "generate"), known.rates)}

    @classmethod
    def headline(cls, record: Record) -> str:
        metrics, speed = record.metrics, record.cost.get("tokens_per_second", 0.0)
        return (
            f"{number_of(metrics['answers'], 'answer')} to"
            f" {number_of(metrics['rows'], 'prompt')}, {speed:.0f} tokens/s"
        )

    @classmethod
    def row_counts(cls, metrics: Mapping[str, Any]) -> RowCounts:
        left_out = {
            "over-long": metrics.get("prompts_too_long", 0),
            "refused by the chat template": metrics.get("prompts_unusable", 0),
        }
        return RowCounts(metrics["rows"], left_out)

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Sample; metrics are counts, lengths, and how answers end."""
        options = self.sample
        with job.ledger.phase("load"):
            model, tokenizer, _ = load_subject(job)
            rows = [prompt_row(row) for row in read_rows(job.input("data"))]
        require_template(tokenizer, rows)
        kept = rows[: options.prompts] if options.prompts else rows
        with job.ledger.phase("prompt"):
            written = [row for row in kept if unrenderable(tokenizer, row) is None]
            unusable = len(kept) - len(written)
            kept, prompts = _fitting(model, tokenizer, written, options.max_new_tokens)
        count = options.samples
        seeds = [seed_of(options.seed, row["id"], k) for row in kept for k in range(count)]
        start = time.monotonic()
        with job.ledger.phase("sample"):
            repeated = [prompt for prompt in prompts for _ in range(count)]
            how = {"thinking": "auto", **options.model_dump(), "until": []}
            answers = generate(
                model, tokenizer, repeated, how, job.progress,
                seeds=seeds, chats=turns_of(kept[0]) is not None,
            )  # fmt: skip
        seconds = time.monotonic() - start
        with job.ledger.phase("write"), (job.folder / SAMPLES).open("w", encoding="utf-8") as out:
            for i, row in enumerate(kept):
                texts = [
                    _written(tokenizer, row, answer)
                    for answer in answers[i * count : (i + 1) * count]
                ]
                out.write(json.dumps({**row, "answers": texts}, ensure_ascii=False) + "\n")
        tokens = sum(answer.tokens for answer in answers)
        size = number_count(model.parameters())
        job.cost.update(
            {"tokens": tokens, "tokens_per_second": tokens / seconds, "parameters": size}
        )
        asked = min(len(rows), options.prompts or len(rows))
        return {
            "rows": len(kept),
            "answers": len(answers),
            "prompts_too_long": asked - len(kept) - unusable,
            **({"prompts_unusable": unusable} if unusable else {}),
            "eos_rate": sum(answer.finish == "eos" for answer in answers) / len(answers),
            "mean_tokens": tokens / len(answers),
            "distinct_answers": _distinct(answers, count),
            "chat_template": template_digest(tokenizer),
        }


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """Prompts with their answers (text, finish, tokens) of a finished sample stage."""
    with (folder / SAMPLES).open(encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def _fitting(
    model: Any, tokenizer: Any, rows: list[dict[str, Any]], room: int
) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """Rows whose prompts leave room for an answer in the model's context, and their tokens."""
    context = context_of(model)
    asked = [(row, asked_ids(tokenizer, row)) for row in rows]
    kept = [(row, ids) for row, ids in asked if ids and (not context or len(ids) + room <= context)]
    if not kept:
        raise DataError(
            f"none of {number_of(len(rows), 'prompt')} leaves room for max_new_tokens"
            f" {room} in the model's"
            f" context of {context}",
            fix="lower max_new_tokens",
        )
    return [row for row, _ in kept], [ids for _, ids in kept]


def _written(tokenizer: Any, row: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """An answer in the form of its prompt: what follows plain text begins where that ends."""
    plain = isinstance(row["prompt"], str)
    text = answer.text
    if plain:
        text = after_prompt(tokenizer, row["prompt"], answer.raw).rstrip()
    whole = {"generated": answer.generated} if answer.generated else {}
    return {"text": text, "finish": answer.finish, "tokens": answer.tokens, **whole}


def _distinct(answers: list[Answer], count: int) -> float:
    """Different answers to a prompt, as a share of those sampled."""
    groups = [answers[i : i + count] for i in range(0, len(answers), count)]
    return sum(len({answer.text for answer in group}) for group in groups) / len(answers)
