"""Soft prompts mixed in one batch: every row of a bare base starts with a prompt of its own.

PEFT ignores `adapter_names` for soft prompts. Prompts of embeddings (prompt tuning, p-tuning) are
put before a row's own; prefixes are put before its keys and values. A shorter one is padded on the
left, where the attention mask hides it, and positions count from where it begins, as they do alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import DynamicCache, StoppingCriteriaList

Prefix = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer; each of shape (1, heads, length, size)."""


class MixedPrompts:
    """A base and its rows' soft prompts, called and generating as a model does.

    Args:
        base: nothing is attached to it.
        prompts: name -> embeddings of shape (length, width), or name -> Prefix; all of one kind. A
            name that is not there (`__base__`) means no prompt.
    """

    def __init__(self, base: Any, prompts: Mapping[str, torch.Tensor | Prefix]) -> None:
        self.base, self.prompts = base, prompts
        self.config, self.device = base.config, base.device
        self.generation_config = base.generation_config

    def modules(self) -> Iterator[torch.nn.Module]:
        """The base's parts."""
        yield from self.base.modules()

    def __call__(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        adapter_names: Sequence[str],
        position_ids: torch.Tensor | None = None,
    ) -> Any:
        """The base's output; its last tokens are those of `input_ids`.

        Positions follow from the mask and the prompts; those that are given are not needed.
        """
        given, length = self._inputs(input_ids, attention_mask, adapter_names)
        mask = given["attention_mask"]
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        if "past_key_values" in given:
            positions = positions[:, length:]
            given["input_ids"] = input_ids
        return self.base(position_ids=positions, **given)

    def generate(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        adapter_names: Sequence[str],
        stopping_criteria: Sequence[Any] = (),
        **options: Any,
    ) -> torch.Tensor:
        """As transformers' generate: the rows of `input_ids`, each with its answer."""
        given, length = self._inputs(input_ids, attention_mask, adapter_names)
        if "past_key_values" in given:  # what is in the cache counts as input already
            given["input_ids"] = torch.nn.functional.pad(input_ids, (length, 0))
            skipped = length
        else:  # only new tokens come back
            skipped = 0

        def whole(ids: torch.Tensor) -> torch.Tensor:
            return ids[:, skipped:] if skipped else torch.cat((input_ids, ids), dim=1)

        stops = [
            lambda ids, scores, stop=stop: stop(whole(ids), scores) for stop in stopping_criteria
        ]
        found: torch.Tensor = self.base.generate(
            stopping_criteria=StoppingCriteriaList(stops), **given, **options
        )
        return whole(found) if "inputs_embeds" in given else found[:, skipped:]

    def _inputs(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, names: Sequence[str]
    ) -> tuple[dict[str, Any], int]:
        """What the base takes, and the length of the longest prompt among the rows."""
        found: list[Any] = [self.prompts.get(name) for name in names]
        length = max(map(_length, found))
        if any(isinstance(prompt, list) for prompt in found):
            return self._prefixed(found, attention_mask, length), length
        return self._embedded(found, input_ids, attention_mask, length), length

    def _embedded(
        self, prompts: Sequence[Any], ids: torch.Tensor, mask: torch.Tensor, length: int
    ) -> dict[str, Any]:
        own = self.base.get_input_embeddings()(ids)
        embedded = own.new_zeros(own.shape[0], length + own.shape[1], own.shape[2])
        full = mask.new_zeros(mask.shape[0], length + mask.shape[1])
        for row, prompt in enumerate(prompts):
            tokens = own[row, mask[row].bool()]
            if prompt is not None:
                tokens = torch.cat((prompt.to(tokens), tokens))
            embedded[row, -len(tokens) :], full[row, -len(tokens) :] = tokens, 1
        return {"inputs_embeds": embedded, "attention_mask": full}

    def _prefixed(
        self, prompts: Sequence[Prefix | None], mask: torch.Tensor, length: int
    ) -> dict[str, Any]:
        layers = next(prompt for prompt in prompts if prompt)
        cache = DynamicCache()
        seen = torch.nn.functional.pad(mask, (length, 0))
        for layer, pair in enumerate(layers):
            filled = []
            for side, model in enumerate(pair):
                _, heads, _, size = model.shape
                rows = model.new_zeros(len(prompts), heads, length, size)
                for row, prompt in enumerate(prompts):
                    if prompt:
                        rows[row, :, length - _length(prompt) :] = prompt[layer][side][0]
                filled.append(rows)
            cache.update(filled[0], filled[1], layer)
        for row, prompt in enumerate(prompts):
            seen[row, length - _length(prompt) : length] = 1
        return {"attention_mask": seen, "past_key_values": cache}


def prompt_of(model: Any, name: str) -> torch.Tensor | Prefix:
    """A loaded soft prompt, out of PEFT's model."""
    model.set_adapter(name, inference_mode=True)
    with torch.no_grad():
        found = model.get_prompt(batch_size=1)
    if isinstance(found, torch.Tensor):
        return found[0]
    return [(layer.keys, layer.values) for layer in found.layers]


def _length(prompt: torch.Tensor | Prefix | None) -> int:
    if prompt is None:
        return 0
    return int(prompt[0][0].shape[2]) if isinstance(prompt, list) else len(prompt)
