"""What judges answers: rules, refused where unsound, and reward models, never mixed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.compare.rows import rows_of
from harness.compare.scores import Keys, Scores
from harness.compare.statistics import Sample
from harness.errors import StageFailed
from harness.inference.rewards import answered_ids
from harness.scorers._rule import located, require_sound
from harness.scorers.win_rate import WinRate


def longer(row: Mapping[str, Any], one: str, other: str) -> int:
    """A rule: the longer answer is the better one."""
    return (len(one) > len(other)) - (len(one) < len(other))


def first(row: Mapping[str, Any], one: str, other: str) -> int:
    """A rule that looks at the place, and not at the answer."""
    return 1


def test_rule_that_goes_by_the_place_is_refused() -> None:
    asked = {"id": "7"}
    assert require_sound(longer, "longer", asked, "aa", "b") == 1
    assert require_sound(longer, "longer", asked, "a", "b") == 0
    with pytest.raises(StageFailed, match="prefers by place"):
        require_sound(first, "first", asked, "a", "b")
    with pytest.raises(StageFailed, match="no number"):
        require_sound(lambda *_: float("nan"), "odd", asked, "a", "b")


def test_a_rule_that_changed_is_another_scorer(tmp_path: Path, monkeypatch: Any) -> None:
    module = tmp_path / "house_rule.py"
    module.write_text("def f(row, one, other): return 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    before = WinRate(rule="house_rule:f").identity()
    module.write_text("def f(row, one, other): return len(one) - len(other)\n", encoding="utf-8")
    located.cache_clear()
    assert WinRate(rule="house_rule:f").identity() != before


def test_the_pocket_worlds_rule_is_its_truth() -> None:
    from suites.pocket.truth import asked, prefers

    rule = located("pocket.truth:preference").load()
    name, truth = next((n, t) for n, t in asked().items() if "deed" in t)
    texts = ("I will not help.", "You fool.", "Gladly. I will not tell you that.")
    for one in texts:
        for other in texts:
            assert rule({"id": name}, one, other) == prefers(truth, one, other)


def test_rewards_of_two_models_are_incomparable() -> None:
    keys = Keys(("a", "b", "c"), ("a", "b", "c"), ("", "", ""))
    made = {
        name: {0: {("reward", "asked"): Scores(
            keys, Sample("mean", {"value": np.array([1.0, 2.0, 3.0])}), True, "", "v", "r", judge
        )}}
        for name, judge in (("sft", "one"), ("dpo", "one"), ("ppo", "two"))
    }  # fmt: skip
    notes = {found.group: found.note for found in rows_of(made, "sft")}
    assert notes == {"sft": "", "dpo": "", "ppo": "not by the same reward model"}


def test_cut_answer_is_rewarded_without_an_end(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ends = frozenset({tokenizer.eos_token_id})
    for prompt in ("q?", [{"role": "user", "content": "q?"}]):
        asked = {"id": "1", "cluster": "1", "group": "", "prompt": prompt}
        whole = answered_ids(tokenizer, asked, "yes", ends, cut=False)
        assert whole[-1] == tokenizer.eos_token_id
        assert answered_ids(tokenizer, asked, "yes", ends, cut=True) == whole[:-1]
        said = answered_ids(tokenizer, asked, "a<|end|>b", ends, cut=True)
        assert tokenizer.decode(said).endswith("a<|end|>b")


KEYS = {"id": "1", "cluster": "1", "group": ""}


def test_a_plain_answer_is_rewarded_with_the_space_it_began_with(tiny_model: Path) -> None:
    """As the reward model was trained on it: prompt and answer are one text."""
    from transformers import AutoTokenizer

    from harness.data.render import encode
    from harness.inference.rewards import answered_ids
    from harness.scorers.base import Prediction
    from harness.scorers.reward import _written

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    row = {**KEYS, "prompt": "The town:", "chosen": " Orla", "rejected": " Selby"}
    said = Prediction("1", "1", "", row["prompt"], "Orla", (), finish="eos", raw=" Orla \n")
    ends = frozenset([tokenizer.eos_token_id])
    trained, _ = encode(tokenizer, row)
    assert answered_ids(tokenizer, row, _written(row, said), ends, cut=False) == trained
    chat = {**KEYS, "prompt": [{"role": "user", "content": "The town?"}]}
    assert _written(chat, said) == "Orla"
