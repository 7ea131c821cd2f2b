"""Rows as the token ids that TRL's trainers read: TRL itself renders and encodes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from harness.data.encode import Encoded
from harness.data.pairs import Pair
from harness.data.render import TEMPLATE_COLUMNS, encoded
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
    kept = {n: row[n] for n in ("prompt", *TEMPLATE_COLUMNS) if row.get(n)}
    return encoded(tokenizer, {**kept, "completion": answer})


def given_places(found: Encoded) -> list[int]:
    """Places in an answer's tokens of those that are not learnt: what a user or a tool says in it,
    and turns of `weight: 0`. Few answers have any."""
    own = found.trained[found.prompt : found.end]
    return [place for place, learnt in enumerate(own) if not learnt]


def pair_ids(tokenizer: Any, pairs: Iterable[Pair]) -> list[dict[str, Any]]:
    """prompt_ids, chosen_ids, rejected_ids and row (its id) of each pair, and of both answers the
    places that are given (chosen_given, rejected_given)."""
    found = []
    for pair in pairs:
        row = {"prompt": pair.prompt, **pair.template_columns}
        chosen, rejected = (answered(tokenizer, row, s) for s in (pair.chosen, pair.rejected))
        found.append(
            {
                "prompt_ids": chosen.ids[: chosen.prompt],
                "chosen_ids": chosen.answer,
                "rejected_ids": rejected.answer,
                "chosen_given": given_places(chosen),
                "rejected_given": given_places(rejected),
                "row": pair.row,
            }
        )
    return found


def with_room(rows: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Rows whose prompts leave room for a token of an answer; the others would teach nothing."""
    return [row for row in rows if len(row["prompt_ids"]) < limit]


class LearntOnly:
    """Collates as a trainer of TRL's does, whose masks are of whole answers, and takes out of them
    what is given in an answer (see `given_places`).

    Args:
        masks: a mask of the batch -> the answers that its rows are of, one after another.
    """

    def __init__(
        self, collate: Callable[[Any], dict[str, Any]], masks: Mapping[str, Sequence[str]]
    ) -> None:
        self._collate, self._masks = collate, masks

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        batch = self._collate(examples)
        for name in self._masks.keys() & batch.keys():
            answers = self._masks[name]
            rows = ((example, answer) for answer in answers for example in examples)
            for number, (example, answer) in enumerate(rows):
                begins = len(example["prompt_ids"]) - self._cut(example, answer)
                for place in example.get(f"{answer}_given", ()):
                    if 0 <= (at := begins + place) < batch[name].shape[1]:
                        batch[name][number, at] = 0
        return batch

    def _cut(self, example: Mapping[str, Any], answer: str) -> int:
        """Tokens that the collator takes off the beginning of a row which is too long."""
        if getattr(self._collate, "truncation_mode", "keep_start") == "keep_start":
            return 0
        most = getattr(self._collate, "max_length", None)
        whole = len(example["prompt_ids"]) + len(example[f"{answer}_ids"])
        return 0 if most is None else max(0, whole - most)


class Tokenised:
    """A trainer whose rows are tokens already.

    Attributes:
        masks: as `LearntOnly` has them; empty where the trainer masks nothing itself.
    """

    masks: ClassVar[Mapping[str, Sequence[str]]] = {}
    _signature_columns: list[str] | None
    _collate: Any = None

    @property
    def data_collator(self) -> Any:
        """TRL's, with what is given in an answer out of the loss; TRL may use it while it is still
        being made, to read a reference."""
        return self._collate

    @data_collator.setter
    def data_collator(self, found: Any) -> None:
        self._collate = LearntOnly(found, self.masks) if self.masks else found

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        places = {f"{answer}_given" for answers in self.masks.values() for answer in answers}
        self._signature_columns = [
            *dict.fromkeys([*(self._signature_columns or []), *sorted(places)])
        ]

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """In place of TRL's, which renders and encodes."""
        return dataset
