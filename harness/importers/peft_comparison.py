"""The comparison of runs of PEFT's method comparison, with what they publish and what they lack."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.comparison.binomial import share
from harness.comparison.result import ALL, Comparison, Conditions, Estimate, Row, VariantResult
from harness.comparison.rows import with_difference
from harness.comparison.unpaired import Figure, contrast_of
from harness.comparison.verdicts import adjusted
from harness.core.errors import DataError, unknown
from harness.importers.peft_method_comparison import LOWER, TEST_ROWS
from harness.store.stage import Record

_TESTS = "Unpaired tests of two shares (Agresti & Caffo, 2000): no per-example rows are published."


def compare(records: Sequence[Record], baseline: str, folder: Path) -> Comparison:
    """Compare the runs with `baseline`, the name of one of them; Holm's adjustment is over all.

    Raises:
        DataError: there is no successful run of that name, or two files have the same name.
    """
    good = {record.label: record for record in records if record.ok}
    if baseline not in good:
        raise DataError(unknown("run", baseline, good, where="--baseline"))
    if len({record.label for record in records}) < len(records):
        raise DataError("two files have the same experiment name", where=str(folder))
    base, rows = good[baseline], []
    for record in good.values():
        if "correct" in record.metrics and "correct" in base.metrics:
            rows.append(_accuracy(record, base))
        rows += [_figure(record, base, name) for name in record.metrics["figures"]]
    texts = "correct" in base.metrics
    return Comparison(
        suite="peft-metamathqa" if texts else "peft-image-gen",
        description=f"Published runs of PEFT's method comparison: {_TASKS[texts]} Imported, not run"
        " again.",
        command=_command(folder, baseline, base.metrics.get("rows", TEST_ROWS)),
        baseline=baseline,
        variants=tuple(_variant(record) for record in records),
        rows=tuple(adjusted(rows)),
        examples=(),
        contamination=(),
        provenance=_behind(records),
        data=tuple(_data(base)),
        ledger={},
        notes=tuple(_notes(records)),
        tests=_TESTS if texts else "No test: one figure a run, without its spread.",
    )


_TASKS = {
    True: "one base model fine-tuned on MetaMathQA by many methods and settings, tested on the"
    " whole of GSM8K.",
    False: "one model of images fine-tuned on pictures of one cat by many methods and settings,"
    " tested on a few pictures.",
}


def _command(folder: Path, baseline: str, rows: int) -> str:
    words = ["harness", "import", "peft-method-comparison", folder.name, "--baseline", baseline]
    return shlex.join(words + (["--test-rows", str(rows)] if rows != TEST_ROWS else []))


def _row(record: Record, metric: str, estimate: Estimate, **rest: Any) -> Row:
    kept: dict[str, Any] = {
        "slice": ALL, "unit": "", "n": record.metrics.get("rows", 0),
        "clusters": record.metrics.get("rows", 0),
        "seeds": 1, "difference": None, "p": None, "p_holm": None, "detectable": None,
        "level": "checkpoint", "verdict": "baseline", "evaluation": "gsm8k",
    }  # fmt: skip
    return Row(group=record.label, metric=metric, estimate=estimate, **{**kept, **rest})


def _accuracy(record: Record, base: Record) -> Row:
    correct, rows = record.metrics["correct"], record.metrics["rows"]
    row = _row(record, "accuracy", share(correct, rows), higher_is_better=True)
    if record is base:
        return row
    theirs, n = base.metrics["correct"], base.metrics["rows"]
    apart = contrast_of(
        Figure(correct / rows, rows, correct, ()), Figure(theirs / n, n, theirs, ())
    )
    # The report's notes say for all rows what its reason says.
    return replace(with_difference(replace(row, verdict=""), apart), note="")


def _figure(record: Record, base: Record, name: str) -> Row:
    same = record is base
    return _row(
        record, name, Estimate(record.metrics["figures"][name]),
        higher_is_better=name not in LOWER,
        evaluation="general text" if "correct" in record.metrics else "test",
        verdict="baseline" if same else "incomparable",
        note="" if same else "one figure a run, without its spread: no test",
        forgetting=name in LOWER,
    )  # fmt: skip


def _variant(record: Record) -> VariantResult:
    method, _, setting = record.label.partition("/")
    return VariantResult(
        group=record.label,
        ids=(record.label,),
        labels={"method": method, "setting": setting},
        trained=True,
        seeds=(int(record.config["train"]["seed"]),),
        status=record.status,
        reasons=(record.error["message"],) if record.error else (),
        cost=record.cost,
        predicted={},
        generation={},
        audit=(),
        timed=(Conditions(record.provenance["device_name"]),),
        losses=(tuple(tuple(point) for point in record.metrics.get("losses", ())),),
    )


def _behind(records: Sequence[Record]) -> dict[str, Any]:
    versions: dict[str, set[str]] = {}
    for record in records:
        for name, version in record.provenance["versions"].items():
            versions.setdefault(name, set()).add(version)
    first = records[0].provenance
    return {
        "machine": {
            "run on": ", ".join(sorted({r.provenance["device_name"] for r in records})),
            "platform": ", ".join(sorted({r.provenance["platform"] for r in records})),
        },
        "versions": {name: ", ".join(sorted(names)) for name, names in versions.items()},
        "models": {first["model"]["name"]: {"revision": first["model"]["revision"]}},
        "stages": {r.label: {r.config["source"]["file"]: r.config["source"]["sha256"]}
                   for r in records},
    }  # fmt: skip


def _data(base: Record) -> Iterator[dict[str, Any]]:
    for name, digest in base.provenance["data"].items():
        test = name == "gsm8k"
        yield {"entry": name, "split": "test" if test else "train", "layout": None, "dropped": {},
               "rows": base.metrics["rows"] if test else None, "digest": digest}  # fmt: skip


def _notes(records: Sequence[Record]) -> Iterator[str]:
    if any("correct" in record.metrics for record in records):
        yield (
            "Imported results: no per-example rows are published, so that intervals are binomial"
            " (mid-P) and differences are tested as if the runs had answered other questions."
            " Paired on the same answers they would most likely be narrower. Examples cannot be"
            " shown."
        )
    else:
        yield (
            "Imported results: each figure is a mean over a few pictures, published without its"
            " spread, so that no difference can be tested."
        )
    seeds = sorted({record.config["train"]["seed"] for record in records})
    yield (
        f"One training run for each setting (seed {', '.join(map(str, seeds))}): each difference is"
        " about these checkpoints, not about the methods."
    )
    methods = [record.label.partition("/")[0] for record in records]
    most = max(dict.fromkeys(methods), key=methods.count)
    yield (
        f"Methods have different numbers of settings ({most} has {methods.count(most)}): the best"
        " of several on this test set is flattered, and no budget of tuning is published."
    )
    for what, values in (
        ("models", {r.provenance["model"]["revision"] for r in records}),
        ("torch versions", {r.provenance["versions"].get("torch") for r in records}),
        ("devices", {r.provenance["device_name"] for r in records}),
    ):
        if len(values) > 1:
            yield f"Runs are of different {what}: {', '.join(sorted(map(str, values)))}."
    yield (
        "Not published with these runs, and left empty: generation speed, state memory, how answers"
        " end, audits, contamination. Forgetting is as published, one figure without a spread."
    )
