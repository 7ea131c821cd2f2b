"""Output of `promptfoo eval -o results.json`: versions 1 to 3 of its results, and its lines.

As src/types/index.ts has them. The rows of versions 1 and 2 have no index of their test and prompt,
and no `failureReason`; of version 1 the prompt's template is `display`, and `raw`, as always, is
the prompt with the test's variables.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.comparison.measured import Run
from harness.core.text import label
from harness.importers.base import a_name, fingerprint, mapping, sequence
from harness.importers.collector import Collector
from harness.importers.files import Unreadable, digest, json_file, json_lines

NAME = "promptfoo"
TITLE = "promptfoo: the JSON (or JSONL) of `promptfoo eval -o`"
_ERROR = 2
"""The `failureReason` of a row whose provider or grader gave an error."""


def recognises(path: Path, start: bytes) -> bool:
    """Whether it has results with `testIdx` or `gradingResult`, or says that promptfoo made it."""
    if path.is_dir():
        return False
    return (b'"promptIdx"' in start and b'"testIdx"' in start) or (
        b'"evalId"' in start and b'"results"' in start) or (
        b'"vars"' in start and b'"prompt"' in start and b'"results"' in start) or (
        b'"gradingResult"' in start and b'"provider"' in start)  # fmt: skip


def read(path: Path) -> list[Run]:
    """A run for each provider and prompt.

    Raises:
        Unreadable: it is damaged, or not of promptfoo.
    """
    where, title = str(path), "promptfoo"
    if path.suffix == ".jsonl":
        rows: list[Any] = [row for _, row in json_lines(path)]
    else:
        content = mapping(json_file(path), "it", where)
        config = content.get("config")
        if isinstance(config, dict) and isinstance(config.get("description"), str):
            title = label(config["description"]) or title
        results = content.get("results")
        inner = results.get("results") if isinstance(results, dict) else results
        rows = sequence(inner, "results.results", where)
    if not rows:
        raise Unreadable("has no results", where=where)
    collectors: dict[str, Collector] = {}
    for number, row in enumerate(rows):
        place = f"{where}: result {number}"
        row = mapping(row, "it", place)
        name = _variant(row, place)
        _add(collectors.setdefault(name, Collector(title, where)), row, number, place)
    source = {"tool": "promptfoo", "file": path.name, "sha256": digest(path)}
    return [
        Run(name, tuple(collector.measured(bounds={"pass": (0.0, 1.0)})), source=source)
        for name, collector in _named(collectors).items()
    ]


def _variant(row: dict[str, Any], place: str) -> str:
    provider, prompt = row.get("provider"), row.get("prompt")
    if isinstance(provider, dict):
        provider = provider.get("label") or provider.get("id")
    name = a_name(provider or "provider", "the provider", place)
    if isinstance(prompt, dict):
        prompt = prompt.get("label") or prompt.get("display") or prompt.get("raw")
    index = row.get("promptIdx")
    return f"{label(name)}\x1f{index if index is not None else label(prompt or '')}"


def _named(collectors: dict[str, Collector]) -> dict[str, Collector]:
    """The runs by their provider alone where it has one prompt."""
    providers = [key.split("\x1f")[0] for key in collectors]
    return {
        name if providers.count(name) == 1 else f"{name} prompt {key.split(chr(31))[1]}": collector
        for (key, collector), name in zip(collectors.items(), providers, strict=True)
    }


def _add(collector: Collector, row: dict[str, Any], number: int, place: str) -> None:
    test = row.get("testCase") if isinstance(row.get("testCase"), dict) else {}
    assert test is not None
    asked = {"vars": row.get("vars", test.get("vars")), "assert": test.get("assert")}
    content = fingerprint(json.dumps(asked, sort_keys=True, default=str))
    answer = row.get("response")
    answered = isinstance(answer, dict) and answer.get("output") is not None
    broken = (
        row.get("failureReason") == _ERROR
        or _grader_failed(row.get("gradingResult"))
        or (
            # An assertion that fails is an error too in old files: then there is an answer.
            bool(row.get("error")) and row.get("gradingResult") is None and not answered
        )
    )
    named = row.get("namedScores")
    scores: dict[str, Any] = {"score": row.get("score"), "pass": row.get("success")}
    scores |= mapping(named, "namedScores", place) if named is not None else {}
    if broken:  # there is no answer, or no grade of it, which says nothing of the model's quality
        scores = dict.fromkeys(scores)
    prompt = row.get("prompt")
    raw = prompt.get("raw") if isinstance(prompt, dict) else prompt
    # A test of --repeat is a test of its own with the same variables: they belong together.
    collector.add(row.get("testIdx", len(collector.ids)), scores, cluster=f"{content:08x}",
                  content=content, prompt=fingerprint(raw))  # fmt: skip


def _grader_failed(grading: Any) -> bool:
    """Whether a model that was to grade the answer gave no grade."""
    if not isinstance(grading, dict):
        return False
    parts = grading.get("componentResults")
    every = [grading, *(parts if isinstance(parts, list) else ())]
    told = [one.get("metadata") for one in every if isinstance(one, dict)]
    return any(isinstance(one, dict) and one.get("graderError") is True for one in told)
