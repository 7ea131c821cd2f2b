"""Models of known shapes with random weights, made where they run, for the GPU's benchmarks.

No file is read or written: a model of 7B parameters is made on the card in bfloat16, and quantised
there layer by layer. A random model computes as long, and in as much memory, as a trained one.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

from harness.models.files import ModelRef
from harness.models.layers import HEADS

T = TypeVar("T")
EOS, PAD, FIRST_WORD = 0, 1, 3
"""Tokens of the made tokenizer: the end, the filler, (2, the unknown), and the first word."""
WORDS = 512
"""Words that texts are made of: so few that a few steps teach which, and losses fall."""
_LLAMA = {"rms_norm_eps": 1e-5, "attention_bias": False}
SHAPES: dict[str, dict[str, Any]] = {
    "llama-3.2-1b": {
        **_LLAMA, "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 64, "tie_word_embeddings": True, "max_position_embeddings": 131072,
    },
    "llama-2-7b": {
        **_LLAMA, "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
        "tie_word_embeddings": False, "max_position_embeddings": 4096,
    },
    "tiny": {
        **_LLAMA, "vocab_size": 1024, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "tie_word_embeddings": True, "max_position_embeddings": 512,
        "initializer_range": 0.1,  # else so narrow a model says the last token again, whatever else
    },
}  # fmt: skip


@dataclass(frozen=True)
class RandomRef(ModelRef):
    """A model that is made, not loaded; `source` is the name of its shape."""

    def load(self, head: str = "lm", quantization: Any = None) -> Any:
        """Random weights of seed 0 on the device, quantised where that is asked for."""
        import torch
        from transformers import AutoModelForCausalLM, LlamaConfig

        from harness.core.device import set_up

        set_up(self.device)
        config = LlamaConfig(
            **SHAPES[self.source], eos_token_id=EOS, pad_token_id=PAD, bos_token_id=None
        )
        torch.manual_seed(0)
        with torch.device(self.device):
            model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, self.dtype))
        model.generation_asks = {}
        if quantization is not None:
            _quantise(model, quantization)
        return model.eval()

    def tokenizer(self) -> Any:
        """One word for each token of the vocabulary: `w17` is token 17."""
        from tokenizers import Tokenizer
        from tokenizers.models import WordLevel
        from tokenizers.pre_tokenizers import WhitespaceSplit
        from transformers import PreTrainedTokenizerFast

        words = ["</s>", "<pad>", "<unk>"]
        words += [f"w{i}" for i in range(FIRST_WORD, SHAPES[self.source]["vocab_size"])]
        made = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
        made.pre_tokenizer = WhitespaceSplit()
        return PreTrainedTokenizerFast(
            tokenizer_object=made, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
        )


def _quantise(model: Any, quantization: Any) -> None:
    """Linear layers inside the blocks into bitsandbytes' 4 bits, one after the other, and the marks
    by which transformers, PEFT and TRL know such a model."""
    import torch
    from bitsandbytes.nn import Linear4bit, Params4bit
    from transformers.quantizers import AutoHfQuantizer

    packing = {
        "compress_statistics": quantization.bnb_4bit_use_double_quant,
        "quant_type": quantization.bnb_4bit_quant_type,
    }
    for name, module in list(model.named_modules()):
        if type(module) is not torch.nn.Linear or name.split(".")[-1] in HEADS:
            continue
        with torch.device("meta"):
            packed = Linear4bit(
                module.in_features, module.out_features, module.bias is not None,
                quantization.bnb_4bit_compute_dtype, **packing,
            )  # fmt: skip
        weight = module.weight.data
        packed.weight = Params4bit(weight, False, module=packed, **packing).to(weight.device)
        packed.bias = module.bias
        model.set_submodule(name, packed)
    model.hf_quantizer = AutoHfQuantizer.from_config(quantization)
    model.config.quantization_config = quantization
    model.quantization_method = quantization.quant_method
    model.is_quantized = model.is_loaded_in_4bit = True


def texts(count: int, tokens: int, seed: int = 0, shortest: int | None = None) -> list[str]:
    """Random words; each text has `tokens` of them, or from `shortest` to `tokens`."""
    draw = random.Random(seed)
    lengths = [draw.randint(shortest or tokens, tokens) for _ in range(count)]
    last = FIRST_WORD + WORDS - 1
    return [" ".join(f"w{draw.randint(FIRST_WORD, last)}" for _ in range(n)) for n in lengths]


def rows(made: Sequence[str]) -> list[dict[str, Any]]:
    """Texts as the harness's data stage hands them on."""
    return [
        {"id": str(i), "cluster": str(i), "group": "all", "text": text}
        for i, text in enumerate(made)
    ]


class Clock:
    """Marks on the device's own time line, which nothing waits for until they are read."""

    def __init__(self, device: str) -> None:
        self._device, self._marks = device, []  # type: tuple[str, list[Any]]

    def mark(self, *_: Any) -> None:
        """Now: when all that was queued before is done."""
        if self._device == "cpu":
            self._marks.append(time.monotonic())
            return
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)

    def seconds(self) -> list[float]:
        """From each mark to the next."""
        pairs = list(zip(self._marks, self._marks[1:], strict=False))
        if self._device == "cpu":
            return [later - earlier for earlier, later in pairs]
        wait(self._device)
        return [earlier.elapsed_time(later) / 1000 for earlier, later in pairs]


def timed(device: str, work: Callable[..., T], *given: Any) -> tuple[T, float]:
    """What the work gives, and its seconds, from an idle device to an idle device."""
    wait(device)
    start = time.monotonic()
    found = work(*given)
    wait(device)
    return found, time.monotonic() - start


def wait(device: str) -> None:
    """Until the device has done all that was asked of it."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def forget(device: str) -> None:
    """Give back the memory of what nobody refers to any more, and forget its peak."""
    gc.collect()
    if device != "cpu":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peaks(device: str) -> dict[str, int]:
    """Peak bytes of the allocator since `forget`: what tensors took, and what it held for them."""
    if device == "cpu":
        return {}
    import torch

    return {
        "peak_allocated": torch.cuda.max_memory_allocated(),
        "peak_reserved": torch.cuda.max_memory_reserved(),
    }


def matmul_rate(device: str) -> float:
    """Floating-point operations a second of square bfloat16 products, as training records have it;
    of a CPU, where the records have none, for a dry run."""
    import torch

    from harness.core import device as devices

    known = devices.matmul_rate(device, "bfloat16")
    if known is not None:
        return known
    size, times = 256, 5
    left, right = (torch.randn(size, size).bfloat16() for _ in range(2))
    clock = Clock(device)
    clock.mark()
    for _ in range(times):
        left @ right
        clock.mark()
    return 2.0 * size**3 / median(clock.seconds())
