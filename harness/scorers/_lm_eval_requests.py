"""A benchmark's requests: made once for all variants of one tokenizer, and read back for each.

What is kept of each task: the documents that are scored, every request's text and tokens. lm-eval's
own task code then scores the answers, without its data and without building a prompt again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask, Task

from harness.core.errors import StageFailed
from harness.core.files import write_atomic
from harness.inference.lm_text import Encoder, Pair, prefix_of

INDEX, CONTEXTS, REQUESTS, DOCS = "tasks.json", "contexts.parquet", "requests.parquet", "docs"
_CONTEXTS = pa.schema([("type", pa.string()), ("text", pa.string()), ("ids", pa.list_(pa.int32()))])
_REQUESTS = pa.schema([
    ("task", pa.int32()), ("doc", pa.int32()), ("idx", pa.int32()), ("repeats", pa.int32()),
    ("type", pa.string()), ("context", pa.int32()), ("rest", pa.string()),
    ("ids", pa.list_(pa.int32())), ("options", pa.string()),
])  # fmt: skip
_LIKELIHOOD, _WRITTEN, _ROLLING = "loglikelihood", "generate_until", "loglikelihood_rolling"


@dataclass(frozen=True)
class Stored:
    """What was kept of one task.

    Attributes:
        total: documents that the task has, before any limit.
        made_by: name of its class, of a task that is a Python class.
    """

    docs: datasets.Dataset
    instances: Sequence[Instance]
    total: int
    made_by: str


class Known(Encoder):
    """Encodes the texts of some requests by the tokens that are kept of them.

    Args:
        pairs: context and continuation -> their tokens.
        contexts: context of an answer -> its tokens.
        texts: whole text -> its tokens.
    """

    def __init__(
        self,
        tokenizer: Any,
        pairs: Mapping[tuple[str, str], Pair],
        contexts: Mapping[str, list[int]],
        texts: Mapping[str, list[int]],
    ) -> None:
        super().__init__(tokenizer, prefix_of(tokenizer), None)
        self._pairs, self._contexts, self._texts = pairs, contexts, texts

    def pairs(self, requests: Sequence[tuple[str, str]]) -> list[Pair]:
        return [self._pairs[request] for request in requests]

    def contexts(self, texts: Any) -> dict[str, list[int]]:
        return {text: self._contexts[text] for text in texts}

    def encode_all(self, texts: Any, begins: str | None = None) -> dict[str, list[int]]:
        return {text: self._texts[text] for text in texts}


def write(folder: Path, tasks: Mapping[str, Any], encoder: Encoder) -> dict[str, Any]:
    """Keep the requests of tasks that are built. Returns figures of them.

    Raises:
        StageFailed: a task needs pictures or sounds.
        ModelError: a request has no token.
    """
    contexts: dict[tuple[str, str], list[int]] = {}
    rows: list[dict[str, Any]] = []
    index = []
    for number, (name, task) in enumerate(tasks.items()):
        if getattr(task, "MULTIMODAL", False):
            message = f"the task {name} asks with pictures or sounds, which no model here reads"
            raise StageFailed("not of text", message, fix="leave the task out")
        asked = _rows(number, task.instances, encoder, contexts)
        last = max(row["doc"] for row in asked)
        total = _write_docs(folder / f"{DOCS}-{number}.parquet", task.eval_docs, last + 1)
        index.append({"name": name, "class": type(task).__qualname__, "documents": total})
        rows += asked
    places = {key: place for place, key in enumerate(contexts)}
    table = pa.Table.from_pylist(
        [{**row, "context": places.get((row["type"], row["context"]), -1)} for row in rows],
        _REQUESTS,
    )
    pq.write_table(table, folder / REQUESTS, compression="zstd")
    table = pa.Table.from_pylist(
        [{"type": kind, "text": text, "ids": ids} for (kind, text), ids in contexts.items()],
        _CONTEXTS,
    )
    pq.write_table(table, folder / CONTEXTS, compression="zstd")
    write_atomic(folder / INDEX, json.dumps(index, indent=1) + "\n")
    tokens = sum(map(len, contexts.values())) + sum(len(row["ids"]) for row in rows)
    examples = len({(row["task"], row["doc"]) for row in rows})
    return {"requests": len(rows), "examples": examples, "tokens": tokens}


def _write_docs(path: Path, docs: Any, count: int) -> int:
    """Keep the first documents of a task. Returns how many it has."""
    if not isinstance(docs, datasets.Dataset):
        docs = datasets.Dataset.from_list(list(docs))
    table = docs.select(range(count)).with_format("arrow")[:]
    pq.write_table(table.cast(docs.features.arrow_schema), path, compression="zstd")
    return len(docs)


def _rows(
    number: int,
    instances: Sequence[Any],
    encoder: Encoder,
    contexts: dict[tuple[str, str], list[int]],
) -> list[dict[str, Any]]:
    """A task's requests as rows; the tokens of their contexts are added to those of all tasks."""
    texts: dict[str, list[Any]] = {}
    for each in instances:
        texts.setdefault(each.request_type, []).append(each.args)
    pairs = iter(encoder.pairs(texts.get(_LIKELIHOOD, [])))
    written = encoder.contexts(context for context, _ in texts.get(_WRITTEN, []))
    whole = encoder.encode_all(text for (text,) in texts.get(_ROLLING, []))
    rows = []
    for each in instances:
        context, rest, options, ids = None, None, None, list[int]()
        if each.request_type == _ROLLING:
            (rest,) = each.args
            ids = whole[rest]
        elif each.request_type == _WRITTEN:
            context, generation = each.args
            contexts[_WRITTEN, context] = written[context]
            options = json.dumps(generation)
        else:
            context, rest = each.args
            contexts[_LIKELIHOOD, context], ids = next(pairs)
        rows.append({
            "task": number, "doc": each.doc_id, "idx": each.idx, "repeats": each.repeats,
            "type": each.request_type, "context": context, "rest": rest, "ids": ids,
            "options": options,
        })  # fmt: skip
    return rows


def read(folder: Path) -> tuple[dict[str, Stored], Callable[[Any], Known]]:
    """Task -> what was kept of it; and what makes an encoder for a tokenizer, which knows the
    tokens."""
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    contexts = pq.read_table(folder / CONTEXTS).to_pylist()
    docs = [_read_docs(folder / f"{DOCS}-{number}.parquet") for number in range(len(index))]
    instances: list[list[Instance]] = [[] for _ in index]
    pairs: dict[tuple[str, str], Pair] = {}
    written: dict[str, list[int]] = {}
    whole: dict[str, list[int]] = {}
    documents: dict[tuple[int, int], Any] = {}
    for row in pq.read_table(folder / REQUESTS).to_pylist():
        context = contexts[row["context"]] if row["context"] >= 0 else None
        arguments: tuple[Any, ...]
        if context is None:
            arguments = (row["rest"],)
            whole[row["rest"]] = row["ids"]
        elif row["type"] == _WRITTEN:
            arguments = (context["text"], json.loads(row["options"]))
            written[context["text"]] = context["ids"]
        else:
            arguments = (context["text"], row["rest"])
            pairs[context["text"], row["rest"]] = (context["ids"], row["ids"])
        number, doc = row["task"], row["doc"]
        if (number, doc) not in documents:
            documents[number, doc] = docs[number][doc]
        instances[number].append(
            Instance(
                request_type=row["type"], doc=documents[number, doc], arguments=arguments,
                idx=row["idx"], metadata=(index[number]["name"], doc, row["repeats"]),
            )
        )  # fmt: skip
    stored = {
        about["name"]: Stored(docs[n], instances[n], about["documents"], about["class"])
        for n, about in enumerate(index)
    }
    return stored, lambda tokenizer: Known(tokenizer, pairs, written, whole)


def _read_docs(path: Path) -> datasets.Dataset:
    return datasets.Dataset(pq.read_table(path))


@contextlib.contextmanager
def without_data(stored: Mapping[str, Stored]) -> Iterator[None]:
    """lm-eval's tasks are built over the documents that were kept; they load no data, and draw no
    worked examples."""

    def docs(task: Any) -> datasets.Dataset:
        kept = stored.get(task.config.task)
        if kept is None:  # a Python class is given its name once it is built
            kept = next(each for each in stored.values() if each.made_by == type(task).__qualname__)
        return kept.docs

    def download(task: Any, *_: Any, **__: Any) -> None:
        task.dataset = {}

    with (
        mock.patch.object(Task, "eval_docs", property(docs)),
        mock.patch.object(ConfigurableTask, "download", download),
        mock.patch.object(ConfigurableTask, "fewshot_docs", return_value=None),
    ):
        yield


def restore(tasks: Mapping[str, Any], stored: Mapping[str, Stored]) -> None:
    """Give tasks the requests that were kept of them."""

    def built(**_: Any) -> None:
        """Nothing is left to build."""

    for name, task in tasks.items():
        task._instances, task.build_all_requests = list(stored[name].instances), built
