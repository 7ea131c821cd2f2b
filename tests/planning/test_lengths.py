"""Rows that do not fit are known before anything is trained, and left out alike for all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness import comparison as comparing
from harness.cli import main
from harness.commands import report as reports
from harness.commands.plan import describe_plan
from harness.core.errors import HarnessError
from harness.planning.checks import length_notes
from harness.report import terminal_table
from harness.scheduling.schedule import Outcome
from harness.scorers.base import Subject
from harness.scorers.exact_match import ExactMatch
from harness.store.stage import Record
from tests.conftest import SFT, Workspace, chat_rows, write_jsonl
from tests.families import TEMPLATE

LONG = {"id": "long", "messages": [{"role": "user", "content": "x" * 250},
                                   {"role": "assistant", "content": "b"}]}  # fmt: skip
"""With a context of 256 it leaves room for 4 new tokens, and for no learned prompt."""
LONGER = {**LONG, "id": "longer", "messages": [{"role": "user", "content": "x" * 254},
                                               LONG["messages"][1]]}  # fmt: skip
"""It leaves no room for 4 new tokens."""


@pytest.fixture
def small(workspace: Workspace) -> Workspace:
    workspace.write(matrix={"method": ["lora"], "objective": [{"sft": SFT}]})
    return workspace


def test_rows(workspace: Workspace, rows: list[dict[str, Any]], **split: Any) -> None:
    write_jsonl(workspace.folder / "test.jsonl", rows)
    letters = {"train": "train.jsonl", "test": {"path": "test.jsonl", **split}}
    workspace.write(data={**workspace.tree["data"], "letters": letters})


test_rows.__test__ = False  # type: ignore[attr-defined]


def generated(outcome: Outcome) -> dict[str, Record]:
    return {r.label: r for r in outcome.records.values() if r.kind == "generate"}


def refused(workspace: Workspace) -> str:
    with pytest.raises(HarnessError) as caught:
        workspace.run()
    assert caught.value.exit_code == 2
    assert not list(workspace.store.glob("train/*/record.json"))
    return str(caught.value)


def test_prompt_that_does_not_fit_is_left_out_for_all_and_told(small: Workspace) -> None:
    """The base has room for it, as its answers are shorter; it is left out for the base too."""
    small.write(base={"zero-shot": {"max_new_tokens": 1}})
    test_rows(small, [*chat_rows(100, 5), LONGER])
    outcome = small.run()
    assert not outcome.failed
    found = generated(outcome)
    assert {label: r.metrics["rows"] for label, r in found.items()} == {
        "zero-shot on letters": 5, "lora-sft on letters": 5,
    }  # fmt: skip
    assert {r.config["left_out"][0] for r in found.values()} == {5}
    assert {r.metrics["left_out"] for r in found.values()} == {1}
    opened = small.open()
    compared = comparing.compare(opened.plan, outcome.records, opened.store)
    assert compared.row("lora-sft", "exact_match").n == 5
    told = " ".join(terminal_table(compared).split())
    assert "data.letters.test: 1 of 6 prompts do not fit (up to 256 tokens, and lora-sft" in told
    assert "its context of 256, less max_new_tokens 4) and are left out for all variants" in told
    assert "longer" not in told  # which row it is stands in the plan, not in a report to hand on
    assert "the first is row longer" in describe_plan(opened, why=False)


def test_learned_prompt_takes_its_places_for_all_variants(small: Workspace) -> None:
    prompts = {"prompt_tuning": {"num_virtual_tokens": 2}}
    small.write(matrix={"method": ["lora", prompts], "objective": [{"sft": SFT}]})
    test_rows(small, [*chat_rows(100, 5), LONG])
    outcome = small.run()
    assert not outcome.failed
    assert {r.metrics["rows"] for r in generated(outcome).values()} == {5}
    assert "less 2 of its learned prompt" in describe_plan(small.open(), why=False)


def test_longest_learned_prompt_that_a_tuning_may_choose_decides(small: Workspace) -> None:
    """So that what is chosen changes no rows."""
    small.write(
        matrix={"method": ["prompt_tuning"], "objective": [{"sft": SFT}]},
        tune={"trials": 2, "metric": "exact_match", "search": "grid",
              "space": {"prompt_tuning.num_virtual_tokens": [1, 2]}},
    )  # fmt: skip
    rows = {"test": [*chat_rows(100, 5), LONG], "validation": chat_rows(200, 4)}
    for split, given in rows.items():
        write_jsonl(small.folder / f"{split}.jsonl", given)
    letters = {"train": "train.jsonl", "test": "test.jsonl", "validation": "validation.jsonl"}
    small.write(data={**small.tree["data"], "letters": letters})
    (told,) = planned_notes(small)
    assert told.startswith("data.letters.test: 1 of 6 prompts do not fit")
    assert "less 2 of its learned prompt" in told


def test_where_all_rows_fit_nothing_about_them_is_hashed(small: Workspace) -> None:
    test_rows(small, [*chat_rows(100, 5), LONG])
    before = [s.key for s in small.open().plan.stages()]
    outcome = small.run()
    assert [s.key for s in small.open().plan.stages()] == before
    assert all("left_out" not in r.config for r in generated(outcome).values())
    for policy in ("error", "truncate_left"):
        test_rows(small, [*chat_rows(100, 5), LONG], overlong=policy)
        assert [s.key for s in small.open().plan.stages()] == before
    assert length_notes(small.open().plan) == []


def test_overlong_error_refuses_before_anything_is_trained(small: Workspace) -> None:
    test_rows(small, [*chat_rows(100, 5), LONGER], overlong="error")
    told = refused(small)
    assert told.startswith(f"{small.path}: data.letters.test: 1 of 6 prompts do not fit")
    assert "row longer" in told
    assert "overlong: truncate_left` or `drop`" in told


def test_truncate_left_keeps_the_end_of_the_prompt_for_all(small: Workspace) -> None:
    small.write(base={"zero-shot": {"max_new_tokens": 1}})
    test_rows(small, [*chat_rows(100, 5), LONGER], overlong="truncate_left")
    outcome = small.run()
    assert not outcome.failed
    found = generated(outcome)
    assert {r.config["truncate_left"] for r in found.values()} == {252}
    assert {(r.metrics["rows"], r.metrics["cut_left"]) for r in found.values()} == {(6, 1)}
    compared = comparing.compare(small.open().plan, outcome.records, small.open().store)
    assert any("cut at their left" in note and "252 for tiny" in note for note in compared.notes)


def test_cutting_keeps_the_token_that_begins_a_sequence() -> None:
    from types import SimpleNamespace

    from harness.data.encode import cut_left

    ids = [7, 1, 2, 3, 4]
    assert cut_left(SimpleNamespace(bos_token_id=7), ids, 3) == [7, 3, 4]
    assert cut_left(SimpleNamespace(bos_token_id=None), ids, 3) == [2, 3, 4]
    assert cut_left(SimpleNamespace(bos_token_id=9), ids, 5) == ids


def test_no_row_that_fits_is_refused_before_anything_is_trained(small: Workspace) -> None:
    test_rows(small, [LONGER])
    assert "1 of 1 prompts do not fit" in refused(small)


def test_plan_tells_from_the_cached_lengths(small: Workspace) -> None:
    from click.testing import CliRunner

    test_rows(small, [*chat_rows(100, 5), LONGER])
    arguments = ["plan", str(small.path), "--store", str(small.store)]
    assert "which rows fit is unknown" in CliRunner().invoke(main, arguments).output
    small.run()
    told = CliRunner().invoke(main, arguments).output
    assert "1 of 6 prompts do not fit" in told
    assert "unknown" not in told
    assert "0 to run" in told
    test_rows(small, [*chat_rows(100, 5), LONGER], overlong="error")
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 2
    assert "data.letters.test" in found.output


def test_training_rows_over_the_context_are_counted(small: Workspace) -> None:
    write_jsonl(small.folder / "train.jsonl", [*chat_rows(0, 5), LONGER])
    small.write(matrix={"method": ["lora"], "objective": [{"sft": {**SFT, "max_length": 1024}}]})
    (told,) = planned_notes(small)
    assert told.startswith("data.letters.train: 1 of 6 rows are over the 256 tokens")
    assert "the context of 256 of tiny" in told
    assert "overlong: drop" in told


def planned_notes(workspace: Workspace) -> list[str]:
    """What is known once the first stages have run."""
    opened = workspace.open()
    from harness.scheduling.progress import ConsoleReporter
    from harness.scheduling.schedule import execute

    first = opened.plan.groundwork()
    with open("/dev/null", "w") as nowhere:
        execute(first, first, opened.plan.executor, opened.store, ConsoleReporter(nowhere),
                workspace.folder / "log.txt")  # fmt: skip
    notes = length_notes(workspace.open().plan)
    return [note.removeprefix(f"{workspace.path}: ") for note in notes]


@pytest.mark.parametrize(("policy", "rows"), [("drop", [LONG]), ("error", [LONG, LONGER])])
def test_training_that_would_fail_by_its_lengths_is_refused(
    small: Workspace, policy: str, rows: list[dict[str, Any]]
) -> None:
    more = [] if policy == "drop" else chat_rows(0, 4)
    write_jsonl(small.folder / "train.jsonl", [*rows, *more])
    fields = {**SFT, "overlong": policy}
    small.write(matrix={"method": ["lora"], "objective": [{"sft": fields}]})
    told = refused(small)
    assert told.startswith(f"{small.path}: data.letters.train: {len(rows)} of {len(rows + more)}")
    assert "sft.max_length 64" in told
    assert "raise sft.max_length" in told


PICKY = TEMPLATE.replace(
    "{% for m in messages %}",
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('no system turn') }}{% endif %}",
    1,
)


@pytest.mark.parametrize("unusable", ["drop", "error"])
def test_row_that_the_template_refuses_is_left_out_for_all_or_an_error(
    small: Workspace, unusable: str
) -> None:
    (small.folder / "picky.jinja").write_text(PICKY)
    path = small.tree["models"]["tiny"]
    small.write(models={"tiny": {"path": path, "chat_template": "picky.jinja"}})
    system = {"role": "system", "content": "s"}
    odd = {**LONG, "id": "odd", "messages": [system, *chat_rows(0, 1)[0]["messages"]]}
    test_rows(small, [*chat_rows(100, 5), odd], unusable=unusable)
    if unusable == "error":
        told = refused(small)
        assert told.startswith(f"{small.path}: data.letters.test: row odd (number 5)")
        assert "no system turn" in told
        return
    outcome = small.run()
    assert not outcome.failed
    assert {r.metrics["rows"] for r in generated(outcome).values()} == {5}
    assert "1 of 6 rows are left out" in describe_plan(small.open(), why=False)


def test_tokenizer_that_cannot_be_loaded_is_named_before_anything_is_trained(
    small: Workspace, tiny_model: Path
) -> None:
    folder = small.folder / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "tokenizer.json").write_text("{}")
    small.write(models={"tiny": str(folder)})
    told = refused(small)
    assert told.startswith(f"{small.path}: models.tiny: its tokenizer cannot be loaded")


def test_token_that_the_embedding_lacks_is_named_with_its_row(
    small: Workspace, tiny_model: Path
) -> None:
    folder = small.folder / "model"
    shutil.copytree(tiny_model, folder)
    tokens = json.loads((folder / "tokenizer.json").read_text())
    tokens["added_tokens"].append({**tokens["added_tokens"][0], "id": 260, "content": "<new>"})
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    small.write(models={"tiny": str(folder)})
    rows = chat_rows(0, 4)
    rows[2]["messages"][0]["content"] = "a <new> one"
    write_jsonl(small.folder / "train.jsonl", rows)
    told = refused(small)
    assert told.startswith(f"{small.path}: models.tiny: row row-2 of letters/train")
    assert "the id 260," in told
    assert "resize_token_embeddings" in told


def test_rows_are_filtered_by_the_characters_of_a_column(small: Workspace) -> None:
    test_rows(small, [*chat_rows(100, 5), LONG], max_chars={"messages": 100}, min_chars={"id": 7})
    outcome = small.run(only="zero-shot")
    (data,) = [r for r in outcome.records.values() if r.label == "letters/test"]
    assert data.metrics["rows"] == 5
    assert data.metrics["dropped"] == {"not `min_chars`": 1}
    test_rows(small, chat_rows(100, 5), max_chars={"mesages": 100})
    assert "did you mean 'messages'" in refused(small)


def test_overlong_of_training_rows_is_the_objectives(small: Workspace) -> None:
    letters = {"train": {"path": "train.jsonl", "overlong": "drop"}, "test": "test.jsonl"}
    small.write(data={**small.tree["data"], "letters": letters})
    assert "put it under `test:`" in refused(small)


def test_rows_read_beside_answers_are_those_that_were_asked(
    small: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = {"answers": Subject().answers(), "rows": Subject().rows()}
    monkeypatch.setattr(ExactMatch, "asks", lambda self, of: asks)
    small.write(scorers=["exact_match"])
    test_rows(small, [LONGER, *chat_rows(100, 5)])
    assert not small.run().failed


def test_gc_keeps_what_tells_which_rows_were_asked(small: Workspace) -> None:
    from harness.commands.gc import collect

    test_rows(small, [*chat_rows(100, 5), LONGER])
    small.run()
    collect([str(small.path)], small.store, None, False, dry_run=False)
    assert reports.stored(small.open())


def test_training_rows_that_the_template_refuses_are_an_error_where_the_suite_says(
    small: Workspace,
) -> None:
    (small.folder / "picky.jinja").write_text(PICKY)
    path = small.tree["models"]["tiny"]
    system = {"role": "system", "content": "s"}
    rows = chat_rows(0, 5)
    rows[3]["messages"].insert(0, system)
    write_jsonl(small.folder / "train.jsonl", rows)
    train = {"path": "train.jsonl", "unusable": "error"}
    small.write(
        models={"tiny": {"path": path, "chat_template": "picky.jinja"}},
        data={**small.tree["data"], "letters": {"train": train, "test": "test.jsonl"}},
    )
    told = refused(small)
    assert told.startswith(f"{small.path}: data.letters.train: 1 of 5 rows")
    assert "no system turn; the first is row row-3" in told


def test_harness_data_tells_which_rows_do_not_fit(small: Workspace) -> None:
    from harness.commands import data as data_view

    test_rows(small, [*chat_rows(100, 5), LONGER])
    told = data_view.show(small.open(), None, 1, color=False)
    assert "data.letters.test: 1 of 6 prompts do not fit" in told


SYSTEM_FIRST = TEMPLATE.replace(
    "{% for m in messages %}",
    "{% for m in messages %}{% if m['role'] == 'system' and not loop.first %}"
    "{{ raise_exception('a system turn comes first') }}{% endif %}",
    1,
)


def test_shots_that_the_template_takes_only_alone_are_dropped_and_counted(
    small: Workspace,
) -> None:
    """Each is fine by itself; after another its system turn comes too late."""
    (small.folder / "first.jinja").write_text(SYSTEM_FIRST)
    rows = chat_rows(0, 6)
    for row in rows:
        row["messages"].insert(0, {"role": "system", "content": "s"})
    write_jsonl(small.folder / "train.jsonl", rows)
    path = small.tree["models"]["tiny"]
    small.write(
        models={"tiny": {"path": path, "chat_template": "first.jinja"}},
        base={"few-shot": {"max_new_tokens": 4, "num_fewshot": 2}},
    )
    outcome = small.run(only="few-shot")
    assert not outcome.failed
    assert generated(outcome)["few-shot on letters"].metrics["mean_shots"] == 1
