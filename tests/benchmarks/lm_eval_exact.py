"""Whether our engine finds what lm-eval's own model finds: tokens, log-probabilities, answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

CLOSE = 1e-4
"""How far two log-probabilities of float32 may be apart, in nats."""


def tokens_differ(model: Any, tokenizer: Any, names: Sequence[str], folder: Path) -> int:
    """How many requests of both sides have other tokens."""
    from lm_eval.api.model import TemplateLM
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from harness.inference.lm_text import Encoder

    loaded = TaskManager(include_path=str(folder), include_defaults=False).load(list(names))
    theirs = HFLM(pretrained=model, tokenizer=tokenizer)
    ours = Encoder(tokenizer, theirs.prefix_token_id, None)
    wrong = 0
    for task in loaded["tasks"].values():
        task.build_all_requests()
        asked = [request.args for request in task.instances]
        if task.OUTPUT_TYPE == "generate_until":
            encoded = ours.contexts(text for text, _ in asked)
            wrong += sum(
                encoded[text] != theirs.tok_batch_encode([text])[0][0].tolist() for text, _ in asked
            )
        else:
            pairs = ours.pairs(asked)
            wrong += sum(
                pair != TemplateLM._encode_pair(theirs, *each)
                for pair, each in zip(pairs, asked, strict=True)
            )
    return wrong


def exactness(ours: Any, theirs: Any) -> dict[str, Any]:
    """How the results of both sides differ."""
    ties: list[str] = []
    wrong: list[str] = []
    asked, texts, apart = 0, 0, 0.0
    for name, own in ours.items():
        other = theirs[name]
        asked += own["asked"] != other["asked"]
        if isinstance(own["answers"][0], str):
            texts += own["answers"] != other["answers"]
            continue
        scores = [[each[0] for each in side["answers"]] for side in (own, other)]
        apart = max(apart, *(abs(a - b) for a, b in zip(*scores, strict=True)))
        if own["metrics"] != other["metrics"]:
            first, second = sorted(scores[1])[-2:][::-1]
            (ties if first - second <= 2 * CLOSE else wrong).append(name)
    return {
        "documents": len(ours), "requests": asked, "texts": texts, "apart": apart,
        "near_ties": ties, "answers": wrong,
    }  # fmt: skip


def mean_distance(one: Any, other: Any) -> float:
    """How far log-probabilities are apart on average, in nats; 0 where there are none."""
    distances = [
        abs(first[0] - second[0])
        for name in one
        for first, second in zip(one[name]["answers"], other[name]["answers"], strict=True)
        if not isinstance(first, str)
    ]
    return sum(distances) / len(distances) if distances else 0.0


def changed(one: Any, other: Any) -> int:
    """How many documents have other metrics or another text."""

    def said(sample: Any) -> Any:
        texts = [each for each in sample["answers"] if isinstance(each, str)]
        return sample["metrics"], texts

    return sum(said(one[name]) != said(other[name]) for name in one)


def against_float32(ours: Any, theirs: Any, by_batch: Any, exact: Any) -> dict[str, Any]:
    """How far both sides are from float32.

    Args:
        by_batch: lm-eval's side with another batch size, which changes some documents by itself.
    """
    return {
        "changed": {
            "ours": changed(ours, exact),
            "lm-eval's": changed(theirs, exact),
            "lm-eval's, by its batch size": changed(theirs, by_batch),
        },
        "distance": {
            "ours": mean_distance(ours, exact),
            "lm-eval's": mean_distance(theirs, exact),
            "lm-eval's, by its batch size": mean_distance(theirs, by_batch),
        },
    }
