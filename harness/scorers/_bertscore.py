"""The work of bertscore: vectors of every text, references from a cache, greedy matching."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from harness.core.errors import ModelError, why
from harness.core.sealed import sealed
from harness.scorers._folder import folder_as_planned, folder_digest
from harness.scorers.base import ScoreJob
from harness.scorers.bertscore import ENCODER_FILES, Bertscore

_PREFIXED = ("roberta", "gpt2", "longformer", "bart")
"""Encoders whose words carry the space before them: bert-score gives one to the first word too."""
_VECTORS = "vectors.safetensors"
_SPECIAL = 2
"""Tokens that an empty text still has."""


_LOADING = threading.Lock()
"""transformers patches its own classes while it loads a model; two threads that load at once would
leave them patched."""


@dataclass(frozen=True)
class Vectors:
    """One text: token ids (t,), and their vectors (t, d) of length 1."""

    ids: list[int]
    matrix: torch.Tensor


def _nothing() -> Vectors:
    return Vectors([], torch.zeros(0, 0))


def score(scorer: Bertscore, job: ScoreJob) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """A row for each answer, and what the record says about the scoring.

    Raises:
        ModelError: the encoder is not there, or of an architecture whose layers are not known.
        StageFailed: the folder holds another encoder than the one planned with.
    """
    encoder, answers = Encoder(scorer), job.answers()
    outputs = list(dict.fromkeys(answer.text.strip() for answer in answers))
    references = [r.strip() for answer in answers for r in answer.references]
    known = _shared(encoder, list(dict.fromkeys(references)), job.cache)
    fresh = [text for text in outputs if text not in known]
    vectors = {**known, **encoder.embed(fresh, job.progress)}
    weigh = _weights(encoder.tokenizer, [known[text].ids for text in references], idf=scorer.idf)
    pairs: dict[tuple[str, str], tuple[float, float, float]] = {}
    rows, empty = [], 0
    for answer in answers:
        text = answer.text.strip()
        empty += not text
        for reference in answer.references:
            if (text, reference.strip()) not in pairs:
                pair = text, reference.strip()
                pairs[pair] = _match(vectors[text], vectors[pair[1]], weigh)
        matches = [pairs[text, reference.strip()] for reference in answer.references]
        best = [max(column) for column in zip(*matches, strict=True)]
        if scorer.baseline is not None:
            best = [(b - base) / (1 - base) for b, base in zip(best, scorer.baseline, strict=True)]
        names = ("precision", "recall", "f1")
        rows.append({f"bertscore_{n}": b for n, b in zip(names, best, strict=True)})
    texts = [answer.text.strip() for answer in answers]
    counts = {
        "empty_outputs": empty,
        "cut_outputs": sum(encoder.cuts(text, vectors[text].ids) for text in texts),
        "cut_references": sum(encoder.cuts(text, known[text].ids) for text in references),
    }
    notes = _notes(counts["cut_references"], len(references), encoder.longest)
    return rows, {**encoder.about, **counts, **notes}


def _notes(cut: int, total: int, longest: int) -> dict[str, Any]:
    """A note on references that were cut; it speaks of the rows alone."""
    if not cut:
        return {}
    note = f"{cut} of {total} references are longer than the encoder's {longest} tokens, and cut"
    return {"notes": [note]}


class Encoder:
    """An encoder cut behind the layer that is compared."""

    def __init__(self, scorer: Bertscore) -> None:
        from transformers import AutoModel, AutoTokenizer

        folder = scorer.folder
        name = str(folder or scorer.model_type)
        digest = None if folder is None else folder_digest(folder, ENCODER_FILES)
        options = {"revision": scorer.revision}
        try:
            with _LOADING, folder_as_planned(folder, ENCODER_FILES, scorer.digest):
                self.tokenizer = AutoTokenizer.from_pretrained(name, **options)
                model = AutoModel.from_pretrained(
                    name, dtype=torch.float32, use_safetensors=True, **options
                )
        except OSError as error:
            raise ModelError(
                f"the encoder '{name}' cannot be loaded: {why(error)}",
                fix="name a folder, or an encoder in the hub's cache; model_type: null takes the"
                " packaged one",
            ) from error
        self.device, self.batch = scorer.device, scorer.batch_size
        self.model = _cut(model, scorer.layer or 0, name).to(self.device).eval()
        config = model.config
        self.longest = min(self.tokenizer.model_max_length, _places(model))
        self.prefix = " " if config.model_type in _PREFIXED else ""
        commit = getattr(config, "_commit_hash", None)
        self.about = {
            "encoder": scorer.model_type or "all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0)",
            "encoder_digest": digest or commit or f"{name}@{scorer.revision or 'main'}",
            "layer": scorer.layer,
        }

    def embed(
        self, texts: Sequence[str], progress: Callable[[int, int, str], None]
    ) -> dict[str, Vectors]:
        """Vectors of texts without white space at their ends. An empty text has none."""
        ids = {text: self._encode(text) for text in texts}
        # Long texts first: equal lengths share a batch, and memory runs out at once or never.
        ordered = sorted((text for text in texts if text), key=lambda text: -len(ids[text]))
        vectors: dict[str, Vectors] = {}
        if "" in ids:
            vectors[""] = _nothing()
        for start in range(0, len(ordered), self.batch):
            batch = ordered[start : start + self.batch]
            vectors |= self._embed_batch({text: ids[text] for text in batch})
            progress(start + len(batch), len(ordered), "texts embedded")
        return vectors

    def _encode(self, text: str) -> list[int]:
        return list(
            self.tokenizer.encode(self.prefix + text, max_length=self.longest, truncation=True)
        )

    def cuts(self, text: str, ids: Sequence[int]) -> bool:
        """Whether a text has more tokens than the encoder reads.

        Args:
            ids: those that were read.
        """
        if len(ids) < self.longest:
            return False
        return len(self.tokenizer(self.prefix + text, verbose=False)["input_ids"]) > len(ids)

    @torch.no_grad()
    def _embed_batch(self, ids: Mapping[str, list[int]]) -> dict[str, Vectors]:
        longest = max(map(len, ids.values()))
        tokens = torch.full((len(ids), longest), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros((len(ids), longest), dtype=torch.long)
        for row, text_ids in enumerate(ids.values()):
            tokens[row, : len(text_ids)] = torch.tensor(text_ids)
            mask[row, : len(text_ids)] = 1
        states = self.model(tokens.to(self.device), attention_mask=mask.to(self.device))[0]
        states = torch.nn.functional.normalize(states.float(), dim=-1).cpu()
        return {
            text: Vectors(text_ids, states[row, : len(text_ids)].clone())
            for row, (text, text_ids) in enumerate(ids.items())
        }


def _places(model: Any) -> int:
    """Number of tokens that an encoder has positions for. BERT counts positions from 0, RoBERTa and
    its like from the padding token's number + 1."""
    places = getattr(model.config, "max_position_embeddings", 1 << 30)
    tables = [part for name, part in model.named_modules() if name.endswith("position_embeddings")]
    offsets = [table.padding_idx + 1 for table in tables
               if getattr(table, "padding_idx", None) is not None]  # fmt: skip
    return int(places) - max(offsets, default=0)


def _cut(model: Any, layers: int, name: str) -> Any:
    """The model without the layers above the one that is compared, so that its last hidden state is
    of that layer."""
    for path in ("encoder", "transformer"):
        part: Any = getattr(model, path, None)
        stack = getattr(part, "layer", None)
        if part is not None and isinstance(stack, torch.nn.ModuleList):
            if layers > len(stack):
                raise ModelError(f"num_layers {layers}: the encoder '{name}' has {len(stack)}")
            part.layer = stack[:layers]
            return model
    raise ModelError(
        f"the layers of the encoder '{name}' ({type(model).__name__}) are not where BERT, RoBERTa,"
        " DistilBERT, ELECTRA or DeBERTa have them",
        fix="use an encoder of one of those kinds",
    )


def _shared(encoder: Encoder, texts: list[str], cache: Path) -> dict[str, Vectors]:
    """Vectors of the references, from the cache; they are computed and kept there first, if they
    are not there yet."""

    def make(folder: Path) -> None:
        vectors = encoder.embed(texts, lambda done, total, note: None)
        kept = [vectors[text] for text in texts if text]
        lengths = torch.tensor([len(vector.ids) for vector in kept], dtype=torch.long)
        ids = torch.tensor([i for vector in kept for i in vector.ids], dtype=torch.long)
        matrix = torch.cat([vector.matrix for vector in kept] or [torch.zeros(0, 0)])
        save_file({"lengths": lengths, "ids": ids, "matrix": matrix}, folder / _VECTORS)

    about = json.dumps([encoder.about["encoder_digest"], encoder.about["layer"], texts])
    folder = cache / hashlib.sha256(about.encode()).hexdigest()
    path = sealed(folder, make) / _VECTORS
    with safe_open(path, framework="pt") as file:
        lengths, ids, matrix = (file.get_tensor(name) for name in ("lengths", "ids", "matrix"))
    parts = zip(ids.split(lengths.tolist()), matrix.split(lengths.tolist()), strict=True)
    full = [text for text in texts if text]
    vectors = {t: Vectors(i.tolist(), m) for t, (i, m) in zip(full, parts, strict=True)}
    return vectors | ({"": _nothing()} if "" in texts else {})


def _weights(tokenizer: Any, documents: list[list[int]], *, idf: bool) -> Callable[[int], float]:
    """The weight of each token: its inverse document frequency; without `idf` 1, and 0 for special
    tokens."""
    if not idf:
        special = {tokenizer.cls_token_id, tokenizer.sep_token_id}
        return lambda token: float(token not in special)
    # An empty reference holds the special tokens, so that these are in every document.
    seen = Counter(token for ids in documents for token in set(ids or _bare(tokenizer)))
    return lambda token: math.log((len(documents) + 1) / (seen[token] + 1))


def _bare(tokenizer: Any) -> list[int]:
    return [tokenizer.cls_token_id, tokenizer.sep_token_id]


def _match(
    output: Vectors, reference: Vectors, weigh: Callable[[int], float]
) -> tuple[float, float, float]:
    """Precision, recall and F1 of equations 1 to 3 of the paper; 0 where a side is empty."""
    if len(output.ids) <= _SPECIAL or len(reference.ids) <= _SPECIAL:
        return 0.0, 0.0, 0.0
    similar = output.matrix @ reference.matrix.T
    precision = _mean(similar.amax(dim=1), output.ids, weigh)
    recall = _mean(similar.amax(dim=0), reference.ids, weigh)
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0


def _mean(values: torch.Tensor, ids: list[int], weigh: Callable[[int], float]) -> float:
    weights = torch.tensor([weigh(token) for token in ids])
    total = float(weights.sum())
    return float((values * (weights / total)).sum()) if total else 0.0
