"""Checks a plan by records: rows that do not fit their use, and why a stage is not cached."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from harness.core.errors import SuiteError
from harness.data.scripts import LATIN
from harness.objectives.base import Objective
from harness.planning.graph import Scored
from harness.planning.planner import Plan
from harness.planning.recipe import steps_of, trainings
from harness.stages.score import planned_scorer, rows_of_stage
from harness.store.stage import Stage
from harness.store.store import Store
from harness.variants.steps import Sampled
from harness.variants.variant import Variant

Figures = Callable[[Stage], Mapping[str, Any] | None]
"""The metrics of a data stage; None where they are not known."""


def preflight(planned: Plan, figures: Figures) -> None:
    """What can be checked once rows are read, before anything is trained.

    Raises:
        SuiteError: rows an objective cannot train on, chats for a model without a template, or rows
            that are too long where the suite wants none left out or none is left.
    """
    for path in (path.draft or path for path in planned.paths):
        for training in trainings(path.variant):
            if not training.labelled:  # its rows are made on the way
                _fits(planned, training.cell, training.objective, training.entry, figures)
        for step in steps_of(path.variant):
            if isinstance(step, Sampled):
                _fits(planned, path.variant, step.asked_by, step.entry, figures)
        for entry, generate in path.generate.items():
            read = figures(generate.inputs["data"])
            if read is not None and read["layout"] == "text":
                raise SuiteError(
                    "rows of text hold no question to answer; only perplexity can score them",
                    where=f"{planned.file}: data.{entry}.test",
                    fix="drop the scorers that read predictions, or map prompt and completion",
                )
        for scored in path.scores:
            _asks_sense(planned, scored, figures)
    for judge in planned.judges:
        for training in trainings(judge):
            _fits(planned, training.cell, training.objective, training.entry, figures)
    require_lengths(planned)


def require_lengths(planned: Plan) -> None:
    """Raise SuiteError if rows are too long and the suite does not let them be left out."""
    for beyond in planned.beyond:
        beyond.require()
    for unfit in planned.unfit.values():
        unfit.require()
    for untrained in planned.untrained:
        untrained.require()


def length_notes(planned: Plan) -> list[str]:
    """Notes for `harness plan` about rows that do not fit, as far as they are measured."""
    notes = [note for unfit in planned.unfit.values() for note in unfit.notes(names=True)]
    return [*dict.fromkeys(notes), *(untrained.note() for untrained in planned.untrained)]


def script_notes(planned: Plan, store: Store) -> list[str]:
    """Notes about references in scripts that a scorer cannot read, as far as the rows are known."""
    asked = {  # once, however many variants there are
        (rows.key, json.dumps(scored.stage.config["scorer"])): scored
        for path in planned.paths
        for scored in path.scores
        if (rows := rows_of_stage(scored.stage)) is not None
    }
    notes = (note for scored in asked.values() for note in _of_scripts(scored, store))
    return list(dict.fromkeys(notes))


def _of_scripts(scored: Scored, store: Store) -> Iterator[str]:
    rows = rows_of_stage(scored.stage)
    record = None if rows is None else store.record(rows)
    # Older records do not have counts of scripts; then only scoring shows the fault.
    metrics = record.metrics if record is not None and record.ok else {}
    if set(metrics.get("scripts", ())) - {LATIN}:
        scorer = planned_scorer(scored.stage)
        if warning := scorer.unread(metrics["scripts"], metrics["references"]):
            yield f"{scored.label or scored.scorer} on {scored.evaluation}: {warning}"


def _asks_sense(planned: Plan, scored: Scored, figures: Figures) -> None:
    """Raise SuiteError if a scorer cannot score its rows."""
    rows = rows_of_stage(scored.stage)
    metrics = None if rows is None else figures(rows)
    if metrics is None:
        return
    # Older records do not count rows without a family; then only scoring shows the fault.
    families = [*metrics["groups"], *([""] if metrics.get("ungrouped") else [])]
    scorer = planned_scorer(scored.stage)
    where = f"{planned.file}: data.{scored.evaluation}.test"
    if scorer.needs_references and (bare := metrics.get("without_reference")):
        raise SuiteError(
            f"{bare} of {metrics['rows']} rows have no reference, which {scored.scorer} holds"
            " answers against",
            where=where,
            fix="map `completion` or `references`, leave these rows out with `where:`, or name"
            f" another entry: `{scored.scorer}: {{data: NAME}}`",
        )
    if refusal := scorer.refuse_families(families):
        raise SuiteError(f"{scored.scorer} cannot score these rows: {refusal}", where=where)


def _fits(
    planned: Plan,
    variant: Variant,
    objective: Objective,
    entry: str,
    figures: Figures,
) -> None:
    """Raise SuiteError if an objective or a model cannot be trained on the rows."""
    metrics, model = figures(planned.data[entry, "train"]), variant.model
    if metrics is None:
        return
    refusal = objective.refuse_layout(metrics["layout"])
    if refusal:
        raise SuiteError(
            refusal,
            where=f"{planned.file}: data.{entry}.train",
            fix=f"name an entry with such rows: `{objective.name}: {{data: NAME}}`",
        )
    of_suite = planned.suite.models[model].chat_template
    of_model = planned.models[model].chat_template
    if metrics["conversational"] and not of_suite and of_model == "":
        raise SuiteError(
            f"data.{entry} holds chats, and model '{model}' has no chat template",
            where=f"{planned.file}: models.{model}",
            fix="set `chat_template: FILE.jinja`, or map the rows to prompt and completion",
        )


class Misses:
    """Explains why stages are not cached.

    Args:
        finished: for each finished stage its kind, label, key, config and inputs. They are read
            once for all stages.
    """

    def __init__(self, finished: Iterable[Mapping[str, Any]]) -> None:
        self._finished: dict[str, list[tuple[str, dict[str, str]]]] = {}
        for row in finished:
            name = f"{row['label']} ({row['key'][:12]})"
            inputs = {role: key[:12] for role, key in row["inputs"].items()}
            tree = _flat({**row["config"], "inputs": inputs})
            self._finished.setdefault(row["kind"], []).append((name, tree))

    def explain(self, stage: Stage) -> list[str]:
        """The differences from the most similar finished stage of the same kind."""
        inputs = {role: source.key[:12] for role, source in stage.inputs.items()}
        fields = _flat({**stage.config, "inputs": inputs})
        finished = self._finished.get(stage.kind)
        if not finished:
            return [f"no finished {stage.kind} stage in the store"]
        name, others = min(finished, key=lambda known: len(_differing(fields, known[1])))
        return [
            f"nearest: {name}",
            *(
                f"{field}: {others.get(field, 'not set')} -> {fields.get(field, 'not set')}"
                for field in sorted(_differing(fields, others))
            ),
        ]


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    return {field for field, _ in one.items() ^ other.items()}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    fields: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            fields |= _flat(value, f"{prefix}{key}.")
        else:
            fields[f"{prefix}{key}"] = repr(value)
    return fields
