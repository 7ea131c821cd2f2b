"""The loss of TRL's SFTTrainer, with logits only where there are labels.

On a CPU, TRL 1.16 takes every position's log-probability, with its entropy and whether the label
was the likeliest beside it, and computes the logits a second time in the backward pass. Here only
positions with a label get logits, loss and gradient come from them at once, and no more of them
stand in memory than a tile holds. In float32 losses and training are TRL's to the bit, but where
sums are made in other groups, and agree to 1e-6: vocabularies over 32,768 tokens, which TRL folds
part by part, and a head that trains on large batches.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Iterator
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
from harness.inference.positions import SMALL_BYTES, head_on, where
from harness.models.precision import autocast_of, is_short

IGNORED = -100
"""The label of a token that is not in the loss (torch.nn.CrossEntropyLoss's ignore_index)."""
TILE_BYTES = 64 * 2**20
"""Of the logits that stand at once, in float32."""
_TILE_ROWS = 4096
"""Positions in a tile, at most; TRL's number."""


class LabelledTrainer(SFTTrainer):
    """SFTTrainer that computes what its loss needs and no more.

    Args:
        token_metrics: log the entropy and the accuracy of the labelled tokens too, as TRL does. It
            is TRL's own in all then, as where the loss is another than the mean of -log p.
    """

    def __init__(self, *args: Any, token_metrics: bool = False, **given: Any) -> None:
        with _adapted_heads():
            super().__init__(*args, **given)
        other = self.args.loss_type != "nll" or self.args.label_smoothing_factor > 0
        self._as_trl = token_metrics or other or self.compute_loss_func is not None
        if self._as_trl and isinstance(self.model.get_output_embeddings(), BaseTunerLayer):
            raise StageFailed(
                "head",
                "an adapter on the head is trained without TRL's own loss alone, which reads the"
                " head's weight past it",
                fix="leave token_metrics, label smoothing and other losses out, or the head out of"
                " target_modules",
            )
        if not self._as_trl:
            peft = hasattr(self.model, "peft_config")
            add_labelled_loss(self.model.get_base_model() if peft else self.model)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """-log p summed over the batch's labels, divided by the labels of the whole step."""
        if self._as_trl or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs["use_cache"] = False
        if self.aux_loss_enabled:
            inputs["output_router_logits"] = True
        outputs = model(**inputs, loss_over=Labels(num_items_in_batch))
        loss = outputs.loss
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        mode = "train" if self.model.training else "eval"
        if self.aux_loss_enabled:
            # It is the mean of its own batch: a step of several batches takes the mean of theirs.
            batches = 1 if num_items_in_batch is None else self.current_gradient_accumulation_steps
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss / batches
            self._metrics[mode]["aux_loss"].append(outputs.aux_loss.item())
        if mode == "train":
            self._total_train_tokens += _tokens(inputs)
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
        return loss


@contextlib.contextmanager
def _adapted_heads() -> Iterator[None]:
    """TRL refuses an adapter on the head, which its own loss would leave out; ours goes through."""
    refused = sft_trainer.BaseTunerLayer
    sft_trainer.BaseTunerLayer = ()
    try:
        yield
    finally:
        sft_trainer.BaseTunerLayer = refused


def _tokens(inputs: dict[str, Any]) -> int:
    if "attention_mask" in inputs:
        return int(inputs["attention_mask"].sum())
    return int(inputs["position_ids"].shape[1])  # rows laid out as one, without padding


@dataclass(frozen=True)
class Labels:
    """How many labels a loss is the mean of; None: those of the batch."""

    count: Tensor | int | None


def add_labelled_loss(model: Any) -> None:
    """Let `model(..., labels=labels, loss_over=labels)` return its mean loss, and no logits.

    Args:
        model: a causal language model without PEFT's wrapper, which gives it a soft prompt's
            positions with labels of their own.
    """
    before = model.forward
    plain = Head.of(model)

    @functools.wraps(type(model).forward)  # `generate` reads from it what the model takes
    def forward(self: Any, *args: Any, loss_over: Labels | None = None, **given: Any) -> Any:
        if loss_over is None:
            return before(*args, **given)
        labels = given.pop("labels")[:, 1:]
        own = (labels != IGNORED).sum() if loss_over.count is None else loss_over.count
        count = torch.as_tensor(own, device=labels.device).clamp(min=1)
        if plain is not None and not given.get("output_router_logits"):
            hidden = self.base_model(*args, **given).last_hidden_state[:, :-1]
            return MoeCausalLMOutputWithPast(loss=plain.mean_loss(self, hidden, labels, count))
        chosen = functional.pad(labels != IGNORED, (0, 1))
        with head_on(self, chosen.shape[1], where(chosen)) as taken:
            outputs = before(*args, **given)
        logits = taken(outputs.logits)[0].float()
        total = functional.cross_entropy(logits, labels[labels != IGNORED], reduction="sum")
        aux_loss = getattr(outputs, "aux_loss", None)
        return MoeCausalLMOutputWithPast(loss=total / count, aux_loss=aux_loss)

    model.forward = types.MethodType(forward, model)


@dataclass(frozen=True)
class Head:
    """A head that is one matrix, and what its family does with the product.

    Attributes:
        scale: the logits are multiplied by it.
        cap: they are then held within it by tanh; None: they are not.
    """

    scale: float
    cap: float | None

    @classmethod
    def of(cls, model: Any) -> Head | None:
        """None for a head of another kind: something attached to it, a family that does more."""
        head = model.get_output_embeddings()
        if type(head) is not nn.Linear or model.base_model is model:
            return None
        config = model.config.get_text_config()
        found = cls(_scale(config), getattr(config, "final_logit_softcapping", None))
        return found if found._gives_logits(model) else None

    def _gives_logits(self, model: Any) -> bool:
        """Whether a few tokens' logits are those that the model itself computes."""
        head, training = model.get_output_embeddings(), model.training
        ids = torch.arange(8, device=head.weight.device)[None] % len(head.weight)
        model.eval()
        with torch.no_grad(), autocast_of(model):
            wanted = model(input_ids=ids, use_cache=False).logits.float()
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            found = self._after(head(hidden).float())
        model.train(training)
        allowed = 2e-2 if any(is_short(p.dtype) for p in model.parameters()) else 1e-4
        return bool((found - wanted).abs().max() <= allowed * wanted.abs().max())

    def _after(self, products: Tensor) -> Tensor:
        logits = products if self.scale == 1 else products * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def losses(self, products: Tensor, targets: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """-log p of each target, (rows,), zero where its share is; and what a product changes of
        their mean, (rows, vocabulary), in the products' own memory.

        Args:
            products: (rows, vocabulary) in float32, of hidden states and the head's matrix.
            shares: (rows,) of each target's loss in the mean.
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

    def mean_loss(self, model: Any, hidden: Tensor, labels: Tensor, count: Tensor) -> Tensor:
        """The sum of -log p over the labels, divided by `count`; a scalar in float32.

        Args:
            hidden: (rows, tokens, size). labels: (rows, tokens) of the tokens that follow.
        """
        head = model.get_output_embeddings()
        if hidden.device.type == "cpu":
            learns = torch.is_grad_enabled()
            loss = _MeanLoss.apply(hidden, head.weight, head.bias, labels, count, self, learns)
            return loss  # type: ignore[no-any-return]
        chosen = labels != IGNORED
        found = ChunkedLogProbFunction.apply(
            hidden[chosen], head.weight, head.bias, labels[chosen], 1.0, 32768, self.cap,
            self.scale, ("log_probs",),
        )  # fmt: skip
        return -found[0].sum() / count  # type: ignore[no-any-return]


def _scale(config: Any) -> float:
    """By what a family multiplies its logits; the names are those that TRL's fused head knows."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            return float(getattr(config, name))
    divisor = getattr(config, "logits_scaling", None)
    if divisor is None:
        return 1.0
    return float(divisor) if config.model_type == "hyperclovax" else 1 / float(divisor)


class _MeanLoss(torch.autograd.Function):
    """Loss and gradients, tile by tile: of a mean, each label's share is known beforehand."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        count: Tensor,
        head: Head,
        learns: bool,
    ) -> Tensor:
        """`learns`: whether gradients are wanted; under no_grad the tensors' own flags stay."""
        to_hidden, to_weight, to_bias = (learns and wanted for wanted in ctx.needs_input_grad[:3])
        chosen = labels != IGNORED
        if to_weight and 4 * labels.numel() * len(weight) <= SMALL_BYTES:
            # Where gathering would save nothing, the weight's gradient is summed as TRL sums it.
            chosen = torch.ones_like(chosen)
        rows, targets = hidden[chosen], labels[chosen]
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
                own = rows[part].to(dtype)
                products = functional.linear(own, matrix, None if bias is None else bias.to(dtype))
                losses[part], slopes = head.losses(products.float(), targets[part], shares[part])
                if of_rows is not None:
                    of_rows[part] = slopes.to(dtype) @ matrix
                if of_weight is not None:
                    of_weight.addmm_(slopes.t(), own.float())
                if of_bias is not None:
                    of_bias += slopes.sum(0)
        ctx.save_for_backward(chosen, of_rows)
        ctx.of_parameters = of_weight, of_bias  # gradients already, and counted as such
        ctx.like = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
        grid = torch.zeros_like(chosen, dtype=torch.float32).masked_scatter(chosen, losses)
        return grid.sum() / count  # over every position, as TRL sums

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        chosen, of_rows = ctx.saved_tensors
        of_weight, of_bias = ctx.of_parameters
        del ctx.of_parameters
        to_hidden, to_weight, to_bias = ctx.like
        whole = None
        if of_rows is not None:
            own = (of_rows * slope).to(to_hidden)
            whole = own.new_zeros((*chosen.shape, own.shape[-1]))
            whole[chosen] = own
        weight = None if of_weight is None else (of_weight * slope).to(to_weight)
        bias = None if of_bias is None else (of_bias * slope).to(to_bias)
        return whole, weight, bias, None, None, None, None
