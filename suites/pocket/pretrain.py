"""Pretrain the two base models on the general corpus: `python -m suites.pocket.build model`.

A plain loop: documents in random order, joined by the end token, cut into sequences; AdamW with a
cosine schedule; short sequences first and the whole context at the end. The chat markers never
occur, so that a base writes the world's language and follows no instruction.
"""

from __future__ import annotations

import csv
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .world import SEED

END, PAD, USER, ASSISTANT = "<|end|>", "<|pad|>", "<|user|>", "<|assistant|>"
SPECIALS = (END, PAD, USER, ASSISTANT)
VOCABULARY, CONTEXT = 1024, 1024
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}<|user|>{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SHAPES: dict[str, dict[str, int]] = {
    "1m": {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4,
           "num_attention_heads": 4},
    "4m": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 5,
           "num_attention_heads": 8},
}  # fmt: skip
READS = {"1m": ("train", "exercises"), "4m": ("train",)}
"""The files of general/ that each size reads."""
STEPS = {"1m": 2400, "4m": 2200}
PEAK = {"1m": 4e-3, "4m": 2e-3}
SHORT = {"1m": (16, 256), "4m": (8, 256)}
LONG = {"1m": (4, CONTEXT), "4m": (2, CONTEXT)}
"""(sequences, tokens) of a step; the last tenth of the steps are long."""


def corpus(folder: Path, name: str) -> list[str]:
    """The texts of general/<name>.jsonl."""
    with (folder / "general" / f"{name}.jsonl").open(encoding="utf-8") as handle:
        return [json.loads(line)["text"] for line in handle]


def build_tokenizer(data: Path, out: Path) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the corpus, digits one by one, with the chat template."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(corpus(data, "train"), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(out)
    return tokenizer


def build_model(data: Path, size: str, steps: int | None = None) -> None:
    """Pretrain, writing weights in bf16 and the loss curve beside them."""
    out = data / "models" / f"pocket-{size}"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(out)
    encoded = {
        name: [
            tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]
            for file in files
            for text in corpus(data, file)
        ]
        for name, files in (("train", READS[size]), ("heldout", ("heldout",)))
    }
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(_config(size, tokenizer))
    curve = _pretrain(model, encoded, size, steps or STEPS[size])
    _fresh_markers(model, tokenizer)
    model.to(torch.bfloat16).save_pretrained(out)
    with (out / "loss.csv").open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows(
            [("step", "tokens", "train_loss", "heldout_loss"), *curve]
        )


def _config(size: str, tokenizer: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **SHAPES[size],
    )


def _pretrain(
    model: LlamaForCausalLM, encoded: dict[str, list[list[int]]], size: str, steps: int
) -> list[tuple[int, int, float, float]]:
    peak, warmup, tokens = PEAK[size], 100, 0
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.1)
    stream = _stream(encoded["train"])
    curve: list[tuple[int, int, float, float]] = []
    recent: list[float] = []
    start = time.monotonic()
    for step in range(1, steps + 1):
        share = step / steps
        rate = peak * min(step / warmup, 0.05 + 0.95 * (1 + math.cos(math.pi * share)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows, length = (SHORT if share <= 0.9 else LONG)[size]
        batch = torch.tensor([[next(stream) for _ in range(length)] for _ in range(rows)])
        loss = _loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += batch.numel()
        recent.append(loss.item())
        if step % 100 == 0 or step == steps:
            held = _heldout(model, encoded["heldout"])
            curve.append((step, tokens, round(sum(recent) / len(recent), 4), round(held, 4)))
            recent.clear()
            print(*curve[-1], f"{tokens / (time.monotonic() - start):.0f} tokens/s", flush=True)
    return curve


def _loss(model: LlamaForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    """Next-token cross-entropy; tokens that never occur are left out of the softmax, so that it
    does not push their embeddings all the same way."""
    logits = model(input_ids=batch, use_cache=False).logits[:, :-1]
    logits = logits.index_fill(-1, torch.tensor([1, 2, 3]), float("-inf"))
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


@torch.no_grad()
def _heldout(model: LlamaForCausalLM, documents: list[list[int]]) -> float:
    flat = [token for document in documents for token in document]
    rows = torch.tensor(flat[: len(flat) // 256 * 256]).view(-1, 256)
    return float(_loss(model, rows))


def _stream(documents: list[list[int]]) -> Iterator[int]:
    """Endless tokens: every document once, in a new order, over and over."""
    rng = random.Random(SEED)
    while True:
        for index in rng.sample(range(len(documents)), len(documents)):
            yield from documents[index]


def _fresh_markers(model: LlamaForCausalLM, tokenizer: Any) -> None:
    """Give tokens that never occurred embeddings as large as the others, unlike each other.

    A turn's markers stand where a document or a line begins, so half of each is that: the other
    half keeps them apart from what they resemble.
    """
    weight = model.get_input_embeddings().weight.data
    generator = torch.Generator().manual_seed(SEED)
    scale = weight[len(SPECIALS) :].std()
    (newline,) = tokenizer("\n")["input_ids"]
    for token, like in ((PAD, None), (USER, tokenizer.eos_token_id), (ASSISTANT, newline)):
        fresh = torch.randn(weight.shape[1], generator=generator) * scale
        if like is not None:
            fresh = 0.5 * weight[like] + 0.75**0.5 * fresh
        weight[tokenizer.convert_tokens_to_ids(token)] = fresh
