"""Low-rank adapters on a 4-bit base."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.core.errors import ModelError
from harness.methods._experts import has_experts
from harness.methods._layers import beside_text, is_router
from harness.methods.base import BYTES, Head
from harness.methods.lora import STATE_SPACE, Lora
from harness.models.files import ModelInfo, ModelRef
from harness.models.layers import HEADS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_OWN_LINEAR = ("falcon",)
"""Model types whose layers subclass torch's Linear; `_require_all_packed` finds further ones."""
_BLOCK, _SUPERBLOCK = 64, 256
"""Weights that share one scale, and scales that share one second scale (the paper's section 3)."""


class Qlora(Lora):
    """QLoRA: LoRA on a base in NF4 with double quantisation (Dettmers et al., 2023).

    The linear layers inside the blocks are quantised when they are loaded, and compute in the
    suite's dtype. PEFT keeps embeddings, norms and the head in float32. The adapter trains in
    float32 unless `adapter_dtype` sets another dtype (DoRA's magnitudes are always float32).

    Trainable parameters: as `lora`'s. State: for Q quantised and U other base parameters, Q / 2 + 4
    U bytes of weights, about Q / 64 bytes of scales (which are not parameters), and 16 bytes for
    each parameter of the adapter (float32 weight, gradient and AdamW's two moments; 8 in bfloat16).
    """

    VERSION = 1
    paper = "arXiv:2305.14314"
    requires = ("bitsandbytes",)
    raises_base = True

    init_lora_weights: Literal[True, "gaussian"] = True
    """As in PEFT; both start at the base exactly. PiSSA and OLoRA need unquantised weights."""
    adapter_dtype: Literal["bfloat16", "float32"] = "float32"
    """The adapter's dtype: float32 as in the other methods, or bfloat16 as in the paper and in TRL,
    where rounding loses steps that are much smaller than the weight."""

    def keeps_float32(self) -> bool:
        return self.adapter_dtype == "float32"

    def load(self, ref: ModelRef, head: Head = "lm") -> PreTrainedModel:
        import torch
        from peft import prepare_model_for_kbit_training
        from transformers import BitsAndBytesConfig

        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, ref.dtype),
            llm_int8_skip_modules=list(HEADS),
        )
        base = ref.load(head, quantization)
        keep_gradients(base)
        # The trainers enable gradient checkpointing, and then the gradients of the inputs.
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
        return base.eval()  # type: ignore[no-any-return]

    def refuse_model(self, info: ModelInfo) -> str | None:
        if info.config.get("model_type") in _OWN_LINEAR:
            kind = info.config["model_type"]
            return (
                f"the linear layers of '{kind}' are of a special class, which bitsandbytes does not"
                " quantise; use lora"
            )
        if info.config.get("model_type") in STATE_SPACE:
            return "its state-space layers read weights directly, which fails in 4 bits"
        if info.config.get("model_type") == "rwkv":
            return "its layers rescale weights in place, which fails in 4 bits"
        return super().refuse_model(info)

    def remarks(self, info: ModelInfo) -> tuple[str, ...]:
        if not has_experts(info):
            return super().remarks(info)
        whole = "the experts of a mixture are stacked in tensors, which stay whole and in float32"
        return (*super().remarks(info), f"{whole}: only the other layers are in 4 bits")

    def attach(self, base: PreTrainedModel, also_train: tuple[str, ...] = ()) -> Any:
        _require_all_packed(base)
        return self._cast(super().attach(base, also_train))

    def resume(
        self, base: PreTrainedModel, checkpoint: Path, also_train: tuple[str, ...] = ()
    ) -> Any:
        return self._cast(super().resume(base, checkpoint, also_train))

    def put_on(self, model: Any, checkpoint: Path, name: str = "default") -> Any:
        return self._cast(super().put_on(model, checkpoint, name))

    def _cast(self, model: Any) -> Any:
        """Convert the adapter to `adapter_dtype` at once, so that a reloaded checkpoint computes
        in the same dtype as the trained model."""
        import torch

        for name, parameter in model.named_parameters():
            if "lora_" in name and "lora_magnitude_vector" not in name:
                parameter.data = parameter.data.to(getattr(torch, self.adapter_dtype))
        return model

    def proofs(self, model: Any) -> dict[str, tuple[bool, str]]:
        whole = unquantised(model)
        proofs = {
            "linear layers are in 4 bits": (
                not whole,
                f"{len(whole)} hold whole weights, first {whole[0]}: the base was loaded without"
                " quantisation"
                if whole
                else "all of them",
            )
        }
        if not whole:
            cosine = gradient_cosine(model)
            proofs["gradients pass a 4-bit layer as they pass its dequantised weights"] = (
                cosine >= 0.999,
                f"cosine {cosine:.5f}, at least 0.999 wanted",
            )
        return proofs

    def describe(self, base: PreTrainedModel) -> ModelInfo:
        """As in every method, but with the original shapes of the 4-bit weights."""
        info = super().describe(base)
        turned = info.config.get("model_type") == "gpt2"  # bitsandbytes packed the transpose
        packed = {
            name: tuple(parameter.quant_state.shape)[:: -1 if turned else 1]
            for name, parameter in base.named_parameters()
            if getattr(parameter, "quant_state", None) is not None
        }
        return replace(info, shapes={**info.shapes, **packed})

    def state_bytes(self, info: ModelInfo, dtype: str) -> dict[str, int] | None:
        total, trainable = info.parameters, self.count_trainable(info)
        if total is None or trainable is None:
            return None
        quantised = sum(math.prod(shape) for shape in info.linear_shapes().values())
        whole = _magnitudes(self, info)
        adapter = BYTES[self.adapter_dtype] * (trainable - whole) + 4 * whole
        return {
            "weights": quantised // 2 + 4 * (total - quantised) + adapter,
            "gradients": adapter,
            "optimizer": 2 * adapter,
        }


def scale_bytes(info: ModelInfo) -> int:
    """Bytes of the scales of double quantisation, which are not parameters.

    Each block of 64 weights takes one byte, each 256 blocks take four more, and each layer has two
    code books (16 and 256 numbers) and an offset in float32.
    """
    total = 0
    for shape in info.linear_shapes().values():
        blocks = math.ceil(math.prod(shape) / _BLOCK)
        total += blocks + 4 * math.ceil(blocks / _SUPERBLOCK) + 4 * (16 + 256 + 1)
    return total


def unquantised(model: Any) -> list[str]:
    """Names of the linear layers of the text part whose weights should be in 4 bits and are not."""
    import torch
    from bitsandbytes.nn.modules import Linear4bit
    from peft import PeftModel

    adapted = isinstance(model, PeftModel)
    base, prefix = (model.get_base_model(), "base_model.model.") if adapted else (model, "")
    outside = tuple(f"{prefix}{name}." for name in beside_text(base))
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and not isinstance(module, Linear4bit)
        and not is_router(module)
        and "lora_" not in name
        and not f"{name}.".startswith(outside)
        and not any(part in HEADS for part in name.split("."))
    ]


def _require_all_packed(base: Any) -> None:
    """Check before training that bitsandbytes replaced every linear layer.

    Raises:
        ModelError: some layers are of a class that bitsandbytes does not replace; names the first.
    """
    whole = unquantised(base)
    packed = any(getattr(p, "quant_state", None) is not None for p in base.parameters())
    if whole and packed:
        kind = type(base.get_submodule(whole[0])).__name__
        raise ModelError(
            f"{len(whole)} linear layers of this model stay whole, first {whole[0]} ({kind}):"
            " bitsandbytes does not replace them",
            fix="use lora",
        )


def gradient_cosine(model: Any) -> float:
    """Cosine between the input gradients of a 4-bit layer and of its dequantised weights.

    Measured after a forward pass in evaluation mode, where bitsandbytes may repack the weights.
    """
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn.modules import Linear4bit

    layer = next(module for module in model.modules() if isinstance(module, Linear4bit))
    packed: Any = layer.weight
    weight = dequantize_4bit(packed.data, packed.quant_state).float()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, layer.in_features, generator=generator).to(weight.device)
    out = torch.randn(8, layer.out_features, generator=generator).to(weight.device)
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(layer(x), x, out.to(layer(x).dtype), allow_unused=True)
    if gradient is None:
        return 0.0
    wanted = out @ weight.view(layer.out_features, layer.in_features)
    return float(
        torch.nn.functional.cosine_similarity(gradient.float().flatten(), wanted.flatten(), 0)
    )


def keep_gradients(base: Any) -> None:
    """Stop bitsandbytes from repacking weights for a CPU's AVX-512 bf16 kernels.

    It repacks a layer at its first forward pass without gradients in evaluation mode, never undoes
    this, and from then on silently passes no gradient through the layer. The other path is exact.
    """
    for module in base.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _magnitudes(method: Lora, info: ModelInfo) -> int:
    """Number of DoRA's trained magnitudes: one for each output of each target."""
    if not method.use_dora:
        return 0
    return sum(layer.d_out for layer in method.chosen(info.layers()).values())
