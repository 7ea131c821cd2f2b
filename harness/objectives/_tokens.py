"""Rows as the token ids that TRL's trainers read: TRL itself renders and encodes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.data.encode import Encoded
from harness.data.render import GIVEN, encoded
from harness.objectives._pairs import Pair
from harness.objectives.base import Row

IGNORED = -100
"""The label of a token that is not in the loss."""


def labelled(found: Encoded, *, answers_only: bool) -> dict[str, list[int]]:
    """input_ids and labels of a row."""
    kept = zip(found.ids, found.trained, strict=True)
    labels = [token if own or not answers_only else IGNORED for token, own in kept]
    return {"input_ids": found.ids, "labels": labels}


def answered(tokenizer: Any, row: Row, answer: Any) -> Encoded:
    """A row's prompt with one of its answers."""
    kept = {n: row[n] for n in ("prompt", *GIVEN) if row.get(n)}
    return encoded(tokenizer, {**kept, "completion": answer})


def pair_ids(tokenizer: Any, pairs: Iterable[Pair]) -> list[dict[str, Any]]:
    """prompt_ids, chosen_ids, rejected_ids and row (its id) of each pair."""
    found = []
    for pair in pairs:
        row = {"prompt": pair.prompt, **pair.given}
        chosen, rejected = (answered(tokenizer, row, s) for s in (pair.chosen, pair.rejected))
        found.append(
            {
                "prompt_ids": chosen.ids[: chosen.prompt],
                "chosen_ids": chosen.answer,
                "rejected_ids": rejected.answer,
                "row": pair.row,
            }
        )
    return found


def with_room(rows: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Rows whose prompts leave room for a token of an answer; the others would teach nothing."""
    return [row for row in rows if len(row["prompt_ids"]) < limit]


class Tokenised:
    """A trainer whose rows are tokens already."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """In place of TRL's, which renders and encodes."""
        return dataset
