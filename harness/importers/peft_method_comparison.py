"""Published results of PEFT's method comparison: MetaMathQA with GSM8K, and image generation.

method_comparison/*/run.py of github.com/huggingface/peft writes one JSON file for each run, with
training settings, costs, and its test figures. MetaMathQA has the accuracy over the whole test set
and no scores of single examples, so that accuracies get binomial intervals, and differences a test
of two proportions. Both are valid; if runs tend to answer the same questions, paired ones would be
narrower. Image generation has figures of a few pictures without their spread: they are shown, and
not tested.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.comparison.binomial import difference, share
from harness.comparison.measured import Measured, Run
from harness.comparison.result import ALL, Comparison, Conditions, Estimate, Row, VariantResult
from harness.comparison.verdicts import adjusted
from harness.core.errors import DataError, unknown
from harness.core.files import digest_file, digest_json
from harness.importers.base import a_number
from harness.importers.files import head, inside, json_file
from harness.store.stage import Record

NAME = "peft-method-comparison"
TITLE = "PEFT's method comparison: a folder of results, or one of its files"
TEST_ROWS = 1319
"""The number of rows of the GSM8K test set; PEFT tests its runs on all of them."""
_PARTS = ("run_info", "train_info", "meta_info")
_LOWER = ("forgetting", "drift")
"""Figures of what a run has lost; the test figures of runs are better if they are higher."""
_TESTS = "Unpaired tests of two shares (Agresti & Caffo, 2000): no per-example rows are published."


def recognises(path: Path, start: bytes) -> bool:
    """Whether it is a run's file, or a folder of such files."""
    if path.is_dir():
        files = _files(path)[:1]
        return bool(files) and recognises(files[0], head(files[0]))
    return b'"run_info"' in start and (b'"train_config"' in start or b'"experiment_name"' in start)


def read(path: Path) -> list[Run]:
    """A run for each file.

    Raises:
        DataError: there are no runs, or a file is not a run.
    """
    records = [_record(path, TEST_ROWS)] if path.is_file() else read_records(path)
    return [run_of(record) for record in records]


def run_of(record: Record) -> Run:
    """The metrics of one record; the accuracy has its standard error, the other figures none."""
    metrics = []
    if "correct" in record.metrics:
        rows, correct = record.metrics["rows"], record.metrics["correct"]
        share = correct / rows
        metrics.append(
            Measured("accuracy", "gsm8k", share, n=rows, bounds=(0.0, 1.0),
                     stderr=math.sqrt(share * (1 - share) / rows))
        )  # fmt: skip
    evaluation = "general text" if metrics else "test"
    for name, value in record.metrics.get("figures", {}).items():
        metrics.append(Measured(name, evaluation, value, name not in _LOWER))
    return Run(
        record.label, tuple(metrics), int(record.config["train"].get("seed", 0)),
        {"tool": "PEFT's method comparison", **record.config["source"]},
        error=record.error["message"] if record.error else "",
    )  # fmt: skip


def _files(folder: Path) -> list[Path]:
    inner = folder / "results"
    return inside(inner if inner.is_dir() else folder, "*.json")


def read_records(folder: Path, test_rows: int = TEST_ROWS) -> list[Record]:
    """A record for every run in `folder`, or in its `results/`, sorted by the names of the files.

    Raises:
        DataError: there are no runs; or a file is not a run, or its accuracy is not a share of
            `test_rows` rows.
    """
    files = _files(folder)
    if not files:
        raise DataError(
            "there is no *.json of a run here or in results/", where=str(folder),
            fix="give the folder method_comparison/MetaMathQA, or image-gen, of a checkout of PEFT",
        )  # fmt: skip
    return [_record(file, test_rows) for file in files]


def _record(file: Path, test_rows: int) -> Record:
    try:
        content = json_file(file)
        if "generation_info" in content:
            raise DataError("holds times of generation, and no score to compare", where=str(file))
        run, train, meta = (content[part] for part in _PARTS)
        good = train["status"] == "success"
        metrics = _metrics(train, test_rows, file) if good else {}
        config = {
            "tool": "peft method_comparison",
            "experiment": run["experiment_name"],
            "train": run["train_config"],
            "peft": run["peft_config"],
            "source": {"file": file.name, "sha256": digest_file(file)},
        }
        return Record(
            key=digest_json({"kind": "import", "config": config}),
            kind="import",
            status="ok" if good else "failed",
            label=run["experiment_name"],
            config=config,
            metrics=metrics,
            cost=_cost(run, train),
            provenance=_provenance(run, meta),
            error=None if good else {"reason": train["status"], "message": _error(run, train)},
        )
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise DataError(
            f"not a result of PEFT's method comparison: {type(error).__name__} {error}",
            where=str(file),
            fix="each file has run_info, train_info and meta_info; move other files away",
        ) from error


def _error(run: dict[str, Any], train: dict[str, Any]) -> str:
    return str(run.get("error_msg") or f"ended as '{train['status']}'")


def _metrics(train: dict[str, Any], test_rows: int, file: Path) -> dict[str, Any]:
    last = train["metrics"][-1]
    losses = [[m["step"], m["train loss"]] for m in train["metrics"] if "train loss" in m]
    steps = {int(step): float(loss) for step, loss in losses}
    tests = {name.removeprefix("test "): value for name, value in last.items()
             if name.startswith("test ")}  # fmt: skip
    result: dict[str, Any] = {"losses": sorted(steps.items())}
    if "accuracy" in tests:
        accuracy = a_number(tests.pop("accuracy"), "test accuracy", str(file))
        correct = round(accuracy * test_rows)
        if not math.isclose(correct / test_rows, accuracy, abs_tol=1e-9):
            raise DataError(
                f"test accuracy {accuracy} is no share of {test_rows} rows",
                where=str(file),
                fix="give the number of test rows by --test-rows",
            )
        result |= {"correct": correct, "rows": test_rows}
    figures = {**tests, **{name: last[name] for name in _LOWER if name in last}}
    if not figures and "correct" not in result:
        raise KeyError("test")
    return result | {
        "figures": {name: a_number(value, name, str(file)) for name, value in figures.items()}
    }


def _cost(run: dict[str, Any], train: dict[str, Any]) -> dict[str, Any]:
    last = train["metrics"][-1] if train["metrics"] else {}
    return {
        "seconds": run["total_time"],
        "train_seconds": train["train_time"],
        "trainable_parameters": train["num_trainable_params"],
        "parameters": train["num_total_params"],
        "checkpoint_bytes": train["file_size"],
        "peak_device_bytes": train["accelerator_memory_max"],
        "tokens": last.get("train total tokens"),
    }


def _provenance(run: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    versions = {
        name.removesuffix("-version"): version
        for name, version in meta["package_info"].items()
        if name.endswith("-version") and version
    }
    return {
        "created": run["created_at"],
        "device_name": meta["system_info"]["accelerator"],
        "platform": f"{meta['system_info']['system']} {meta['system_info']['release']}",
        "versions": versions,
        "model": {"name": run["train_config"]["model_id"], "revision": meta["model_info"]["sha"]},
        "data": _digests(run, meta["dataset_info"]),
    }


def _digests(run: dict[str, Any], about: dict[str, Any]) -> dict[str, str]:
    """The revision of each data set; image generation has one."""
    if isinstance(about.get("sha"), str):
        return {run["train_config"].get("dataset_id", "data"): about["sha"]}
    return {name: one["sha"] for name, one in about.items()}


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
    gap = difference(correct, rows, base.metrics["correct"], base.metrics["rows"])
    return _row(
        record, "accuracy", row.estimate, higher_is_better=True, verdict="",
        difference=Estimate(gap.value, gap.low, gap.high), p=gap.p,
        detectable=gap.detectable,
    )  # fmt: skip


def _figure(record: Record, base: Record, name: str) -> Row:
    same = record is base
    return _row(
        record, name, Estimate(record.metrics["figures"][name]),
        higher_is_better=name not in _LOWER,
        evaluation="general text" if "correct" in record.metrics else "test",
        verdict="baseline" if same else "incomparable",
        note="" if same else "one figure a run, without its spread: no test",
        forgetting=name in _LOWER,
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
