"""Every published chat template: one rendering for training and generation, and exact masks."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from jinja2.exceptions import TemplateError

from harness.data.chat import render
from harness.data.chat_style import end_of_turn_ids
from harness.data.render import asked_ids, encoded, prompt_ids
from harness.objectives._trl import dpo as _dpo
from harness.objectives._trl import sft as _sft
from harness.objectives.base import TrainJob
from harness.objectives.dpo import Dpo
from harness.objectives.sft import Sft
from harness.stages._audit_answers import answers_fault
from harness.stages._stand_in import stand_in
from tests.chat_templates import (
    ASKED,
    CONVERSATIONS,
    END,
    FOLDER,
    WITHOUT_TEXT,
    answer_spans,
    names,
    of_family,
    tokenizer_of,
    tokenizer_with,
)
from tests.conftest import Workspace, write_jsonl

FAMILIES = ("cohere2", "deepseek_r1_distill", "gemma4_v5", "glm4moe", "gptoss", "llama3", "phi3",
            "qwen2_5_training", "qwen3", "qwen3_5_think")  # fmt: skip
"""One of each kind, for every day."""
REFUSED = {
    "cohere": {"tool call", "a call as the answer"},
    "deepseek_r1": {"tool call", "a call as the answer"},
    "gemma3": {"tool call", "a call as the answer"},
    "gemma4": set(), "diffusion": set(),
    "gemma": {"system", "tool call", "a call as the answer"},
    "lfm2_2_5": set(), "lfm2_v2": set(), "qwen2_5_vl": {"tool call", "a call as the answer"},
    "lfm2": {"tool call", "a call as the answer"},
    "llama3_1": set(), "llama3_2": set(), "llama3": {"tool call", "a call as the answer"},
    "phi3": {"tool call", "a call as the answer"},
}  # fmt: skip
"""Family -> what its template does not take, or would leave out in silence."""

tokenizer = functools.cache(tokenizer_of)


def rows(name: str) -> dict[str, dict[str, Any]]:
    """A row of each conversation that a family's template takes."""
    refused = next((kinds for family, kinds in REFUSED.items() if name.startswith(family)), set())
    return {
        kind: {"id": kind, "messages": messages}
        for kind, messages in CONVERSATIONS.items()
        if kind not in refused
    }


def require_exact(name: str, row: dict[str, Any], ids: list[int], trained: list[bool]) -> None:
    """The tokens in the loss are exactly the assistant's words and the ends of its turns."""
    pieces = [tokenizer(name).decode([token]) for token in ids]
    text, found, place = "".join(pieces), [], 0
    for piece, own in zip(pieces, trained, strict=True):
        if own and found and found[-1][1] == place:
            found[-1] = (found[-1][0], place + len(piece))
        elif own:
            found.append((place, place + len(piece)))
        place += len(piece)
    wanted = answer_spans(name, row["messages"], text)
    assert [end for _, end in found] == [end for _, end in wanted]
    for (start, end), (after, _) in zip(found, wanted, strict=True):
        assert after <= start < end, text[start:end]
        assert text[after:start] in ASKED


def test_no_template_is_left_out_but_those_that_take_no_text() -> None:
    left = {path.stem.removesuffix("_training") for path in FOLDER.glob("*.jinja")}
    assert left - {name.removesuffix("_training") for name in names()} == set(WITHOUT_TEXT)
    for name in WITHOUT_TEXT:
        template = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
        assert "image" in template


@pytest.mark.parametrize("name", names())
def test_the_end_of_a_turn_is_learnt_from_the_template(name: str) -> None:
    ends = set(tokenizer(name).convert_ids_to_tokens(sorted(end_of_turn_ids(tokenizer(name)))))
    wanted = of_family(name, END)
    assert wanted in ends
    assert ends - {wanted} <= {"<|call|>", "<|observation|>", "<|tool_response>"}


@pytest.mark.parametrize("name", names())
def test_training_is_on_the_answers_and_generation_asks_what_stood_before(name: str) -> None:
    found = rows(name)
    for kind in CONVERSATIONS.keys() - found.keys():
        with pytest.raises(TemplateError):
            encoded(tokenizer(name), {"messages": CONVERSATIONS[kind]})
    for row in found.values():
        own = encoded(tokenizer(name), row)
        require_exact(name, row, own.ids, own.trained)
        told = render(tokenizer(name), row["messages"][:-1], add_generation_prompt=True)
        asked = tokenizer(name)(told, add_special_tokens=False)["input_ids"]
        assert own.ids[: own.prompt] == asked
        assert prompt_ids(tokenizer(name), row, [], {"apply_chat_template": True}) == asked
        assert all(own.trained[own.prompt : own.end])
        assert not any(own.trained[own.end :])
        assert own.answer[-1] in end_of_turn_ids(tokenizer(name))


@pytest.mark.parametrize("name", names())
def test_the_audit_agrees_on_what_is_in_the_loss(name: str) -> None:
    for row in rows(name).values():
        own = encoded(tokenizer(name), row)
        places = {i for i, learnt in enumerate(own.trained) if learnt}
        assert answers_fault(tokenizer(name), row, own.ids, places, cut=False) is None
        last = max(places)
        for wrong in (places - {last}, places | {own.prompt - 1}, set(range(len(own.ids))), set()):
            assert answers_fault(tokenizer(name), row, own.ids, wrong, cut=False)


def job(name: str, given: list[dict[str, Any]], folder: Path) -> TrainJob:
    return TrainJob(
        model=stand_in(), tokenizer=tokenizer(name), rows=list(given), validation=[],
        checkpoints=folder, step_log=folder / "steps", seed=0, data_seed=0, dtype="float32",
        device="cpu", checkpoint_seconds=60.0, report_to=[], label="", progress=lambda *_: None,
    )  # fmt: skip


def require_trainers_agree(name: str, folder: Path) -> None:
    """What SFT and DPO collate is what the encoder says."""
    found = rows(name)
    batches = _sft.batches(Sft(max_length=8192), job(name, list(found.values()), folder))
    for batch, row in zip(batches, found.values(), strict=True):
        own = encoded(tokenizer(name), row)
        assert batch["input_ids"] == own.ids
        assert [label != -100 for label in batch["labels"]] == own.trained
    pairs = [
        {"id": kind, "prompt": row["messages"][:-1], "chosen": row["messages"][-1:],
         "rejected": [{"role": "assistant", "content": "Never mind."}]}
        for kind, row in found.items()
        if not row["messages"][-1].get("tool_calls")
    ]  # fmt: skip
    for batch in _dpo.batches(Dpo(max_length=8192), job(name, pairs, folder)):
        row = pairs[batch["row"]]
        own = encoded(tokenizer(name), {**row, "chosen": row[batch["part"]]})
        assert batch["input_ids"] == own.ids[: own.end]
        assert [label != -100 for label in batch["labels"]] == own.trained[: own.end]
        asked = prompt_ids(tokenizer(name), row, [], {"apply_chat_template": True})
        assert batch["input_ids"][: len(asked)] == asked
        assert own.prompt == len(asked)


@pytest.mark.parametrize("name", FAMILIES)
def test_trainers_are_given_the_same_tokens(name: str, tmp_path: Path) -> None:
    require_trainers_agree(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if name not in FAMILIES])
def test_trainers_are_given_the_same_tokens_of_every_template(name: str, tmp_path: Path) -> None:
    require_trainers_agree(name, tmp_path)


def train_on(name: str, workspace: Workspace) -> None:
    """Three steps of SFT and DPO on a family's rows, then answers; every audit passes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = workspace.folder / name
    own = tokenizer(name)
    size = max(own.get_vocab().values()) + 1
    config = LlamaConfig(
        vocab_size=size, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=8192,
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id,
        pad_token_id=own.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    own.save_pretrained(folder)
    found = list(rows(name).values())
    write_jsonl(workspace.folder / "train.jsonl", found)
    plain = [row for row in found if not row["messages"][-1].get("tool_calls")]
    write_jsonl(workspace.folder / "test.jsonl", plain)
    pairs = [
        {"prompt": row["messages"][:-1], "chosen": row["messages"][-1:],
         "rejected": [{"role": "assistant", "content": "Never mind."}]}
        for row in plain
    ]  # fmt: skip
    write_jsonl(workspace.folder / "pairs.jsonl", pairs)
    steps = {"max_steps": 3, "learning_rate": 1e-3, "max_length": 8192,
             "per_device_train_batch_size": 2}  # fmt: skip
    workspace.write(
        models={"m": str(folder)},
        data={"rows": {"train": "train.jsonl", "test": "test.jsonl"},
              "pairs": {"train": "pairs.jsonl"}},
        matrix={"data": ["rows"], "method": ["full"],
                "objective": [{"sft": steps}, {"dpo": {**steps, "data": "pairs"}}]},
        base={}, scorers=["exact_match"], generate={"max_new_tokens": 2},
    )  # fmt: skip
    outcome = workspace.run()
    assert not outcome.failed, [record.error for record in outcome.failed]
    (told,) = [r for r in outcome.records.values() if r.kind == "train" and "sft" in r.label]
    checks = {check["check"]: check["status"] for check in told.metrics["audit"]}
    assert checks["the loss is on the tokens it should be on"] == "passed"
    assert checks["generation asks what stood before the answers"] == "passed"


def test_a_template_that_cuts_earlier_thoughts_trains(workspace: Workspace) -> None:
    train_on("qwen3", workspace)


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_template_trains(name: str, workspace: Workspace) -> None:
    train_on(name, workspace)


def _each(user: str, assistant: str, asks: str = "", begins: str = "") -> str:
    """A template that writes each turn in its role's way."""
    return (
        begins + "{% for m in messages %}{% if m['role'] == 'user' %}" + user + "{% else %}"
        + assistant + "{% endif %}{% endfor %}{% if add_generation_prompt %}" + asks + "{% endif %}"
    )  # fmt: skip


_SAID = "{{ m['content'] }}"
OTHERS = {
    "mistral": _each(f"[INST] {_SAID}[/INST]", f" {_SAID}</s>", begins="{{ bos_token }}"),
    "llama 2": _each("<s>[INST] {{ m['content'].strip() }} [/INST]",
                     " {{ m['content'].strip() }} </s>"),
    "zephyr": _each(f"<|user|>\n{_SAID}</s>\n", f"<|assistant|>\n{_SAID}</s>\n", "<|assistant|>\n"),
    "vicuna": _each(f"USER: {_SAID} ", f"ASSISTANT: {_SAID}</s>", "ASSISTANT:"),
    "olmo 2": _each(f"<|user|>\n{_SAID}\n", "<|assistant|>\n" + _SAID + "</s>{% if not loop.last %}"
                    "\n{% endif %}", "<|assistant|>\n", "</s>"),
    "alpaca": _each(f"### Instruction:\n{_SAID}\n\n", f"### Response:\n{_SAID}\n\n",
                    "### Response:\n"),
    "in capitals": _each(f"<|user|>{_SAID}", "<|assistant|>{{ m['content'] | upper }}</s>",
                         "<|assistant|>"),
    "as json": _each(f"<|user|>{_SAID}", "<|assistant|>{{ m['content'] | tojson }}</s>",
                     "<|assistant|>"),
    "the last answer marked": _each(
        f"<|user|>{_SAID}", "<|assistant|>{% if loop.last %}{% generation %}" + _SAID
        + "{% endgeneration %}{% else %}" + _SAID + "{% endif %}</s>", "<|assistant|>"
    ),
}  # fmt: skip
"""Templates that TRL does not ship, and some that nobody has yet."""


@pytest.mark.parametrize("name", OTHERS)
def test_templates_of_other_kinds_are_trained_on_as_exactly(name: str) -> None:
    own = tokenizer_with(OTHERS[name], "</s>")
    messages = CONVERSATIONS["three turns"]
    found = encoded(own, {"messages": messages})
    runs, before = list[list[int]](), False
    for token, learnt in zip(found.ids, found.trained, strict=True):
        if learnt:
            runs = runs if before else [*runs, []]
            runs[-1].append(token)
        before = learnt
    told = ["".join(own.decode(run).split()) for run in runs]
    ends = ["", "", "</s>"] if name == "alpaca" else ["</s>"] * 3
    words = [m["content"] for m in messages if m["role"] == "assistant"]
    words = [word.upper() if name == "in capitals" else word for word in words]
    words = [json.dumps(word) if name == "as json" else word for word in words]
    wanted = ["".join(word.split()) + end for word, end in zip(words, ends, strict=True)]
    assert told == wanted[-1:] if "marked" in name else told == wanted
    assert found.ids[: found.prompt] == asked_ids(own, {"messages": messages})
    places = {i for i, learnt in enumerate(found.trained) if learnt}
    assert answers_fault(own, {"messages": messages}, found.ids, places, cut=False) is None
