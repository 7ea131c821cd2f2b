"""Requests that were written and read again are lm-eval's own, text by text and token by token."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.model import LM
from transformers import AutoTokenizer

from harness.inference.lm_text import Encoder, prefix_of
from harness.scorers import _lm_eval_requests as requests
from harness.scorers._lm_eval import _set, _template
from harness.scorers._lm_eval_index import Index
from harness.scorers._lm_eval_tasks import build_requests, load_tasks, run_tasks
from harness.scorers.lm_eval import LmEval
from tests import lm_tasks


class Drawn(LM):
    """A model that answers at random, the same each time."""

    tokenizer_name = "drawn"

    def __init__(self, template: Any) -> None:
        super().__init__()
        self._random, self.apply_chat_template = random.Random(0), template

    def loglikelihood(self, requests: Any) -> list[tuple[float, bool]]:
        return [(-self._random.uniform(1, 20), self._random.random() < 0.3) for _ in requests]

    def loglikelihood_rolling(self, requests: Any) -> list[float]:
        return [-self._random.uniform(10, 200) for _ in requests]

    def generate_until(self, requests: Any) -> list[str]:
        return [self._random.choice(lm_tasks.WORDS) for _ in requests]


def unheard(done: int, total: int, note: str) -> None:
    """Nobody is told."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lm_tasks.write(tmp_path_factory.mktemp("tasks"), 5)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    return tokenizer


def loaded(scorer: LmEval, folder: Path) -> dict[str, Any]:
    (name,) = scorer.tasks
    parts = load_tasks([name], Index(folder), {}, allow_code=False)
    _set(scorer, parts["tasks"])
    return parts


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("name", lm_tasks.names())
def test_what_was_kept_is_what_lm_eval_builds(
    name: str, chat: bool, folder: Path, tokenizer: Any, tmp_path: Path
) -> None:
    scorer = LmEval(tasks=[name], limit=3, apply_chat_template=chat)
    whole = loaded(scorer, folder)
    template = _template(tokenizer) if chat else None
    how = {"apply_chat_template": chat, "fewshot_as_multiturn": chat}
    build_requests(
        whole["tasks"], unheard, limit=3, chat_template=template, system_instruction=None,
        fewshot_as_multiturn=chat,
    )  # fmt: skip
    encoder = Encoder(tokenizer, prefix_of(tokenizer), None)
    figures = requests.write(tmp_path, whole["tasks"], encoder)
    stored, known = requests.read(tmp_path)
    assert figures["requests"] == sum(len(kept.instances) for kept in stored.values())
    for task, kept in stored.items():
        built = whole["tasks"][task].instances
        assert [vars(each) for each in kept.instances] == [vars(each) for each in built]
        assert kept.total == 5
        args = [each.args for each in built]
        kind = built[0].request_type
        if kind == "loglikelihood":
            assert known(tokenizer).pairs(args) == encoder.pairs(args)
        elif kind == "generate_until":
            texts = [context for context, _ in args]
            assert known(tokenizer).contexts(texts) == encoder.contexts(texts)
        else:
            texts = [text for (text,) in args]
            assert known(tokenizer).encode_all(texts) == encoder.encode_all(texts)
    with requests.without_data(stored):
        again = loaded(scorer, folder)
        requests.restore(again["tasks"], stored)
        restored = run_tasks(Drawn(template), again, name, **how)
    direct = run_tasks(Drawn(template), loaded(scorer, folder), name, limit=3, **how)
    assert restored["results"] == direct["results"]
    assert restored["samples"] == direct["samples"]


def test_a_task_of_pictures_is_refused(folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    scorer = LmEval(tasks=["last_word"], limit=1)
    whole = loaded(scorer, folder)
    build_requests(
        whole["tasks"], unheard, limit=1, chat_template=None, system_instruction=None,
        fewshot_as_multiturn=False,
    )  # fmt: skip
    whole["tasks"]["last_word"].MULTIMODAL = True
    with pytest.raises(Exception, match="pictures or sounds"):
        requests.write(tmp_path, whole["tasks"], Encoder(tokenizer, prefix_of(tokenizer), None))
