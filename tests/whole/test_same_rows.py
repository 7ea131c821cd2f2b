"""Every variant is scored on the same rows, whatever is run of the suite and whoever scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import comparison as compare
from harness.core.errors import SuiteError
from harness.planning.checks import length_notes
from harness.scheduling.schedule import Outcome
from harness.scorers.base import LoadedModel, Prediction, ScoreJob
from harness.scorers.reward import Reward
from harness.store.stage import Record
from tests.conftest import PPO, SFT, Workspace, chat_rows, write_jsonl
from tests.families import TEMPLATE, byte_tokenizer

LONG = {"id": "long", "messages": [{"role": "user", "content": "x" * 250},
                                   {"role": "assistant", "content": "b"}]}  # fmt: skip
"""With a context of 256 it leaves room for 4 new tokens, and for no learned prompt."""
SYSTEM = {"role": "system", "content": "s"}
PICKY = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"


def give(workspace: Workspace, rows: list[dict[str, Any]], **split: Any) -> None:
    """The rows that are asked."""
    write_jsonl(workspace.folder / "test.jsonl", rows)
    letters = {"train": "train.jsonl", "test": {"path": "test.jsonl", **split}}
    workspace.write(data={**workspace.tree["data"], "letters": letters})


def counted(outcome: Outcome, kind: str) -> dict[str, int]:
    """Label -> rows, of the stages of a kind."""
    assert not outcome.failed, [record.error for record in outcome.failed]
    return {r.label: r.metrics["rows"] for r in outcome.records.values() if r.kind == kind}


def without_training(outcome: Outcome) -> dict[str, Record]:
    return {key: r for key, r in outcome.records.items() if r.kind in ("generate", "score")}


def test_a_part_of_a_suite_is_asked_the_rows_that_the_whole_of_it_is(workspace: Workspace) -> None:
    prompts = {"prompt_tuning": {"num_virtual_tokens": 2}}
    workspace.write(
        matrix={"method": ["lora", prompts], "objective": [{"sft": SFT}]}, scorers=["exact_match"]
    )
    give(workspace, [*chat_rows(100, 3), LONG])
    part = workspace.run(only="lora*")
    assert counted(part, "generate") == {"zero-shot on letters": 3, "lora-sft on letters": 3}
    whole = workspace.run()
    assert set(counted(whole, "generate").values()) == {3}
    assert without_training(part).keys() <= without_training(whole).keys()


def test_a_variant_whose_model_is_not_here_has_no_say_and_that_is_told(
    workspace: Workspace,
) -> None:
    models = {**workspace.tree["models"], "other": "/nowhere/at/all"}
    workspace.write(
        models=models, matrix={"model": ["tiny", "other"], "method": ["lora"],
                               "objective": [{"sft": SFT}]},
        base={}, baseline="lora-sft-tiny",
    )  # fmt: skip
    (told,) = [w for w in workspace.open(only="lora-sft-tiny").plan.warnings if "no say" in w]
    assert told.startswith("lora-sft-other, which --only leaves out, has no say in which rows")
    assert "/nowhere/at/all" in told


def test_models_are_scored_on_rows_that_every_template_writes(
    workspace: Workspace, tiny_model: Path
) -> None:
    (workspace.folder / "picky.jinja").write_text(PICKY + TEMPLATE)
    picky = {"path": str(tiny_model), "chat_template": "picky.jinja"}
    workspace.write(
        models={"tiny": str(tiny_model), "picky": picky}, matrix={}, evaluate=["letters"],
        base={"zero-shot": {"max_new_tokens": 2}}, scorers=[{"perplexity": {"data": "letters"}}],
    )  # fmt: skip
    rows = chat_rows(100, 4)
    odd = {**rows[3], "messages": [SYSTEM, *rows[3]["messages"]]}
    give(workspace, [*rows[:3], odd])
    outcome = workspace.run()
    assert counted(outcome, "score") == {
        "tiny perplexity on letters": 3,
        "picky perplexity on letters": 3,
    }
    opened = workspace.open()
    notes = compare.compare(opened.plan, outcome.records, opened.store).notes
    assert (
        sum(note.startswith("data.letters.test: 1 of 4 rows are left out") for note in notes) == 1
    )
    give(workspace, [*rows[:3], odd], unusable="error")
    with pytest.raises(SuiteError, match=r"row row-103 \(number 3\): the chat template refuses it"):
        workspace.run()


def test_prompts_over_max_tokens_are_asked_of_no_variant(workspace: Workspace) -> None:
    workspace.write(matrix={}, evaluate=["letters"], scorers=["exact_match"])
    give(workspace, [*chat_rows(100, 3), LONG], max_tokens=100)
    assert counted(workspace.run(), "generate") == {"zero-shot on letters": 3}
    (told,) = length_notes(workspace.open().plan)
    assert "1 of 4 prompts do not fit (up to 252 tokens, and max_tokens is 100)" in told
    give(workspace, [*chat_rows(100, 3), LONG], max_tokens=100, overlong="truncate_left")
    assert counted(workspace.run(), "generate") == {"zero-shot on letters": 4}
    letters = {"train": {"path": "train.jsonl", "max_tokens": 9}, "test": "test.jsonl"}
    workspace.write(data={**workspace.tree["data"], "letters": letters})
    with pytest.raises(SuiteError, match=r"max_length: 512}`\): put it under `test:`"):
        workspace.open()


def test_rows_of_other_data_that_a_template_refuses_are_counted(aligned: Workspace) -> None:
    (aligned.folder / "picky.jinja").write_text(PICKY + TEMPLATE)
    path = aligned.tree["models"]["tiny"]
    rows = chat_rows(0, 4)
    odd = {**rows[3], "messages": [SYSTEM, *rows[3]["messages"]]}
    write_jsonl(aligned.folder / "more.jsonl", [*rows[:3], odd])
    aligned.write(
        models={"tiny": {"path": path, "chat_template": "picky.jinja"}},
        data={**aligned.tree["data"], "more": {"train": "more.jsonl"}},
        matrix={"data": ["letters"], "method": [{"lora": {"r": 4}}],
                "objective": [{"sft": SFT}, {"ppo_ptx": {**PPO, "ptx_data": "more"}}]},
    )  # fmt: skip
    outcome = aligned.run(only="lora-ppo_ptx")
    assert not outcome.failed, [record.error for record in outcome.failed]
    (made,) = [r.metrics for r in outcome.records.values() if r.label == "lora-ppo_ptx"
               and r.kind == "train"]  # fmt: skip
    assert made["rows"]["pretraining"] == {
        "given": 4,
        "unusable": {"the chat template refuses it: no system": 1},
    }
    (note,) = [note for note in made["notes"] if "rows of pretraining" in note]
    assert note.startswith("1 of 4 rows of pretraining are left out: the chat template refuses it")


def test_answers_over_the_reward_models_context_are_read_without_the_prompts_beginning() -> None:
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=32, num_labels=1, pad_token_id=1,
        )
    ).eval()  # fmt: skip
    rows = [{"id": name, "prompt": text, "completion": "x", "cluster": name, "group": ""}
            for name, text in (("short", "abc?"), ("long", "z" * 60 + "abc?"))]  # fmt: skip
    answers = [Prediction(row["id"], row["id"], "", row["prompt"], "fine", ()) for row in rows]
    scorer = Reward()
    found = scorer.score_job(
        ScoreJob({"answers": answers, "rows": rows, "reward_model": LoadedModel(model, tokenizer)})
    )
    assert len(found) == 2
    assert scorer.provenance()["answer_notes"] == [
        "1 of 2 answers are longer with their prompts than the reward model's context of 32 tokens,"
        " and were read without the oldest tokens of the prompt"
    ]
