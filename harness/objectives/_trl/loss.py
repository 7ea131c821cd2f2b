"""The loss of TRL's SFTTrainer, with logits only at positions that have a label.

On a CPU, TRL 1.16 computes log-probability, entropy and accuracy at every position, and computes
the logits a second time in the backward pass. Here only positions with a label get logits, loss and
gradient are computed from them in one pass, and at most one tile of logits is in memory. In float32
losses and training equal TRL's bit for bit. They agree to 1e-6 where sums are grouped differently:
for vocabularies over 32,768 tokens, which TRL sums in parts, and for a head that trains on large
batches.
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
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import MoeCausalLMOutputWithPast
from trl import SFTTrainer
from trl.kernels import ChunkedLogProbFunction
from trl.trainer import sft_trainer

from harness.core.errors import StageFailed
from harness.inference.positions import SMALL_BYTES, at, head_on
from harness.models.precision import autocast_of, is_short
from harness.objectives._trl.later import LoggedLater

IGNORED = -100
"""The label of a token that is not in the loss (torch.nn.CrossEntropyLoss's ignore_index)."""
TILE_BYTES = 64 * 2**20
"""Largest size of the float32 logits in memory at one time."""
_TILE_ROWS = 4096
"""Largest number of positions in a tile, as in TRL."""
_TILED = ("cpu",)
"""Devices on which the gradient is computed in the forward pass; TRL has kernels for others."""
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


@dataclass(frozen=True)
class Head:
    """A head that is one linear layer, and how its family transforms the product.

    Attributes:
        scale: factor of the logits.
        cap: bound of the logits by tanh, applied after the scale; None for no bound.
    """

    scale: float
    cap: float | None

    @classmethod
    def of(cls, model: Any) -> Head | None:
        """The head of a model; None if it has an adapter or its family does something else."""
        head = model.get_output_embeddings()
        if type(head) is not nn.Linear or model.base_model is model:
            return None
        config = model.config.get_text_config()
        plain = cls(_scale(config), getattr(config, "final_logit_softcapping", None))
        return plain if plain._gives_logits(model) else None

    def _gives_logits(self, model: Any) -> bool:
        """Whether this head gives the same logits as the model itself, for a few tokens."""
        head, training = model.get_output_embeddings(), model.training
        ids = torch.arange(8, device=head.weight.device)[None] % len(head.weight)
        model.eval()
        with torch.no_grad(), autocast_of(model):
            wanted = model(input_ids=ids, use_cache=False).logits.float()
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            logits = self._after(head(hidden).float())
        model.train(training)
        allowed = 2e-2 if any(is_short(p.dtype) for p in model.parameters()) else 1e-4
        return bool((logits - wanted).abs().max() <= allowed * wanted.abs().max())

    def _after(self, products: Tensor) -> Tensor:
        logits = products * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def losses(self, products: Tensor, targets: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and their gradients.

        Args:
            products: hidden states times the head's matrix, (rows, vocabulary) in float32;
                overwritten.
            targets: (rows,), the label of each row.
            shares: (rows,), the weight of each row's loss in the mean; 0 for no label.

        Returns:
            -log p of each target, (rows,), 0 where the share is 0; and the gradient of the weighted
            mean for the products, (rows, vocabulary).
        """
        if self.scale != 1:
            products.mul_(self.scale)
        logits, bent = products, None
        if self.cap is not None:
            bent = products.div_(self.cap).tanh_()
            logits = bent * self.cap
        places = targets.clamp(min=0)[:, None]
        normaliser = torch.logsumexp(logits, -1, keepdim=True)
        losses = normaliser - logits.gather(-1, places)
        slopes = logits.sub_(normaliser).exp_()  # p, and p - 1 at the target
        slopes.scatter_add_(-1, places, torch.full_like(losses, -1.0))
        slopes.mul_(shares[:, None])
        if bent is not None:
            slopes.mul_(1 - bent * bent)
        if self.scale != 1:
            slopes.mul_(self.scale)
        return losses[:, 0].masked_fill(shares == 0, 0.0), slopes

    def mean_loss(
        self, model: Any, hidden: Tensor, labels: Tensor, count: Tensor, places: Tensor
    ) -> Tensor:
        """The sum of -log p over the labels, divided by `count`; a scalar in float32.

        Args:
            hidden: hidden states, (rows, tokens, size).
            labels: the next token of each position, (rows, tokens).
            count: the divisor, a scalar.
            places: rows and columns of the positions with a label, (2, labels).
        """
        head = model.get_output_embeddings()
        if hidden.device.type in _TILED:
            learns = torch.is_grad_enabled()
            inputs = hidden, head.weight, head.bias, labels, count, places, self, learns
            return _MeanLoss.apply(*inputs)  # type: ignore[no-any-return]
        rows, columns = places
        log_probs = ChunkedLogProbFunction.apply(
            hidden[rows, columns], head.weight, head.bias, labels[rows, columns], 1.0, 32768,
            self.cap, self.scale, ("log_probs",),
        )  # fmt: skip
        return -log_probs[0].sum() / count  # type: ignore[no-any-return]


def _scale(config: Any) -> float:
    """The factor of a family's logits; the names are those that TRL's fused head knows."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            return float(getattr(config, name))
    divisor = getattr(config, "logits_scaling", None)
    if divisor is None:
        return 1.0
    return float(divisor) if config.model_type == "hyperclovax" else 1 / float(divisor)


class _MeanLoss(torch.autograd.Function):
    """Computes loss and gradients tile by tile in the forward pass.

    This is possible since each label's weight in the mean is known in advance.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        count: Tensor,
        places: Tensor,
        head: Head,
        learns: bool,
    ) -> Tensor:
        """`learns`: whether gradients are needed; under no_grad needs_input_grad stays true."""
        to_hidden, to_weight, to_bias = (learns and wanted for wanted in ctx.needs_input_grad[:3])
        if to_weight and 4 * labels.numel() * len(weight) <= SMALL_BYTES:
            # Picking positions would save little: sum the weight's gradient in TRL's order.
            places = torch.cartesian_prod(*map(torch.arange, labels.shape)).T
        lines, columns = places
        rows, targets = hidden[lines, columns], labels[lines, columns]
        device = hidden.device.type
        mixed = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if mixed else hidden.dtype
        losses = rows.new_zeros(len(rows), dtype=torch.float32)
        shares = (targets != IGNORED).float() * (torch.ones((), device=rows.device) / count)
        of_rows = torch.zeros_like(rows, dtype=torch.float32) if to_hidden else None
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if to_weight else None
        of_bias = weight.new_zeros(len(weight), dtype=torch.float32) if to_bias else None
        size = min(_TILE_ROWS, max(1, TILE_BYTES // (4 * len(weight))))
        with torch.autocast(device, enabled=False):
            matrix = weight.to(dtype)
            for start in range(0, len(rows), size):
                part = slice(start, start + size)
                tile = rows[part].to(dtype)
                products = functional.linear(tile, matrix, None if bias is None else bias.to(dtype))
                losses[part], slopes = head.losses(products.float(), targets[part], shares[part])
                if of_rows is not None:
                    of_rows[part] = slopes.to(dtype) @ matrix
                if of_weight is not None:
                    of_weight.addmm_(slopes.t(), tile.float())
                if of_bias is not None:
                    of_bias += slopes.sum(0)
        ctx.save_for_backward(places, of_rows)
        ctx.shape = hidden.shape
        ctx.of_parameters = of_weight, of_bias  # gradients, so not counted as saved activations
        ctx.like = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
        grid = torch.zeros_like(labels, dtype=torch.float32)
        grid[lines, columns] = losses
        return grid.sum() / count  # TRL sums over all positions too

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        (lines, columns), of_rows = ctx.saved_tensors
        of_weight, of_bias = ctx.of_parameters
        del ctx.of_parameters
        to_hidden, to_weight, to_bias = ctx.like
        whole = None
        if of_rows is not None:
            gradient = (of_rows * slope).to(to_hidden)
            whole = gradient.new_zeros(ctx.shape)
            whole[lines, columns] = gradient
        weight = None if of_weight is None else (of_weight * slope).to(to_weight)
        bias = None if of_bias is None else (of_bias * slope).to(to_bias)
        return whole, weight, bias, None, None, None, None, None
