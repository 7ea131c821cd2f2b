"""The mean loss of a head that is one linear layer: -log p and its gradients from hidden states.

On a CPU both are computed in one pass, tile by tile, so that at most one tile of logits is in
memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from trl.kernels import ChunkedLogProbFunction

from harness.inference.positions import SMALL_BYTES
from harness.models.precision import autocast_of, is_short

IGNORED = -100
"""The label of a token that is not in the loss (torch.nn.CrossEntropyLoss's ignore_index)."""
TILE_BYTES = 64 * 2**20
"""Largest size of the float32 logits in memory at one time."""
_TILE_ROWS = 4096
"""Largest number of positions in a tile, as in TRL."""
_TILED = ("cpu",)
"""Devices on which the gradient is computed in the forward pass; TRL has kernels for others."""


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
