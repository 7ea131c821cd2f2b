"""The gate over suites: planted regressions are caught, harmless changes pass."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from harness.cli import main
from harness.commands.sides import opened_variant
from harness.core.locate import package_suites
from tests.conftest import Workspace

POCKET = package_suites() / "pocket"


def check(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["check", *words])
    return done.exit_code, done.output


def test_suites_variant_is_judged_by_another_and_by_its_stored_baseline(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is trained: the base as it is, with its own and with another chat template."""
    monkeypatch.chdir(workspace.folder)
    workspace.write(scorers=["rouge", "exact_match"])
    workspace.run(only="zero-shot")
    side, store = f"{workspace.path}:zero-shot", ("--store", str(workspace.store))
    code, said = check(side, "--baseline", side, *store)
    assert (code, "every example has the same score" in said) == (0, True), said
    done = CliRunner().invoke(main, ["baseline", "set", "main", side, *store])
    assert done.exit_code == 0, done.output
    code, said = check(side, "--baseline", "main", *store)
    assert (code, "PASSED" in said) == (0, True), said
    code, said = check(f"{workspace.path}:full-sft", "--baseline", "main", *store)
    assert (code, "have not run" in said) == (2, True), said

    # One token of the template more: the same model reads other prompts.
    model = Path(workspace.tree["models"]["tiny"])
    template = (model / "chat_template.jinja").read_text()
    (workspace.folder / "changed.jinja").write_text(f"{template}!")
    workspace.write(models={"tiny": {"path": str(model), "chat_template": "changed.jinja"}})
    workspace.run(only="zero-shot")
    code, said = check(side, "--baseline", "main", *store)
    assert (code, "not the same chat template" in said) == (4, True), said

    # Other rows under the same ids are other examples.
    rows = (workspace.folder / "test.jsonl").read_text().replace('"content": "a', '"content": "b')
    (workspace.folder / "test.jsonl").write_text(rows)
    workspace.write(models={"tiny": str(model)})
    workspace.run(only="zero-shot")
    code, said = check(side, "--baseline", "main", *store)
    assert (code, "not the same rows" in said) == (4, True), said


def pocket(folder: Path, name: str, **changes: Any) -> Path:
    """A suite that trains a LoRA on 800 rows of the pocket world, and scores 300 of its test."""
    for split, rows in (("train", 800), ("test", 300)):
        lines = (POCKET / "instruct" / f"{split}.jsonl").read_text().splitlines()
        (folder / f"{split}.jsonl").write_text("\n".join(lines[:rows]) + "\n")
    sft = {"num_train_epochs": 1, "per_device_train_batch_size": 16, "max_length": 256,
           "learning_rate": 3e-3, "lr_scheduler_type": "cosine"}  # fmt: skip
    tree: dict[str, Any] = {
        "name": name,
        "models": {"pocket-1m": str(POCKET / "models" / "pocket-1m")},
        "data": {"tasks": {"train": changes.pop("train", "train.jsonl"), "test": "test.jsonl"}},
        "matrix": {"method": [{"lora": {"r": 16, "lora_alpha": 32}}],
                   "objective": [{"sft": {**sft, **changes.pop("sft", {})}}]},
        "base": {"zero-shot": {"max_new_tokens": 24}},
        "scorers": ["rouge", "exact_match", {"perplexity": {"data": "tasks"}}],
        "generate": {"max_new_tokens": 24},
        "executor": {"local": {"slots": 1, "threads": 1}},  # other tests run beside it
        **changes,
    }  # fmt: skip
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def shuffled(folder: Path) -> str:
    """The training rows with each answer put under another question."""
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    answers = [row["messages"][-1]["content"] for row in rows]
    random.Random(0).shuffle(answers)
    for row, answer in zip(rows, answers, strict=True):
        row["messages"][-1]["content"] = answer
        row["references"] = [answer]
    (folder / "shuffled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "shuffled.jsonl"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_planted_regressions_are_caught_and_harmless_changes_pass(tmp_path: Path) -> None:
    store = ("--store", str(tmp_path / "store"))
    good = pocket(tmp_path, "good")
    suites = {
        "good": good,
        "seed": pocket(tmp_path, "seed", seeds=[1]),
        "split": pocket(tmp_path, "split", sft={"per_device_train_batch_size": 8,
                                                "gradient_accumulation_steps": 2}),
        "labels": pocket(tmp_path, "labels", train=shuffled(tmp_path)),
    }  # fmt: skip
    for path in suites.values():
        done = CliRunner().invoke(main, ["run", str(path), *store, "--report-dir",
                                         str(tmp_path / "report")])  # fmt: skip
        assert done.exit_code == 0, done.output
    margins = [word for m in ("rouge*=0.2", "exact_match=0.2", "perplexity*=25%")
               for word in ("--margin", m)]  # fmt: skip

    def outcome(candidate: str) -> tuple[int, str]:
        return check(candidate, "--baseline", f"{good}:lora-sft", *margins, *store)

    for harmless in ("good", "split", "seed"):
        code, said = outcome(f"{suites[harmless]}:lora-sft")
        assert code == 0, said
    code, said = outcome(f"{suites['labels']}:lora-sft")
    assert code == 1, said
    code, said = outcome(f"{good}:zero-shot")  # as an adapter that is not applied answers
    assert code == 1, said
    # The adapter is there and does nothing, its second matrices being zero: the audit sees it.
    made = adapter_of(good, tmp_path / "store")
    code, said = check("--model", str(dead(made.parent, tmp_path / "dead")), "--suite", str(good),
                       "--baseline", f"{good}:lora-sft", *margins, *store)  # fmt: skip
    assert (code, "largest logit change 0" in said) == (4, True), said
    alive = ("--model", str(made.parent), "--suite", str(good))
    code, said = check(*alive, "--baseline", f"{good}:lora-sft", *margins, *store)
    assert code == 0, said


def adapter_of(suite: Path, store: Path) -> Path:
    """The adapter's file of the suite's only training."""
    _, paths = opened_variant(f"{suite}:lora-sft", store)
    assert paths[0].train is not None
    return next(paths[0].train.path(store).rglob("adapter_model.safetensors"))


def dead(checkpoint: Path, folder: Path) -> Path:
    """A copy of an adapter whose second matrices are zero."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(checkpoint, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    for name in weights:
        if "lora_B" in name:
            weights[name] = weights[name] * 0
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder
