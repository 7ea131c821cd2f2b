"""Soft prompts mixed in one batch: each row of a bare base has its own prompt.

PEFT ignores `adapter_names` for soft prompts. Here prompts of embeddings (prompt tuning, p-tuning)
are put before the embeddings of a row, and prefixes before its keys and values. Shorter prompts are
padded on the left and masked; positions count from the prompt's start, as in a batch of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import DynamicCache, StoppingCriteriaList

Prefix = list[tuple[torch.Tensor, torch.Tensor]]
"""(keys, values) of each layer; both of shape (1, heads, length, size)."""


class MixedPrompts:
    """A base with named soft prompts, which can be called and can generate as a model.

    Args:
        base: a model without an adapter.
        prompts: name -> embeddings of shape (length, width), or name -> Prefix; all of one kind. A
            name that is missing here (`__base__`) means no prompt.
    """

    def __init__(self, base: Any, prompts: Mapping[str, torch.Tensor | Prefix]) -> None:
        self.base, self.prompts = base, prompts
        self.config, self.device = base.config, base.device
        self.generation_config = base.generation_config

    def modules(self) -> Iterator[torch.nn.Module]:
        """The base's modules."""
        yield from self.base.modules()

    def __call__(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        adapter_names: Sequence[str],
        position_ids: torch.Tensor | None = None,
    ) -> Any:
        """The base's output; its last tokens are those of `input_ids`.

        Args:
            input_ids, attention_mask: (batch, tokens), padded on the left.
            adapter_names: one for each row.
            position_ids: ignored; the positions follow from the mask and the prompts.
        """
        inputs, length = self._inputs(input_ids, attention_mask, adapter_names)
        mask = inputs["attention_mask"]
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        if "past_key_values" in inputs:
            positions = positions[:, length:]
            inputs["input_ids"] = input_ids
        return self.base(position_ids=positions, **inputs)

    def generate(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        adapter_names: Sequence[str],
        stopping_criteria: Sequence[Any] = (),
        **options: Any,
    ) -> torch.Tensor:
        """Like transformers' generate: the rows of `input_ids`, each followed by its answer.

        Returns:
            Token ids of shape (batch, tokens + new tokens).
        """
        inputs, length = self._inputs(input_ids, attention_mask, adapter_names)
        if "past_key_values" in inputs:  # the cached prefix counts as a part of the input
            inputs["input_ids"] = torch.nn.functional.pad(input_ids, (length, 0))
            skipped = length
        else:  # with embeddings as input, generate returns the new tokens alone
            skipped = 0

        def whole(ids: torch.Tensor) -> torch.Tensor:
            return ids[:, skipped:] if skipped else torch.cat((input_ids, ids), dim=1)

        stops = [
            lambda ids, scores, stop=stop: stop(whole(ids), scores) for stop in stopping_criteria
        ]
        generated: torch.Tensor = self.base.generate(
            stopping_criteria=StoppingCriteriaList(stops), **inputs, **options
        )
        return whole(generated) if "inputs_embeds" in inputs else generated[:, skipped:]

    def _inputs(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, names: Sequence[str]
    ) -> tuple[dict[str, Any], int]:
        """The base's keyword arguments, and the length of the longest prompt of the rows."""
        prompts: list[Any] = [self.prompts.get(name) for name in names]
        length = max(map(_length, prompts))
        if any(isinstance(prompt, list) for prompt in prompts):
            return self._prefixed(prompts, attention_mask, length), length
        return self._embedded(prompts, input_ids, attention_mask, length), length

    def _embedded(
        self, prompts: Sequence[Any], ids: torch.Tensor, mask: torch.Tensor, length: int
    ) -> dict[str, Any]:
        embeddings = self.base.get_input_embeddings()(ids)
        embedded = embeddings.new_zeros(
            embeddings.shape[0], length + embeddings.shape[1], embeddings.shape[2]
        )
        full = mask.new_zeros(mask.shape[0], length + mask.shape[1])
        for row, prompt in enumerate(prompts):
            tokens = embeddings[row, mask[row].bool()]
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
    """Read a loaded soft prompt from a PEFT model."""
    model.set_adapter(name, inference_mode=True)
    with torch.no_grad():
        prompt = model.get_prompt(batch_size=1)
    if isinstance(prompt, torch.Tensor):
        return prompt[0]
    return [(layer.keys, layer.values) for layer in prompt.layers]


def _length(prompt: torch.Tensor | Prefix | None) -> int:
    if prompt is None:
        return 0
    return int(prompt[0][0].shape[2]) if isinstance(prompt, list) else len(prompt)
