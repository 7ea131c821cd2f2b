"""Checkpoints trained elsewhere, scored beside the others; and adapters scored merged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import comparison as compare
from harness.commands import report as reports
from harness.core.errors import HarnessError, ModelError
from harness.models.checkpoint import adapter_method
from harness.models.files import ModelRef
from harness.report.formats import markdown
from harness.variants.variant import Merged
from tests.conftest import Workspace
from tests.methods.test_methods import make
from tests.whole.test_run import kinds, labels


def elsewhere(tiny_model: Path, folder: Path, kind: str, **options: Any) -> Path:
    """What someone else's script leaves: PEFT's or transformers' own folder, nothing of ours."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    if kind != "full":
        model = peft.get_peft_model(model, getattr(peft, kind)(task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def lora(tiny_model: Path, tmp_path: Path) -> Path:
    return elsewhere(tiny_model, tmp_path / "their-lora", "LoraConfig", r=3, lora_alpha=6,
                     target_modules=["q_proj", "down_proj"])  # fmt: skip


def only_checkpoints(workspace: Workspace, **named: Any) -> Workspace:
    workspace.write(matrix={}, checkpoints=named, evaluate=["letters"], scorers=["exact_match"])
    return workspace


def test_checkpoints_stand_beside_trained_variants_and_train_nothing(
    workspace: Workspace, tiny_model: Path, lora: Path
) -> None:
    full = elsewhere(tiny_model, workspace.folder / "their-full", "full")
    prompt = elsewhere(tiny_model, workspace.folder / "their-prompt", "PromptTuningConfig",
                       num_virtual_tokens=3)  # fmt: skip
    workspace.write(
        checkpoints={
            "theirs": {"path": "their-lora", "model": "tiny", "method": "lora"},
            "theirs-full": str(full),
            "their-prompt": str(prompt),
        },
        evaluate_merged=["lora*", "theirs"],
    )
    outcome = workspace.run()
    assert not outcome.failed, [r.error for r in outcome.failed]
    assert kinds(outcome).count("train") == 2
    assert sorted(labels(outcome, "checkpoint")) == ["their-prompt", "theirs", "theirs-full"]
    checks = {
        r.label: {c["check"]: c["status"] for c in r.metrics["audit"]}
        for r in outcome.records.values()
        if r.kind == "checkpoint"
    }
    for found in checks.values():
        assert found["its files load whole"] == "passed"
        assert found["the trained model differs from its base"] == "passed"
    assert checks["theirs"]["switched off, it is its base"] == "passed"

    opened = workspace.open()
    comparison = compare.compare(opened.plan, outcome.records, opened.store)
    names = [v.group for v in comparison.variants]
    assert names == ["zero-shot", "full-sft", "lora-sft", "lora-sft-merged", "theirs",
                     "theirs-merged", "theirs-full", "their-prompt"]  # fmt: skip
    labelled = {v.group: v.labels.get("method") for v in comparison.variants}
    assert (labelled["theirs"], labelled["theirs-full"]) == ("lora", "full")
    assert labelled["their-prompt"] == "prompt_tuning"
    assert comparison.row("theirs", "rougeL").difference is not None
    text = markdown.report(comparison)
    assert "trained elsewhere" in text
    theirs = next(v for v in comparison.variants if v.group == "theirs")
    assert theirs.cost["train_seconds"] is theirs.cost["peak_host_bytes"] is None
    # 3 (d_in + d_out) for q_proj (32, 32) and down_proj (48, 32) of two layers
    assert theirs.cost["trainable_parameters"] == 2 * 3 * (64 + 80)
    # Merging moves float32 figures by next to nothing, and the report says by how much.
    rows = {(row.group, row.metric): row for row in comparison.merged}
    assert {group for group, _ in rows} == {"lora-sft-merged", "theirs-merged"}
    moved = rows["theirs-merged", "general"].difference
    assert moved is not None
    assert abs(moved.value) < 1e-3
    assert "Merged against unmerged" in text
    assert workspace.run().ran == []


def test_scores_are_those_of_the_checkpoint_loaded_by_peft_itself(
    workspace: Workspace, tiny_model: Path, lora: Path
) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    only_checkpoints(workspace, theirs=str(lora))
    outcome = workspace.run(only="theirs")
    (stage,) = (
        r
        for r in outcome.records.values()
        if (r.kind, r.label) == ("generate", "theirs on letters")
    )
    path = workspace.store / "generate" / stage.key[:24] / "predictions.jsonl"
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoPeftModelForCausalLM.from_pretrained(lora).eval()
    for line in lines[:4]:
        chat = [{"role": "user", "content": line["prompt"]}]
        ids = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        with torch.no_grad():
            new = model.generate(input_ids=ids, max_new_tokens=4, do_sample=False, pad_token_id=1)
        text = tokenizer.decode(new[0, ids.shape[1] :], skip_special_tokens=True)
        assert line["text"] == text.strip()


def test_a_whole_model_may_have_more_tokens_than_its_base(
    workspace: Workspace, tiny_model: Path
) -> None:
    from transformers import AutoModelForCausalLM

    folder = elsewhere(tiny_model, workspace.folder / "their-full", "full")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(model.config.vocab_size + 2, mean_resizing=False)
    model.save_pretrained(folder)
    only_checkpoints(workspace, theirs=str(folder))
    assert not workspace.run().failed
    workspace.write(scorers=["kl"])
    (failed,) = (r for r in workspace.run().failed if r.kind == "score")
    assert "no divergence between" in (failed.error or {})["message"]


def test_changed_weights_are_scored_again_and_a_moved_folder_is_not(
    workspace: Workspace, tiny_model: Path, lora: Path
) -> None:
    only_checkpoints(workspace, theirs=str(lora))
    workspace.run()
    shutil.move(lora, workspace.folder / "moved")
    only_checkpoints(workspace, theirs=str(workspace.folder / "moved"))
    assert workspace.run().ran == []
    elsewhere(tiny_model, workspace.folder / "moved", "LoraConfig", r=2,
              target_modules=["q_proj"])  # fmt: skip
    assert kinds(workspace.run()) == ["checkpoint", "generate", "score"]


def test_what_a_checkpoint_lacks_is_asked_for_where_it_is_set(
    workspace: Workspace, lora: Path
) -> None:
    only_checkpoints(workspace, theirs=str(lora))
    workspace.write(base={}, baseline=None, scorers=["self_bleu"])
    with pytest.raises(HarnessError, match="add `samples: 4` to `generate:`"):
        workspace.open()
    workspace.write(scorers=["exact_match"], reward_model={"data": "letters"})
    with pytest.raises(HarnessError, match="reward_model: nothing is trained"):
        workspace.open()


def _pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")


def _pickled_beside_another(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "other.safetensors")
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")


def _configured(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _of_a_wider_base(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    state = load_file(path)
    save_file({n: t.new_zeros(3, 64) if "lora_A" in n else t for n, t in state.items()}, path)


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "gone": (shutil.rmtree, "there is no"),
    "empty": (_emptied, "neither adapter_config.json nor config.json"),
    "pickle": (_pickled, "only adapter_model.bin, whose pickle can run code"),
    "pickle beside": (_pickled_beside_another, "no adapter_model.safetensors"),
    "reward model": (_configured(task_type="SEQ_CLS"), "SEQ_CLS, and generates no answers"),
    "unknown type": (_configured(peft_type="VERA"), "'VERA', which no method here loads"),
    "randomised start": (_configured(init_lora_weights="pissa_niter_4"), "loading cannot repeat"),
    "wider base": (
        _of_a_wider_base,
        "trained on another base: its model.layers.0.* has 64 numbers",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_plan_refuses_a_checkpoint_that_cannot_be_scored(
    workspace: Workspace, lora: Path, case: str
) -> None:
    spoil, says = REFUSED[case]
    spoil(lora)
    only_checkpoints(workspace, theirs=str(lora))
    with pytest.raises(HarnessError, match=says) as refused:
        workspace.open()
    assert "checkpoints.theirs" in str(refused.value)


@pytest.mark.parametrize(
    ("head", "changes", "says"),
    [
        ("AutoModelForSequenceClassification", {}, "ForSequenceClassification, which generates no"),
        ("AutoModelForCausalLM", {"intermediate_size": 96}, "mlp.* has another shape"),
    ],
)
def test_plan_refuses_a_whole_model_of_another_head_or_other_layers(
    workspace: Workspace, tiny_model: Path, head: str, changes: dict[str, int], says: str
) -> None:
    import transformers

    config = transformers.AutoConfig.from_pretrained(tiny_model)
    for name, value in changes.items():
        setattr(config, name, value)
    made = getattr(transformers, head).from_config(config)
    made.save_pretrained(workspace.folder / "theirs")
    only_checkpoints(workspace, theirs=str(workspace.folder / "theirs"))
    with pytest.raises(HarnessError, match=says) as refused:
        workspace.open()
    assert "checkpoints.theirs" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"checkpoints": {"zero-shot": "their-lora"}}, "another variant is called 'zero-shot' too"),
        ({"checkpoints": {"lora-sft": "their-lora"}}, "another variant is called 'lora-sft' too"),
        ({"checkpoints": {"a b": "their-lora"}}, "no name for a variant"),
        ({"checkpoints": {"x": {"path": "their-lora", "model": "tnny"}}}, "did you mean 'tiny'"),
        ({"checkpoints": {"x": {"path": "their-lora", "method": "full"}}}, "method 'full' cannot"),
        ({"checkpoints": {"x": {"pth": "their-lora"}}}, "did you mean 'path'"),
        ({"checkpoints": {}, "matrix": {}, "base": {}}, "nothing to run"),
        ({"matrix": {}, "seeds": [0], "budget": {"steps": 3}}, "budget: nothing is trained"),
    ],
)
def test_suite_that_cannot_be_meant_is_refused_by_name(
    workspace: Workspace, lora: Path, changes: dict[str, Any], says: str
) -> None:
    workspace.write(**{"checkpoints": {"x": str(lora)}, **changes})
    with pytest.raises(HarnessError, match=says):
        workspace.open()


def test_the_checkpoints_own_chat_template_is_the_one_it_is_asked_with(
    workspace: Workspace, tiny_model: Path, lora: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|user|>", "<|user|>Q: ")
    tokenizer.save_pretrained(lora)
    plain = shutil.copytree(lora, workspace.folder / "plain")
    for name in ("chat_template.jinja", "tokenizer_config.json", "tokenizer.json"):
        (plain / name).unlink()
    outcome = only_checkpoints(workspace, theirs=str(lora), plain=str(plain)).run()
    assert not outcome.failed
    used = {
        r.label.split()[0]: r.metrics["chat_template"]
        for r in outcome.records.values()
        if r.kind == "generate" and r.label != "zero-shot on letters"
    }
    assert used["theirs"] != used["plain"]


def test_another_base_by_name_is_warned_of_in_plan_and_report(
    workspace: Workspace, lora: Path
) -> None:
    _configured(base_model_name_or_path="meta/other-7b")(lora)
    opened = only_checkpoints(workspace, theirs=str(lora)).open()
    assert any("trained on 'meta/other-7b'" in text for text in opened.plan.warnings)
    outcome = workspace.run()
    notes = compare.compare(opened.plan, outcome.records, opened.store).notes
    assert any("meta/other-7b" in note for note in notes)


def _without(part: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda state: {n: t for n, t in state.items() if part not in n}


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "missing": (
        _without("layers.1"),
        "its files load whole: 4 tensors are missing, first .*layers",
    ),
    "unexpected": (
        lambda state: {**state, "base_model.model.other.lora_A.weight": next(iter(state.values()))},
        "its files load whole: 1 tensors have no place in the model, first .*other",
    ),
    "untrained": (
        lambda state: {n: t * 0 if "lora_B" in n else t for n, t in state.items()},
        "the trained model differs from its base: largest logit change 0",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_audit_catches_a_checkpoint_that_is_not_what_it_says(
    workspace: Workspace, lora: Path, case: str
) -> None:
    import re

    from safetensors.torch import load_file, save_file

    spoil, says = FAULTS[case]
    path = lora / "adapter_model.safetensors"
    save_file({n: t.clone() for n, t in spoil(load_file(path)).items()}, path)
    outcome = only_checkpoints(workspace, theirs=str(lora)).run()
    (failed,) = (r for r in outcome.failed if r.kind == "checkpoint")
    assert re.search(says, (failed.error or {})["message"]), failed.error


def test_whole_model_with_missing_tensors_is_caught(workspace: Workspace, tiny_model: Path) -> None:
    from safetensors.torch import load_file, save_file

    full = elsewhere(tiny_model, workspace.folder / "their-full", "full")
    state = load_file(full / "model.safetensors")
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, full / "model.safetensors", metadata={"format": "pt"})
    outcome = only_checkpoints(workspace, theirs=str(full)).run()
    (failed,) = (r for r in outcome.failed if r.kind == "checkpoint")
    assert "1 tensors are missing, first model.layers.1.mlp.up_proj" in str(failed.error)


@pytest.mark.parametrize(
    ("config", "method", "found"),
    [
        ({"peft_type": "LORA", "use_dora": True}, None, ("dora", {"use_dora": True})),
        ({"peft_type": "LORA", "use_rslora": True}, None, ("rslora", {"use_rslora": True})),
        ({"peft_type": "LORA", "target_modules": ".*q"}, ("qlora", {"r": 2}), ("qlora", {"r": 2})),
        ({"peft_type": "IA3", "target_modules": ["k"]}, None, ("ia3", {})),
        (
            {"peft_type": "P_TUNING", "encoder_reparameterization_type": "LSTM"},
            None,
            ("p_tuning", {"encoder": "lstm"}),
        ),
    ],
)  # fmt: skip
def test_method_is_told_by_the_adapters_config(
    config: dict[str, Any], method: Any, found: tuple[str, dict[str, Any]]
) -> None:
    assert adapter_method(config, method, "") == found
    make(*found[:1], **found[1])  # and the method takes these fields


def test_method_that_does_not_fit_the_files_is_refused() -> None:
    with pytest.raises(ModelError, match="peft_type LORA, which method 'ia3' cannot load"):
        adapter_method({"peft_type": "LORA"}, ("ia3", {}), "checkpoints.x")


def test_merging_what_cannot_merge_is_refused_with_the_reason(workspace: Workspace) -> None:
    workspace.write(evaluate_merged=["full*"])
    with pytest.raises(HarnessError, match=r"full-sft cannot be merged: .*nothing to merge"):
        workspace.open()
    workspace.write(evaluate_merged=["lroa-sft"])
    with pytest.raises(HarnessError, match="did you mean 'lora-sft'"):
        workspace.open()


def test_merged_variants_share_training_and_tuning(workspace: Workspace) -> None:
    workspace.write(
        evaluate_merged=["lora-sft"], seeds=[0, 1],
        tune={"trials": 2, "metric": "exact_match", "search": "grid",
              "space": {"sft.learning_rate": [1e-3, 1e-2]}},
    )  # fmt: skip
    data = workspace.tree["data"]
    data["letters"]["validation"] = {"path": "train.jsonl", "limit": 4}
    plan = workspace.open("data=" + json.dumps(data), only="lora*").plan
    assert len(plan.tunings()) == 1
    assert len([p for p in plan.open if isinstance(p.variant, Merged)]) == 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_qlora_is_scored_in_4_bits_and_merged_into_whole_weights(
    workspace: Workspace, tiny_model: Path, dtype: str
) -> None:
    pytest.importorskip("bitsandbytes")
    (objective,) = workspace.tree["matrix"]["objective"]
    workspace.write(
        models={"tiny": {"path": str(tiny_model), "dtype": dtype}},
        matrix={"method": [{"qlora": {"r": 2}}], "objective": [objective]},
        evaluate_merged=["qlora*"], scorers=[{"perplexity": {"label": "loss"}}],
    )  # fmt: skip
    outcome = workspace.run()
    assert not outcome.failed, [r.error for r in outcome.failed]
    opened = workspace.open()
    comparison = compare.compare(opened.plan, outcome.records, opened.store)
    (row,) = comparison.merged
    assert row.difference is not None
    assert 0 < abs(row.difference.value) < 0.2 * comparison.row("qlora-sft", "loss").estimate.value
    (path,) = (p for p in opened.plan.paths if p.variant.group == "qlora-sft")
    assert path.train is not None
    merged = make("qlora", r=2).merged(
        ModelRef(str(tiny_model), dtype, "cpu"), path.train.path(opened.store.root) / "checkpoint"
    )
    assert {str(p.dtype) for p in merged.parameters()} == {f"torch.{dtype}"}
    assert reports.stored(opened)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "adapter_config.json"])
def test_code_that_came_with_a_checkpoint_is_refused(
    workspace: Workspace, lora: Path, name: str
) -> None:
    """`trust_remote_code` of a base is no trust in whoever made the checkpoint."""
    path = lora / name
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**found, "auto_map": {"AutoConfig": "x.Y"}}), encoding="utf-8")
    workspace.write(checkpoints={"theirs": str(lora)})
    with pytest.raises(HarnessError, match="names code of its own"):
        workspace.open()
