"""Runs of HELM: a folder with run_spec.json and per_instance_stats.json, or a folder of such
folders.

Only rows without a perturbation are read. Trials of one instance are several answers to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.comparison.measured import Measured, Run
from harness.core.text import label
from harness.importers.base import a_name, condition, fingerprint, mapping, sequence
from harness.importers.collector import Collector, published
from harness.importers.files import Unreadable, digest, inside, json_file

NAME = "helm"
TITLE = "HELM: a run's folder with run_spec.json, or the folder of several"
_SPEC, _ROWS, _SUMMARY = "run_spec.json", "per_instance_stats.json", "stats.json"
_BOOKKEEPING = re.compile(
    r"num_\w+|\w+_cost|inference_\w+|batch_size|finish_reason_\w+|prompt_truncated|max_prob|logprob"
    r"|predicted_index|\w*runtime\w*|training_\w+|estimated_\w+"
)
"""Names of HELM's statistics of requests, costs and lengths, which are no scores."""
_LOWER = re.compile(
    r"bits_per_byte|perplexity|logprob_per_byte|\w*_?ece\w*|edit_\w+|\w*toxic\w*|bias_\w*|\w+_error"
)


def recognises(path: Path, start: bytes) -> bool:
    """Whether the folder, or one in it, has run_spec.json."""
    return path.is_dir() and (
        (path / _SPEC).is_file() or next(iter(path.glob(f"*/{_SPEC}")), None) is not None
    )


def read(path: Path) -> list[Run]:
    """A run for each model.

    Raises:
        Unreadable: a file is damaged, or two folders have the same run.
    """
    if not path.is_dir():
        raise Unreadable("is not a folder", where=str(path), fix=f"give the folder of {_SPEC}")
    specs = inside(path, _SPEC) or inside(path, f"*/{_SPEC}")
    if not specs:
        raise Unreadable(f"has no {_SPEC}", where=str(path))
    by_model: dict[str, list[Measured]] = {}
    files: dict[str, dict[str, str]] = {}
    notes: list[str] = []
    for spec in specs:
        model, metrics, used = _read(spec, notes)
        known = by_model.setdefault(model, [])
        if {m.name for m in known} & {m.name for m in metrics}:
            raise Unreadable(f"has two runs of {model} on {metrics[0].evaluation}", where=str(path))
        known += metrics
        files.setdefault(model, {})[f"{spec.parent.name}/{used.name}"] = digest(used)
    return [
        Run(model, tuple(metrics), source={"tool": "HELM", "file": path.name,
                                           "sha256": files[model]}, notes=tuple(notes))
        for model, metrics in by_model.items()
    ]  # fmt: skip


def _read(file: Path, notes: list[str]) -> tuple[str, list[Measured], Path]:
    where = str(file)
    spec = mapping(json_file(file), "it", where)
    adapter = mapping(spec.get("adapter_spec"), "adapter_spec", where)
    model = label(a_name(adapter.get("model"), "adapter_spec.model", where))
    name = a_name(spec.get("name"), "name", where)
    evaluation = label(re.sub(r"[,:]?model(_deployment)?=[^,]*", "", name))
    conditions = _conditions(spec, adapter)
    rows = inside(file.parent, _ROWS)
    if rows:
        prints = _prompts(file.parent)
        return model, _instances(rows[0], evaluation, conditions, prints), rows[0]
    summaries = inside(file.parent, _SUMMARY)
    if not summaries:
        raise Unreadable(f"has neither {_ROWS} nor {_SUMMARY}", where=str(file.parent))
    notes.append(
        f"{file.parent.name} has no {_ROWS}: each metric is one figure without its spread."
    )
    return model, _summary(summaries[0], evaluation, conditions), summaries[0]


def _conditions(spec: Mapping[str, Any], adapter: Mapping[str, Any]) -> dict[str, str]:
    """What must be equal in two runs: the scenario, how prompts are made, the metrics."""
    told = {k: v for k, v in adapter.items() if k not in ("model", "model_deployment")}
    parts = {"scenario": spec.get("scenario_spec"), "adapter": told,
             "metrics": spec.get("metric_specs")}  # fmt: skip
    return {name: condition(value) for name, value in parts.items()}


def _prompts(folder: Path) -> dict[tuple[str, int], tuple[int, int]]:
    """(instance, trial) -> fingerprints of its question and of its prompt, as far as known."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for file in inside(folder, "scenario_state.json"):
        where = str(file)
        content = mapping(json_file(file), "it", where)
        for state in sequence(content.get("request_states"), "request_states", where):
            instance = mapping(mapping(state, "a state", where).get("instance"), "instance", where)
            if instance.get("perturbation") is None and "id" in instance:
                asked = json.dumps([instance.get("input"), instance.get("references")],
                                   sort_keys=True)  # fmt: skip
                prompt = mapping(state.get("request") or {}, "request", where).get("prompt")
                key = str(instance["id"]), _trial(state, where)
                found.setdefault(key, (fingerprint(asked), fingerprint(prompt)))
    return found


def _trial(row: Mapping[str, Any], where: str) -> int:
    trial = row.get("train_trial_index", 0)
    if isinstance(trial, bool) or not isinstance(trial, int):
        raise Unreadable(f"train_trial_index is {trial!r}", where=where)
    return trial


def _instances(
    file: Path,
    evaluation: str,
    conditions: Mapping[str, str],
    prints: Mapping[tuple[str, int], tuple[int, int]],
) -> list[Measured]:
    where = str(file)
    collector = Collector(evaluation, where, answers=True)
    rows = sequence(json_file(file), "it", where)
    seen: set[tuple[str, int]] = set()
    kept = []
    for row in rows:
        row = mapping(row, "a row", where)
        if row.get("perturbation") is None:
            key = a_name(row.get("instance_id"), "instance_id", where), _trial(row, where)
            if key in seen:
                raise Unreadable(f"instance {key[0]} occurs twice", where=where)
            seen.add(key)
            kept.append((key, row))
    known = all(key in prints for key, _ in kept)
    for key, row in kept:
        scores = {}
        for stat in sequence(row.get("stats"), "stats", where):
            name, value = _stat(stat, where)
            if name and value is not None:
                scores[name] = value
                collector.lower[name] = _LOWER.fullmatch(name) is not None
        content, prompt = prints[key] if known else (None, None)
        collector.add(key[0], scores, content=content, prompt=prompt)
    return collector.measured(conditions)


def _stat(stat: Any, where: str) -> tuple[str, float | None]:
    """(name, mean) of a statistic; the name is empty if it is no score."""
    stat = mapping(stat, "a statistic", where)
    about = mapping(stat.get("name"), "a statistic's name", where)
    name = a_name(about.get("name"), "a statistic's name", where)
    if _BOOKKEEPING.fullmatch(name) or about.get("perturbation") is not None:
        return "", None
    return name, stat.get("mean") if stat.get("count") else None


def _summary(file: Path, evaluation: str, conditions: Mapping[str, str]) -> list[Measured]:
    where, found = str(file), {}
    for stat in sequence(json_file(file), "it", where):
        name, value = _stat(stat, where)
        if name and value is not None and name not in found:
            found[name] = published(name, evaluation, value, where, conditions=conditions,
                                    lower=_LOWER.fullmatch(name) is not None)  # fmt: skip
    return list(found.values())
