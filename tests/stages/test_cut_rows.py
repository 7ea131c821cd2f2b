"""Rows that cutting leaves nothing to learn from, and rows over the model's context: never passed
on, always counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core import registry
from harness.core.errors import DataError, HarnessError
from harness.methods.full import Full
from harness.objectives.sft import Sft
from harness.stages._fitting import fitting
from harness.stages._room import Room, within
from harness.store.stage import Record
from tests.conftest import Workspace, write_jsonl

QUICK = {"learning_rate": 1e-2, "per_device_train_batch_size": 2, "num_train_epochs": 1}
CONTEXT = 32


def rows_of(layout: str, prompt: int, answer: int, count: int) -> list[dict[str, Any]]:
    """Rows whose prompts and answers have so many characters, which are tokens."""
    asked = [f"{i:02d}" + "q" * (prompt - 2) for i in range(count)]
    said = ["a" * answer + chr(97 + i % 26) for i in range(count)]
    if layout == "text":
        return [{"text": a + b} for a, b in zip(asked, said, strict=True)]
    if layout == "preference":
        pairs = zip(asked, said, strict=True)
        return [{"prompt": a, "chosen": b, "rejected": b[1:] + "no"} for a, b in pairs]
    if layout == "unpaired":
        pairs = zip(asked, said, strict=True)
        return [
            {"prompt": a, "completion": b, "label": i % 2 == 0} for i, (a, b) in enumerate(pairs)
        ]
    return [{"prompt": a, "completion": b} for a, b in zip(asked, said, strict=True)]


def suite(
    workspace: Workspace,
    objective: dict[str, Any],
    rows: list[dict[str, Any]],
    method: Any = "full",
    **changes: Any,
) -> Workspace:
    write_jsonl(workspace.folder / "rows.jsonl", rows)
    ((name, options),) = objective.items()
    workspace.write(
        data={"rows": {"train": "rows.jsonl"}, "general": {"test": "general.jsonl"}},
        matrix={"data": ["rows"], "method": [method],
                "objective": [{name: {**QUICK, "start": "base", **options}}]},
        evaluate=["general"], scorers=["perplexity"], base={}, **changes,
    )  # fmt: skip
    return workspace


def small_model(workspace: Workspace, tiny_model: Path, **changes: Any) -> str:
    """A random model of the tiny tokenizer, whose positions are learned and end at the context."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    shape = {"vocab_size": 260, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT}
    ends = {"eos_token_id": 0, "pad_token_id": 1, "bos_token_id": None}
    folder = workspace.folder / "small"
    GPT2LMHeadModel(GPT2Config(**{**shape, **ends, **changes})).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return str(folder)


def trained(workspace: Workspace) -> Record:
    outcome = workspace.run()
    (record,) = [r for r in outcome.records.values() if r.kind == "train"]
    return record


CUT: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("prompt_completion", {}),
    "dpo": ("preference", {}),
    "dpo, precomputed": ("preference", {"precompute_ref_log_probs": True}),
    "kto": ("unpaired", {}),
}


@pytest.mark.parametrize("case", CUT)
def test_rows_that_cutting_leaves_without_an_answer_are_left_out_and_counted(
    workspace: Workspace, case: str
) -> None:
    layout, options = CUT[case]
    name = case.partition(",")[0]
    rows = [*rows_of(layout, 10, 4, 8), *rows_of(layout, 40, 4, 8)]
    cut = {name: {"overlong": "truncate", "max_length": 24, **options}}
    record = trained(suite(workspace, cut, rows))
    assert record.ok, record.error
    counts = record.metrics["rows"]
    assert (counts["given"], counts["over_length"]) == (16, 8)
    assert (counts["without_loss"], counts["trained_on"]) == (8, 8)
    assert record.metrics["steps"] == 4
    assert any("8 of 16 rows have no token in the loss" in n for n in record.metrics["notes"])


@pytest.mark.parametrize("name", ["sft", "dpo", "kto"])
def test_where_cutting_leaves_no_answer_at_all_the_fix_is_named(
    workspace: Workspace, name: str
) -> None:
    rows = rows_of(CUT[name][0], 40, 4, 8)
    cut = {name: {"overlong": "truncate", "max_length": 24}}
    told = str([record.error for record in suite(workspace, cut, rows).run().failed])
    assert "none of the 8 rows has a token in the loss" in told
    assert "raise max_length" in told


def test_an_end_that_is_kept_keeps_its_answers(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = [{"id": f"{i}", **row} for i, row in enumerate(rows_of("prompt_completion", 40, 4, 3))]
    room = Room(24, "max_length 24", "raise max_length")
    for end, left in (("keep_end", 3), ("keep_start", 0)):
        cut = Sft(overlong="truncate", max_length=24, args={"truncation_mode": end})
        if not left:
            with pytest.raises(DataError, match=r"none of the 3 rows has a token in the loss"):
                fitting(rows, tokenizer, cut, room)
            continue
        assert len(fitting(rows, tokenizer, cut, room)[0]) == left


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
def test_packed_rows_count_their_sequences_and_leave_out_those_without_loss(
    workspace: Workspace, strategy: str
) -> None:
    rows = [*rows_of("prompt_completion", 10, 4, 8), *rows_of("prompt_completion", 90, 4, 2)]
    packed = {"packing": True, "packing_strategy": strategy, "overlong": "truncate"}
    packed |= {"max_length": 40, "warmup_ratio": 0.5}
    record = trained(suite(workspace, {"sft": packed}, rows))
    assert record.ok, record.error
    steps = -(-record.metrics["sequences"] // QUICK["per_device_train_batch_size"])
    assert record.metrics["steps"] == steps < 5
    assert record.metrics["arguments"]["warmup_steps"] == -(-steps // 2)
    assert record.metrics["rows"].get("without_loss", 0) == (2 if strategy == "bfd" else 0)


def test_preview_says_what_has_nothing_in_the_loss(workspace: Workspace) -> None:
    rows = [*rows_of("prompt_completion", 10, 4, 3), *rows_of("prompt_completion", 40, 4, 2)]
    suite(workspace, {"sft": {"overlong": "truncate", "max_length": 24}}, rows)
    shown = workspace.command("data", str(workspace.path), "--store", str(workspace.store))
    assert shown.returncode == 0, shown.stderr
    assert "over max_length: 2 of 5 (truncate)" in shown.stdout
    assert "without a token in the loss, and left out: 2" in shown.stdout


@pytest.mark.parametrize("layout", ["prompt_completion", "messages"])
def test_rows_without_an_answer_teach_nothing_and_are_counted(
    workspace: Workspace, layout: str
) -> None:
    rows = rows_of("prompt_completion", 10, 4, 6)
    rows[2]["completion"] = rows[4]["completion"] = ""
    if layout == "messages":
        rows = [
            {"messages": [{"role": "user", "content": r["prompt"]},
                          {"role": "assistant", "content": r["completion"],
                           **({} if r["completion"] else {"weight": 0})}]}
            for r in rows
        ]  # fmt: skip
    record = trained(suite(workspace, {"sft": {"max_length": 64}}, rows))
    assert record.ok, record.error
    dropped = json.dumps(list(workspace.store.glob("data/*/dropped.jsonl")), default=str)
    lost = 6 - record.metrics["rows"]["given"] + record.metrics["rows"].get("without_loss", 0)
    assert lost == 2, dropped
    assert record.metrics["rows"]["trained_on"] == 4
    assert record.metrics["steps"] == 2


OVER: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("prompt_completion", {}),
    "sft, cut": ("prompt_completion", {"overlong": "truncate"}),
    "sft, packed": ("prompt_completion", {"packing": True}),
    "cpt": ("text", {}),
    "cpt, unpacked": ("text", {"packing": False}),
    "cpt, cut": ("text", {"overlong": "truncate"}),
    "dpo": ("preference", {}),
    "dpo, cut": ("preference", {"overlong": "truncate"}),
    "kto": ("unpaired", {"overlong": "truncate"}),
    "orpo": ("preference", {}),
}


@pytest.mark.parametrize("case", OVER)
def test_no_row_over_the_context_reaches_the_model(
    workspace: Workspace, tiny_model: Path, case: str
) -> None:
    """Its learned positions end there: a longer row would be an IndexError."""
    layout, options = OVER[case]
    name = case.partition(",")[0]
    rows = [*rows_of(layout, 10, 4, 6), *rows_of(layout, 10, 40, 4)]
    made = suite(
        workspace, {name: {"max_length": 1024, **options}}, rows,
        models={"tiny": small_model(workspace, tiny_model)},
    )  # fmt: skip
    record = trained(made)
    assert record.ok, record.error
    counts = record.metrics["rows"]
    assert (counts["context"], counts["max_length"]) == (CONTEXT, 1024)
    assert counts["over_length"] == 4
    assert any(
        "4 of 10 rows are over the 32 tokens that the model has room for" in n
        and "max_length is 1024" in n
        for n in record.metrics["notes"]
    )


def test_a_learned_prompt_takes_room_from_the_rows(workspace: Workspace, tiny_model: Path) -> None:
    rows = [*rows_of("prompt_completion", 10, 4, 6), *rows_of("prompt_completion", 10, 15, 2)]
    made = suite(
        workspace, {"sft": {"max_length": 64}}, rows, {"prompt_tuning": {"num_virtual_tokens": 8}},
        models={"tiny": small_model(workspace, tiny_model)},
    )  # fmt: skip
    record = trained(made)
    assert record.ok, record.error
    assert record.metrics["rows"]["context"] == CONTEXT - 8
    assert record.metrics["rows"]["over_length"] == 2


def test_where_no_row_is_over_the_context_nothing_is_said(
    workspace: Workspace, tiny_model: Path
) -> None:
    made = suite(
        workspace, {"sft": {"max_length": 1024}}, rows_of("prompt_completion", 10, 4, 6),
        models={"tiny": small_model(workspace, tiny_model)},
    )  # fmt: skip
    assert "notes" not in trained(made).metrics


LONG = [
    name
    for name in registry.names("objective")
    if "max_length" in registry.find("objective", name).model_fields
]


@pytest.mark.parametrize("name", LONG)
def test_every_objective_s_lengths_stay_within_the_context(name: str) -> None:
    from transformers import GPT2Config

    needed = {"ptx_data": "general"} if name == "ppo_ptx" else {}
    declared: Any = registry.find("objective", name)
    given = declared(max_length=64, **needed)
    capped, room = within(given, Full(), GPT2Config(n_positions=CONTEXT))
    assert capped.max_length == room.tokens == CONTEXT
    assert room.asked == 64
    assert getattr(capped, "ptx_max_length", CONTEXT) == CONTEXT
    same, open_room = within(given, Full(), GPT2Config(n_positions=128))
    assert same.max_length == open_room.tokens == 64
    assert open_room.asked is None


def test_rows_that_are_all_too_long_name_the_context(
    workspace: Workspace, tiny_model: Path
) -> None:
    made = suite(
        workspace, {"sft": {"max_length": 1024}}, rows_of("prompt_completion", 10, 40, 4),
        models={"tiny": small_model(workspace, tiny_model)},
    )  # fmt: skip
    with pytest.raises(HarnessError, match="32"):
        made.run()
