"""`harness data`: shows a suite's rows as a trainer reads them, and counts the dropped ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click

from harness.commands.session import Opened, records_of
from harness.core import registry
from harness.core.errors import SuiteError, unknown
from harness.core.text import line, number_of, visible
from harness.data.cells import said
from harness.objectives.base import Objective
from harness.planning.checks import length_notes
from harness.planning.graph import trained_by
from harness.planning.planner import plan
from harness.planning.shortfalls import counts_in, shortfalls
from harness.scheduling.progress import ConsoleReporter
from harness.scheduling.schedule import Reporter, execute
from harness.stages.preview import Preview
from harness.stages.train import Train
from harness.store.stage import Record, Stage

_EXCERPT = 160
_PACKED = (
    "documents are packed only if the model keeps them apart, which each training tests before it"
    " starts; if the model does not, a suite that sets packing itself is refused, and otherwise"
    " every document gets its own sequence"
)
_OPEN, _CLOSE = "⟦", "⟧"


@dataclass(frozen=True)
class View:
    """A data entry to show.

    Attributes:
        train: a training stage that reads its rows.
        preview: the stage that prepares the rows as that training does.
    """

    entry: str
    train: Stage
    preview: Stage

    @property
    def data(self) -> Stage:
        """The stage of the training rows."""
        return self.preview.inputs["train"]


def show(
    opened: Opened, entry: str | None, rows: int, *, color: bool, reporter: Reporter | None = None
) -> str:
    """The first rows of each data entry, as text for a terminal.

    A worker prepares the rows with the trainer that would train on them; nothing is trained.

    Args:
        entry: show this data entry only.
        rows: how many rows of each entry to show.
        color: mark tokens by terminal colours instead of brackets.

    Raises:
        SuiteError: no variant trains on the entry, or its rows cannot be trained on.
    """
    apart = [s for (name, _), s in opened.plan.data.items()
             if s.config.get("turns") and entry in (None, name)]  # fmt: skip
    asked_alone = entry is not None and apart and opened.plan.suite.data[entry].train is None
    views = [] if asked_alone else list(_views(opened, entry, rows))
    stages = {stage.key: stage for stage in apart}
    for view in views:
        for stage in view.preview.inputs.values():
            stages.update({part.key: part for part in stage.inputs.values()})
            stages[stage.key] = stage
        stages[view.preview.key] = view.preview
    measured = [
        stage for stage in opened.plan.lengths if entry in (None, _entry_of(stage.inputs["data"]))
    ]
    for stage in measured:
        rows_of = stage.inputs["data"]
        stages |= {part.key: part for part in (*rows_of.inputs.values(), rows_of, stage)}
    targets = [*(view.preview for view in views), *apart, *measured]
    outcome = execute(
        list(stages.values()), targets, opened.plan.executor,
        opened.store, reporter or ConsoleReporter(), opened.store.root / "log.txt",
    )  # fmt: skip
    causes = [r for r in outcome.failed if not (r.error or {}).get("skipped")]
    if causes:
        texts = [(record.error or {}).get("message", "") for record in causes]
        raise SuiteError("\n".join(dict.fromkeys(texts)))
    texts = ["\n".join(_lines(view, opened, color=color)) for view in views]
    texts += ["\n".join(_turns(stage, rows, opened)) for stage in apart]
    short = shortfalls(
        opened.plan, counts_in(records_of(opened.plan.data.values(), opened.store)), only=entry
    )
    return "\n\n".join([*texts, *map(line, _unfit(opened, entry)), *map(line, short)])


def _unfit(opened: Opened, entry: str | None) -> Iterator[str]:
    """Notes on the rows that are too long, which are known now that the rows are measured."""
    known = plan(opened.loaded, opened.store, opened.only, opened.limit)
    entries = [entry] if entry is not None else list(known.suite.data)
    places = tuple(f"data.{name}." for name in entries)
    notes = (note.removeprefix(f"{known.file}: ") for note in length_notes(known))
    yield from (note for note in notes if note.startswith(places))


def _entry_of(rows: Stage) -> str:
    """The data entry of a data stage."""
    return rows.label.rpartition("/")[0]


def _views(opened: Opened, entry: str | None, rows: int) -> Iterator[View]:
    """A view for each data entry, model and objective, with the first variant's settings."""
    suite = opened.plan.suite
    if entry is not None and entry not in suite.data:
        raise SuiteError(unknown("data entry", entry, suite.data), where="--data")
    trained = list({t.key: t for path in opened.plan.paths if path.train is not None
                    for t in trained_by(path.train)}.values())  # fmt: skip
    shown = [stage for stage in trained if _shows(stage)]
    if not shown or (entry is not None and entry not in map(_entry, shown)):
        wanted = f"'{entry}' itself" if entry is not None else "rows that can be shown"
        known = ", ".join(dict.fromkeys(map(_entry, shown)))
        raise SuiteError(
            f"no variant trains on {wanted}",
            where="--data" if entry is not None else str(opened.plan.file),
            fix=f"trained on: {known or 'no rows'}",
        )
    seen = set()
    for train in shown:
        kind = (_entry(train), train.config["model"], train.config["objective"]["name"])
        if str(kind) in seen or entry not in (None, _entry(train)):
            continue
        seen.add(str(kind))
        training = Train.of(train)
        preview = Preview(
            rows=rows,
            model=training.model,
            method=training.method,
            objective=training.objective,
            seed=training.seed,
            data_seed=training.data_seed,
            place=training.place,
        ).stage(
            {r: s for r, s in train.inputs.items() if s.kind == "data"},
            resources=train.resources,
            label=f"{_entry(train)} for {train.label}",
        )
        yield View(_entry(train), train, preview)


def _entry(train: Stage) -> str:
    """The data entry of a training stage's own rows."""
    return _entry_of(train.inputs["train"])


def _shows(train: Stage) -> bool:
    """Whether a training reads rows of the suite, and its objective can show them."""
    declared = registry.find("objective", train.config["objective"]["name"])
    shows = cast(type[Objective], declared).batches is not None
    return shows and train.inputs["train"].kind == "data"


def _lines(view: View, opened: Opened, *, color: bool) -> Iterator[str]:
    record, data = (_record(stage, opened) for stage in (view.preview, view.data))
    shown = json.loads(_file(view.preview, "preview.json", opened))
    objective = view.train.config["objective"]["name"]
    model = Path(Train.of(view.train).place.source).name
    yield line(
        f"data.{view.entry}.train as {objective} trains on it"
        f" (variant {view.train.label}, model {model})"
    )
    mark = "shown in reverse" if color else f"between {_OPEN} and {_CLOSE}"
    marked = cast(type[Objective], registry.find("objective", objective)).marked
    sampled = "prompts as the policy reads them: its answers are sampled, and no prompt is learnt"
    caption = f"{marked} are {mark}" if marked else sampled
    yield f"{caption}; special tokens such as EOS are written by their names"
    for number, sequence in enumerate(shown["sequences"]):
        name = f"row {line(shown['ids'][number])}" if shown["ids"] else f"sequence {number}"
        packed = (
            f", {number_of(sequence['documents'], 'document')}" if sequence["documents"] > 1 else ""
        )
        size, learnt = len(sequence["ids"]), sum(sequence["loss"])
        yield f"\n{name}: {number_of(size, 'token')}{packed}, {learnt} in the loss"
        yield _marked(sequence["runs"], color=color)
    if any(sequence["documents"] > 1 for sequence in shown["sequences"]):
        yield f"\n{_PACKED}"
    yield ""
    yield from _counts(view, data, record, shown, opened)


def _marked(runs: list[Mapping[str, Any]], *, color: bool) -> str:
    """The runs of tokens as text. Whatever a row contains, it cannot fake a mark or control the
    terminal."""
    text, inside = "", False
    for run in runs:
        if run["starts_document"]:
            text += (_CLOSE if inside and not color else "") + "\n  -- next document --\n"
            inside = False
        piece = visible(run["text"])
        for mark in (_OPEN, _CLOSE):
            piece = piece.replace(mark, f"⟨U+{ord(mark):04X}⟩")
        if color:
            text += click.style(piece, reverse=run["loss"], bold=run["special"])
            continue
        if run["loss"] != inside:
            text += _OPEN if run["loss"] else _CLOSE
            inside = run["loss"]
        text += piece
    return text + (_CLOSE if inside else "")


def _turns(data: Stage, rows: int, opened: Opened) -> Iterator[str]:
    """The first examples of conversations that are evaluated turn by turn."""
    counts = _record(data, opened).metrics
    yield (
        f"data.{data.label.replace('/', '.')} is asked turn by turn: {counts['conversations']}"
        f" conversations, {number_of(counts['rows'], 'turn')} of the assistant"
    )
    if counts["silent_turns"]:
        yield (
            "left out, as they are empty or follow no message:"
            f" {number_of(counts['silent_turns'], 'turn')}"
        )
    for text in _file(data, "rows.jsonl", opened).splitlines()[:rows]:
        row = json.loads(text)
        group = f" ({line(row['group'])})" if row["group"] else ""
        yield f"\nrow {line(row['id'])}{group}, in the conversation {line(row['cluster'])}"
        for message in row["messages"][:-1]:
            yield f"  {line(message['role'])}: {line(said(message))}"
        yield f"  asked for: {' | '.join(line(reference) for reference in row['references'])}"


def _counts(
    view: View, data: Record, record: Record, shown: Mapping[str, Any], opened: Opened
) -> Iterator[str]:
    measured, counts = data.metrics, record.metrics["rows"]
    lost = sum(measured["dropped"].values())
    yield f"rows: {measured['rows']} usable ({measured['layout']}), {lost} dropped"
    if measured.get("gathered"):
        yield f"  gathered from {number_of(measured['gathered'], 'answer')} that were scored alone"
    for text in _file(view.data, "dropped.jsonl", opened).splitlines():
        reason = json.loads(text)
        yield (
            f"  {reason['rows']} {line(reason['reason'])}; the first is row {reason['first']}:"
            f" {line(reason['excerpt'])[:_EXCERPT]}"
        )
    for name, part in measured.get("shares", {}).items():
        yield (
            f"  {line(name)}: {number_of(part['rows'], 'row')}, {part['share']:.1%} of the mixture"
        )
    if shown.get("rejoined"):
        yield (
            f"the chat template writes {len(shown['rejoined'])} of these rows otherwise than it"
            f" asks for their answers (the first is row {line(shown['rejoined'][0])}); they are"
            " trained on in the form in which it asks"
        )
    over = shown["over_length"]
    limit = f"the model's context ({counts['context']})" if "context" in counts else "max_length"
    too_long = f"over {limit}: {counts['over_length']} of {counts['given']} ({counts['overlong']})"
    yield f"{too_long}, {number_of(counts['tokens_cut'], 'token')} cut off"
    if "without_loss" in counts:
        yield f"without a token in the loss, and left out: {counts['without_loss']}"
    if over:
        said = line(over["excerpt"])[:_EXCERPT]
        yield f"  the first is row {line(over['id'])}, {number_of(over['tokens'], 'token')}: {said}"
    for name, figures in (*measured["characters"].items(), ("row", counts["tokens"])):
        unit = "tokens" if name == "row" else "characters"
        yield (
            f"{unit} ({name}): mean {figures['mean']:.1f}, median {figures['p50']},"
            f" 99% up to {figures['p99']}, longest {figures['max']}"
        )
    yield f"rows equal to another: {measured['equal_rows']}"
    yield from _contamination(view, opened)


def _contamination(view: View, opened: Opened) -> Iterator[str]:
    """The result of the contamination check, or that it has not run yet."""
    for stage in opened.plan.contamination:
        if stage.inputs["train"] not in view.preview.inputs.values():
            continue
        record = opened.store.record(stage)
        if record is None or not record.ok:
            label = line(stage.label)
            yield f"test rows among them ({label}): not checked yet; `harness run` checks them"
            continue
        metrics = record.metrics
        yield (
            f"test rows among them ({line(stage.label)}): {metrics['exact']} exact,"
            f" {metrics['overlap']} near copies, {metrics['short']} of {metrics['test_rows']} too"
            " short to look for near copies"
        )


def _record(stage: Stage, opened: Opened) -> Record:
    record = opened.store.record(stage)
    if record is None:
        raise SuiteError(f"{stage.label}: the record of this stage is missing", fix="run again")
    return record


def _file(stage: Stage, name: str, opened: Opened) -> str:
    path: Path = stage.path(opened.store.root) / name
    return path.read_text(encoding="utf-8")
