"""Reads raw rows from files and from the Hugging Face hub."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import DataError, why
from harness.data.layouts import detect
from harness.data.mapped import named
from harness.data.opened import Broken, looks_like_json, numbered_lines, open_text
from harness.data.read_json import read_json
from harness.data.read_tables import read_parquet, read_table, without_fillers
from harness.data.row import RowDict

_DEEPEST = 100
"""The deepest nesting of lists and mappings in a row. Layouts need less than a tenth of it."""
_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "text",
}


def read(
    config: Mapping[str, Any], source: str, where: str, head: int | None = None
) -> Iterator[RowDict]:
    """The rows of a file, or of a data set on the hub, unchanged.

    Args:
        config: a Split's fields.
        source: a file's path, or a name on the hub.
        where: the place in the suite, for messages.
        head: read only about so many of the first bytes of a file.

    Raises:
        DataError: the source cannot be read; the message names the line, if it is known.
    """
    path = Path(source)
    if not path.exists():
        yield from _from_hub(config, source, where)
        return
    kind = config["format"] or _BY_SUFFIX.get(_suffix(path))
    if kind is None:
        raise DataError(
            f"the format of {path.name} is not known",
            where=where,
            fix=f"set `format:` to one of {', '.join(_READERS)}",
        )
    try:
        if config["format"] is None and kind in _TOLD_BY_NAME and looks_like_json(path):
            raise Broken("it holds JSON", f"set `format: json`, or `format: {kind}` to read on")
        for number, row in enumerate(_READERS[kind](path, config, head)):
            if _depth(row) > _DEEPEST:
                raise Broken(f"row number {number} is nested over {_DEEPEST} deep", "flatten it")
            yield row
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not {error.encoding.upper()} text (byte {error.start}:"
            f" {error.object[error.start]:#04x})",
            where=where,
            fix="write it as UTF-8: iconv -f latin1 -t utf-8",
        ) from None
    except Broken as error:
        message = f"{path} cannot be read as {kind}: {error}"
        raise DataError(message, where=where, fix=error.fix) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read: {why(error)}",
            where=where,
            fix="fetch or compress the file again, and check its permissions",
        ) from None


def _suffix(path: Path) -> str:
    """The file's suffix in lower case, without `.gz`."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def _depth(value: Any) -> int:
    """How deeply lists and mappings are nested in a value."""
    level, depth = [value], -1
    while level:
        depth += 1
        inner = (v.values() if isinstance(v, Mapping) else v for v in level)
        level = [v for part in inner for v in part if isinstance(v, Mapping | list)]
    return depth


def _text(path: Path, config: Mapping[str, Any], head: int | None) -> Iterator[RowDict]:
    with open_text(path, head=head) as handle:
        whole = "".join(line for _, line in numbered_lines(handle))
    for part in whole.split(config["delimiter"]):
        if part.strip():
            yield {"text": part.strip("\n")}


def _is_row(config: Mapping[str, Any]) -> Callable[[RowDict], bool]:
    """A function that tells whether an object has the columns of a layout, or those that `map:`
    reads."""
    wanted = named(config["map"])
    return lambda row: detect(row) is not None or not wanted.isdisjoint(row)


def _json(*, lines: bool) -> _Reader:
    return lambda path, config, head: read_json(path, head, lines=lines, is_row=_is_row(config))


_Reader = Callable[[Path, Mapping[str, Any], int | None], Iterator[RowDict]]
_READERS: dict[str, _Reader] = {
    "jsonl": _json(lines=True),
    "json": _json(lines=False),
    "csv": lambda path, config, head: read_table(path, ",", head),
    "tsv": lambda path, config, head: read_table(path, "\t", head),
    "parquet": lambda path, config, head: read_parquet(path, head),
    "text": _text,
}
_TOLD_BY_NAME = ("csv", "tsv", "text")
"""Formats in which any text file can be read, even JSON, though with a wrong result."""


def _from_hub(config: Mapping[str, Any], source: str, where: str) -> Iterator[RowDict]:
    """The rows of a data set on the hub, from the hub's cache if it is there, else downloaded."""
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
    except Exception as error:  # datasets raises many types; all mean the same here
        first = str(error).strip().split("\n")[0]
        if folder is not None:
            raise DataError(
                f"'{source}' is in the hub's cache ({folder}), but {_asked(config)} cannot be"
                f" read from it: {first}",
                where=where,
                fix="check `split` and `name`, or download the missing files too",
            ) from error
        raise DataError(
            f"'{source}' is not a file here, is not in the hub's cache, and the hub gave no data"
            f" set ({first})",
            where=where,
            fix=_where_to_put(source, config),
        ) from error
    yield from (without_fillers(dict(row)) for row in rows)


def _cached(source: str, revision: str | None) -> Path | None:
    """The folder of a data set in the hub's cache; None if it is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        snapshot = snapshot_download(
            source, repo_type="dataset", revision=revision, local_files_only=True
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    data = [path for path in Path(snapshot).rglob("*") if path.is_file() and path.name[0] != "."]
    return Path(snapshot) if any(path.suffix != ".md" for path in data) else None


def _asked(config: Mapping[str, Any]) -> str:
    named = {"config": config["name"], "split": config["split"] or "train"}
    return " ".join(f"{key} '{value}'" for key, value in named.items() if value)


def _where_to_put(source: str, config: Mapping[str, Any]) -> str:
    """The fix for a missing data set: which files are missing, and where to put them."""
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
