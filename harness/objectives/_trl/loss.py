"""The loss of TRL's SFTTrainer, with logits only at positions that have a label.

On a CPU, TRL 1.16 computes log-probability, entropy and accuracy at every position, and computes
the logits a second time in the backward pass. Here only positions with a label get logits; where
the head is one linear layer, `_trl/head.py` computes loss and gradient from them in one pass. In
float32 losses and training equal TRL's bit for bit. They agree to 1e-6 where sums are grouped
differently: for vocabularies over 32,768 tokens, which TRL sums in parts, and for a head that
trains on large batches.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from torch.nn import functional
from transformers.modeling_outputs import MoeCausalLMOutputWithPast
from trl import SFTTrainer
from trl.trainer import sft_trainer

from harness.core.errors import StageFailed
from harness.inference.positions import at, head_on
from harness.objectives._trl.head import IGNORED, Head
from harness.objectives._trl.later import LoggedLater

PLACES = "label_places"
"""The collated column with the places of the labels."""


class LabelledTrainer(LoggedLater, SFTTrainer):
    """SFTTrainer that computes only what its loss needs.

    Args:
        token_metrics: also log the entropy and the accuracy of the labelled tokens. This uses TRL's
            loss, as does any loss other than the mean of -log p.

    Raises:
        StageFailed: TRL's loss is used, and the head has an adapter, which TRL's loss would ignore.
    """

    data_collator: Any

    def __init__(self, *args: Any, token_metrics: bool = False, **options: Any) -> None:
        with _adapted_heads():
            super().__init__(*args, **options)
        other = self.args.loss_type != "nll" or self.args.label_smoothing_factor > 0
        self._as_trl = token_metrics or other or self.compute_loss_func is not None
        if self._as_trl and isinstance(self.model.get_output_embeddings(), BaseTunerLayer):
            raise StageFailed(
                "head",
                "TRL's own loss reads the head's weight without its adapter, so an adapter on the"
                " head cannot be trained with it",
                fix="leave token_metrics, label smoothing and other losses out, or the head out of"
                " target_modules",
            )
        if not self._as_trl:
            peft = hasattr(self.model, "peft_config")
            add_labelled_loss(self.model.get_base_model() if peft else self.model)
            self.data_collator = WithPlaces(self.data_collator)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The sum of -log p over the batch's labels, divided by the labels of the whole step."""
        places = inputs.pop(PLACES, None)
        if self._as_trl or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs["use_cache"] = False
        if self.aux_loss_enabled:
            inputs["output_router_logits"] = True
        outputs = model(**inputs, loss_over=Labels(num_items_in_batch, places))
        loss = outputs.loss
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        mode = "train" if self.model.training else "eval"
        if self.aux_loss_enabled:
            # aux_loss is a mean over its batch: a step of several batches averages these means.
            batches = 1 if num_items_in_batch is None else self.current_gradient_accumulation_steps
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss / batches
            self._metrics[mode]["aux_loss"].append(outputs.aux_loss.detach())
        if mode == "train":
            self._total_train_tokens = self._total_train_tokens + _tokens(inputs)
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
        return loss


@contextlib.contextmanager
def _adapted_heads() -> Iterator[None]:
    """Context manager in which TRL's constructor accepts an adapter on the head.

    TRL refuses one since its loss would ignore it; the loss here uses it.
    """
    refused = sft_trainer.BaseTunerLayer
    sft_trainer.BaseTunerLayer = ()
    try:
        yield
    finally:
        sft_trainer.BaseTunerLayer = refused


class WithPlaces:
    """Wraps a collator, and adds the places of the labels to its batches.

    The number of labels decides the shape of what is computed. Where it is counted on a GPU, the
    host waits for it; here it is counted on the CPU, before the batch goes to the GPU.
    """

    def __init__(self, collate: Callable[[Any], dict[str, Any]]) -> None:
        self._collate = collate

    def __call__(self, examples: Any) -> dict[str, Any]:
        batch = self._collate(examples)
        return {**batch, PLACES: label_places(batch["labels"])}


def label_places(labels: Tensor) -> Tensor:
    """Rows and columns of the positions that predict a label, (2, labels), row by row.

    Columns are negative, counted from the end: a soft prompt adds columns before them.

    Args:
        labels: (rows, tokens), the label of each token itself.
    """
    rows, columns = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
    return torch.stack([rows, columns - (labels.shape[1] - 1)])


def _tokens(inputs: dict[str, Any]) -> Tensor | int:
    if "attention_mask" in inputs:
        return inputs["attention_mask"].sum()  # type: ignore[no-any-return]
    return int(inputs["position_ids"].shape[1])  # a batch as one row, without padding


@dataclass(frozen=True)
class Labels:
    """What a loss is the mean over.

    Attributes:
        count: number of labels; None: the labels of the batch.
        places: `label_places` of the batch; None: they are looked up.
    """

    count: Tensor | int | None
    places: Tensor | None = None


def add_labelled_loss(model: Any) -> None:
    """Make `model(..., labels=labels, loss_over=Labels(...))` return the mean loss, without logits.

    Args:
        model: a causal language model without PEFT's wrapper (the wrapper of a soft prompt adds the
            prompt's positions to the labels).
    """
    before = model.forward
    plain = Head.of(model)

    @functools.wraps(type(model).forward)  # `generate` reads the model's parameters from it
    def forward(self: Any, *args: Any, loss_over: Labels | None = None, **inputs: Any) -> Any:
        if loss_over is None:
            return before(*args, **inputs)
        whole = inputs.pop("labels")
        places = label_places(whole) if loss_over.places is None else loss_over.places
        labels, (rows, columns) = whole[:, 1:], places
        number = (labels != IGNORED).sum() if loss_over.count is None else loss_over.count
        count = torch.as_tensor(number, device=labels.device).clamp(min=1)
        if plain is not None and not inputs.get("output_router_logits"):
            hidden = self.base_model(*args, **inputs).last_hidden_state[:, :-1]
            loss = plain.mean_loss(self, hidden, labels, count, places)
            return MoeCausalLMOutputWithPast(loss=loss)
        with head_on(self, whole.shape[1], at(rows, columns - 1)) as taken:
            outputs = before(*args, **inputs)
        logits = taken(outputs.logits)[0].float()
        total = functional.cross_entropy(logits, labels[rows, columns], reduction="sum")
        aux_loss = getattr(outputs, "aux_loss", None)
        return MoeCausalLMOutputWithPast(loss=total / count, aux_loss=aux_loss)

    model.forward = types.MethodType(forward, model)
