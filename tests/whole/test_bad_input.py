"""One clear sentence for each mistake, before anything is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import HarnessError
from tests.conftest import Workspace, chat_rows, write_jsonl


def error_of(workspace: Workspace, *settings: str) -> str:
    with pytest.raises(HarnessError) as caught:
        workspace.run(*settings)
    assert not list(workspace.store.glob("train/*/record.json"))
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scorer": ["rouge"]}, ["suite.yaml", "unknown key 'scorer'", "'scorers'"]),
        ({"matrix": {"method": ["lroa"], "objective": ["sft"]}},
         ["matrix.method[0]", "unknown method 'lroa'; did you mean 'lora'?", "harness list"]),
        ({"matrix": {"method": [{"lora": {"rank": 4}}], "objective": ["sft"]}},
         ["lora", "unknown key 'rank'", "target_modules"]),
        ({"matrix": {"method": [{"lora": {"r": -1}}], "objective": ["sft"]}}, ["lora.r", "-1"]),
        ({"matrix": {"method": ["lora"], "objective": ["sft"], "lorra.r": [4]}},
         ["lorra", "did you mean 'lora'"]),
        ({"matrix": {"method": ["lora"], "objectives": ["sft"]}}, ["'objectives'", "'objective'"]),
        ({"scorers": ["rogue"]}, ["scorers[0]", "'rogue'", "did you mean 'rouge'"]),
        ({"baseline": "zreo"}, ["baseline", "'zreo'", "zero-shot"]),
        ({"seeds": [1, 1]}, ["seeds", "each once"]),
        ({"executor": "slrum"}, ["executor", "'slrum'"]),
        ({"evaluate": ["leters"]}, ["evaluate", "did you mean 'letters'"]),
        ({"models": {"tiny": "nowhere/at/all"}}, ["models.tiny", "nowhere/at/all"]),
        ({"models": {"tiny": "${NO_SUCH_VARIABLE}/x"}}, ["NO_SUCH_VARIABLE", "not set"]),
        ({"scorers": ["rouge", "rouge"]}, ["scorers[1]", "label"]),
        ({"scorers": ["rouge", {"rouge": {"data": "letters"}}]}, ["scorers[1]", "label"]),
        ({"exclude": [{"method": "full"}, {"method": "lora"}], "base": {}}, ["excluded"]),
        ({"exclude": [{"method": ["full", "lora"]}], "base": {}}, ["excluded"]),
    ],
)  # fmt: skip
def test_mistake_in_the_suite_names_place_value_and_choices(
    workspace: Workspace, change: dict[str, Any], words: list[str]
) -> None:
    workspace.write(**change)
    message = error_of(workspace)
    assert all(word in message for word in words), message


def test_key_given_twice_is_refused(workspace: Workspace) -> None:
    workspace.path.write_text(workspace.path.read_text() + "\nname: again\n")
    from harness.suite.suite import load_suite

    with pytest.raises(HarnessError, match="occurs twice"):
        load_suite(str(workspace.path))


def test_merge_keys_are_read_and_what_stands_beside_them_wins(workspace: Workspace) -> None:
    workspace.path.write_text(
        workspace.path.read_text()
        + "\noverrides:\n- &one {match: {method: full}, set: {sft.max_steps: 1}}\n"
        + "- {<<: *one, match: {method: lora}}\n"
    )
    from harness.suite.suite import load_suite

    first, second = load_suite(str(workspace.path)).suite.overrides
    assert second.set == first.set
    assert second.match == {"method": ["lora"]}


def data_error(workspace: Workspace, rows: bytes, **split: Any) -> str:
    (workspace.folder / "train.jsonl").write_bytes(rows)
    data = workspace.tree["data"]
    letters = {"train": {"path": "train.jsonl", **split}, "test": "test.jsonl"}
    workspace.write(data={**data, "letters": letters})
    return error_of(workspace)


def test_bad_rows_are_named_with_file_and_line(workspace: Workspace) -> None:
    assert "holds no rows" in data_error(workspace, b"")
    message = data_error(workspace, b'{"text": "a"}\n{"text": \n')
    assert "line 2" in message
    assert "data.letters.train" in message
    assert "not UTF-8" in data_error(workspace, '{"text": "é"}\n'.encode("latin1"))
    assert "make no layout" in data_error(workspace, b'{"question": "a", "answer": "b"}\n')
    message = data_error(workspace, b'{"text": "a"}\n', map={"prompt": "{txt}", "completion": "x"})
    assert "did you mean 'text'" in message
    assert "unknown column" in data_error(workspace, b'{"text": "a"}\n', where={"kind": "b"})
    double = json.dumps(chat_rows(0, 1)[0]).encode() + b"\n"
    assert "2 rows of" in data_error(workspace, double * 2)


def test_missing_file_says_where_it_was_looked_for(workspace: Workspace) -> None:
    data = workspace.tree["data"]
    workspace.write(data={**data, "letters": {"train": "trian.jsonl", "test": "test.jsonl"}})
    message = error_of(workspace)
    assert "trian.jsonl" in message
    assert "data.letters.train" in message


def copied(tiny_model: Path, folder: Path) -> Path:
    target = folder / "model"
    shutil.copytree(tiny_model, target)
    return target


def test_chats_without_a_chat_template_are_refused(workspace: Workspace, tiny_model: Path) -> None:
    model = copied(tiny_model, workspace.folder)
    (model / "chat_template.jinja").unlink()
    workspace.write(models={"tiny": str(model)})
    message = error_of(workspace)
    assert "no chat template" in message
    assert "models.tiny" in message


def test_pickled_weights_and_code_that_came_with_a_model_are_refused(
    workspace: Workspace, tiny_model: Path
) -> None:
    model = copied(tiny_model, workspace.folder)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}))
    workspace.write(models={"tiny": str(model)})
    assert "trust_remote_code" in error_of(workspace)
    (model / "config.json").write_text(json.dumps(config))
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert "safetensors" in error_of(workspace)


def test_damaged_weights_are_named(workspace: Workspace, tiny_model: Path) -> None:
    model = copied(tiny_model, workspace.folder)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    workspace.write(models={"tiny": str(model)})
    assert "damaged" in error_of(workspace)


def test_rows_over_the_length_are_dropped_and_counted(workspace: Workspace) -> None:
    rows = chat_rows(0, 10)
    rows[3]["messages"][0]["content"] = "x" * 500
    write_jsonl(workspace.folder / "train.jsonl", rows)
    outcome = workspace.run()
    (counts, _) = [r.metrics["rows"] for r in outcome.records.values() if r.kind == "train"]
    assert (counts["given"], counts["over_length"], counts["trained_on"]) == (10, 1, 9)


def test_method_that_cannot_carry_an_option_is_refused_by_plan(workspace: Workspace) -> None:
    objective = {"sft": {"gradient_checkpointing": True}}
    workspace.write(matrix={"method": ["bitfit"], "objective": [objective]})
    message = error_of(workspace)
    assert "'bitfit'" in message
    assert "gradient_checkpointing" in message


def test_hub_that_is_not_there_is_one_sentence(workspace: Workspace) -> None:
    workspace.write(models={"tiny": "no-one/no-such-model"})
    message = error_of(workspace)
    assert "no-one/no-such-model" in message
    assert "HF_HOME" in message


def test_what_cannot_be_hashed_is_an_error() -> None:
    from harness.core.files import canonical

    with pytest.raises(HarnessError, match=r"config\.sampler"):
        canonical({"sampler": object()})
    with pytest.raises(HarnessError, match="finite"):
        canonical({"rate": float("nan")})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"overrides": [{"match": {"method": "ful"}, "set": {"sft.max_steps": 1}}]},
         ["overrides[0].match.method", "'ful'", "'full'"]),
        ({"exclude": [{"methd": "full"}]}, ["exclude[0]", "'methd'", "'method'"]),
        ({"exclude": [{"method": "lroa"}]}, ["exclude[0].method", "'lroa'", "'lora'"]),
        ({"exclude": [{"method": ["full", "lroa"]}]}, ["exclude[0].method", "'lroa'", "'lora'"]),
        ({"matrix": {"method": ["lroa"], "objective": ["sft"]}, "exclude": [{"method": "lora"}]},
         ["matrix.method[0]", "'lroa'", "did you mean 'lora'"]),
        ({"exclude": [{"method": []}]}, ["exclude[0].method", "at least 1"]),
        ({"base": {"lora-sft": {}}}, ["base.lora-sft", "another name"]),
        ({"models": {"tiny": {"path": "no/such", "dtype": "bf16"}}}, ["dtype", "bfloat16"]),
        ({"executor": "local", "resources": {"gpus": 8}}, ["resources", "8 GPUs"]),
        ({"overrides": [{"match": {}, "set": {"sft.lr_scheduler_type": "cosin"}}]},
         ["lr_scheduler_type", "cosine"]),
        ({"overrides": [{"match": {}, "set": {"sft.args": {"output_dir": "x"}}}]},
         ["output_dir", "decided by the harness"]),
        ({"overrides": [{"match": {}, "set": {"sft.args": {"neftune_noise": 5}}}]},
         ["'neftune_noise'", "SFTConfig", "neftune_noise_alpha"]),
    ],
)  # fmt: skip
def test_names_in_rules_and_values_are_checked(
    workspace: Workspace, change: dict[str, Any], words: list[str]
) -> None:
    workspace.write(**change)
    message = error_of(workspace)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "setting",
    ["name.x=1", "models.tiny.dtype.x=1", "description=[", "seeds=[0",
     "scorers.9=rouge"],
)  # fmt: skip
def test_setting_without_a_place_is_refused(workspace: Workspace, setting: str) -> None:
    assert "--set" in error_of(workspace, setting)


def test_setting_that_an_axis_would_override_is_refused(workspace: Workspace) -> None:
    workspace.write(matrix={**workspace.tree["matrix"], "lora.r": [2, 4]})
    assert "axis of the matrix" in error_of(workspace, "lora.r=8")


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen3-0.6B", "meta-llama/Llama-3.2-1B", "gpt2", "HuggingFaceTB/SmolLM2-135M"]
)
def test_names_on_the_hub_are_names(workspace: Workspace, name: str) -> None:
    from harness.core.locate import locate

    assert locate(name, workspace.path, "") is None


def test_gc_leaves_a_store_that_a_run_works_in(workspace: Workspace) -> None:
    from harness.commands.gc import collect
    from harness.store.store import Store

    workspace.run()
    store = Store(workspace.store)
    with store.in_use(), pytest.raises(HarnessError, match="1 run is using"):
        collect([], workspace.store, 0.0, checkpoints=False, dry_run=False)
    assert store.runs() == 0
    assert "stages removed" in collect([], workspace.store, 0.0, checkpoints=False, dry_run=False)


def test_damaged_scores_are_named_by_report(workspace: Workspace) -> None:
    from harness.commands import report as reports

    workspace.run()
    scores = next(workspace.store.glob("score/*/scores.parquet"))
    scores.write_bytes(scores.read_bytes()[:-9])
    with pytest.raises(HarnessError, match="damaged outputs: score"):
        reports.stored(workspace.open())
