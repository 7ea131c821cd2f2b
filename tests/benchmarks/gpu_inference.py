"""Scoring, generation and mixed adapters of the harness, held against transformers itself."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpu_shapes import EOS, PAD, RandomRef, forget, matmul_rate, peaks, rows, texts, timed

SCORES_APART = 0.01
"""Of the summed log-likelihood, in bfloat16."""


@dataclass(frozen=True)
class Reading:
    """Texts, whose likelihood is measured: from half of `length` to all of it."""

    shape: str
    texts: int
    length: int
    batch_tokens: int


@dataclass(frozen=True)
class Writing:
    """Prompts, from half of `length` to all of it, and how many tokens are written to each.

    Attributes:
        adapters: the prompts are shared out among so many LoRA variants; 0: the base answers.
    """

    shape: str
    prompts: int
    length: int
    new: int
    adapters: int = 0


def read(case: Reading, device: str) -> dict[str, Any]:
    """Tokens a second of the likelihood path, and of plain forward passes over the same batches."""
    import torch

    from harness.core.measure import number_count
    from harness.inference.batches import budget_batches, padded
    from harness.inference.likelihood import log_likelihoods

    rate = matmul_rate(device)
    ref = RandomRef(case.shape, "bfloat16", device)
    model, tokenizer = ref.load(), ref.tokenizer()
    made = texts(case.texts, case.length, shortest=case.length // 2)
    ids = [tokenizer(text=text)["input_ids"] for text in made]
    batches = list(budget_batches([len(i) for i in ids], case.batch_tokens))

    @torch.inference_mode()
    def forward(batch: Sequence[int]) -> Any:
        tokens, mask = (t.to(device) for t in padded([ids[i] for i in batch], PAD))
        return model(input_ids=tokens, attention_mask=mask, use_cache=False).logits

    def score(chosen: Sequence[str]) -> float:
        found = log_likelihoods(
            model, tokenizer, rows(chosen), case.length, case.length, case.batch_tokens,
            lambda *_: None,
        )  # fmt: skip
        return float(sum(row["nll"] for row in found))

    last = batches[-1]  # the shortest texts: one batch is checked, on plain log-probabilities
    plain = _likelihood(forward(last), [ids[i] for i in last])
    own = score([made[i] for i in last])
    for batch in batches:
        forward(batch)
    score(made)
    forget(device)
    _, own_seconds = timed(device, score, made)
    own_peaks = peaks(device)
    _, forward_seconds = timed(device, lambda: [forward(batch).shape for batch in batches])
    tokens = sum(map(len, ids))
    limit = rate / (2.0 * number_count(model.parameters()))
    apart = abs(own - plain) / abs(plain)
    return {
        "status": "ok" if apart <= SCORES_APART else "void: the likelihoods differ",
        "settings": asdict(case),
        "matmul_flops_per_second": rate,
        "tokens": tokens,
        "tokens_per_second": tokens / own_seconds,
        "forward_tokens_per_second": tokens / forward_seconds,
        "limit_tokens_per_second": limit,  # 2 N FLOPs a token at the rate of products
        "of_forward": forward_seconds / own_seconds,
        "of_limit": tokens / own_seconds / limit,
        "scores_apart": apart,
        **own_peaks,
    }


def _likelihood(logits: Any, ids: Sequence[Sequence[int]]) -> float:
    import torch

    total = 0.0
    for row, own in zip(logits, ids, strict=True):
        wanted = torch.tensor(own[1:], device=row.device)
        losses = torch.nn.functional.cross_entropy(row[: len(own) - 1].float(), wanted)
        total += float(losses) * (len(own) - 1)
    return total


def write(case: Writing, device: str) -> dict[str, Any]:
    """Tokens a second of greedy answers, by the harness and by transformers' own generate."""
    ref = RandomRef(case.shape, "bfloat16", device)
    model, tokenizer = ref.load(), ref.tokenizer()
    prompts = _prompts(case, tokenizer)
    # Of the first pass over new shapes, kernels are loaded and chosen; both sides pay it untimed.
    _, first = timed(device, _plain_answers, model, tokenizer, prompts, case.new)
    forget(device)
    own, own_seconds = timed(device, _answers, model, tokenizer, prompts, case.new)
    own_peaks = peaks(device)
    forget(device)
    plain, seconds = timed(device, _plain_answers, model, tokenizer, prompts, case.new)
    return {
        "status": "ok",
        "settings": asdict(case),
        **_written("harness", own, own_seconds),
        **_written("hf_generate", plain, seconds),
        "first_pass_seconds": first,
        "times_hf_generate": seconds / own_seconds,
        "answers_agree": _agree(own, plain),
        "tokens_agree": _common(own, plain),
        **own_peaks,
        "hf_generate_peaks": peaks(device),
    }


def write_mixed(case: Writing, device: str) -> dict[str, Any]:
    """One batch of several LoRA variants' prompts, against the variants one after the other."""
    from harness.adapters import BASE, load_several

    ref = RandomRef(case.shape, "bfloat16", device)
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_several(ref, _adapters(case, ref, Path(folder)))
    forget(device)
    prompts = [loaded.tokenizer.decode(p) for p in _prompts(case, loaded.tokenizer)]
    names = [loaded.names[i % case.adapters] for i in range(len(prompts))]

    def alike(names: Sequence[str], new: int) -> list[list[str]]:
        found = loaded.generate(prompts, names, max_new_tokens=new)
        return [text.split() for text in found]

    def apart(new: int) -> list[list[str]]:
        found: dict[int, str] = {}
        for name in loaded.names:
            chosen = [i for i, own in enumerate(names) if own == name]
            loaded.use(name)
            written = loaded.generate([prompts[i] for i in chosen], max_new_tokens=new)
            found.update(zip(chosen, written, strict=True))
        return [found[i].split() for i in range(len(prompts))]

    for new in (case.new, case.new):  # the first is untimed: kernels are loaded and chosen
        answers, together = timed(device, alike, names, new)
        own_peaks = peaks(device)
        alone, one_by_one = timed(device, apart, new)
        others, base = timed(device, alike, [BASE] * len(prompts), new)
    return {
        # Adapters that change nothing would agree whatever was mixed.
        "status": "ok" if _agree(answers, others) < 0.5 else "void: the adapters change nothing",
        "settings": asdict(case),
        **_written("mixed", answers, together),
        **_written("one_by_one", alone, one_by_one),
        **_written("base", others, base),
        "times_one_by_one": one_by_one / together,
        "answers_agree": _agree(answers, alone),
        "tokens_agree": _common(answers, alone),
        "answers_agree_with_base": _agree(answers, others),
        **own_peaks,
    }


def _prompts(case: Writing, tokenizer: Any) -> list[list[int]]:
    made = texts(case.prompts, case.length, shortest=case.length // 2)
    return [tokenizer(text=text)["input_ids"] for text in made]


def _answers(model: Any, tokenizer: Any, prompts: list[list[int]], new: int) -> list[list[str]]:
    from harness.inference.generate import generate

    options = {
        "max_new_tokens": new, "until": [], "thinking": "keep",
        "batch_tokens": len(prompts) * (max(map(len, prompts)) + new),
    }  # fmt: skip
    found = generate(model, tokenizer, prompts, options, lambda *_: None)
    return [answer.text.split() for answer in found]


def _plain_answers(
    model: Any, tokenizer: Any, prompts: list[list[int]], new: int
) -> list[list[str]]:
    """What transformers' generate gives a batch that is padded on the left."""
    import torch

    tokenizer.padding_side = "left"
    batch = tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        whole = model.generate(
            **batch, max_new_tokens=new, do_sample=False, eos_token_id=EOS, pad_token_id=PAD
        )
    answers = whole[:, batch["input_ids"].shape[1] :]
    return [text.split() for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]


def _adapters(case: Writing, ref: RandomRef, folder: Path) -> dict[str, Path]:
    """Checkpoints of LoRA variants away from their start, each in its own direction."""
    import torch

    from harness.methods.lora import Lora

    method, found = Lora(), {}
    model = method.attach(method.load(ref))
    for number in range(case.adapters):
        torch.manual_seed(number)
        for tensor in method.trainable_state(model).values():
            tensor.normal_(std=0.05)
        found[f"variant-{number}"] = folder / str(number)
        method.save(model, folder / str(number))
    return found


def _written(name: str, answers: Sequence[Sequence[str]], seconds: float) -> dict[str, Any]:
    tokens = sum(map(len, answers))
    return {f"{name}_tokens_per_second": tokens / seconds, f"{name}_tokens": tokens}


def _agree(own: Sequence[Sequence[str]], other: Sequence[Sequence[str]]) -> float:
    """Share of answers that are the same; in bfloat16, ties may fall either way."""
    return sum(list(a) == list(b) for a, b in zip(own, other, strict=True)) / len(own)


def _common(own: Sequence[Sequence[str]], other: Sequence[Sequence[str]]) -> float:
    """Share of an answer's tokens before the first that differs, on average."""
    shares = []
    for a, b in zip(own, other, strict=True):
        longest = max(len(a), len(b), 1)
        pairs = list(zip(a, b, strict=False))
        differs = [i for i, (one, two) in enumerate(pairs) if one != two]
        same = differs[0] if differs else min(len(a), len(b))
        shares.append(same / longest if longest > 1 or a or b else 1.0)
    return sum(shares) / len(shares)
