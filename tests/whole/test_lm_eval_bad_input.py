"""Models and tasks that a benchmark cannot score: each says why, and the rest is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.comparison.compare import compare
from tests import lm_tasks
from tests.conftest import Workspace
from tests.families import SPECIALS

LONG = {
    **lm_tasks.CHOICE, "doc_to_text": "{{target}}", "doc_to_target": "label",
    "doc_to_choice": "{{[endings[0] * 9, 'a', 'b', 'c']}}",
}  # fmt: skip
"""One of its choices is longer than any context here."""
TASKS = ["endings", "written", "long"]
BEGIN = SPECIALS[-1]
"""Begins texts for one of the models. No prompt has it otherwise."""
TEMPLATE = (
    "{{ bos_token or '' }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "[assistant]"
)


def models(tiny: Path, place: Path) -> dict[str, Any]:
    """The tiny model as it is, and with something odd about it."""
    for name in ("sound", "nan", "padless", "begins", "short"):
        model = AutoModelForCausalLM.from_pretrained(tiny, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(tiny)
        tokenizer.chat_template = TEMPLATE
        if name == "nan":
            with torch.no_grad():
                model.model.norm.weight.fill_(float("nan"))
        elif name == "padless":
            tokenizer.pad_token = model.config.pad_token_id = None
            model.generation_config.pad_token_id = None
        elif name == "begins":
            tokenizer = begins(tokenizer)
        elif name == "short":
            model.config.max_position_embeddings = 60
        model.save_pretrained(place / name)
        tokenizer.save_pretrained(place / name)
    return {name: str(place / name) for name in ("sound", "nan", "padless", "begins", "short")}


def begins(tokenizer: Any) -> Any:
    """It puts a token before every text, as Llama's does; its template writes the token too."""
    from tokenizers.processors import TemplateProcessing

    tokenizer.bos_token = BEGIN
    pair = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{pair[0]} $A", special_tokens=[pair]
    )
    return tokenizer


@pytest.fixture
def asked(workspace: Workspace, tiny_model: Path) -> Workspace:
    folder = workspace.folder / "tasks"
    folder.mkdir()
    lm_tasks.write(folder, 3)
    task = yaml.safe_load((folder / "endings.yaml").read_text(encoding="utf-8"))
    (folder / "long.yaml").write_text(yaml.safe_dump({**task, **LONG, "task": "long"}))
    lm = {"tasks": TASKS, "include_path": "tasks", "apply_chat_template": True}
    workspace.tree |= {
        "models": models(tiny_model, workspace.folder), "matrix": {},
        "base": {"zero-shot": {"max_new_tokens": 4}}, "scorers": [{"lm_eval": lm}],
    }  # fmt: skip
    return workspace


def test_each_cell_that_cannot_be_scored_says_why_and_the_others_are_scored(
    asked: Workspace,
) -> None:
    outcome = asked.run()
    records = {
        (each.label.split()[0], each.label.split()[-1]): each
        for each in outcome.records.values()
        if each.kind == "score"
    }
    opened = asked.open()
    table = compare(opened.plan, outcome.records, opened.store)
    verdicts = {(row.group, row.evaluation): row.verdict for row in table.rows}
    assert verdicts["zero-shot@padless", "endings"] == "all alike"
    assert ("zero-shot@short", "endings") in verdicts
    assert not {("zero-shot@nan", "endings"), ("zero-shot@short", "long")} & verdicts.keys()
    failed = {key: each.error for key, each in records.items() if not each.ok}
    assert set(failed) == {*(("nan", task) for task in TASKS), ("short", "long")}
    reasons = {key: str(error) for key, error in failed.items()}
    for task in ("endings", "long"):
        assert "12 of 12 rows have a log-probability that is not a number" in reasons["nan", task]
    assert "the model's logits are not numbers" in reasons["nan", "written"]
    assert "longer than the model's context of 60" in reasons["short", "long"]
    for task in TASKS:  # as the same weights with a pad token
        sound, padless = (records[name, task].metrics["metrics"] for name in ("sound", "padless"))
        assert sound == padless
    about = records["short", "endings"].provenance["scorer"]
    assert about["truncated"] == 12
    assert "12 requests were longer than the model's context of 60" in about["answer_notes"][0]
    (note,) = records["sound", "long"].provenance["scorer"]["answer_notes"]
    assert note.startswith("1 request was longer")
    for folder in (asked.store / "requests").iterdir():
        contexts = pq.read_table(folder / "contexts.parquet").to_pylist()
        for each in contexts:  # the template writes the token that the tokenizer would put before
            assert each["ids"].count(SPECIALS.index(BEGIN)) == each["text"].count(BEGIN) <= 1
