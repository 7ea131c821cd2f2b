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
from pathlib import Path
from typing import Any

from harness.comparison.measured import Measured, Run
from harness.core.errors import DataError
from harness.core.files import digest_file, digest_json
from harness.importers.base import a_number
from harness.importers.files import head, inside, json_file
from harness.store.stage import Record

NAME = "peft-method-comparison"
TITLE = "PEFT's method comparison: a folder of results, or one of its files"
TEST_ROWS = 1319
"""The number of rows of the GSM8K test set; PEFT tests its runs on all of them."""
_PARTS = ("run_info", "train_info", "meta_info")
LOWER = ("forgetting", "drift")
"""Figures of what a run has lost; the test figures of runs are better if they are higher."""


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
        metrics.append(Measured(name, evaluation, value, name not in LOWER))
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
    figures = {**tests, **{name: last[name] for name in LOWER if name in last}}
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
