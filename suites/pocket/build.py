"""Build the pocket world's files: `python -m suites.pocket.build WHAT`, one of `WHATS`.

Data is made again bit for bit; models, and judgements of a model's answers, only up to the
machine's arithmetic, so they are committed and their digests kept in DIGESTS.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from . import benchmarks
from .corpus import documents
from .exercises import exercises
from .preference import files
from .tasks import Row, rows

HERE = Path(__file__).parent
SIZES = ("1m", "4m")
WHATS = ("data", "tokenizer", "model", "judgements", "judge", "digests")


def build_data(out: Path) -> None:
    """Write general/*.jsonl, instruct/*.jsonl, preference/*.jsonl and exam/*.jsonl."""
    train, heldout = documents()
    for name, texts in (("train", train), ("heldout", heldout), ("exercises", exercises())):
        lines = [{"id": f"{name}-{i:05d}", "text": text} for i, text in enumerate(texts)]
        _write(out / "general" / f"{name}.jsonl", lines)
    for split, listed in rows().items():
        lines = [_line(f"{split}-{i:05d}", row) for i, row in enumerate(listed)]
        _write(out / "instruct" / f"{split}.jsonl", lines)
    for name, lines in files().items():
        _write(out / "preference" / f"{name}.jsonl", lines)
    for name, lines in benchmarks.files().items():
        _write(out / "exam" / f"{name}.jsonl", lines)


def _line(identifier: str, row: Row) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(row.turns)]
    return {
        "id": identifier,
        "task": row.task,
        "kind": row.kind,
        "cluster": f"{row.task} {row.cluster}",
        "messages": messages,
        "references": list(row.references),
        "facts": list(row.facts),
        "numbers": [list(pair) for pair in row.numbers],
    }


def _write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as handle:
        for line in lines:
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every data file and of the models' weights and tokenizers."""
    names = ("general/*.jsonl", "instruct/*.jsonl", "preference/*.jsonl",
             "exam/*.jsonl", "models/*/model.safetensors", "models/*/tokenizer.json")  # fmt: skip
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for name in names
        for path in sorted(folder.glob(name))
    }


def main() -> None:
    """Command line of the builder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=WHATS)
    parser.add_argument("--size", choices=SIZES, default="1m", help="model: which of the two")
    parser.add_argument("--steps", type=int, help="model, judge: optimizer steps, for a try")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    options = parser.parse_args()
    if options.what == "data":
        build_data(options.out)
    elif options.what == "judgements":
        from .judgements import judgements  # the harness, which data does not need

        for split, lines in judgements().items():
            _write(options.out / "preference" / f"judgements_{split}.jsonl", lines)
    elif options.what == "judge":
        from .judge import build_judge

        build_judge(HERE, options.out, options.steps)
    elif options.what == "digests":
        text = json.dumps(digests(options.out), indent=1) + "\n"
        (options.out / "DIGESTS.json").write_text(text, encoding="utf-8")
    else:
        from .pretrain import build_model, build_tokenizer  # torch, which data does not need

        if options.what == "tokenizer":
            for size in SIZES:
                build_tokenizer(options.out, options.out / "models" / f"pocket-{size}")
        else:
            build_model(options.out, options.size, options.steps)


if __name__ == "__main__":
    main()
