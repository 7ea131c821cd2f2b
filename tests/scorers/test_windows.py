"""Long texts in windows: how much stands before a token, and bits for each byte."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.aggregate import AGGREGATES
from harness.core.errors import ModelError
from harness.inference.likelihood import _windows, window_of
from harness.scorers.base import LoadedModel, ScoreJob, Scorer
from harness.scorers.bits_per_byte import BitsPerByte
from harness.scorers.kl import Kl
from harness.scorers.perplexity import Perplexity

LONG = "many words of a text that is longer than what the model reads at once, " * 9


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> tuple[Any, Any]:
    """A model of 256 places, and a tokenizer that gives each byte a token and has no BOS."""
    from harness.models.files import ModelRef

    ref = ModelRef(str(tiny_model), "float32", "cpu")
    return ref.load(), ref.tokenizer()


def score(scorer: Scorer, loaded: tuple[Any, Any], *rows: dict[str, Any]) -> list[Any]:
    given_ = [{"id": str(i), "cluster": "", "group": "", **row} for i, row in enumerate(rows)]
    model = LoadedModel(*loaded)
    return scorer.score_job(ScoreJob({"model": model, "base": model, "rows": given_}))


@settings(max_examples=60, deadline=None)
@given(length=st.integers(2, 12), share=st.floats(0.05, 1), size=st.integers(2, 60),
       start=st.integers(0, 30))  # fmt: skip
def test_every_token_has_the_promised_context(
    length: int, share: float, size: int, start: int
) -> None:
    stride, start = max(1, int(length * share)), min(start, size - 1)
    for window in _windows(list(range(size)), start, length, stride):
        first = len(window.ids) - window.count
        for place, token in enumerate(window.ids[first:], first):
            assert place >= min(token, length - stride)


@settings(max_examples=60, deadline=None)
@given(context=st.integers(2, 4096), length=st.integers(2, 4096), share=st.floats(0.01, 1))
def test_a_context_cuts_window_and_stride_by_the_same_share(
    context: int, length: int, share: float
) -> None:
    stride = max(1, int(length * share))
    window, step = window_of(context, length, stride)
    assert window == min(context, length)
    assert 1 <= step <= window
    assert step / window <= stride / length or step == 1
    if length <= context:
        assert step == stride
    assert window_of(None, length, stride) == (length, stride)


@pytest.mark.parametrize("scorer", [Perplexity, Kl, BitsPerByte])
def test_the_default_is_half_a_window_in_a_short_context_too(
    loaded: tuple[Any, Any], scorer: Any
) -> None:
    found = score(scorer(), loaded, {"text": LONG})
    assert found == score(scorer(max_length=256, stride=128), loaded, {"text": LONG})
    if scorer is not Kl:  # of a model with itself there is none
        apart = score(scorer(max_length=256, stride=256), loaded, {"text": LONG})
        assert found[0]["nll"] != apart[0]["nll"]


def by_hand(loaded: tuple[Any, Any], ids: list[int], length: int) -> float:
    """Nats of all tokens but the first, in parts of so many, each after the one token before it;
    lm-eval's rolling windows are these, up to the last."""
    import torch

    model, total = loaded[0], 0.0
    for begin in range(0, len(ids) - 1, length):
        part = torch.tensor([ids[begin : begin + length + 1]])
        with torch.no_grad():
            likely = model(input_ids=part[:, :-1]).logits[0].double().log_softmax(-1)
        total -= float(likely.gather(1, part[0, 1:, None]).sum())
    return total


def bits(rows: list[dict[str, Any]]) -> float:
    import numpy as np

    sums = {name: np.asarray(sum(row[name] for row in rows)) for name in ("nll", "bytes")}
    return float(AGGREGATES["bits_per_byte"].compute({**sums, "n": np.asarray(len(rows))}))


def test_bits_per_byte_is_lm_evals(loaded: tuple[Any, Any]) -> None:
    """Of texts: total nats / ln 2 / UTF-8 bytes, after the token that ends texts (no BOS here)."""
    _, tokenizer = loaded
    texts = ["a short text", "Grüße, 世界 🙂", "x"]
    found = score(BitsPerByte(), loaded, *({"text": text} for text in texts))
    nats = [
        by_hand(loaded, [tokenizer.eos_token_id, *tokenizer(text=text)["input_ids"]], 512)
        for text in texts
    ]
    size = sum(len(text.encode()) for text in texts)
    assert [row["nll"] for row in found] == pytest.approx(nats, rel=1e-5)
    assert bits(found) == pytest.approx(sum(nats) / math.log(2) / size, rel=1e-5)


def test_windows_that_overlap_in_one_token_are_scored_after_it(loaded: tuple[Any, Any]) -> None:
    ids = [loaded[1].eos_token_id, *loaded[1](text=LONG)["input_ids"]]
    (row,) = score(BitsPerByte(max_length=65, stride=64), loaded, {"text": LONG})
    assert row["nll"] == pytest.approx(by_hand(loaded, ids, 64), rel=1e-5)


def test_bits_of_an_answer_are_over_the_answers_bytes(loaded: tuple[Any, Any]) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "é?"}, {"role": "assistant", "content": "zü"}]},
        {"prompt": "é?", "completion": " zü"},
        {"prompt": "é?", "chosen": "zü", "rejected": "a long other one"},
    ]
    found = score(BitsPerByte(), loaded, *rows)
    likely = score(Perplexity(), loaded, *rows)
    assert [row["bytes"] for row in found] == [3.0, 4.0, 3.0]
    assert [row["nll"] for row in found] == [row["nll"] for row in likely]


def test_a_tokenizer_without_a_token_to_begin_with_is_told(loaded: tuple[Any, Any]) -> None:
    import copy

    model, tokenizer = loaded
    bare = copy.deepcopy(tokenizer)
    bare.eos_token = None
    with pytest.raises(ModelError, match="begins or ends a sequence"):
        score(BitsPerByte(), (model, bare), {"text": "a"})


@pytest.mark.real
def test_real_text_needs_context_before_its_tokens(real_data: Path) -> None:
    """The default on a context of 512 is 512 by 256, which reads more than 512 by 512 does."""
    from harness.models.files import ModelRef

    ref = ModelRef(str(real_data / "models" / "stories260K"), "float32", "cpu")
    loaded = ref.load(), ref.tokenizer()
    text = (real_data / "text" / "tinyshakespeare" / "input.txt").read_text()[:4000]
    default, half, whole = (
        score(scorer, loaded, {"text": text})[0]["nll"]
        for scorer in (Perplexity(), Perplexity(max_length=512, stride=256),
                       Perplexity(max_length=512, stride=512))
    )  # fmt: skip
    assert default == half < whole


def test_short_and_empty_texts_have_no_likelihood_and_do_no_harm(loaded: tuple[Any, Any]) -> None:
    for texts in (("",), ("a",), ("", "a", "abc")):
        found = score(Perplexity(), loaded, *({"text": text} for text in texts))
        assert [row["tokens"] for row in found] == [max(0, len(text) - 1) for text in texts]
    whole = score(BitsPerByte(), loaded, {"text": ""}, {"text": "a"})
    assert [row["bytes"] for row in whole] == [0.0, 1.0]
    assert math.isnan(bits(whole[:1]))
    assert bits(whole) == pytest.approx(whole[1]["nll"] / math.log(2))
