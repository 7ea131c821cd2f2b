"""Token ids of rows for TRL's trainers, so that TRL does not render or encode anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from harness.data.encode import Encoded
from harness.data.pairs import Pair
from harness.data.render import TEMPLATE_COLUMNS, encoded
from harness.data.row import Row

IGNORED = -100
"""The label of a token that is not in the loss."""


def labelled(row: Encoded, *, answers_only: bool) -> dict[str, list[int]]:
    """input_ids and labels of a row; `answers_only` ignores the prompt's tokens in the loss."""
    kept = zip(row.ids, row.trained, strict=True)
    labels = [token if trained or not answers_only else IGNORED for token, trained in kept]
    return {"input_ids": row.ids, "labels": labels}


def answered(tokenizer: Any, row: Row, answer: Any) -> Encoded:
    """A row's prompt encoded with one of its answers."""
    kept = {n: row[n] for n in ("prompt", *TEMPLATE_COLUMNS) if row.get(n)}
    return encoded(tokenizer, {**kept, "completion": answer})


def unlearnt_places(row: Encoded) -> list[int]:
    """Places of the tokens in an answer that are not learnt: turns of a user or a tool, and turns
    with `weight: 0`. Most answers have none."""
    trained = row.trained[row.prompt : row.end]
    return [place for place, learnt in enumerate(trained) if not learnt]


def pair_ids(tokenizer: Any, pairs: Iterable[Pair]) -> list[dict[str, Any]]:
    """prompt_ids, chosen_ids, rejected_ids and row (its id) of each pair, and the places in both
    answers that are not learnt (chosen_unlearnt, rejected_unlearnt)."""
    rows = []
    for pair in pairs:
        row = {"prompt": pair.prompt, **pair.template_columns}
        chosen, rejected = (answered(tokenizer, row, s) for s in (pair.chosen, pair.rejected))
        rows.append(
            {
                "prompt_ids": chosen.ids[: chosen.prompt],
                "chosen_ids": chosen.answer,
                "rejected_ids": rejected.answer,
                "chosen_unlearnt": unlearnt_places(chosen),
                "rejected_unlearnt": unlearnt_places(rejected),
                "row": pair.row,
            }
        )
    return rows


def with_room(rows: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Rows with prompts that leave room for at least one token of an answer."""
    return [row for row in rows if len(row["prompt_ids"]) < limit]


class LearntOnly:
    """Wraps a TRL collator, and removes from its masks the tokens that are not learnt (see
    `unlearnt_places`); TRL's masks cover whole answers.

    Args:
        masks: name of a mask -> the answers in its rows: all rows of the first answer, then all of
            the next.
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
                for place in example.get(f"{answer}_unlearnt", ()):
                    if 0 <= (at := begins + place) < batch[name].shape[1]:
                        batch[name][number, at] = 0
        return batch

    def _cut(self, example: Mapping[str, Any], answer: str) -> int:
        """Number of tokens that the collator cuts from the beginning of a row that is too long."""
        if getattr(self._collate, "truncation_mode", "keep_start") == "keep_start":
            return 0
        most = getattr(self._collate, "max_length", None)
        whole = len(example["prompt_ids"]) + len(example[f"{answer}_ids"])
        return 0 if most is None else max(0, whole - most)


class Tokenised:
    """Mixin for a trainer with rows of token ids.

    Attributes:
        masks: as in `LearntOnly`; empty if the trainer's collator has no masks.
    """

    masks: ClassVar[Mapping[str, Sequence[str]]] = {}
    _signature_columns: list[str] | None
    _collate: Any = None

    @property
    def data_collator(self) -> Any:
        """TRL's collator, with tokens that are not learnt outside the loss. It is a property since
        TRL's constructor may use it already, to run a reference."""
        return self._collate

    @data_collator.setter
    def data_collator(self, collate: Any) -> None:
        self._collate = LearntOnly(collate, self.masks) if self.masks else collate

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        places = {f"{answer}_unlearnt" for answers in self.masks.values() for answer in answers}
        self._signature_columns = [
            *dict.fromkeys([*(self._signature_columns or []), *sorted(places)])
        ]

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """Return the dataset unchanged; TRL would render and encode it."""
        return dataset
