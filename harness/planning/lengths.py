"""Finds the rows that are too long or cannot be rendered, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.data.lengths import Beyond, Overlong, Refused, RowLength, Unfit, read_lengths
from harness.models.checks import embedding_rows
from harness.models.files import ModelInfo
from harness.objectives.base import Objective
from harness.planning.checkpoints import Checkpoints
from harness.planning.recipe import Training, trainings
from harness.planning.sources import Sources
from harness.planning.tokenizers import NOT_OF_TOKENIZERS
from harness.stages.lengths import Lengths
from harness.store.stage import Stage
from harness.variants.variant import Cell, Elsewhere, Variant

_NOT_OF_PROMPTS = frozenset(
    ["max_new_tokens", "until", "num_fewshot", "batch_tokens", "samples", "temperature", "top_p",
     "sample_seed", "thinking"]
)  # fmt: skip
"""Options of `generate:` that a prompt without worked examples does not depend on."""


@dataclass(frozen=True)
class Room:
    """The longest prompt or row that one variant can read.

    Attributes:
        lengths: the stage that measures the rows with its tokenizer.
        tokens: of a prompt, or of a row to train on; None: there is no limit.
        why: how that number came about, for people.
    """

    variant: str
    model: str
    lengths: Stage
    tokens: int | None
    why: str


class Fitting:
    """Decides which rows fit, once for all variants.

    Attributes:
        stages: those that measure rows, each once.
        unfit: what is known of each evaluation that is answered, by data entry and split.
    """

    def __init__(self, sources: Sources, checkpoints: Checkpoints) -> None:
        self.sources, self.checkpoints = sources, checkpoints
        self.stages: dict[str, Stage] = {}
        self._models: dict[str, ModelInfo] = {}
        """Key of a stage -> the model whose tokenizer it uses; not for tokenizers of
        checkpoints."""
        self.unfit: dict[tuple[str, str], Unfit] = {}
        self._known: dict[str, list[RowLength] | None] = {}

    def decide(self, variants: Sequence[Variant], entry: str, split: str) -> Unfit:
        """The rows that some of these variants cannot be asked; empty until they are measured."""
        if (entry, split) not in self.unfit:
            rooms = [self._asked(v, entry, split) for v in self._with_tokenizer(variants)]
            self.unfit[entry, split] = self._unfit(rooms, entry, split)
        return self.unfit[entry, split]

    def unwritten(self, variants: Sequence[Variant], entry: str, split: str) -> Unfit:
        """The rows that some variant's chat template cannot render with their answers. No variant
        is scored on them. Empty until they are measured, and for texts, which need no template."""
        rows, key = self.sources.rows(entry, split), (entry, f"{split}, with answers")
        if not self.sources.counts(rows).get("conversational"):
            return Unfit("", 0)
        if key not in self.unfit:
            asked = self._with_tokenizer(variants)
            stages = {s.key: s for s in (self._stage(v, rows, {}) for v in asked)}
            known = [lengths for s in stages.values() if (lengths := self._lengths(s))]
            refused: dict[int, str] = {}
            for number, row in ((n, r) for lengths in known for n, r in enumerate(lengths)):
                if row.refused:
                    refused.setdefault(number, row.refused)
            refused = dict(sorted(refused.items()))
            name = known[0][min(refused)].name if refused else ""
            self.unfit[key] = Unfit(
                f"{self.sources.file}: data.{entry}.{split}", len(known[0]) if known else 0,
                refused=refused, first=("", name),
                unusable=getattr(self.sources.suite.data[entry], split).unusable,
            )  # fmt: skip
        return self.unfit[key]

    def beyond(self) -> Iterator[Beyond]:
        """For each stage, the first row with a token that the model's embedding does not have."""
        for stage in self.stages.values():
            info, record = self._models.get(stage.key), self.sources.store.record(stage)
            if info is None or record is None or not record.ok:
                continue
            rows = embedding_rows(info.config, info.shapes)
            highest = record.metrics.get("highest_token")
            if rows is not None and highest and highest["number"] >= rows:
                label = stage.inputs["data"].label
                yield Beyond(
                    Lengths.of(stage).where, label, highest["row"], highest["number"], rows
                )

    def trained(self, variants: Sequence[Variant]) -> list[Overlong | Refused]:
        """Training rows that are too long, or that a chat template refuses; as far as measured."""
        by_place: dict[tuple[str, ...], Overlong | Refused] = {}
        for variant in variants:
            for training in trainings(variant):
                if training.labelled or training.method.at_service:
                    continue  # its rows are made on the way, or read by a service
                rows = self.sources.rows(training.entry, "train")
                lengths = self._read(training.cell, training.objective, rows)
                place = f"{self.sources.file}: data.{training.entry}.train"
                if (refused := self._refused(training, lengths, place)) is not None:
                    by_place.setdefault((place, refused.model), refused)
                if (over := self._overlong(training, lengths, place)) is not None:
                    by_place.setdefault((place, over.why, str(over.tokens)), over)
        return list(by_place.values())

    def tokens(self, cell: Cell, objective: Objective, rows: Stage) -> list[int]:
        """The length of each row that a cell trains on; none until they are measured."""
        return [row.tokens for row in self._read(cell, objective, rows) if not row.refused]

    def _read(self, cell: Cell, objective: Objective, rows: Stage) -> Sequence[RowLength]:
        measure = {"prompts": True} if objective.reads_prompts else {}
        return self._lengths(self._stage(cell, rows, measure)) or []

    def _with_tokenizer(self, variants: Sequence[Variant]) -> list[Variant]:
        """The variants whose tokens can be counted: not those that a service answers for. These are
        asked the same rows as the others."""
        return [v for v in variants if self.sources.model(v.model).endpoint is None]

    def _asked(self, variant: Variant, entry: str, split: str) -> Room:
        options = variant.generate.identity()
        shape = {name: v for name, v in options.items() if name not in _NOT_OF_PROMPTS}
        stage = self._stage(variant, self.sources.rows(entry, split), {"generate": shape})
        context, places = self._context(variant), self._places(variant)
        new = variant.generate.max_new_tokens
        room = None if context is None else context - places - new
        why = f"{variant.id} has room for {room}: its context of {context}"
        why += f", less {places} of its learned prompt" if places else ""
        why += f", less max_new_tokens {new}"
        most = getattr(self.sources.suite.data[entry], split).max_tokens
        if most is not None and (room is None or most < room):
            room, why = most, f"max_tokens is {most}"
        return Room(variant.id, variant.model, stage, room, why)

    def _unfit(self, rooms: Sequence[Room], entry: str, split: str) -> Unfit:
        spec = getattr(self.sources.suite.data[entry], split)
        place = f"{self.sources.file}: data.{entry}.{split}"
        measured = [(room, self._lengths(room.lengths)) for room in rooms]
        known = [(room, lengths) for room, lengths in measured if lengths]
        if not known:
            return Unfit(place, 0)
        over: dict[int, str] = {}
        refused: dict[int, str] = {}
        why = ""
        for room, lengths in sorted(known, key=_least_room):
            for number, row in enumerate(lengths):
                if row.refused:
                    refused.setdefault(number, row.refused)
                elif room.tokens is not None and row.tokens > room.tokens:
                    over.setdefault(number, row.name)
                    longest = max(row.tokens for row in lengths)
                    why = why or f"up to {longest} tokens, and {room.why}"
        numbers, rows = sorted(over), known[0][1]
        first = (over[numbers[0]] if numbers else "", rows[min(refused)].name if refused else "")
        cut = _cut(known) if spec.overlong == "truncate_left" else {}
        return Unfit(
            place, len(rows), tuple(numbers),
            dict(sorted(refused.items())), spec.overlong, spec.unusable, cut, why, first,
        )  # fmt: skip

    def _refused(
        self, training: Training, lengths: Sequence[RowLength], place: str
    ) -> Refused | None:
        refused = [row for row in lengths if row.refused]
        if not refused:
            return None
        spec = self.sources.suite.data[training.entry].train
        unusable = "drop" if spec is None else spec.unusable
        reasons = tuple(dict.fromkeys(row.refused for row in refused))
        model = training.cell.model
        return Refused(place, model, len(lengths), len(refused), reasons, unusable, refused[0].name)

    def _overlong(
        self, training: Training, lengths: Sequence[RowLength], place: str
    ) -> Overlong | None:
        objective, context = training.objective, self._context(training.cell)
        limit = getattr(objective, "max_length", None)
        if limit is None:
            return None
        places, new = self._places(training.cell), int(getattr(objective, "max_new_tokens", 0))
        whys = [f"{objective.name}.max_length {limit}"]
        if context is not None and context - places < limit:
            limit = context - places
            whys = [f"the context of {context} of {training.cell.model}"]
            whys += [f"less {places} of a learned prompt"] if places else []
        whys += [f"less max_new_tokens {new}"] if new else []
        tokens = [row.tokens for row in lengths]
        over = sum(length > limit - new for length in tokens)
        if not over:
            return None
        policy = str(getattr(objective, "overlong", "drop"))
        return Overlong(
            place, training.label, objective.name, len(tokens), over, policy, limit - new,
            max(tokens), ", ".join(whys),
        )  # fmt: skip

    def _stage(self, variant: Variant, rows: Stage, measure: Mapping[str, Any]) -> Stage:
        self.sources.model(variant.model)
        config = self.sources.model_config(variant.model)
        model = {k: v for k, v in config.items() if k not in NOT_OF_TOKENIZERS}
        place, content = self.sources.place(variant.model), None
        elsewhere = variant.elsewhere
        if elsewhere is not None and self.checkpoints.own_tokenizer(elsewhere):
            place = self.checkpoints.place(elsewhere)
            content = self.checkpoints.stage(elsewhere).config["content"]
        lengths = Lengths(
            model=model,
            measure=dict(measure),
            checkpoint=content,
            place=place,
            where=f"{self.sources.file}: models.{variant.model}",
        )
        stage = lengths.stage(
            {"data": rows},
            resources=self.sources.suite.resources,
            label=f"{rows.label} for {variant.model}",
        )
        if content is None:
            self._models[stage.key] = self.sources.models[variant.model]
        return self.stages.setdefault(stage.key, stage)

    def _context(self, variant: Variant) -> int | None:
        return self.sources.models[variant.model].context

    def _places(self, variant: Variant) -> int:
        """The places of the longest prompt that the variant may learn: a tuning then does not
        change which rows fit."""
        unmerged, tune = variant.unmerged, self.sources.suite.tune
        if not isinstance(unmerged, Cell | Elsewhere):
            return 0
        method = self.checkpoints.method(unmerged)
        tuned = tune.space.get(f"{method.name}.num_virtual_tokens") if tune else None
        if tuned is None or isinstance(unmerged, Elsewhere):
            return method.places()
        return max(map(int, tuned)) if isinstance(tuned, list) else int(tuned.high)

    def _lengths(self, stage: Stage) -> list[RowLength] | None:
        if stage.key not in self._known:
            done = self.sources.store.done(stage, outputs=True)
            folder = stage.path(self.sources.store.root)
            self._known[stage.key] = read_lengths(folder) if done else None
        return self._known[stage.key]


def _least_room(known: tuple[Room, Sequence[RowLength]]) -> float:
    return float("inf") if known[0].tokens is None else known[0].tokens


def _cut(known: Sequence[tuple[Room, Sequence[RowLength]]]) -> dict[str, int]:
    """Model -> the number of tokens that its prompts are cut to, if some are longer. It is the same
    for all variants of a model."""
    limit_of: dict[str, int] = {}
    for room, rows in known:
        limits = [r.tokens for r, _ in known if r.model == room.model and r.tokens is not None]
        if limits and any(row.tokens > min(limits) for row in rows):
            limit_of[room.model] = min(limits)
    return limit_of
