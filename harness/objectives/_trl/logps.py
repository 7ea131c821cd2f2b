"""Log-probabilities of a reference, written once and read by every training from its checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from harness.core.errors import StageFailed


@dataclass(frozen=True)
class Logps:
    """What the reference gives the answers of each pair, in nats, summed over an answer's tokens.

    Attributes:
        rows: id of the row that a pair is of.
        digests: of a pair's tokens, (pairs, 32) uint8. A figure belongs to tokens: rows that are
            tokenised otherwise find none.
        chosen, rejected: (pairs,) float32.
    """

    rows: tuple[str, ...]
    digests: torch.Tensor
    chosen: torch.Tensor
    rejected: torch.Tensor

    def save(self, path: Path) -> None:
        """Write safetensors; the rows' ids stand in its metadata."""
        tensors = {"digests": self.digests, "chosen": self.chosen, "rejected": self.rejected}
        save_file(tensors, path, {"rows": json.dumps(self.rows)})

    @classmethod
    def load(cls, path: Path) -> Logps:
        """Read what `save` wrote."""
        with safe_open(path, "pt") as found:
            rows = json.loads(found.metadata()["rows"])
            return cls(
                tuple(rows), *(found.get_tensor(n) for n in ("digests", "chosen", "rejected"))
            )

    def of(self, examples: Iterable[tuple[str, bytes]]) -> tuple[list[float], list[float]]:
        """The figures of pairs, each given by its row's id and its tokens' digest.

        Raises:
            StageFailed: a pair that has none.
        """
        places = {bytes(own): i for i, own in enumerate(self.digests.numpy())}
        found = []
        for row, own in examples:
            if own not in places:
                reason = (
                    f"row {row} has other tokens than when the reference read it"
                    if row in self.rows
                    else f"the reference has not read row {row}"
                )
                raise StageFailed(
                    "reference",
                    f"{reason}; it has figures for {len(self.rows)} pairs",
                    fix="run again with another --store, or set share_reference: false",
                )
            found.append(places[own])
        return self.chosen[found].tolist(), self.rejected[found].tolist()


def tokens_digest(example: Mapping[str, Any], limit: int) -> bytes:
    """Digest of a pair as it enters the model: both sequences, cut at `limit` tokens, where their
    answers begin, and what of these is not learnt."""
    sides = [(example["prompt_ids"] + example[n])[:limit] for n in ("chosen_ids", "rejected_ids")]
    given = [list(example.get(n, ())) for n in ("chosen_given", "rejected_given")]
    told = [len(example["prompt_ids"]), *sides, *(given if any(given) else [])]
    return hashlib.sha256(json.dumps(told).encode()).digest()
