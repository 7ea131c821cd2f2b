"""Answers of a policy, ranked by the world's truth, as raters rank them (Ouyang et al., 2022, 3.1).

Beside the two answers of a pair stand four that an SFT gave to its prompt: `judgements.yaml` draws
them. Made again on another machine they may differ, as a model's answers do; so they are committed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.commands import run as runs
from harness.commands.session import open_suite

from .truth import score

HERE = Path(__file__).parent
SPLITS = ("train", "validation")


def judgements() -> dict[str, list[dict[str, Any]]]:
    """Split -> rows in the `ranked` layout; trains the SFT and asks it: minutes on two cores."""
    with tempfile.TemporaryDirectory() as folder:
        opened = open_suite(str(HERE / "judgements.yaml"), (), Path(folder), None, None)
        outcome = runs.run_stages(opened)
        if outcome.failed:
            raise RuntimeError("judgements.yaml: a stage failed; see the lines above")
        (path,) = opened.plan.paths
        return {
            split: list(_rows(split, path.generate[split].path(opened.store.root)))
            for split in SPLITS
        }


def _rows(split: str, answers: Path) -> Iterator[dict[str, Any]]:
    pairs = {row["id"]: row for row in _lines(HERE / "preference" / f"{split}.jsonl")}
    for line in _lines(answers / "predictions.jsonl"):
        row = judged(pairs[line["id"]], line["samples"])
        if row is not None:
            yield row


def judged(pair: Mapping[str, Any], samples: list[str]) -> dict[str, Any] | None:
    """All different answers to the prompt of a pair, ranked; None where all are equally good.

    Ranks are dense, 1 is best, and equal for answers equally good.
    """
    written = [pair[side][-1]["content"] for side in ("chosen", "rejected")]
    texts = [text for text in dict.fromkeys([*written, *samples]) if text.strip()]
    scores = [score(pair["truth"], text) for text in texts]
    order = sorted(set(scores), reverse=True)
    if len(order) < 2:
        return None
    return {
        "id": pair["id"].replace("pairs", "judgements"),
        **{name: pair[name] for name in ("task", "cluster", "prompt")},
        "responses": [[{"role": "assistant", "content": text}] for text in texts],
        "ranks": [order.index(value) + 1 for value in scores],
        "truth": pair["truth"],
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
