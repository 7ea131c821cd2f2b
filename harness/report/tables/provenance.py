"""The tables that the results rest on: audits, predictions, data, contamination, time, versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from harness.comparison.result import Comparison, VariantResult
from harness.core.text import line, number_of
from harness.report import numbers
from harness.report.tables.judges import judged, judges, ranks, rates
from harness.report.tables.sheets import Cell, Line, Sheet, figure, merged, name_cell
from harness.report.tables.trials import trials
from harness.store.rows_used import RowsUsed


def evidence(comparison: Comparison) -> list[Sheet]:
    """The tables that speak for and against the results; empty ones are left out."""
    makers = (
        ranks,
        judged,
        judges,
        rates,
        trials,
        merged,
        _audits,
        _predictions,
        _answers,
        _rows,
        _contamination,
        _data,
    )
    return [_compact(sheet) for make in makers if (sheet := make(comparison)).lines]


def _compact(sheet: Sheet) -> Sheet:
    """The table without the columns in which nothing was measured."""
    if any(row.reason for row in sheet.lines):
        return sheet
    kept = [
        i
        for i in range(len(sheet.headers))
        if any(i < len(row.cells) and row.cells[i].text != numbers.MISSING for row in sheet.lines)
    ]
    lines = (
        replace(row, cells=tuple(row.cells[i] for i in kept if i < len(row.cells)))
        for row in sheet.lines
    )
    return replace(sheet, headers=tuple(sheet.headers[i] for i in kept), lines=tuple(lines))


def provenance(comparison: Comparison) -> list[Sheet]:
    """The tables on models, machines and stages; empty ones are left out."""
    makers = (_models, _test_uses, _machine, _stages, _ledger)
    return [sheet for make in makers if (sheet := make(comparison)).lines]


def _audits(comparison: Comparison) -> Sheet:
    lines = [Line(tuple(_audit(v))) for v in comparison.variants if v.audit]
    return Sheet(
        "audits",
        "Audits",
        ("variant", "passed", "failed", "skipped", "what did not pass"),
        tuple(lines),
        "Checks at the end of every training run that the method really happened.",
    )


def _audit(variant: VariantResult) -> Iterator[Cell]:
    yield name_cell(variant.group)
    for status in ("passed", "failed", "skipped"):
        amount = sum(check["status"] == status for check in variant.audit)
        yield figure(str(amount), amount)
    rest = [
        f"{check['status']}: {check['check']} ({check.get('detail', '')})"
        for check in variant.audit
        if check["status"] != "passed"
    ]
    yield Cell("; ".join(line(text) for text in dict.fromkeys(rest)) or "nothing", name=True)


def _predictions(comparison: Comparison) -> Sheet:
    lines = [Line(tuple(_predicted(v))) for v in comparison.variants if v.predicted and v.trained]
    return Sheet(
        "predicted",
        "Predicted against measured",
        ("variant", "time predicted", "training took", "whole stage took",
         "state memory predicted", "state memory measured", "tokens predicted", "tokens seen"),
        tuple(lines),
        "Predictions are by formula, before anything was trained: tokens from the measured lengths"
        " of the rows, time from the rate of earlier stages of the store. State memory is that of"
        " the first step; if its rows are drawn at random, the longest of them is the expected one."
        " There is no formula for pairs, rewards and rollouts.",
    )  # fmt: skip


def _predicted(variant: VariantResult) -> Iterator[Cell]:
    yield name_cell(variant.group)
    guess, cost = variant.predicted, variant.cost
    for amount in (guess.get("seconds"), cost.get("last_seconds"), cost.get("seconds")):
        yield figure(numbers.seconds(amount), amount)
    for amount in (guess.get("state_bytes"), cost.get("state_bytes")):
        yield figure(numbers.size(amount), amount)
    for amount in (guess.get("tokens"), cost.get("last_tokens")):
        yield figure(numbers.count(amount), amount)


def _answers(comparison: Comparison) -> Sheet:
    lines = [
        Line((name_cell(variant.group), name_cell(entry), *_ends(figures)))
        for variant in comparison.variants
        for entry, figures in variant.generation.items()
        if figures
    ]
    return Sheet(
        "answers",
        "How answers end",
        ("variant", "evaluation", "end of sequence", "stop string", "cut at the limit",
         "mean tokens", "mean shots"),
        tuple(lines),
        "Answers that are cut at the limit are scored as they are: the limit is too low for them,"
        " or the model does not stop by itself.",
    )  # fmt: skip


def _ends(figures: Mapping[str, float]) -> Iterator[Cell]:
    for key in ("eos_rate", "stop_rate", "truncation_rate"):
        yield figure(numbers.share(figures.get(key)), figures.get(key))
    for key in ("mean_tokens", "mean_shots"):
        yield figure(numbers.number(figures.get(key), 1), figures.get(key))


def _rows(comparison: Comparison) -> Sheet:
    lines = [Line(tuple(_used(used))) for used in comparison.rows_used if used.purpose != "read"]
    return Sheet(
        "rows",
        "Rows used",
        ("rows of", "for", "by", "given", "used", "left out", "why", "cut to fit"),
        tuple(lines),
        "Of the rows that were read (see Data), those that a training or an evaluation took.",
    )


def _used(used: RowsUsed) -> Iterator[Cell]:
    yield name_cell(used.rows)
    yield name_cell(used.purpose)
    yield name_cell(used.name)
    left = used.given - used.used
    for amount in (used.given, used.used, left):
        yield figure(numbers.count(amount), amount)
    why = ", ".join(f"{numbers.count(n)} {line(why)}" for why, n in used.left_out.items() if n)
    yield Cell(why or "none", name=True)
    yield figure(numbers.count(used.cut), used.cut)


def _contamination(comparison: Comparison) -> Sheet:
    lines = [Line(*_pair(check)) for check in comparison.contamination]
    return Sheet(
        "contamination",
        "Contamination",
        ("training and test rows", "test rows", "exact copies", "near copies", "too short"),
        tuple(lines),
        "Near copies share at least half of their word n-grams with the training rows; rows shorter"
        " than n words cannot be checked that way.",
    )


def _pair(check: Mapping[str, Any]) -> tuple[tuple[Cell, ...], str]:
    first = name_cell(check.get("pair", ""))
    error = check.get("error")
    if error is not None:
        said = error.get("message", error) if isinstance(error, Mapping) else error
        return (first,), line(said)
    keys = ("test_rows", "exact", "overlap", "short")
    return (first, *(figure(numbers.count(check.get(k)), check.get(k)) for k in keys)), ""


def _data(comparison: Comparison) -> Sheet:
    return Sheet(
        "data",
        "Data",
        ("entry", "split", "rows", "dropped", "layout", "digest"),
        tuple(Line(tuple(_source(split))) for split in comparison.data),
    )


def _source(split: Mapping[str, Any]) -> Iterator[Cell]:
    yield name_cell(split.get("entry", ""))
    yield name_cell(split.get("split", ""))
    yield figure(numbers.count(split.get("rows")), split.get("rows"))
    dropped = split.get("dropped") or {}
    if isinstance(dropped, Mapping):
        reasons = ", ".join(f"{numbers.count(n)} {line(why)}" for why, n in dropped.items() if n)
        yield Cell(reasons or "none", name=True)
    else:
        yield name_cell(dropped)
    yield name_cell(split.get("layout") or numbers.MISSING)
    yield name_cell(split.get("digest") or numbers.MISSING)


def _pairs(key: str, title: str, heads: tuple[str, ...], values: Mapping[str, Any]) -> Sheet:
    lines = (Line((name_cell(k), Cell(line(v), name=True))) for k, v in values.items())
    return Sheet(key, title, heads, tuple(lines))


def _models(comparison: Comparison) -> Sheet:
    models = comparison.provenance.get("models", {})
    identities = {name: _pairs_in_words(about) for name, about in models.items()}
    return _pairs("models", "Models", ("model", "identity"), identities)


def _pairs_in_words(about: Any) -> str:
    if not isinstance(about, Mapping):
        return str(about)
    return ", ".join(f"{k}: {_pairs_in_words(v)}" for k, v in about.items() if v is not None)


def _test_uses(comparison: Comparison) -> Sheet:
    uses = comparison.provenance.get("test_uses", {})
    counted = {
        entry: f"{number_of(counts['variants'], 'variant')}, {number_of(counts['trials'], 'trial')}"
        for entry, counts in uses.items()
    }
    return _pairs("test-uses", "Uses of the test rows", ("test rows", "scored on them"), counted)


def _machine(comparison: Comparison) -> Sheet:
    known = comparison.provenance
    values = {**known.get("machine", {}), **dict(sorted(known.get("versions", {}).items()))}
    return _pairs("machine", "Machine and versions", ("what", "value"), values)


def _stages(comparison: Comparison) -> Sheet:
    lines = tuple(
        Line((name_cell(variant), name_cell(stage), name_cell(key)))
        for variant, keys in comparison.provenance.get("stages", {}).items()
        for stage, key in keys.items()
    )
    return Sheet("stages", "Stages", ("variant", "stage", "key"), lines)


def _ledger(comparison: Comparison) -> Sheet:
    lines = tuple(
        Line((name_cell(name), figure(numbers.seconds(spent), spent)))
        for name, spent in comparison.ledger.items()
    )
    note = "Over the stages behind this report, whenever they ran."
    return Sheet("ledger", "Where the time went", ("stage and phase", "time"), lines, note)
