"""The file of a reference's log-probabilities, shared by all trainings from its checkpoint."""

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
    """The reference's log-probabilities of the answers of each pair.

    Attributes:
        rows: for each pair, the id of its row.
        digests: digests of each pair's tokens, (pairs, 32) uint8. Rows that are tokenised in
            another way have other digests, so they find no figures.
        chosen, rejected: log-probabilities in nats, summed over an answer's tokens, (pairs,)
            float32.
    """

    rows: tuple[str, ...]
    digests: torch.Tensor
    chosen: torch.Tensor
    rejected: torch.Tensor

    def save(self, path: Path) -> None:
        """Write a safetensors file with the rows' ids in its metadata."""
        tensors = {"digests": self.digests, "chosen": self.chosen, "rejected": self.rejected}
        save_file(tensors, path, {"rows": json.dumps(self.rows)})

    @classmethod
    def load(cls, path: Path) -> Logps:
        """Read a file that `save` wrote."""
        with safe_open(path, "pt") as file:
            rows = json.loads(file.metadata()["rows"])
            return cls(
                tuple(rows), *(file.get_tensor(n) for n in ("digests", "chosen", "rejected"))
            )

    def of(self, examples: Iterable[tuple[str, bytes]]) -> tuple[list[float], list[float]]:
        """Look up the log-probabilities of pairs.

        Args:
            examples: the row's id and the tokens' digest of each pair.

        Returns:
            Log-probabilities of the chosen and of the rejected answers.

        Raises:
            StageFailed: the file lacks a pair.
        """
        places = {bytes(digest): i for i, digest in enumerate(self.digests.numpy())}
        indexes = []
        for row, digest in examples:
            if digest not in places:
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
            indexes.append(places[digest])
        return self.chosen[indexes].tolist(), self.rejected[indexes].tolist()


def tokens_digest(example: Mapping[str, Any], limit: int) -> bytes:
    """Digest of a pair's tokens as they enter the model.

    Covers both sequences, cut at `limit` tokens, the place where the answers begin, and the places
    that are not learnt.
    """
    sides = [(example["prompt_ids"] + example[n])[:limit] for n in ("chosen_ids", "rejected_ids")]
    unlearnt = [list(example.get(n, ())) for n in ("chosen_unlearnt", "rejected_unlearnt")]
    content = [len(example["prompt_ids"]), *sides, *(unlearnt if any(unlearnt) else [])]
    return hashlib.sha256(json.dumps(content).encode()).digest()
