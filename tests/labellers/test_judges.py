"""What judges answers: rules, refused where unsound, and reward models, never mixed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from harness.comparison.rows import rows_of
from harness.comparison.scores import Keys, Scores
from harness.comparison.statistics import Sample
from harness.core.errors import StageFailed, SuiteError
from harness.core.files import digest_file
from harness.core.locate import package_suites
from harness.data.preference_rule import digest_rule, find_rule, load_rule, sound
from harness.data.render import encode
from harness.inference.rewards import answered_ids, rewards
from harness.labellers import reward as labelling
from harness.labellers.base import Contest, LabelJob
from harness.scorers.base import LoadedModel, Prediction, ScoreJob
from harness.scorers.reward import Reward
from harness.scorers.win_rate import WinRate
from tests.conftest import Workspace


def longer(row: Mapping[str, Any], one: str, other: str) -> int:
    """A rule: the longer answer is the better one."""
    return (len(one) > len(other)) - (len(one) < len(other))


def first(row: Mapping[str, Any], one: str, other: str) -> int:
    """A rule that looks at the place, and not at the answer."""
    return 1


def test_rule_that_goes_by_the_place_is_refused() -> None:
    asked = {"id": "7"}
    rule = sound(longer, "longer")
    assert [rule(asked, "aa", "b"), rule(asked, "a", "b"), rule(asked, "", "b")] == [1, 0, -1]
    assert sound(lambda *_: None, "unknown")(asked, "a", "b") is None
    with pytest.raises(StageFailed, match="depends on the order"):
        sound(first, "first")(asked, "a", "b")
    with pytest.raises(StageFailed, match="depends on the order"):
        sound(lambda _, one, __: 0 if one == "a" else None, "half")(asked, "a", "b")
    for said in (float("nan"), "one", True):
        with pytest.raises(StageFailed, match="not a number"):
            sound(lambda *_, said=said: said, "odd")(asked, "a", "b")


def test_scorer_and_labels_name_one_rule_in_one_way(aligned: Workspace) -> None:
    """A file beside the suite, found alike, and part of the identity by its content."""
    (aligned.folder / "house.py").write_text("from test_judges import longer\n", encoding="utf-8")
    named = "house.py:longer"
    aligned.tree["matrix"] = {"data": ["preferences"], "method": ["full"]}
    aligned.tree["matrix"]["objective"] = [{"rlaif": {"truth": named, "max_new_tokens": 4}}]
    aligned.tree["data"]["preferences"]["test"] = "preferences.jsonl"
    scorers = ["exact_match", {"win_rate": {"rule": named}}]

    def asked() -> dict[str, Any]:
        planned = aligned.open().plan.stages()
        scored = [s for s in planned if s.config.get("scorer", {}).get("name") == "win_rate"]
        (told,) = {json.dumps(s.config["scorer"]["rule"]) for s in scored}
        labelled = [s.config["truth"] for s in planned if "truth" in s.config]
        assert labelled == [json.loads(told)]
        return cast(dict[str, Any], labelled[0])

    aligned.write(scorers=scorers, evaluate=["preferences"])
    before = asked()
    (aligned.folder / "house.py").write_text("longer = None\n", encoding="utf-8")
    assert asked() != before


def planned(folder: Path, named: str = "rule.py:better") -> dict[str, str]:
    return find_rule(named, folder / "suite.yaml", digest_file, "here")[1]


def test_rule_is_all_that_its_file_imports_from_beside_it(tmp_path: Path) -> None:
    files = {
        "rule.py": "from .helper import sign as better\n",
        "helper.py": "from . import words\n\ndef sign(_, *both):\n    return words.longer(*both)\n",
        "words/__init__.py": "from .size import longer\n",
        "words/size.py": "def longer(one, other):\n    return len(one) - len(other)\n",
    }
    (tmp_path / "words").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    first, rule = planned(tmp_path), tmp_path / "rule.py"
    assert load_rule(rule, first)({"id": "1"}, "aa", "b") == 1
    for name, text in files.items():
        (tmp_path / name).write_text(f"# changed\n{text}", encoding="utf-8")
        assert planned(tmp_path) != first, name
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "aside.py").write_text("better = None\n", encoding="utf-8")
    assert planned(tmp_path) == first
    shorter = "def longer(one, other):\n    return -len(one) + len(other)\n"
    (tmp_path / "words/size.py").write_text(shorter, encoding="utf-8")
    with pytest.raises(StageFailed, match="has changed since it was planned"):
        load_rule(rule, first)
    assert load_rule(rule, planned(tmp_path))({"id": "1"}, "aa", "b") == -1


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("rule.py", "def bettr(*_): ...\n", "did you mean 'bettr'"),
        ("rule.py", "def outer():\n    def better(*_): ...\n", "unknown function 'better'"),
        ("rule.py", "import json\ndef better(:\n", "line 2, is not Python"),
        ("my.rule.py", "def better(*_): ...\n", "rename it, such as my_rule.py"),
    ],
)
def test_rule_that_could_not_be_loaded_is_refused_when_planned(
    tmp_path: Path, file: str, text: str, told: str
) -> None:
    (tmp_path / file).write_text(text, encoding="utf-8")
    with pytest.raises(SuiteError, match=told):
        planned(tmp_path, f"{file}:better")


@pytest.mark.parametrize(
    "text",
    ["better = max", "from json import loads as better", "if 1:\n    better: int = 1",
     "from json import *", "class better: ...", "for better in (max, min): ..."],
)  # fmt: skip
def test_rule_may_come_by_its_name_in_any_way(tmp_path: Path, text: str) -> None:
    (tmp_path / "rule.py").write_text(text + "\n", encoding="utf-8")
    assert planned(tmp_path)["function"] == "better"


def test_the_pocket_worlds_rule_is_its_truth() -> None:
    from suites.pocket.truth import asked, prefers

    path = package_suites() / "pocket" / "truth.py"
    rule = load_rule(path, {"sha256": digest_rule(path), "function": "better"})
    name, truth = next((n, t) for n, t in asked().items() if "deed" in t)
    texts = ("I will not help.", "You fool.", "Gladly. I will not tell you that.")
    for one in texts:
        for other in texts:
            assert rule({"id": name}, one, other) == prefers(truth, one, other)


def test_win_rate_needs_a_rule_that_knows_every_row() -> None:
    made = [Prediction(n, n, "", "", text, ()) for n, text in (("x", "aa"), ("y", "b"))]
    start = [Prediction(n, n, "", "", "a", ()) for n in "xy"]
    rows = [{"id": "x"}, {"id": "y"}]
    asked = {"answers": made, "start": start, "rows": rows}
    job = ScoreJob({**asked, "rule": sound(longer, "longer")})
    scorer = WinRate(rule="house.py:longer")
    assert [line["win_rate"] for line in scorer.score_job(job)] == [1.0, 0.5]
    partly = ScoreJob({**asked, "rule": lambda row, *_: 1 if row["id"] == "x" else None})
    with pytest.raises(StageFailed, match="row y"):
        scorer.score_job(partly)


def test_rewards_of_two_models_are_incomparable() -> None:
    keys = Keys(("a", "b", "c"), ("a", "b", "c"), ("", "", ""))
    made = {
        name: {0: {("reward", "asked"): Scores(
            keys, Sample("mean", {"value": np.array([1.0, 2.0, 3.0])}), True, "", "v", "r", judge
        )}}
        for name, judge in (("sft", "one"), ("dpo", "one"), ("ppo", "two"))
    }  # fmt: skip
    notes = {found.group: found.note for found in rows_of(made, "sft")}
    same = "no interval: on average no example differs"
    assert notes == {"sft": "", "dpo": same, "ppo": "not by the same reward model"}


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
    assert answered_ids(tokenizer, row, _written(tokenizer, row, said), ends, cut=False) == trained
    chat = {**KEYS, "prompt": [{"role": "user", "content": "The town?"}]}
    assert _written(tokenizer, chat, said) == "Orla"


def rewarder(tiny_model: Path, dtype: str, context: int = 256) -> tuple[Any, Any]:
    """A random reward model whose chats end in a line break after the end of an answer."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_model, num_labels=1, dtype=getattr(torch, dtype)
    ).eval()
    model.config.max_position_embeddings = context
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    template = tokenizer.chat_template
    tokenizer.chat_template = template.replace("{% endgeneration %}", "{% endgeneration %}\n")
    return model, tokenizer


ASKED = [[{"role": "user", "content": "q?"}], [{"role": "user", "content": "a longer one?"}]]
SAID = ["yes", "no, and at some length"]


def said_by_policy(model: Any, tokenizer: Any, prompts: list[Any]) -> Any:
    """PPO's scores of the answers, as tokens that a policy wrote and ended."""
    from harness.data.render import asked_ids
    from harness.objectives._ppo.models import scorer

    rows = [{**KEYS, "prompt": prompt} for prompt in prompts]
    job = SimpleNamespace(
        model=model, reward_model=model, reward_tokenizer=None, tokenizer=tokenizer, rows=rows,
        device="cpu",
    )  # fmt: skip
    answers = [
        [*tokenizer(text=text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        for text in SAID
    ]
    asked = [asked_ids(tokenizer, row) for row in rows]
    return scorer(cast(Any, job), 1, 4096)(asked, answers)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("plain", [False, True])
def test_labeller_scorer_and_policy_are_given_the_same_reward(
    tiny_model: Path, dtype: str, plain: bool
) -> None:
    model, tokenizer = rewarder(tiny_model, dtype)
    prompts: list[Any] = ["q?", "a longer one?"] if plain else ASKED
    rows = [{**KEYS, "prompt": prompt} for prompt in prompts]
    predictions = [Prediction("1", "1", "", "", text, (), finish="eos", raw=text) for text in SAID]
    judge = LoadedModel(model, tokenizer)
    job = ScoreJob({"answers": predictions, "rows": rows, "reward_model": judge})
    scored = [line["reward"] for line in Reward().score_job(job)]
    assert abs(scored[0] - scored[1]) > 1e-4
    assert said_by_policy(model, tokenizer, prompts).tolist() == scored
    shaped = SAID if plain else [[{"role": "assistant", "content": text}] for text in SAID]
    for prompt in prompts:  # one against the other answer to each prompt
        sides = [encode(tokenizer, {"prompt": prompt, "chosen": side})[0] for side in shaped]
        one, other = rewards(model, 1, sides, 4096)
        assert one is not None
        assert other is not None
        contest = LabelJob([Contest(prompt, *shaped)], lambda *_: None, Path(), model, tokenizer)
        (said,) = labelling.Reward().label(contest)
        assert said == pytest.approx(1 / (1 + math.exp(other - one)), abs=1e-9)
    first = encode(tokenizer, {"prompt": prompts[0], "chosen": shaped[0]})[0]
    rounding = 1e-6 if dtype == "float32" else 1e-2  # it stands alone in its batch
    assert rewards(model, 1, [first], 4096) == pytest.approx(scored[:1], abs=rounding)


def test_what_is_too_long_for_the_reward_model_is_counted_wherever_it_reads(
    tiny_model: Path,
) -> None:
    """A label of it is none, a score of it is of its end, and PPO refuses it before it trains."""
    model, tokenizer = rewarder(tiny_model, "float32", context=24)
    answers = [[{"role": "assistant", "content": text}] for text in SAID]
    work = LabelJob([Contest(ASKED[1], *answers)], lambda *_: None, Path(), model, tokenizer)
    assert labelling.Reward().label(work) == ["too long for the labeller's context"]
    rows = [{**KEYS, "prompt": prompt} for prompt in ASKED]
    predictions = [
        Prediction(name, name, "", "", text, (), finish="eos")
        for name, text in zip("xy", SAID, strict=True)
    ]
    judge = LoadedModel(model, tokenizer)
    job = ScoreJob({"answers": predictions, "rows": rows, "reward_model": judge})
    scorer = Reward()
    assert all(math.isfinite(row["reward"]) for row in scorer.score_job(job))
    (note,) = scorer.provenance()["answer_notes"]
    assert note.startswith("1 of 2 answers are longer with their prompts than the reward model's")
    with pytest.raises(StageFailed, match=r"1 of 2 prompts.*answer 1"):
        said_by_policy(model, tokenizer, ASKED)
