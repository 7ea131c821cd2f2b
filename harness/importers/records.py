"""A record file of this harness: what `--records FILE` writes, a JSON line for each stage or run.

It has the value of each metric and no scores of examples. For these, name the suite, or store a
baseline (`harness baseline set`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.comparison.measured import Measured, Run, RunCosts
from harness.comparison.run_costs import run_costs
from harness.core.text import label
from harness.importers.base import a_number, mapping
from harness.importers.files import Unreadable, digest, json_lines
from harness.importers.peft_method_comparison import run_of
from harness.store.stage import Record

NAME = "records"
TITLE = "a record file of this harness (--records FILE)"
_TRIAL = " trial "


def recognises(path: Path, start: bytes) -> bool:
    """Whether its lines are records."""
    line = start.split(b"\n", 1)[0]
    return not path.is_dir() and all(
        name in line for name in (b'"config"', b'"key"', b'"kind"')
    )  # fmt: skip


def read(path: Path) -> list[Run]:
    """A run for each variant and seed.

    Raises:
        Unreadable: a line is no record.
    """
    where = str(path)
    metrics: dict[tuple[str, int], dict[str, Measured]] = {}
    runs: list[Run] = []
    stages: dict[str, Record] = {}
    for place, record in lines(path):
        if record.ok and record.kind not in ("score", "import") and _TRIAL not in record.label:
            stages[record.key] = record.model_copy(update={"metrics": {}, "config": {
                "model": record.config.get("model")}})  # fmt: skip
        if record.kind == "import":
            runs.append(_imported(record, place))
        elif record.kind == "score" and record.ok and _TRIAL not in record.label:
            name, rest = _named(record.label)
            for metric in _scored(record, rest, place):
                metrics.setdefault(name, {})[metric.name] = metric
    source = {"tool": "harness", "file": path.name, "sha256": digest(path)}
    note = (
        f"{path.name} is a file of records, which has no scores of examples and no standard"
        " errors: name the suite (SUITE:VARIANT) or a stored baseline (`harness baseline set NAME"
        " SUITE:VARIANT`, where its store is) to have a verdict."
    )
    runs += [
        Run(variant, tuple(found.values()), seed, source, (note,), _costs(variant, seed, stages))
        for (variant, seed), found in metrics.items()
    ]
    if not runs:
        raise Unreadable("has no record of a score", where=where)
    return runs


def _costs(variant: str, seed: int, stages: Mapping[str, Record]) -> RunCosts | None:
    """The costs of a variant's run; None if the file has no record of its answers or training."""
    its = [record for record in stages.values() if _named(record.label)[0] == (variant, seed)]
    trained = [record for record in its if record.kind in ("train", "fine_tuning", "checkpoint")]
    answers = [record for record in its if record.kind == "generate"]
    if not trained and not answers:
        return None
    return run_costs(trained[-1] if trained else None, answers, stages)


def lines(path: Path) -> Iterator[tuple[str, Record]]:
    """(place, record) of each line.

    Raises:
        Unreadable: a line is no record.
    """
    for number, line in json_lines(path):
        place = f"{path}: line {number}"
        try:
            yield place, Record.model_validate(line)
        except ValidationError as error:
            raise Unreadable(f"is no record: {error.errors()[0]['msg']}", where=place) from None


def _named(title: str) -> tuple[tuple[str, int], str]:
    """((variant, seed), scorer and evaluation) of a score stage's name."""
    name, _, rest = title.partition(" ")
    variant, _, seed = name.partition("#")
    return (label(variant or "model"), int(seed) if seed.isdigit() else 0), rest


def _scored(record: Record, title: str, place: str) -> list[Measured]:
    scorer = record.config.get("scorer")
    name = str(scorer.get("name")) if isinstance(scorer, dict) else ""
    evaluation, label_ = "", title
    if name and (title == name or title.startswith(f"{name} ")):
        evaluation, label_ = title[len(name) + 1 :], ""
    declared = mapping(record.metrics.get("metrics") or {}, "metrics", place)
    version = {"scorer": str(scorer.get("version"))} if isinstance(scorer, dict) else {}
    found = []
    for metric, told in declared.items():
        told = mapping(told, metric, place)
        shown = metric if not label_ else label_ if len(declared) == 1 else f"{label_} {metric}"
        found.append(_one(shown, evaluation, told, record.metrics.get("rows"), version, place))
    return found


def _one(
    metric: str, evaluation: str, told: Mapping[str, Any], rows: Any,
    conditions: Mapping[str, str], place: str,
) -> Measured:  # fmt: skip
    return Measured(
        metric, evaluation, a_number(told.get("value"), metric, place),
        bool(told.get("higher_is_better", True)),
        n=rows if isinstance(rows, int) and rows > 0 else None,
        stderr=None if told.get("stderr") is None
        else a_number(told["stderr"], "stderr", place),
        conditions=conditions, unit=str(told.get("unit") or ""),
    )  # fmt: skip


def _imported(record: Record, place: str) -> Run:
    """A run that `harness import` wrote."""
    if "figures" in record.metrics or not record.ok:
        return run_of(record)
    config = record.config
    found = [
        _one(told["metric"], told["evaluation"], told, told.get("n"),
             told.get("conditions") or {}, place)
        for told in record.metrics.get("imported", ())
    ]  # fmt: skip
    return Run(record.label, tuple(found), int(config.get("seed", 0)), config.get("source", {}))


def record_of(run: Run) -> Record:
    """A run that was read elsewhere as a record: its metrics' values with their provenance."""
    from harness.core.files import digest_json

    told = [
        {
            "metric": m.metric, "evaluation": m.evaluation, "value": m.value, "n": m.n,
            "stderr": m.stderr, "higher_is_better": m.higher_is_better, "unit": m.unit,
            "unscored": m.unscored, "conditions": dict(m.conditions),
        }
        for m in run.metrics
    ]  # fmt: skip
    config = {"tool": run.source.get("tool", ""), "seed": run.seed, "source": dict(run.source)}
    return Record(
        key=digest_json({"kind": "import", "variant": run.variant, "config": config}),
        kind="import",
        status="failed" if run.error else "ok",
        label=run.variant,
        config=config,
        metrics={"imported": told},
        error={"reason": "failed", "message": run.error} if run.error else None,
    )
