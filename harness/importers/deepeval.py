"""Test runs of deepeval: .deepeval/.latest_run_full.json, .latest_test_run.json, or the
test_run_*.json of DEEPEVAL_RESULTS_FOLDER.

As test_run/api.py and test_run.py write them, without what is None. A metric is `{"name": ...,
"score": ..., "threshold": ..., "success": ...}` in `metricsData`; in older files it is `{"metric":
..., "score": ..., "minimumScore" or "threshold": ...}` in `metricsMetadata`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.comparison.measured import Run
from harness.core.text import label
from harness.importers.base import (
    a_name,
    fingerprint,
    lower_is_better,
    mapping,
    sequence,
)
from harness.importers.collector import Collector
from harness.importers.files import Unreadable, digest, json_file

NAME = "deepeval"
TITLE = "deepeval: a test run as JSON"
_CASES = ("testCases", "conversationalTestCases")


def recognises(path: Path, start: bytes) -> bool:
    """Whether it has test cases with metrics."""
    return not path.is_dir() and (
        b'"testCases"' in start or b'"testRunData"' in start
        or b'"conversationalTestCases"' in start
    )  # fmt: skip


def read(path: Path) -> list[Run]:
    """One run.

    Raises:
        Unreadable: it is damaged, or not of deepeval.
    """
    where = str(path)
    content = mapping(json_file(path), "it", where)
    run = mapping(content.get("testRunData", content), "testRunData", where)
    lists = {name: sequence(run.get(name) or [], name, where) for name in _CASES}
    collector = Collector(label(run.get("datasetAlias") or "deepeval"), where)
    cases = [mapping(case, "a test case", where) for name in _CASES for case in lists[name]]
    if not cases:
        raise Unreadable("has no test cases", where=where)
    names = [case.get("name") for case in cases]
    unique = len(set(map(str, names))) == len(names)
    thresholds: dict[str, set[bool]] = {}
    for number, case in enumerate(cases):
        place = f"{where}: test case {number}"
        scores: dict[str, Any] = {"passed": case.get("success")}
        told = case.get("metricsData") or case.get("metricsMetadata") or []
        for metric in sequence(told, "metricsData", place):
            metric = mapping(metric, "a metric", place)
            title = a_name(metric.get("name", metric.get("metric")), "a metric", place)
            if title in scores:
                raise Unreadable(f"has the metric {title} twice", where=place)
            scores[title] = None if metric.get("error") else metric.get("score")
            _learn(thresholds, title, metric, case)
        asked = [case.get(k) for k in ("input", "expectedOutput", "scenario", "expectedOutcome",
                                       "context")]  # fmt: skip
        collector.add(
            names[number] if unique else number, scores,
            content=fingerprint(json.dumps(asked, sort_keys=True, default=str)),
        )  # fmt: skip
    for title, directions in thresholds.items():
        collector.lower[title] = True not in directions if directions else lower_is_better(title)
    parameters = run.get("hyperparameters")
    model = parameters.get("model") if isinstance(parameters, dict) else None
    return [
        Run(
            label(run.get("identifier") or model or path.stem),
            tuple(collector.measured(bounds={"passed": (0.0, 1.0)})),
            source={"tool": "deepeval", "file": path.name, "sha256": digest(path)},
        )
    ]


def _learn(
    thresholds: dict[str, set[bool]], title: str, metric: dict[str, Any], case: dict[str, Any]
) -> None:
    """Note whether a metric passes above its threshold (True) or below it: deepeval says nothing
    else of its direction."""
    known = thresholds.setdefault(title, set())
    if "metricsMetadata" in case and "success" not in metric:
        known.add(True)  # then every metric passed at its minimum score or above
    score, threshold, passed = (metric.get(k) for k in ("score", "threshold", "success"))
    plain = isinstance(score, int | float) and isinstance(threshold, int | float)
    if plain and score != threshold and isinstance(passed, bool):
        known.add((score > threshold) == passed)  # type: ignore[operator]
