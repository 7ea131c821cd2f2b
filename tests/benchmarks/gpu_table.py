"""What `gpu_bench.py` measured, as Markdown for the docs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Found = Mapping[str, Any]
Column = tuple[str, Callable[[Found], str]]


def _number(name: str, form: str = ",.0f") -> Callable[[Found], str]:
    return lambda case: "-" if case.get(name) is None else format(case[name], form)


def _side(side: str, name: str, form: str) -> Callable[[Found], str]:
    scale = 1 / 2**30 if form == "GiB" else 1.0

    def told(case: Found) -> str:
        value = case.get(side, {}).get(name)
        if value is None:
            return "out of memory" if "out_of_memory" in case.get(side, {}) else "-"
        return format(value * scale, ".1f" if form == "GiB" else form)

    return told


def _predicted(case: Found) -> str:
    count, share = case["harness"].get("predicted"), case.get("predicted_of_peak")
    if count is None:
        return "-"
    return f"{count / 2**30:.1f}" + ("" if share is None else f" ({share:.0%} of measured)")


def _recomputed(case: Found) -> str:
    return "yes" if case.get("checkpointing") else "no"


TRAINING: tuple[Column, ...] = (
    ("tokens/s", _side("harness", "tokens_per_second", ",.0f")),
    ("plain TRL", _side("trl", "tokens_per_second", ",.0f")),
    ("step, of TRL's", _number("of_plain_step", ".3f")),
    ("MFU", _number("mfu_harness", ".1%")),
    ("with attention", _number("mfu_with_attention_harness", ".1%")),
    ("peak, GiB", _side("harness", "peak_allocated", "GiB")),
    ("reserved", _side("harness", "peak_reserved", "GiB")),
    ("TRL's peak", _side("trl", "peak_allocated", "GiB")),
    ("predicted", _predicted),
    ("activations again", _recomputed),
    ("losses apart", _number("losses_apart", ".1e")),
)
SCORING: tuple[Column, ...] = (
    ("tokens/s", _number("tokens_per_second")),
    ("of plain forward passes", _number("of_forward", ".1%")),
    ("of 2 N FLOPs a token", _number("of_limit", ".1%")),
    ("likelihoods apart", _number("scores_apart", ".1e")),
)
WRITING: tuple[Column, ...] = (
    ("tokens/s", _number("harness_tokens_per_second")),
    ("HF generate", _number("hf_generate_tokens_per_second")),
    ("times HF generate", _number("times_hf_generate", ".2f")),
    ("answers that agree", _number("answers_agree", ".0%")),
    ("tokens before the first that differs", _number("tokens_agree", ".0%")),
)
MIXED: tuple[Column, ...] = (
    ("tokens/s, in one batch", _number("mixed_tokens_per_second")),
    ("one variant after the other", _number("one_by_one_tokens_per_second")),
    ("the base alone", _number("base_tokens_per_second")),
    ("times one after the other", _number("times_one_by_one", ".2f")),
    ("answers that agree", _number("answers_agree", ".0%")),
)
KINDS = {"trl": TRAINING, "tokens_per_second": SCORING, "times_hf_generate": WRITING,
         "times_one_by_one": MIXED}  # fmt: skip
"""A figure that only cases of one kind have -> that kind's columns."""


def table(found: Found) -> str:
    """A heading, and a table for each kind of case; what was not measured is told below."""
    versions = ", ".join(f"{name} {number}" for name, number in found.get("versions", {}).items())
    lines = [f"{found['device']} (driver {found.get('driver')}), {found.get('date')}; {versions}."]
    commits = dict.fromkeys(str(case.get("commit")) for case in found["cases"].values())
    lines[0] += f" Commit {', '.join(commits)}."
    for mark, columns in KINDS.items():
        cases = {
            name: case
            for name, case in found["cases"].items()
            if mark in case and not case["status"].startswith("void")
        }
        if cases:
            lines += ["", *_rows(columns, cases)]
    for name, case in found["cases"].items():
        if case["status"] != "ok":
            told = str(case.get("error") or "").strip().splitlines()
            lines += ["", f"{name}: {case['status']}" + (f" ({told[-1]})" if told else "")]
    return "\n".join(lines) + "\n"


def _rows(columns: tuple[Column, ...], cases: Mapping[str, Found]) -> list[str]:
    lines = [["case", *(name for name, _ in columns)], ["---", *("---:" for _ in columns)]]
    lines += [[name, *(show(case) for _, show in columns)] for name, case in cases.items()]
    return ["| " + " | ".join(cells) + " |" for cells in lines]
