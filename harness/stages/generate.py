"""The generate stage: one set of answers that all scorers of predictions share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import PlainSerializer

from harness.core.errors import StageFailed
from harness.core.measure import number_count
from harness.core.text import number_of
from harness.data.encode import cut_left
from harness.data.render import (
    prompt_ids,
    prompt_of,
    require_template,
    template_digest,
    template_kwargs_of,
    turns_of,
)
from harness.data.usable import unrenderable
from harness.inference.context import context_of
from harness.inference.generate import generate
from harness.inference.reading import THINK, Answer
from harness.inference.sampling import seed_of
from harness.inference.service import REFUSED, Service
from harness.stages._cost import BYTES_A_TOKEN, answers_cost, service_cost, service_words
from harness.stages._models import OnModel, load_subject
from harness.stages._predictions import write_predictions
from harness.stages._shots import prompt_with, shots_of
from harness.stages.base import AddedLater, Job, Known
from harness.stages.data import read_rows
from harness.store.kind import RowCounts
from harness.store.stage import Record, Resources, Stage
from harness.suite.suite import Generate as Options


@dataclass(frozen=True)
class _Answers:
    """The answers to all rows.

    Attributes:
        samples: the drawn answers to each row.
        shots: the number of examples before each row.
        cost: figures for the record's cost.
        about: further metrics.
    """

    answers: list[Answer]
    samples: list[list[Answer]]
    shots: list[int]
    cost: Mapping[str, Any]
    about: Mapping[str, Any]


@dataclass
class _Prompts:
    """Tokens of each prompt, the number of its shots, and how many prompts were cut."""

    ids: list[list[int]] = field(default_factory=list)
    shots: list[int] = field(default_factory=list)
    cut: int = 0


class Generate(OnModel):
    """Answers of a model to the rows of a split."""

    VERSION = 6
    purpose = "evaluation"
    reads = {"data": "data", "shots": "data", "checkpoint": "train, checkpoint"}
    long = True

    generate: Annotated[Options, PlainSerializer(lambda options: options.identity())]
    """How answers are generated."""
    left_out: Annotated[list[int], AddedLater] = []
    """Numbers of the rows that are not asked, as some variant's model cannot be."""
    truncate_left: Annotated[int | None, AddedLater] = None
    """Tokens that a longer prompt is cut to: its oldest tokens go."""

    def expected(self, known: Known, inputs: Mapping[str, Stage]) -> dict[str, float]:
        """Tokens and seconds when every answer takes half of what it may."""
        if known.model is None or "rows" not in known.rows:
            return {}
        answers = (known.rows["rows"] - len(self.left_out)) * (1 + self.generate.samples)
        tokens = answers * self.generate.max_new_tokens / 2
        if known.model.endpoint is not None:
            asked = answers * known.rows.get("mean_bytes", 0.0) / BYTES_A_TOKEN
            return service_cost(known.model.endpoint, answers, asked, tokens)
        return answers_cost(known.model, tokens, ("generate",), known.rates)

    @classmethod
    def headline(cls, record: Record) -> str:
        if "calls" in record.cost:
            return f"{number_of(record.metrics['rows'], 'answer')}, {service_words(record.cost)}"
        speed = record.cost.get("tokens_per_second", 0.0)
        return f"{number_of(record.metrics['rows'], 'answer')}, {speed:.0f} tokens/s"

    def resources(self, asked: Resources) -> Resources:
        return asked if self.place.endpoint is None else asked.without_gpu()

    @classmethod
    def row_counts(cls, metrics: Mapping[str, Any]) -> RowCounts:
        why = "over-long, or refused by a chat template, for some variant"
        left_out = {why: metrics.get("left_out", 0)}
        return RowCounts(metrics["rows"], left_out, metrics.get("cut_left", 0))

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Answer every test row; metrics are rates of how answers ended, lengths and speed."""
        with job.ledger.phase("load"):
            subject = load_subject(job)
            all_rows = read_rows(job.input("data"))
            rows = asked_rows(all_rows, self.identity())
            shots = read_rows(job.input("shots")) if job.has("shots") else []
        if isinstance(subject[0], Service):
            said = self._served(job, subject[0], rows, shots)
        else:
            said = self._generated(job, subject, rows, shots)
        answers = said.answers
        with job.ledger.phase("write"):
            write_predictions(job.folder, rows, answers, said.samples)
        job.cost.update(said.cost)
        thought = sum(bool(answer.generated) for answer in answers)
        left_in = 0 if self.generate.thinking == "keep" else _thinking_left_in(answers)
        return {
            "rows": len(rows),
            **({"left_out": len(all_rows) - len(rows)} if len(rows) < len(all_rows) else {}),
            "eos_rate": _share(answers, "eos"),
            "stop_rate": _share(answers, "stop"),
            "truncation_rate": _share(answers, "length"),
            "mean_tokens": sum(answer.tokens for answer in answers) / len(answers),
            "mean_shots": sum(said.shots) / len(said.shots),
            **({"thinking_rate": thought / len(answers)} if thought else {}),
            **({"unread_thinking_rate": left_in / len(answers)} if left_in else {}),
            **said.about,
        }

    def _generated(
        self,
        job: Job[Self],
        subject: tuple[Any, Any, Mapping[str, Any] | None],
        rows: list[dict[str, Any]],
        shots: list[dict[str, Any]],
    ) -> _Answers:
        """The answers of a model that was loaded here."""
        options = self.generate.model_dump()
        model, tokenizer, trained = subject
        if options["apply_chat_template"]:
            require_template(tokenizer, rows)
            shots = [shot for shot in shots if unrenderable(tokenizer, shot) is None]
        if trained is not None and trained["chat_template"] is not None:
            _same_template(tokenizer, trained["chat_template"])
        with job.ledger.phase("prompt"):
            asked = self._prompts(tokenizer, rows, shots, context_of(model))
        start = time.monotonic()
        with job.ledger.phase("generate"):
            chats = options["apply_chat_template"] and turns_of(rows[0]) is not None
            answers = generate(model, tokenizer, asked.ids, options, job.progress, chats=chats)
            samples = _samples(model, tokenizer, rows, asked.ids, options, job, chats=chats)
        seconds = time.monotonic() - start
        tokens = _tokens(answers, samples)
        asks = getattr(model, "generation_asks", {})
        about = {
            **({"cut_left": asked.cut} if asked.cut else {}),
            **({"generation_config_left_out": asks} if asks else {}),
            "chat_template": template_digest(tokenizer) if options["apply_chat_template"] else None,
        }
        size = number_count(model.parameters())
        cost = {"tokens": tokens, "tokens_per_second": tokens / seconds, "parameters": size}
        return _Answers(answers, samples, asked.shots, cost, about)

    def _served(
        self,
        job: Job[Self],
        service: Service,
        rows: list[dict[str, Any]],
        shots: list[dict[str, Any]],
    ) -> _Answers:
        """The answers of a model that another server answers for."""
        options = self.generate.model_dump()
        chosen = [shots_of(row, shots, options["num_fewshot"]) for row in rows]
        prompts = [prompt_of(row, own, options) for row, own in zip(rows, chosen, strict=True)]
        tools = [{"tools": asked} if (asked := template_kwargs_of(row).get("tools")) else {}
                 for row in rows]  # fmt: skip
        with job.ledger.phase("generate"):
            answers = service.answers(prompts, options, job.progress, extra=tools)
            drawn = [
                service.answers(
                    prompts, options, job.progress, extra=tools,
                    seeds=[seed_of(options["sample_seed"], row["id"], number) for row in rows],
                )
                for number in range(options["samples"])
            ]  # fmt: skip
        samples = [[one[place] for one in drawn] for place in range(len(rows))]
        refused = _share(answers, REFUSED)
        about = {"chat_template": None, **({"refused_rate": refused} if refused else {})}
        cost = {"tokens": _tokens(answers, samples), **service.cost()}
        return _Answers(answers, samples, [len(own) for own in chosen], cost, about)

    def _prompts(
        self,
        tokenizer: Any,
        rows: list[dict[str, Any]],
        shots: list[dict[str, Any]],
        context: int | None,
    ) -> _Prompts:
        """The rows' prompts, with as many shots as the context holds beside an answer."""
        options, most, prompts = self.generate.model_dump(), self.truncate_left, _Prompts()
        room = None if context is None else context - options["max_new_tokens"]
        for row in rows:
            chosen = shots_of(row, shots, options["num_fewshot"])
            ids, kept = prompt_with(tokenizer, row, chosen, options, room)
            if most is not None:
                alone = prompt_ids(tokenizer, row, [], options)
                if len(alone) > most:
                    ids, kept = cut_left(tokenizer, alone, most), 0
                    prompts.cut += 1
            prompts.ids.append(ids)
            prompts.shots.append(kept)
        return prompts


def asked_rows(rows: list[dict[str, Any]], config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a data stage that are asked: all but those that do not fit everywhere.

    Args:
        config: of the generate stage, or of a score stage that asks the model itself.
    """
    left_out = frozenset(config.get("left_out", ()))
    return [row for number, row in enumerate(rows) if number not in left_out]


def _same_template(tokenizer: Any, trained: str) -> None:
    """An evaluation with another chat template measures the template, not the training."""
    digest = template_digest(tokenizer)
    if digest != trained:
        raise StageFailed(
            "chat template",
            f"the chat template ({digest}) is not the one trained with ({trained})",
            fix="use the same `chat_template:` for training and generation",
        )


def _samples(
    model: Any,
    tokenizer: Any,
    rows: list[dict[str, Any]],
    prompts: list[list[int]],
    options: dict[str, Any],
    job: Job,
    *,
    chats: bool,
) -> list[list[Answer]]:
    """The drawn answers of each row, where the suite asks for samples."""
    count = options.get("samples", 0)
    if not count:
        return [[] for _ in rows]
    seeds = [seed_of(options["sample_seed"], row["id"], k) for row in rows for k in range(count)]
    repeated = [prompt for prompt in prompts for _ in range(count)]
    drawn = generate(model, tokenizer, repeated, options, job.progress, seeds=seeds, chats=chats)
    return [drawn[i * count : (i + 1) * count] for i in range(len(rows))]


def _tokens(answers: list[Answer], samples: list[list[Answer]]) -> int:
    """All tokens that were generated."""
    return sum(answer.tokens for drawn in (answers, *samples) for answer in drawn)


def _thinking_left_in(answers: list[Answer]) -> int:
    """Answers that begin with `<think>`, of a model that is not known to think."""
    return sum(answer.text.startswith(THINK[0]) for answer in answers)


def _share(answers: list[Answer], finish: str) -> float:
    return sum(answer.finish == finish for answer in answers) / len(answers)
