"""The whole path: run, run again, change one thing, run in another store."""

from __future__ import annotations

import pytest

from harness.commands import report as reports
from harness.commands import run as runs
from harness.commands.plan import describe_plan
from harness.scheduling.schedule import Outcome
from tests.conftest import Workspace


def outputs(outcome: Outcome) -> dict[str, object]:
    """What must be equal between two runs: digests and metrics, not times."""
    return {
        key: (record.metrics, {name: out.sha256 for name, out in record.outputs.items()})
        for key, record in outcome.records.items()
    }


def kinds(outcome: Outcome) -> list[str]:
    return sorted(outcome.records[key].kind for key in outcome.ran)


def labels(outcome: Outcome, kind: str) -> list[str]:
    return [outcome.records[k].label for k in outcome.ran if outcome.records[k].kind == kind]


def test_second_run_runs_nothing_and_a_new_rate_only_its_own_stages(workspace: Workspace) -> None:
    first = workspace.run()
    assert not first.failed
    assert workspace.run().ran == []
    workspace.write(overrides=[{"match": {"method": "lora"}, "set": {"sft.learning_rate": 0.02}}])
    assert labels(workspace.run(), "train") == ["lora-sft"]


def test_adding_a_scorer_trains_and_generates_nothing(workspace: Workspace) -> None:
    workspace.run()
    workspace.write(scorers=[*workspace.tree["scorers"], "token_f1"])
    assert kinds(workspace.run()) == ["score"] * 3


def test_adding_a_test_set_trains_nothing(workspace: Workspace) -> None:
    workspace.run()
    data = workspace.tree["data"]
    workspace.write(data={**data, "more": {"test": {"path": "test.jsonl", "limit": 3}}},
                    evaluate=["letters", "more"])  # fmt: skip
    assert "train" not in kinds(workspace.run())


def test_two_stores_give_equal_outputs_and_a_stage_alone_equals_it_in_the_matrix(
    workspace: Workspace,
) -> None:
    whole = outputs(workspace.run())
    assert outputs(workspace.run(store=workspace.folder / "other")) == whole
    alone = outputs(workspace.run(store=workspace.folder / "alone", only="lora-sft"))
    assert len(alone) < len(whole)
    assert all(whole[key] == found for key, found in alone.items())


def test_training_record_proves_the_method_and_counts_its_cost(workspace: Workspace) -> None:
    outcome = workspace.run()
    trained = {r.label: r for r in outcome.records.values() if r.kind == "train"}
    for record in trained.values():
        assert {check["status"] for check in record.metrics["audit"]} <= {"passed", "skipped"}
        state = record.cost["state"]
        assert all(state[part] > 0 for part in ("weights", "gradients", "optimizer", "activations"))
        predicted = record.cost["predicted"]
        assert predicted["trainable_parameters"] == record.cost["trainable_parameters"]
    full, lora = trained["full-sft"].cost, trained["lora-sft"].cost
    assert lora["trainable_parameters"] < full["trainable_parameters"] == full["parameters"]
    # AdamW keeps two numbers of 4 bytes for each trainable one, and a step count a tensor.
    assert full["state"]["optimizer"] == pytest.approx(8 * full["parameters"], rel=0.01)


def test_damaged_output_and_damaged_record_are_found_and_redone(workspace: Workspace) -> None:
    whole = workspace.run()
    expected = outputs(whole)
    store = workspace.store
    (scores, *_) = store.glob("score/*/scores.parquet")
    scores.write_bytes(scores.read_bytes()[:-7])
    (record, *_) = store.glob("generate/*/record.json")
    text = record.read_text()
    record.write_text(text.replace('"eos_rate": ', '"eos_rate": 1'))
    again = workspace.run()
    assert kinds(again) == ["generate", "score"]
    assert outputs(again) == expected


def test_half_written_stage_is_never_read_as_done(workspace: Workspace) -> None:
    workspace.run()
    (trained, *_) = workspace.store.glob("train/*/record.json")
    trained.write_text(trained.read_text()[:200])
    assert "train" in kinds(workspace.run())


def test_released_checkpoint_is_trained_again_only_when_a_scorer_reads_it(
    workspace: Workspace,
) -> None:
    from harness.commands.gc import collect

    workspace.run()
    text = collect([str(workspace.path)], workspace.store, None, True, dry_run=False)
    assert "2 checkpoints released" in text
    assert not list(workspace.store.glob("train/*/checkpoint/*.safetensors"))
    workspace.write(scorers=[*workspace.tree["scorers"], "token_f1"])
    assert set(kinds(workspace.run())) == {"score"}
    workspace.write(scorers=[*workspace.tree["scorers"], {"perplexity": {"label": "task"}}])
    assert kinds(workspace.run()) == ["score"] * 3 + ["train"] * 2


def test_gc_removes_what_no_suite_uses_and_dry_run_nothing(workspace: Workspace) -> None:
    from harness.commands.gc import collect

    workspace.run()
    workspace.write(matrix={**workspace.tree["matrix"], "method": ["full"]})
    count = len(list(workspace.store.glob("*/*/record.json")))
    assert workspace.run().ran == []  # what full needs is there already
    collect([str(workspace.path)], workspace.store, None, False, dry_run=True)
    assert len(list(workspace.store.glob("*/*/record.json"))) == count
    collect([str(workspace.path)], workspace.store, None, False, dry_run=False)
    assert len(list(workspace.store.glob("train/*/record.json"))) == 1
    assert workspace.run().ran == []


def test_plan_why_names_the_field_that_differs(workspace: Workspace) -> None:
    workspace.run()
    opened = workspace.open("lora.r=2")
    text = describe_plan(opened, why=True)
    assert "method.r: 4 -> 2" in text


def test_store_answers_queries(workspace: Workspace) -> None:
    from harness.store.store import Store

    workspace.run()
    store = Store(workspace.store)
    assert {row["label"] for row in store.query(kind="train")} == {"full-sft", "lora-sft"}
    assert [row["label"] for row in store.query(kind="train", text="lora")] == ["lora-sft"]
    (workspace.store / "index.sqlite").write_bytes(b"no database at all, and long enough to tell")
    assert len(Store(workspace.store).query(kind="train")) == 2


def test_report_from_the_store_equals_the_one_of_the_run(workspace: Workspace) -> None:
    opened = workspace.open()
    outcome = runs.run_stages(opened)
    first = reports.report(opened, outcome.records, workspace.folder / "a", examples=True)
    again = reports.report(
        workspace.open(), reports.stored(workspace.open()), workspace.folder / "b", examples=True
    )
    assert first.text == again.text
    pages = [(workspace.folder / name / "index.html").read_text() for name in "ab"]
    assert pages[0] == pages[1]


def test_transfer_matrix_trains_on_one_family_and_tests_on_all(workspace: Workspace) -> None:
    both = {"path": "train.jsonl"}
    data = {
        "even": {"train": {**both, "where": {"task": "even"}}},
        "odd": {"train": {**both, "where": {"task": "odd"}}},
        "letters": workspace.tree["data"]["letters"],
        "general": workspace.tree["data"]["general"],
    }
    matrix = {"data": ["even", "odd"], "method": [{"lora": {"r": 2}}],
              "objective": workspace.tree["matrix"]["objective"]}  # fmt: skip
    workspace.write(data=data, matrix=matrix, evaluate=["letters"])
    opened = workspace.open()
    outcome = runs.run_stages(opened)
    from harness.comparison import compare

    comparison = compare(opened.plan, outcome.records, opened.store)
    row = comparison.row("lora-sft-even", "rougeL", slice="odd")
    assert (row.n, row.evaluation) == (6, "letters")


@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_is_what_the_suite_asks_for(workspace: Workspace, wanted: bool) -> None:
    workspace.write(resources={"deterministic": wanted})
    outcome = workspace.run(only="full-sft")
    assert not outcome.failed, [r.error for r in outcome.failed]
    found = {r.provenance["deterministic"] for r in outcome.records.values() if r.kind == "train"}
    assert found == {wanted}
