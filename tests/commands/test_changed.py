"""`harness run --changed`: only what differs from an earlier run's records runs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.commands import report as reports
from harness.commands import run as runs
from tests.conftest import Workspace, chat_rows, write_jsonl

SFT = {"max_steps": 2, "per_device_train_batch_size": 4, "max_length": 64}
LORA = [{"match": {"method": "lora"}, "set": {"sft.learning_rate": 2e-2}}]


def run(workspace: Workspace, *words: str, store: str = "store") -> tuple[int, str]:
    folder = workspace.folder
    done = CliRunner().invoke(
        main, ["run", str(workspace.path), "--store", str(folder / store), "--report-dir",
               str(folder / "report"), *words]
    )  # fmt: skip
    return done.exit_code, done.output


def ran(workspace: Workspace, store: str, kind: str) -> list[str]:
    """The labels of the stages of a kind in a store."""
    files = (workspace.folder / store).glob(f"{kind}/*/record.json")
    return sorted(json.loads(file.read_text())["label"] for file in files)


def lines(file: Path) -> dict[str, Mapping[str, Any]]:
    return {(r := json.loads(line))["key"]: r for line in file.read_text().splitlines()}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test leaves the suite's run for the others."""
    return tmp_path_factory.mktemp("known") / "run"


@pytest.fixture
def known(workspace: Workspace, first_run: Path) -> tuple[Workspace, Path, tuple[str, ...]]:
    """A suite, the records of its run, and the options that run what changed since."""
    workspace.write(
        data={"letters": {"train": "train.jsonl", "test": "test.jsonl"}},
        matrix={"method": ["full", {"lora": {"r": 4}}],
                "objective": [{"sft": {"learning_rate": 1e-2, **SFT}}]},
        scorers=["exact_match"],
    )  # fmt: skip
    file = workspace.folder / "known.jsonl"
    if first_run.exists():
        shutil.copytree(first_run, workspace.folder, dirs_exist_ok=True)
    else:
        opened = workspace.open()
        records = runs.run_stages(opened).records  # without a report, which takes longest
        reports.write_records(opened, records, file, examples=True)
        shutil.copytree(workspace.folder, first_run)
    return workspace, file, ("--changed", "--records", str(file))


def test_nothing_runs_where_nothing_changed_and_no_store_is_needed(
    known: tuple[Workspace, Path, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, file, changed = known
    text = file.read_text()
    code, said = run(workspace, *changed, store="fresh")
    assert (code, said.split("\n")[0]) == (
        0, f"nothing changed since {file} was written: nothing was run"
    )  # fmt: skip
    assert not list((workspace.folder / "fresh").glob("*/*/record.json"))
    assert file.read_text() == text
    assert "as before" in said
    # What a check needs is not in the file: the command that brings it is told, and works.
    assert "cannot judge from this store: zero-shot, full-sft, lora-sft" in said
    assert f"harness baseline set NAME {workspace.path}:zero-shot" in said
    side = f"{workspace.path}:full-sft"
    fresh = ("--store", str(workspace.folder / "fresh"))
    checked = CliRunner().invoke(main, ["check", side, "--baseline", side, *fresh])
    assert checked.exit_code == 2
    assert f"harness run {workspace.path} --store" in checked.output
    assert "--only full-sft" in checked.output
    (stored,) = re.findall(r"harness (baseline set NAME [^,]*),", checked.output)
    monkeypatch.chdir(workspace.folder)
    kept = ("--store", str(workspace.store))
    made = CliRunner().invoke(main, [*shlex.split(stored), *kept])
    assert made.exit_code == 0, made.output
    judged = CliRunner().invoke(main, ["check", "NAME", "--baseline", "NAME", *fresh])
    assert "PASSED" in judged.output
    code, said = run(workspace, "--changed")
    assert (code, "--changed needs --records FILE" in said) == (2, True)


def test_a_changed_rate_trains_the_variant_that_has_it_alone(
    known: tuple[Workspace, Path, tuple[str, ...]],
) -> None:
    workspace, file, changed = known
    before = lines(file)
    workspace.write(overrides=LORA)
    code, said = run(workspace, *changed, store="fresh")
    assert code == 0, said
    assert "1 of 3 variants changed" in said
    assert "train lora-sft: objective.learning_rate: 0.01 -> 0.02" in said
    assert ran(workspace, "fresh", "train") == ["lora-sft"]
    assert {label.split()[0] for label in ran(workspace, "fresh", "score")} == {"lora-sft"}
    # The file tells of the whole suite again: of what did not change, as it did before.
    after = lines(file)
    kept = [r for r in after.values() if r["label"].startswith(("full", "zero"))]
    assert kept == [before[r["key"]] for r in kept]
    assert {r["label"] for r in after.values()} == {r["label"] for r in before.values()}
    code, said = run(workspace, *changed, store="another")
    assert (code, "nothing changed" in said) == (0, True), said


def test_changed_rows_run_what_reads_them(
    known: tuple[Workspace, Path, tuple[str, ...]],
) -> None:
    workspace, _, changed = known
    write_jsonl(workspace.folder / "train.jsonl", chat_rows(2, 24))
    code, said = run(workspace, *changed, store="trained")
    assert (code, "2 of 3 variants changed" in said, "data letters/train: sha256" in said) == (
        0, True, True
    ), said  # fmt: skip
    assert ran(workspace, "trained", "train") == ["full-sft", "lora-sft"]
    assert not any("zero-shot" in label for label in ran(workspace, "trained", "score"))
    write_jsonl(workspace.folder / "test.jsonl", chat_rows(101, 12))
    code, said = run(workspace, *changed, store="tested")
    assert (code, "3 of 3 variants changed" in said) == (0, True), said


def test_a_scorers_option_scores_again_and_trains_what_the_store_lacks(
    known: tuple[Workspace, Path, tuple[str, ...]],
) -> None:
    workspace, _, changed = known
    trained = ran(workspace, "store", "train")
    workspace.write(scorers=[{"exact_match": {"normalise": True}}])
    code, said = run(workspace, *changed)
    assert (code, "scorer.normalise: False -> True" in said) == (0, True), said
    assert ran(workspace, "store", "train") == trained
    assert "3 of 3 variants changed" in said


def test_a_variant_that_failed_before_or_is_new_is_run(
    known: tuple[Workspace, Path, tuple[str, ...]],
) -> None:
    workspace, file, changed = known
    records = [dict(record) for record in lines(file).values()]
    for record in records:
        if (record["kind"], record["label"]) == ("train", "full-sft"):
            record |= {"status": "failed", "error": {"reason": "disk full", "message": "x"}}
    write_jsonl(file, records)
    code, said = run(workspace, *changed, store="fresh")
    assert (code, "it failed before (disk full)" in said) == (0, True), said
    assert ran(workspace, "fresh", "train") == ["full-sft"]
    workspace.tree["matrix"]["method"].append("ia3")
    workspace.write()
    code, said = run(workspace, *changed, "--only", "ia3-sft", store="new")
    assert (code, "train ia3-sft: new" in said) == (0, True), said
    assert ran(workspace, "new", "train") == ["ia3-sft"]
    code, said = run(workspace, *changed, store="another")
    assert (code, "nothing changed" in said) == (0, True), said


def test_a_first_run_and_a_damaged_file_are_told(workspace: Workspace) -> None:
    data = {"letters": {"test": "test.jsonl"}}
    workspace.write(matrix={}, scorers=["exact_match"], data=data)
    file = workspace.folder / "deep" / "known.jsonl"
    code, said = run(workspace, "--changed", "--records", str(file))
    assert (code, "1 variant is new" in said, file.is_file()) == (0, True, True), said
    file.write_text("<<<<<<< HEAD\n" + file.read_text())
    code, said = run(workspace, "--changed", "--records", str(file))
    assert (code, "known.jsonl: line 1" in said, "--records FILE" in said) == (2, True, True), said


@pytest.mark.slow
def test_the_report_is_made_where_the_store_has_all_results(
    known: tuple[Workspace, Path, tuple[str, ...]],
) -> None:
    workspace, _, changed = known
    workspace.write(overrides=LORA)
    code, said = run(workspace, *changed)
    assert (code, "report: " in said, "no report" in said) == (0, True, False), said
    assert (workspace.folder / "report" / "index.html").is_file()


@pytest.mark.slow
def test_a_tuned_variant_is_as_before_until_its_search_changes(workspace: Workspace) -> None:
    write_jsonl(workspace.folder / "dev.jsonl", chat_rows(50, 8))
    data = {**workspace.tree["data"]["letters"], "validation": "dev.jsonl"}
    tune: dict[str, Any] = {"trials": 2, "search": "grid", "metric": "exact_match",
                            "space": {"sft.learning_rate": [1e-2, 2e-2]}}  # fmt: skip
    workspace.write(
        data={"letters": data}, scorers=["exact_match"], tune=tune,
        matrix={"method": [{"lora": {"r": 4}}], "objective": [{"sft": SFT}]},
    )  # fmt: skip
    file = workspace.folder / "known.jsonl"
    code, said = run(workspace, "--records", str(file))
    assert code == 0, said
    changed = ("--changed", "--records", str(file))
    code, said = run(workspace, *changed, store="fresh")
    assert (code, "nothing changed" in said) == (0, True), said
    tune |= {"trials": 3, "space": {"sft.learning_rate": [1e-2, 2e-2, 3e-2]}}
    workspace.write(tune=tune)
    code, said = run(workspace, *changed, store="wider")
    assert (code, "1 of 2 variants changed" in said) == (0, True), said
    assert len(ran(workspace, "wider", "train")) >= 3
