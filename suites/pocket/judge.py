"""Train the pocket judge: `python -m suites.pocket.build judge`.

It goes on from `pocket-1m` and reads contests: a prompt and two answers, as `judge.jinja` writes
them. It learns one token after them: A or B, whichever answer the world's truth prefers, or C where
neither is better. Every prompt is one of the training split, so that nothing that a test prompt is
about was judged before. Half of the answers are made in every quality, or belong to another prompt;
half are those that an SFT gave (`judgements_train.jsonl`), with their slips.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.data.contests import Contest
from harness.data.prompts import filled, prompt_fields

from .asks import Ask, ask
from .truth import prefers
from .world import SEED

LETTERS = {1: "A", -1: "B", 0: "C"}
KINDS = ("passage", "passage", "passage", "closed", "closed", "unknown", "harmful", "benign")
FOREIGN = 0.1
"""Share of the made answers that belong to another prompt."""
TIES = 0.6
"""Of the contests that tie, so many are kept."""
STEPS, BATCH, PEAK, WARMUP = 1500, 32, 1.5e-3, 100
_DRAWN = 8
"""Batches of contests that are drawn at once, and sorted by length, so that little is padding."""


def contests(rng: random.Random, split: str, ranked: list[dict[str, Any]]) -> Iterator[Any]:
    """Endless (contest, letter), in equal parts of made answers and of those that were ranked."""
    while True:
        if ranked and rng.random() < 0.5:
            row = rng.choice(ranked)
            truth, prompt = row["truth"], row["prompt"]
            one, other = (text[-1]["content"] for text in rng.sample(row["responses"], 2))
        else:
            asked = _ask(rng, split)
            truth, prompt = asked.truth, [{"role": "user", "content": asked.prompt}]
            one, other = _answer(rng, asked, split), _answer(rng, asked, split)
        sign = prefers(truth, one, other)
        if one != other and (sign or rng.random() < TIES):
            yield Contest(prompt, one, other), LETTERS[sign]


def _ask(rng: random.Random, split: str) -> Ask:
    while True:
        asked = ask(rng, rng.choice(KINDS))
        if asked.split == split:
            return asked


def _answer(rng: random.Random, asked: Ask, split: str) -> str:
    if rng.random() < FOREIGN:
        asked = _ask(rng, split)
    contents = ["right", "refusal"] if asked.deed is not None else ["right", "invented", "evasive"]
    if len(asked.wanted) == 2:
        contents.append("partial")
    tone = rng.choice(("polite", "plain", "rude"))
    return rng.choice(list(asked.answers(rng.choice(contents), tone)))


def text_of(template: str, contest: Contest) -> str:
    """The prompt of a contest, as the labeller `judge` writes it."""
    fields = {**prompt_fields(contest.prompt), "a": contest.one, "b": contest.other,
              "ties": True, "chat": True}  # fmt: skip
    return filled(template, fields)


def build_judge(data: Path, out: Path, steps: int | None = None) -> None:
    """Train the judge, and write it beside the bases."""
    base, folder = data / "models" / "pocket-1m", out / "models" / "pocket-judge"
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    template = (Path(__file__).parent / "judge.jinja").read_text(encoding="utf-8")
    stream = _examples(tokenizer, template, "train", "judgements_train", data)
    held = list(itertools.islice(
        _examples(tokenizer, template, "validation", "judgements_validation", data), 400
    ))  # fmt: skip
    curve = _train(model, tokenizer, stream, held, steps or STEPS)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with (folder / "loss.csv").open("w", encoding="utf-8", newline="") as handle:
        head = ("step", "train_loss", "validation_accuracy")
        csv.writer(handle, lineterminator="\n").writerows([head, *curve])


def _examples(
    tokenizer: Any, template: str, split: str, ranked: str, data: Path
) -> Iterator[tuple[list[int], int]]:
    """Endless (tokens of a contest, the token of its letter)."""
    text = (data / "preference" / f"{ranked}.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    letters = {letter: tokenizer.convert_tokens_to_ids(letter) for letter in LETTERS.values()}
    for contest, letter in contests(random.Random(f"judge {split} {SEED}"), split, rows):
        turns = [{"role": "user", "content": text_of(template, contest)}]
        written = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        yield tokenizer(written)["input_ids"], letters[letter]


def _train(
    model: Any,
    tokenizer: Any,
    stream: Iterator[tuple[list[int], int]],
    held: list[tuple[list[int], int]],
    steps: int,
) -> list[tuple[int, float, float]]:
    """Train, and return (step, mean loss since the last one, share of held-out contests whose
    letter is right)."""
    curve: list[tuple[int, float, float]] = []
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, betas=(0.9, 0.98), weight_decay=0.01)
    batches, start, recent = _batches(stream), time.monotonic(), list[float]()
    for step in range(1, steps + 1):
        rate = PEAK * min(step / WARMUP, 0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits, letters = _read(model, tokenizer, next(batches))
        loss = torch.nn.functional.cross_entropy(logits, letters)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if step % 100 == 0 or step == steps:
            right = _right(model, tokenizer, held)
            curve.append((step, round(sum(recent) / len(recent), 3), round(right, 3)))
            print(*curve[-1], f"{time.monotonic() - start:.0f} s", flush=True)
            recent.clear()
    return curve


def _batches(stream: Iterator[Any]) -> Iterator[list[Any]]:
    rng = random.Random(SEED)
    while True:
        drawn = sorted(itertools.islice(stream, BATCH * _DRAWN), key=lambda one: len(one[0]))
        batches = [drawn[i : i + BATCH] for i in range(0, len(drawn), BATCH)]
        rng.shuffle(batches)
        yield from batches


def _read(model: Any, tokenizer: Any, batch: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the token after each contest, and the token that is right there."""
    length = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (length - len(row)) for row, _ in batch])
    places = torch.tensor([len(row) - 1 for row, _ in batch])
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    last = hidden[torch.arange(len(batch)), places]
    return model.lm_head(last), torch.tensor([letter for _, letter in batch])


@torch.no_grad()
def _right(model: Any, tokenizer: Any, held: list[Any]) -> float:
    """The share of held-out contests whose letter is the likeliest token."""
    hits = 0
    for i in range(0, len(held), BATCH):
        logits, letters = _read(model, tokenizer, held[i : i + BATCH])
        hits += int((logits.argmax(-1) == letters).sum())
    return hits / len(held)
