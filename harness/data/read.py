"""Raw rows from files and from the hub."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO, cast

from harness.errors import DataError

Row = dict[str, Any]
_LONGEST_CELL = 2**31 - 1
_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "text",
}


def read(config: Mapping[str, Any], source: str, where: str) -> Iterator[Row]:
    """The rows of a file, or of a data set on the hub, as they stand there.

    Args:
        config: a Split's fields.
        source: a file's path, or a name on the hub.
        where: the place in the suite, for messages.

    Raises:
        DataError: what cannot be read, with the line where there is one.
    """
    path = Path(source)
    if not path.exists():
        yield from _from_hub(config, source, where)
        return
    kind = config["format"] or _BY_SUFFIX.get(Path(path.name.removesuffix(".gz")).suffix)
    if kind is None:
        raise DataError(
            f"cannot tell the format of {path.name}", where=where, fix="set `format: jsonl`"
        )
    try:
        yield from _READERS[kind](path, config)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start}: {error.object[error.start]:#04x})",
            where=where,
            fix="convert it: iconv -f latin1 -t utf-8",
        ) from None
    except (ValueError, csv.Error, OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read as {kind}: {error}", where=where) from None


def _open(path: Path, newline: str | None = None) -> TextIO:
    """A text file, in UTF-8 with or without the mark that some editors put before it."""
    encoding = "utf-8-sig"
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding=encoding, newline=newline))
    return path.open(encoding=encoding, newline=newline)


def _jsonl(path: Path, config: Mapping[str, Any]) -> Iterator[Row]:
    with _open(path) as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no object")
            yield row


def _json(path: Path, config: Mapping[str, Any]) -> Iterator[Row]:
    with _open(path) as handle:
        found = json.load(handle)
    if isinstance(found, dict):  # {"version": ..., "data": [...]}
        tables = [value for value in found.values() if _is_table(value)]
        found = tables[0] if len(tables) == 1 else found
    if not _is_table(found):
        raise ValueError("neither a list of objects nor an object that holds one such list")
    yield from found


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _csv(path: Path, config: Mapping[str, Any], delimiter: str = ",") -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_CELL)  # the default refuses documents over 128 KiB
    with _open(path, newline="") as handle:
        reader = csv.DictReader(handle, delimiter=delimiter, strict=True)
        for row in reader:
            if None in row or None in row.values():
                kind = "more" if None in row else "fewer"
                raise ValueError(f"line {reader.line_num} has {kind} cells than the header")
            yield row


def _tsv(path: Path, config: Mapping[str, Any]) -> Iterator[Row]:
    yield from _csv(path, config, delimiter="\t")


def _parquet(path: Path, config: Mapping[str, Any]) -> Iterator[Row]:
    import pyarrow.parquet

    for row in pyarrow.parquet.read_table(path).to_pylist():
        yield _without_fillers(row)


def _without_fillers(row: Row) -> Row:
    """The row without the empty keys that a table of columns gives its nested mappings: each call
    of a tool would have the arguments of all others, as null."""

    def whole(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: whole(inner) for key, inner in value.items() if inner is not None}
        return [whole(item) for item in value] if isinstance(value, list) else value

    return {column: whole(value) for column, value in row.items()}


def _text(path: Path, config: Mapping[str, Any]) -> Iterator[Row]:
    with _open(path) as handle:
        whole = handle.read()
    for part in whole.split(config["delimiter"]):
        if part.strip():
            yield {"text": part.strip("\n")}


_READERS: dict[str, Callable[[Path, Mapping[str, Any]], Iterator[Row]]] = {
    "jsonl": _jsonl,
    "json": _json,
    "csv": _csv,
    "tsv": _tsv,
    "parquet": _parquet,
    "text": _text,
}


def _from_hub(config: Mapping[str, Any], source: str, where: str) -> Iterator[Row]:
    """Rows of a data set on the hub: from the hub's cache where it lies there, else downloaded."""
    import datasets

    folder = _cached(source, config["revision"])
    split = config["split"] or "train"
    try:
        if folder is not None:
            rows = datasets.load_dataset(str(folder), config["name"], split=split)
        else:
            rows = datasets.load_dataset(
                source, config["name"], split=split, revision=config["revision"]
            )
    except Exception as error:  # datasets raises a dozen kinds; the sentence is the same for each
        first = str(error).strip().split("\n")[0]
        if folder is not None:
            raise DataError(
                f"'{source}' lies in the hub's cache ({folder}), and {_asked(config)} cannot be"
                f" read from it: {first}",
                where=where,
                fix="check `split` and `name`, or download the missing files too",
            ) from error
        raise DataError(
            f"'{source}' is no file here, is not in the hub's cache, and the hub gave no data set"
            f" ({first})",
            where=where,
            fix=_where_to_put(source, config),
        ) from error
    yield from (_without_fillers(dict(row)) for row in rows)


def _cached(source: str, revision: str | None) -> Path | None:
    """The snapshot of a data set in the hub's cache; None when there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            source, repo_type="dataset", revision=revision, local_files_only=True
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    data = [path for path in Path(found).rglob("*") if path.is_file() and path.name[0] != "."]
    return Path(found) if any(path.suffix != ".md" for path in data) else None


def _asked(config: Mapping[str, Any]) -> str:
    named = {"config": config["name"], "split": config["split"] or "train"}
    return " ".join(f"{key} '{value}'" for key, value in named.items() if value)


def _where_to_put(source: str, config: Mapping[str, Any]) -> str:
    """Which files are missing, and the two places where they may be put."""
    from huggingface_hub import constants

    revision = config["revision"] or "main"
    folder = os.path.join(constants.HF_HUB_CACHE, f"datasets--{source.replace('/', '--')}")
    pinned = f" --revision {revision}" if config["revision"] else ""
    return (
        f"missing: the data files (and README.md, which names the configs) of {source} at revision"
        f" '{revision}' with {_asked(config)}\n"
        f"  put them into the hub's cache: {folder}/snapshots/COMMIT/..., with COMMIT written in"
        f" {folder}/refs/{revision}; `hf download {source} --repo-type dataset{pinned}` on a"
        " machine with a network makes just that, and HF_HOME names another cache\n"
        "  or anywhere else, and name the file: `path: FOLDER/train.parquet` (JSONL, JSON, CSV and"
        " text are read too)"
    )
