"""Rows come in as people have them, and go out as they are trained on, each one accounted for."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import DataError, HarnessError
from harness.data.cells import Unusable
from harness.data.layouts import detect, normal
from harness.data.load import Rows, load_rows
from harness.data.mixture import mix
from harness.suite.data import Split
from tests.conftest import DPO, SFT, Workspace, chat_rows, write_jsonl

COLUMNS = {"id", "cluster", "group", "references"}


def load(path: Path, **fields: Any) -> Rows:
    split = Split(path=str(path), **fields)
    return load_rows(split.model_dump(), str(path), "data.x.train")


def said(row: dict[str, Any]) -> dict[str, Any]:
    """The row without what every row has."""
    return {name: value for name, value in row.items() if name not in COLUMNS}


# --- files -------------------------------------------------------------------------------------

TABLE = [{"prompt": 'a, "b"\nc?', "completion": "d é"}, {"prompt": "e?", "completion": "007"}]


def written(folder: Path, kind: str) -> Path:
    path = folder / f"rows.{kind}"
    if kind.startswith("jsonl"):
        text = "".join(json.dumps(row) + "\n\n" for row in TABLE)
    elif kind.startswith("json"):
        text = json.dumps(TABLE)
    if kind == "data.json":
        text = json.dumps({"version": 1, "data": TABLE})
    if kind in ("csv", "tsv"):
        with path.open("w", newline="", encoding="utf-8-sig") as handle:
            writer = csv.DictWriter(
                handle, ["prompt", "completion"], delimiter="\t" if kind == "tsv" else ","
            )
            writer.writeheader()
            writer.writerows(TABLE)
    elif kind == "parquet":
        import pandas as pd

        pd.DataFrame(TABLE).to_parquet(path)
    elif kind.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "kind", ["jsonl", "json", "data.json", "csv", "tsv", "parquet", "jsonl.gz", "json.gz"]
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    found = load(written(tmp_path, kind))
    assert [said(row) for row in found.rows] == TABLE
    assert found.layout == "prompt_completion"
    assert not found.dropped


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"prompt,completion\na,b,c\n", "line 2 has more cells"),
        (b"prompt,completion\na\n", "line 2 has fewer cells"),
        (b'prompt,completion\n"a,b\n', "unexpected end of data"),
    ],
)
def test_ragged_csv_is_an_error_with_its_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        load(tmp_path / "rows.csv")


def test_csv_cell_longer_than_the_librarys_default_is_read(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\n" + "x" * 200_000 + "\n")
    assert len(load(tmp_path / "rows.csv").rows[0]["text"]) == 200_000


# --- the hub -----------------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def offline(home: Path, source: str, **fields: Any) -> subprocess.CompletedProcess[str]:
    """Loads in a process of its own: the libraries read HF_HOME when they are imported."""
    code = (
        "import json, sys\n"
        "from harness.data.load import load_rows\n"
        "from harness.suite.data import Split\n"
        "from harness.core.errors import DataError\n"
        "fields = json.loads(sys.argv[1])\n"
        "try:\n"
        "    found = load_rows(Split(**fields).model_dump(), fields['path'], 'data.x.train')\n"
        "except DataError as error:\n"
        "    sys.exit(str(error))\n"
        "print([row['text'] for row in found.rows])\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, json.dumps({"path": source, **fields})],
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_without_a_hub_its_cache_is_read_and_what_is_missing_is_named(tmp_path: Path) -> None:
    cache = tmp_path / "hub" / "datasets--acme--tiny"
    data = cache / "snapshots" / COMMIT
    for config in ("en", "de"):
        (data / config).mkdir(parents=True)
        write_jsonl(data / config / "train.jsonl", [{"text": f"{config} text"}])
    configs = "".join(f"- config_name: {c}\n  data_files: {c}/train.jsonl\n" for c in ("en", "de"))
    (data / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    (cache / "refs").mkdir()
    (cache / "refs" / "v1").write_text(COMMIT)
    found = offline(tmp_path, "acme/tiny", name="de", revision="v1")
    assert found.stdout.strip() == "['de text']", found.stderr
    missing = offline(tmp_path, "acme/none", name="de", revision="v2", split="test")
    place = str(tmp_path / "hub" / "datasets--acme--none" / "snapshots")
    for words in (place, "data.x.train", "'v2'", "config 'de' split 'test'", "HF_HOME", "path:"):
        assert words in missing.stderr, missing.stderr


def test_unpinned_hub_rows_are_warned_of_in_the_plan(workspace: Workspace) -> None:
    hub = {"path": "acme/tiny", "train": {"split": "train"}, "test": {"split": "test"}}
    (warning,) = workspace.open(f"data.tasks={json.dumps(hub)}").plan.warnings
    assert "data.tasks is acme/tiny" in warning
    assert "revision" in warning
    pinned = {**hub, "revision": "v1"}
    assert not workspace.open(f"data.tasks={json.dumps(pinned)}").plan.warnings


# --- layouts -----------------------------------------------------------------------------------

USER, BOT, OTHER = ({"role": r, "content": c} for r, c in
                    (("user", "q?"), ("assistant", "yes"), ("assistant", "no")))  # fmt: skip
HUMAN, GPT = {"from": "human", "value": "q?"}, {"from": "gpt", "value": "yes"}
HH = "\n\nHuman: q?\n\nAssistant:"
PAIR = {"prompt": [USER], "chosen": [BOT], "rejected": [OTHER]}


@pytest.mark.parametrize(
    ("row", "layout", "expected"),
    [
        ({"text": "t"}, "text", {"text": "t"}),
        ({"messages": [USER, BOT]}, "messages", {"messages": [USER, BOT]}),
        ({"prompt": "q", "completion": "a"}, "prompt_completion",
         {"prompt": "q", "completion": "a"}),
        ({"prompt": [USER], "completion": [BOT]}, "prompt_completion",
         {"prompt": [USER], "completion": [BOT]}),
        ({"prompt": "q"}, "prompt", {"prompt": "q"}),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference",
         {"prompt": "q", "chosen": "a", "rejected": "b"}),
        ({"chosen": "The sky is blue.", "rejected": "The sky is black."}, "preference",
         {"prompt": "The sky is bl", "chosen": "ue.", "rejected": "ack."}),
        ({"chosen": "It is blue.", "rejected": "It is red."}, "preference",
         {"prompt": "It is", "chosen": " blue.", "rejected": " red."}),
        (PAIR, "preference", PAIR),
        ({"chosen": [USER, BOT], "rejected": [USER, OTHER]}, "preference", PAIR),
        ({"prompt": "q", "completion": "a", "label": False}, "unpaired",
         {"prompt": "q", "completion": "a", "label": False}),
        ({"messages": [USER, BOT], "label": True}, "unpaired",
         {"prompt": [USER], "completion": [BOT], "label": True}),
        ({"conversations": [HUMAN, GPT]}, "sharegpt", {"messages": [USER, BOT]}),
        ({"conversations": [HUMAN, GPT], "system": "s"}, "sharegpt",
         {"messages": [{"role": "system", "content": "s"}, USER, BOT]}),
        ({"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "no"}},
         "sharegpt", PAIR),
        ({"chosen": f"{HH} yes", "rejected": f"{HH} no"}, "hh_rlhf", PAIR),
    ],
)  # fmt: skip
def test_layout_is_told_by_its_columns_and_brought_into_normal_form(
    row: dict[str, Any], layout: str, expected: dict[str, Any]
) -> None:
    assert detect(row) == layout
    assert normal(row, layout, chat=False) == expected


@pytest.mark.parametrize("strings", [True, False])
def test_implicit_prompts_are_split_as_trl_splits_them(strings: bool) -> None:
    from trl import extract_prompt

    if strings:
        row: dict[str, Any] = {
            "chosen": "Is it far? Yes, it is.",
            "rejected": "Is it far? Yes it is",
        }
    else:
        row = {"chosen": [USER, BOT, USER, BOT], "rejected": [USER, BOT, USER, OTHER]}
    assert normal(row, "preference", chat=False) == extract_prompt(row)


def test_alpaca_has_its_papers_template_or_becomes_a_chat() -> None:
    row = {"instruction": "Add.", "input": "1 2", "output": "3"}
    assert detect(row) == "alpaca"
    with_input = normal(row, "alpaca", chat=False)
    assert with_input["prompt"].endswith(
        "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n"
    )
    assert with_input["prompt"].startswith("Below is an instruction that describes a task, paired")
    without = normal({**row, "input": ""}, "alpaca", chat=False)
    assert "### Input" not in without["prompt"]
    assert "paired" not in without["prompt"]
    turns = [{"role": "user", "content": "Add.\n\n1 2"}, {"role": "assistant", "content": "3"}]
    assert normal(row, "alpaca", chat=True) == {"messages": turns}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "  \n"}, "empty"),
        ({"text": None}, "no `text`"),
        ({"text": ["a"]}, "`text` is no text"),
        ({"text": "\ud800"}, "half a surrogate pair, which is no text"),
        ({"messages": [BOT, USER]}, "`messages` does not end with the assistant"),
        ({"messages": [BOT]}, "`messages` holds no question"),
        ({"messages": "hello"}, "`messages` is no list of messages"),
        ({"messages": [USER, {"role": "assistant", "content": None}]},
         "a message of `messages` lacks its text"),
        ({"prompt": "q", "completion": ""}, "empty"),
        ({"prompt": " ", "completion": "a"}, "empty prompt"),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "chosen and rejected are equal"),
        ({"chosen": [USER, BOT], "rejected": [BOT]},
         "chosen and rejected do not answer the same question"),
        ({"conversations": [HUMAN, {"from": "narrator", "value": "x"}]},
         "a role is 'narrator', and chat templates know"),
    ],
)  # fmt: skip
def test_unusable_row_is_dropped_with_its_reason_and_kept_as_its_example(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    good = {**dict.fromkeys(row), **GOOD[next(iter(row))]}
    good = {name: value for name, value in good.items() if value is not None}
    if "rejected" in row:
        good = {"chosen": [USER, BOT], "rejected": [USER, OTHER]} if "prompt" not in row else {
            "prompt": "q", "chosen": "a", "rejected": "b"}  # fmt: skip
    rows = [good, row, {**row}, good]
    found = load(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert len(found.rows) == 2
    ((told, count),) = found.dropped.items()
    assert told.startswith(reason)
    assert count == 2
    assert found.examples[told] == (1, row)


GOOD: dict[str, dict[str, Any]] = {
    "text": {"text": "t"},
    "messages": {"messages": [USER, BOT]},
    "prompt": {"prompt": "q", "completion": "a"},
    "chosen": {"chosen": [USER, BOT], "rejected": [USER, OTHER]},
    "conversations": {"conversations": [HUMAN, GPT]},
}


def test_label_that_is_no_truth_value_does_not_make_rows_unpaired(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": "a", "label": value} for value in (0, 1, 7)]
    assert load(write_jsonl(tmp_path / "a.jsonl", rows)).layout == "prompt_completion"
    named = load(tmp_path / "a.jsonl", layout="unpaired")
    assert [row["label"] for row in named.rows] == [False, True]
    assert named.dropped == {"`label` is neither true nor false": 1}


def test_every_row_of_the_source_is_either_kept_or_counted(tmp_path: Path) -> None:
    rows = [{"kind": "ab"[i % 2], "q": f"q{i}", "a": "" if i == 4 else "x"} for i in range(20)]
    found = load(
        write_jsonl(tmp_path / "rows.jsonl", rows),
        rows=[2, 18], where={"kind": "a"}, limit=6, map={"prompt": "{q}?", "completion": "{a}"},
    )  # fmt: skip
    assert found.dropped == {"outside `rows`": 4, "not `where`": 8, "over `limit`": 2, "empty": 1}
    assert len(found.rows) + sum(found.dropped.values()) == len(rows)
    assert found.rows[0]["prompt"] == "q2?"


def test_map_renames_columns_with_their_lists_and_never_writes_none(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"turns": [USER, BOT]}])
    assert load(path, map={"messages": "{turns}"}).rows[0]["messages"] == [USER, BOT]
    path = write_jsonl(tmp_path / "b.jsonl", [{"a": "x"}, {"a": None}])
    found = load(path, map={"text": "<{a}>"})
    assert [row["text"] for row in found.rows] == ["<x>"]
    assert found.dropped == {"no `a`": 1}


def test_rows_of_two_forms_are_not_mixed_in_silence(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": "a"}, {"prompt": [USER], "completion": [BOT]}]
    found = load(write_jsonl(tmp_path / "a.jsonl", rows))
    assert found.dropped == {"of another layout than the first row": 1}


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(
    st.sampled_from(["text", "messages", "prompt", "completion", "chosen", "rejected", "label",
                     "conversations", "instruction", "output"]),
    st.recursive(st.none() | st.booleans() | st.text(max_size=5),
                 lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
                     st.sampled_from(["role", "content", "from", "value"]), inner, max_size=2),
                 max_leaves=5), min_size=1))  # fmt: skip
def test_no_row_whatever_it_holds_breaks_the_reading(row: dict[str, Any]) -> None:
    layout = detect(row)
    if layout is None:
        return
    found: dict[str, Any] = {}
    with contextlib.suppress(Unusable):
        found = normal(row, layout, chat=False)
    assert all(isinstance(value, str | list | bool) for value in found.values())


# --- mixtures ----------------------------------------------------------------------------------


def texts(name: str, count: int) -> list[dict[str, Any]]:
    return [
        {"id": str(i), "cluster": str(i), "group": "", "text": f"{name} {i}"} for i in range(count)
    ]


@settings(max_examples=30, deadline=None)
@given(weight=st.floats(0.2, 5), seed=st.integers(0, 1000), first=st.integers(20, 60))
def test_mixture_keeps_order_within_parts_and_repeats_no_row(
    weight: float, seed: int, first: int
) -> None:
    parts, weights = {"a": texts("a", first), "b": texts("b", 40)}, {"a": weight, "b": 1.0}
    rows, shares = mix(parts, weights, seed, "first_exhausted")
    assert (rows, shares) == mix(parts, weights, seed, "first_exhausted")
    for name in parts:
        own = [row["text"] for row in rows if row["id"].startswith(f"{name}/")]
        assert own == [row["text"] for row in parts[name][: len(own)]]
        assert shares[name]["rows"] == len(own)
        assert shares[name]["share"] == len(own) / len(rows)
    assert any(shares[name]["rows"] == len(parts[name]) for name in parts)
    whole, _ = mix(parts, weights, seed, "all_exhausted")
    assert {row["text"] for row in whole} == {r["text"] for part in parts.values() for r in part}
    assert max(Counter(row["id"] for row in whole).values()) == 1


def test_mixture_comes_near_its_weights() -> None:
    parts = {"a": texts("a", 4000), "b": texts("b", 4000)}
    _, shares = mix(parts, {"a": 3, "b": 1}, 0, "first_exhausted")
    assert shares["a"]["share"] == pytest.approx(0.75, abs=0.02)  # 3 standard errors at n = 5000


def mixture(workspace: Workspace, **more: Any) -> Workspace:
    write_jsonl(workspace.folder / "other.jsonl", chat_rows(200, 12))
    data = workspace.tree["data"]
    mixed = {"mixture": {"letters": 2, "other": 1}, **more}
    workspace.write(
        data={**data, "other": {"train": "other.jsonl"}, "both": mixed},
        matrix={**workspace.tree["matrix"], "data": ["both"]},
        evaluate=["letters"],
    )
    return workspace


def test_mixture_is_trained_on_and_its_shares_are_recorded(workspace: Workspace) -> None:
    outcome = mixture(workspace).run(only="lora-sft")
    assert not outcome.failed
    (record,) = [r for r in outcome.records.values() if r.kind == "data" and "shares" in r.metrics]
    assert sum(part["rows"] for part in record.metrics["shares"].values()) == record.metrics["rows"]
    first = {stage.key for stage in workspace.open().plan.stages() if stage.kind == "train"}
    mixture(workspace, mixture_seed=1)
    assert first.isdisjoint(s.key for s in workspace.open().plan.stages() if s.kind == "train")


@pytest.mark.parametrize(
    ("mixed", "words"),
    [
        ({"mixture": {"leters": 1}}, "did you mean 'letters'"),
        ({"mixture": {"both": 1}}, "is a mixture itself"),
        ({"mixture": {"letters": 0}}, "greater than 0"),
        ({"mixture": {"letters": 1}, "where": {"a": "b"}}, "`where` belongs to the entries"),
        ({"mixture": {"letters": 1}, "path": "x.jsonl"}, "give one of them"),
        ({"mixture": {"letters": 1}, "train": "x.jsonl"}, "give one of them"),
        ({"mixture": {"letters": 1, "texts": 1}}, "different layouts"),
    ],
)
def test_mixture_that_cannot_be_meant_is_refused(
    workspace: Workspace, mixed: dict[str, Any], words: str
) -> None:
    mixture(workspace)
    data = {**workspace.tree["data"], "both": mixed, "texts": {"train": "general.jsonl"}}
    workspace.write(data=data)
    with pytest.raises(HarnessError, match=words):
        workspace.run()


# --- harness data ------------------------------------------------------------------------------


def shown(workspace: Workspace, *, color: bool = False, entry: str | None = None) -> str:
    from harness.commands import data as data_view
    from harness.scheduling.progress import ConsoleReporter

    with open(os.devnull, "w") as nowhere:
        return data_view.show(
            workspace.open(), entry, 3, color=color, reporter=ConsoleReporter(nowhere)
        )


def previews(workspace: Workspace) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in workspace.store.glob("preview/*/preview.json")]


def test_rows_are_shown_with_template_marks_and_end(workspace: Workspace) -> None:
    text = shown(workspace)
    assert "<|user|>a0?<|assistant|>⟦aa<|end|>⟧" in text
    assert "data.letters.train as sft trains on it" in text
    assert "not checked yet" in text
    assert not list(workspace.store.glob("train/*"))
    styled = shown(workspace, color=True)
    assert "\x1b[7maa\x1b[0m" in styled
    assert "⟦" not in styled


def test_contamination_is_shown_once_it_has_been_looked_for(workspace: Workspace) -> None:
    workspace.run(only="lora-sft")
    assert "not checked" not in shown(workspace)
    assert "0 exact, 0 near copies, 12 of 12 too short" in shown(workspace)


ROWS: dict[str, list[dict[str, Any]]] = {
    "messages": [{k: row[k] for k in ("messages",)} for row in chat_rows(0, 3)],
    "strings": [{"prompt": f"é{i}? ", "completion": "ab" * (i + 1)} for i in range(3)],
    "chats": [{"prompt": [USER, BOT, USER], "completion": [OTHER]} for i in range(3)],
    "text": [{"text": f"text {i}"} for i in range(3)],
}


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("kind", list(ROWS))
def test_shown_mask_is_the_labels_of_trls_own_collator(
    workspace: Workspace, tiny_model: Path, kind: str, packing: bool
) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    write_jsonl(workspace.folder / "train.jsonl", ROWS[kind])
    workspace.write(overrides=[{"match": {}, "set": {"sft.packing": packing}}])
    shown(workspace)
    (preview,) = previews(workspace)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
        train_dataset=Dataset.from_list(ROWS[kind]),
        args=SFTConfig(output_dir=str(workspace.folder / "trl"), use_cpu=True, bf16=False,
                       report_to=[], max_length=64, assistant_only_loss=kind == "messages",
                       packing=packing, shuffle_dataset=False),
    )  # fmt: skip
    for sequence, row in zip(preview["sequences"], trainer.train_dataset, strict=True):
        names = ("input_ids", "labels", "seq_lengths")
        batch = trainer.data_collator([{n: row[n] for n in names if n in row}])
        assert sequence["ids"] == batch["input_ids"][0].tolist()
        assert sequence["loss"][1:] == (batch["labels"][0] != -100)[1:].tolist()
        assert any(sequence["loss"])
        tokenizer = trainer.processing_class
        assert "".join(run["text"] for run in sequence["runs"]) == tokenizer.decode(sequence["ids"])


def test_preferences_are_shown_answer_by_answer(aligned: Workspace) -> None:
    objectives = [{"sft": SFT}, {"dpo": DPO}, {"kto": {"data": "thumbs", "max_steps": 1}}]
    aligned.write(
        matrix={"data": ["letters"], "method": ["full"], "objective": objectives}, reward_model={}
    )
    pair = json.loads((aligned.folder / "preferences.jsonl").read_text().splitlines()[0])
    asked, sides = pair["prompt"][-1]["content"], {}
    for side in ("chosen", "rejected"):
        sides[side] = pair[side][-1]["content"]
    text = shown(aligned, entry="preferences")
    assert "data.preferences.train as dpo trains on it" in text
    for side, answer in sides.items():
        assert f"row {pair['id']}, {side}: " in text
        assert f"<|user|>{asked}<|assistant|>⟦{answer}<|end|>⟧" in text
    text = shown(aligned, entry="thumbs")
    for name, side in (("wanted", "chosen"), ("unwanted", "rejected")):
        assert f", {name}: " in text
        assert f"{asked}<|assistant|>⟦{sides[side]}<|end|>⟧" in text


def test_answers_of_orpo_and_reward_models_and_prompts_of_policies_are_shown(
    aligned: Workspace,
) -> None:
    fields = {"data": "preferences", "max_steps": 1, "max_new_tokens": 4}
    online = [{"ppo": fields}, {"grpo": fields}, {"rloo": fields}]
    orpo = {"orpo": {"data": "preferences", "max_steps": 1}}
    aligned.write(matrix={"data": ["letters"], "method": ["full"], "objective": [orpo, *online]})
    pair = json.loads((aligned.folder / "preferences.jsonl").read_text().splitlines()[0])
    asked = f"<|user|>{pair['prompt'][-1]['content']}<|assistant|>"
    good, bad = (pair[side][-1]["content"] for side in ("chosen", "rejected"))
    views = {view.split(" as ")[1].split(" ")[0]: view
             for view in shown(aligned, entry="preferences").split("\n\ndata.")
             }  # fmt: skip
    assert set(views) == {"orpo", "reward", "ppo", "grpo", "rloo"}
    # ORPO's likelihood is of prompt and answer, all but the first token; its odds of the answers.
    assert f"<|user|>⟦{asked.removeprefix('<|user|>')}{good}<|end|>⟧" in views["orpo"]
    assert f"{asked}⟦{bad}<|end|>⟧" in views["orpo"]
    for side, answer in (("chosen", good), ("rejected", bad)):
        assert f"row {pair['id']}, {side}: " in views["reward"]
        assert f"{asked}{answer}⟦<|end|>⟧" in views["reward"]
    assert "the tokens that rewards are read at are between" in views["reward"]
    for name in ("ppo", "grpo", "rloo"):
        assert f"row {pair['id']}, prompt: " in views[name]
        assert f"\n{asked}\n" in views[name]
        assert good + "<" not in views[name]
        assert "no prompt is learnt" in views[name]


def test_dropped_rows_are_counted_with_an_example_that_is_not_in_the_record(
    workspace: Workspace,
) -> None:
    rows = chat_rows(0, 6)
    rows[2]["messages"][-1]["content"] = " "
    rows[3]["messages"] = [{"role": "user", "content": "SECRET SENTENCE"}]
    rows[4]["messages"][0]["content"] = "LONG " * 40
    write_jsonl(workspace.folder / "train.jsonl", rows)
    text = shown(workspace)
    assert "rows: 4 usable (messages), 2 dropped" in text
    assert "1 empty; the first is row 2" in text
    assert "1 `messages` does not end with the assistant; the first is row 3" in text
    assert "SECRET SENTENCE" in text
    assert "over max_length: 1 of 4 (drop)" in text
    assert "the first is row row-4" in text
    for record in workspace.store.glob("*/*/record.json"):
        assert "SECRET" not in record.read_text()
        assert "LONG" not in record.read_text()


def test_hostile_rows_do_not_reach_the_terminal_as_they_are(workspace: Workspace) -> None:
    rows = chat_rows(0, 3)
    rows[0]["messages"][0]["content"] = "\x1b[2J\x1b]0;title\x07\u202eevil ⟦no loss⟧\r"
    rows[1]["id"] = "\x1b[31mred"
    rows[2]["messages"].append({"role": "user", "content": "\x1b[2J"})
    write_jsonl(workspace.folder / "train.jsonl", rows)
    text = shown(workspace)
    assert not set(text) & set("\x1b\x07\r\u202e")
    assert "⟨U+27E6⟩no loss⟨U+27E7⟩" in text
    assert "⟨U+001B⟩[31mred" in text


def test_entry_that_no_variant_trains_on_is_refused_with_those_that_are(
    workspace: Workspace,
) -> None:
    with pytest.raises(HarnessError, match="trained on: letters"):
        shown(workspace, entry="general")
    with pytest.raises(HarnessError, match="did you mean 'letters'"):
        shown(workspace, entry="leters")


def test_rows_that_cannot_be_trained_on_are_one_sentence(workspace: Workspace) -> None:
    write_jsonl(workspace.folder / "train.jsonl", [{"question": "a"}])
    with pytest.raises(HarnessError, match="make no layout"):
        shown(workspace)
    write_jsonl(workspace.folder / "train.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    with pytest.raises(HarnessError, match="not on preference"):
        shown(workspace)


def test_the_command_prints_the_rows_asked_for(workspace: Workspace) -> None:
    from click.testing import CliRunner

    from harness.cli import main

    arguments = ["data", str(workspace.write()), "--rows", "1", "--store", str(workspace.store)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "<|user|>a0?<|assistant|>⟦aa<|end|>⟧" in done.stdout
    assert "b1?" not in done.stdout


def test_lengths_in_the_records_are_those_of_the_rows(workspace: Workspace) -> None:
    import numpy as np

    rows = [{"prompt": "p" * n, "completion": "c" * (2 * n)} for n in range(1, 31)]
    write_jsonl(workspace.folder / "train.jsonl", rows + rows[:2])
    matrix = {
        "method": ["full"],
        "objective": [{"sft": {"max_length": 40, "overlong": "truncate"}}],
    }
    outcome = workspace_run(workspace, matrix)
    data = next(r for r in outcome.values() if r.label == "letters/train")
    sizes = [*range(1, 31), 1, 2]
    found = data.metrics["characters"]["prompt"]
    assert found["mean"] == pytest.approx(np.mean(sizes))
    assert (found["p50"], found["max"], found["sum"]) == (sorted(sizes)[15], 30, sum(sizes))
    assert data.metrics["equal_rows"] == 2
    (train,) = [r for r in outcome.values() if r.kind == "train"]
    tokens = [3 * n + 1 for n in sizes]  # a byte a token, and EOS
    assert train.metrics["rows"]["tokens"]["sum"] == sum(tokens)
    assert train.metrics["rows"]["over_length"] == sum(n > 40 for n in tokens)
    assert train.metrics["rows"]["tokens_cut"] == sum(max(0, n - 40) for n in tokens)
    assert train.cost["tokens"] == sum(min(n, 40) for n in tokens)


def workspace_run(workspace: Workspace, matrix: dict[str, Any]) -> dict[str, Any]:
    workspace.write(matrix=matrix, scorers=["exact_match"])
    return workspace.run(only="full-sft").records


# --- real data ---------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(
    ("path", "fields", "layout", "usable", "total"),
    [
        ("instruct/alpaca/alpaca_en_demo.json", {}, "prompt_completion", 999, 999),
        ("instruct/alpaca/alpaca_en_demo.json", {"chat": True}, "messages", 999, 999),
        ("instruct/dialogsum/dialogsum.dev.jsonl",
         {"map": {"prompt": "{dialogue}", "completion": "{summary}"}}, "prompt_completion",
         500, 500),
        ("preference/dpo_kto/dpo_en_demo.json", {}, "preference", 300, 300),
        ("preference/dpo_kto/kto_en_demo.json", {}, "unpaired", 300, 300),
        ("preference/hh_rlhf/harmless-base-test.jsonl.gz", {}, "preference", 2300, 2312),
    ],
)  # fmt: skip
def test_real_files_are_read_whole(
    real_data: Path, path: str, fields: dict[str, Any], layout: str, usable: int, total: int
) -> None:
    found = load(real_data / path, **fields)
    assert found.layout == layout
    assert len(found.rows) + sum(found.dropped.values()) == total
    assert len(found.rows) >= usable, found.dropped


@pytest.mark.real
def test_real_pairs_part_at_an_answer_and_give_back_their_source(real_data: Path) -> None:
    path = real_data / "preference/hh_rlhf/harmless-base-test.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        raw = [json.loads(line) for line in handle]
    for row in load(path).rows:
        source = raw[int(row["id"])]
        for side in ("chosen", "rejected"):
            turns = [*row["prompt"], *row[side]]
            names = {"user": "Human", "assistant": "Assistant"}
            text = "".join(f"\n\n{names[t['role']]}: {t['content']}" for t in turns)
            assert text.split() == source[side].split()
