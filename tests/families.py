"""Tiny random models of many families, and the table of what works with which method.

python -m tests.families > docs/families.md
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from harness.core import from_yaml, registry
from harness.methods.base import Method
from harness.models.files import ModelInfo
from harness.models.kinds import refuse_kind
from harness.models.resolve import tensor_shapes

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|assistant|>"
    "{% generation %}{{ m['content'] }}<|end|>{% endgeneration %}"
    "{% else %}<|user|>{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = ["<|end|>", "<|pad|>", "<|user|>", "<|assistant|>"]
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA: Mapping[str, Any] = {**SIZES, **HEADS, "max_position_embeddings": 256}
GPT: Mapping[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
WHOLE_HEADS: Mapping[str, Any] = {**LLAMA, "num_key_value_heads": 4}
EXPERTS: Mapping[str, Any] = {
    **LLAMA, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 8,
}  # fmt: skip
LATENT: Mapping[str, Any] = {
    **WHOLE_HEADS, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
    "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}  # fmt: skip
NEO: Mapping[str, Any] = {
    "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 256,
    "attention_types": [[["global", "local"], 1]],
}  # fmt: skip

FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": {**LLAMA, "head_dim": 8},
    "gemma2": {**LLAMA, "head_dim": 8},
    "gemma3_text": {**LLAMA, "head_dim": 8},
    "gemma3": {
        "text_config": {**LLAMA, "head_dim": 8},
        "mm_tokens_per_image": 4,
        "vision_config": {
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 8,
            "patch_size": 4,
        },
    },
    "phi3": LLAMA,
    "olmo2": LLAMA,
    "gpt2": GPT,
    "gpt_neox": WHOLE_HEADS,
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "qwen3_moe": EXPERTS,
    "mixtral": {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2},
    "deepseek_v3": LATENT,
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 24},
    "gpt_oss": {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
    "phi": LLAMA,
    "opt": {**WHOLE_HEADS, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "starcoder2": LLAMA,
    "stablelm": LLAMA,
    "cohere": LLAMA,
    "smollm3": LLAMA,
    "granite": LLAMA,
    "gptj": {**GPT, "rotary_dim": 4},
    "gpt_neo": NEO,
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
}
"""`model_type` -> the fields of a tiny config of it."""


def make(family: str, folder: Path, **changes: Any) -> Path:
    """A random model of a family, saved with a byte-level tokenizer and a chat template."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = byte_tokenizer()
    fields = {**FAMILIES.get(family, {}), **changes}
    tokens = {
        "vocab_size": len(tokenizer), "eos_token_id": 0, "pad_token_id": 1, "bos_token_id": None,
    }  # fmt: skip
    if "text_config" in fields:
        fields["text_config"] = {**tokens, **fields["text_config"]}
    config = AutoConfig.for_model(family, **{**tokens, **fields})
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokenizer() -> Any:
    """One token a byte, and the marks of a chat."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(SPECIALS)}
    for symbol in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[symbol] = len(vocabulary)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|end|>", pad_token="<|pad|>",
        extra_special_tokens=SPECIALS[2:], chat_template=TEMPLATE,
    )  # fmt: skip


METHODS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "lora": {"r": 4},
    "qlora": {"r": 4},
    "bottleneck": {"reduction_factor": 4},
    "ia3": {},
    "prompt_tuning": {"num_virtual_tokens": 4},
    "prefix_tuning": {"num_virtual_tokens": 4},
}
"""Method -> the options that suit models so small."""


OTHERS = ("t5", "bart", "bert", "llava")
"""Types of models that no method can train here."""
HEAD = """# Which method trains which family of models

Written by `python -m tests.families`; a test holds it to the code. Each cell that works is trained,
saved and loaded again in the tests, on a random model of two layers, and its parameters are
counted; the slow tests take each through sft, dpo and scoring. A cell that does not work is refused
by `harness plan` with the reason below. A family that is not listed is tried as it is: bottleneck
adapters find their place by a test pass, (IA)3 by the names of the layers.
"""


def info_of(folder: Path) -> ModelInfo:
    """What `plan` knows of a model: its config, and its tensors' names and shapes."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return ModelInfo("", None, {}, config, tensor_shapes(folder, ""))


def method_of(name: str, **options: Any) -> Method:
    """A method with the options that suit tiny models."""
    declared = registry.find("method", name)
    fields = {**METHODS.get(name, {}), **options}
    return cast(Method, from_yaml.build_fields(declared, fields, f"method {name}"))


def refusal_of(info: ModelInfo, method: str) -> str | None:
    """Why `plan` refuses a method for a model; None where it trains it."""
    kind = refuse_kind(info.config)
    return kind[0] if kind is not None else method_of(method).refuse_model(info)


def table(folder: Callable[[str], Path]) -> str:
    """Every family with every method, as Markdown; `folder` makes a family's model."""
    infos = {family: info_of(folder(family)) for family in FAMILIES}
    infos |= {kind: ModelInfo("", None, {}, {"model_type": kind}) for kind in OTHERS}
    reasons: list[str] = []
    lines = [f"| family | {' | '.join(METHODS)} |", "|---" * (len(METHODS) + 1) + "|"]
    for family, info in infos.items():
        cells = []
        for method in METHODS:
            reason = refusal_of(info, method)
            if reason is not None and reason not in reasons:
                reasons.append(reason)
            cells.append("works" if reason is None else f"refused ({reasons.index(reason) + 1})")
        lines.append(f"| {family} | {' | '.join(cells)} |")
    notes = [f"{number}. {reason}." for number, reason in enumerate(reasons, 1)]
    return "\n".join([HEAD, *lines, "", *notes, ""])


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as root:
        print(table(lambda family: make(family, Path(root) / family)), end="")


if __name__ == "__main__":
    main()
