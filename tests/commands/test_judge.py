"""`harness judge`: a suite's judge labelled, calibrated and attacked, as its user does it."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.cli import main
from harness.commands.judge.calibrate import _meant, calibrate
from harness.commands.judge.pairs import _pair, data_pairs, own_pairs, triples
from harness.comparison.kept_credentials import known_attacks, known_credentials
from harness.core.errors import HarnessError, StageFailed, SuiteError
from harness.data.cells import content
from harness.data.judge_labels import Label, Pair, read_labels, write_labels
from harness.data.verdict_lines import read_lines
from harness.planning.duels import duels
from harness.planning.judging import judge_called
from tests.conftest import Workspace, chat_rows, write_jsonl

RULES = """
def longer(row, one, other):
    return len(one) - len(other)

def shorter(row, one, other):
    return len(other) - len(one)

def silent(row, one, other):
    return None
"""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Workspace:
    """A suite that was run, whose judge prefers the longer answer."""
    folder = tmp_path_factory.mktemp("judged")
    write_jsonl(folder / "train.jsonl", chat_rows(0, 24))
    write_jsonl(folder / "test.jsonl", chat_rows(100, 12))
    sides = {"chosen": "a good long answer", "rejected": "a bad one"}
    rows = [{"id": f"p{i}", "prompt": f"question {i}", **sides} for i in range(20)]
    write_jsonl(folder / "preferences.jsonl", rows)
    (folder / "rules.py").write_text(RULES)
    sft = {"learning_rate": 1e-2, "max_steps": 8, "max_length": 64}
    workspace = Workspace(folder, {
        "name": "judged",
        "models": {"tiny": str(tiny_model)},
        "data": {"letters": {"train": "train.jsonl", "test": "test.jsonl"},
                 "preferences": {"test": "preferences.jsonl"}},
        "matrix": {"data": ["letters"], "method": ["full"],
                   "objective": [{"sft": sft}]},
        "base": {"zero-shot": {"max_new_tokens": 8}},
        "evaluate": ["letters", "preferences"],
        "scorers": [{"pairwise": {"labeller": "longest", "against": "reference",
                                  "data": "letters"}}],
        "generate": {"max_new_tokens": 8},
        "executor": "inline",
    })  # fmt: skip
    outcome = workspace.run()
    assert not outcome.failed
    return workspace


Command = Callable[..., Result]


@pytest.fixture
def command(judged: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """`harness judge NAME SUITE ...` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def run(name: str, *arguments: str) -> Result:
        suite = [str(judged.path), "--store", str(judged.store)]
        return runner.invoke(main, ["judge", name, *suite, *arguments])

    return run


def fill(sheet: Path, filled: Path, says: Callable[[str, str], str]) -> None:
    """Fill in a sheet as somebody does who sees two answers."""
    with sheet.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.reader(handle))
    for row in rows[1:]:
        row[1] = says(row[3], row[4])
    with filled.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows(rows)


def by_length(one: str, other: str) -> str:
    return "1" if len(one) > len(other) else "2" if len(one) < len(other) else "tie"


def test_sheet_is_written_filled_read_and_calibrates_the_judge(
    command: Command, judged: Workspace, tmp_path: Path
) -> None:
    written = command("label", "--pairs", "10")
    assert written.exit_code == 0, written.output
    folder = Path("labels/judged")
    assert {path.name for path in folder.iterdir()} == {"sheet.html", "sheet.csv", "key.jsonl"}
    assert (folder / "sheet.csv").read_bytes().startswith(b"\xef\xbb\xbf")  # for spreadsheets
    for name in ("sheet.html", "sheet.csv"):
        text = (folder / name).read_text(encoding="utf-8")
        assert not any(variant in text for variant in ("lora-sft", "full-sft", "zero-shot"))
    fill(folder / "sheet.csv", tmp_path / "ann.csv", by_length)
    fill(folder / "sheet.csv", tmp_path / "bob.csv", by_length)
    read = command("label", "--filled", "ann.csv", "--filled", "bob.csv")
    assert "20 labels of 10 pairs of 10, by 2" in read.output
    assert {label.labeller for label in read_labels(folder / "labels.jsonl")} == {"ann", "bob"}
    result = command("calibrate", "--labels", "labels/judged/labels.jsonl", "--runs", "1")
    assert result.exit_code == 0, result.output
    assert "judge 'longest' on 10 labelled pairs (labels.jsonl, 2 labellers)" in result.stdout
    known = judge_called(judged.open().plan, None)
    kept = known_credentials(judged.store, known.identity)
    (made,) = [one for one in kept if one.source == "labels.jsonl"]
    assert made.whole is not None
    assert made.whole.agreement.value == 1.0
    assert made.people is not None
    assert made.people.value == 1.0


@pytest.mark.parametrize(
    ("rule", "agrees", "said"),
    [("longer", 1.0, "agrees with the labels more than chance"), ("shorter", None, "no winner")],
)
def test_a_rule_of_the_suite_calibrates_the_judge(
    command: Command, judged: Workspace, rule: str, agrees: float | None, said: str
) -> None:
    result = command("calibrate", "--rule", f"rules.py:{rule}", "--pairs", "30")
    assert result.exit_code == 0, result.output
    assert said in result.stdout.replace("\n", " ")
    identity = judge_called(judged.open().plan, None).identity
    made = next(c for c in known_credentials(judged.store, identity) if rule in c.source)
    assert made.whole is not None
    assert agrees is None or made.whole.agreement.value == agrees
    assert made.repeatability is not None
    assert made.repeatability.value == 1.0
    assert made.triples > 0
    assert made.transitivity is not None
    assert made.transitivity.value == 1.0
    assert made.rates, "the suite's own win rates are told beside"
    assert all(rate.labelled >= 10 for rate in made.rates)


@pytest.mark.parametrize("changed", [False, True])
def test_labels_of_other_answers_correct_no_win_rate(
    judged: Workspace, tmp_path: Path, changed: bool
) -> None:
    """A variant that was trained anew has other answers to the same rows."""
    opened = judged.open()
    known = judge_called(opened.plan, None)
    said = " of an earlier training" if changed else ""
    labels = [
        Label(replace(pair, id=f"{pair.id}{said}", one=_with(pair.one, said)), 1)
        for _, pair in triples(opened, known, 30, 0)
    ]
    write_labels(tmp_path / f"labels {changed}.jsonl", labels)
    calibrate(opened, labels=tmp_path / f"labels {changed}.jsonl", runs=1)
    kept = known_credentials(judged.store, known.identity)
    (made,) = [one for one in kept if one.source == f"labels {changed}.jsonl"]
    assert bool(made.rates) != changed


def _with(answer: Any, more: str) -> Any:
    return [{**turn, "content": turn["content"] + more} for turn in answer]


def test_calibrating_trains_and_generates_nothing_and_asks_once(
    command: Command, judged: Workspace
) -> None:
    before = {path for path in judged.store.glob("*/*/record.json")}
    first = command("calibrate", "--rule", "rules.py:longer", "--pairs", "9")
    after = {path for path in judged.store.glob("*/*/record.json")}
    assert {path.parents[1].name for path in after - before} <= {"verdicts"}
    again = command("calibrate", "--rule", "rules.py:longer", "--pairs", "9")
    assert (
        again.stdout.split("kept")[0]
        == first.stdout.split("judge 'longest'")[-1].join(["judge 'longest'", ""]).split("kept")[0]
    )


def test_chosen_answers_of_a_data_entry_calibrate_the_judge(command: Command) -> None:
    result = command("calibrate", "--data", "preferences", "--pairs", "20")
    assert result.exit_code == 0, result.output
    assert "chosen answers of preferences" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing says which answers are better"),
        (["--labels", "none.csv"], "there is no file 'none.csv'"),
        (["--judge", "longst"], "did you mean 'longest'"),
        (["--data", "preference"], "did you mean 'preferences'"),
        (["--data", "letters"], "holds no preferences"),
        (["--rule", "rules.py:longr"], "did you mean 'longer'"),
        (["--rule", "rules.py:silent"], "knows none of these answers"),
        (["--pairs", "0"], "--pairs"),
        (["--precision", "0"], "--precision"),
    ],
)
def test_a_mistake_is_answered_by_a_sentence_and_status_2(
    command: Command, arguments: list[str], said: str
) -> None:
    result = command("calibrate", *arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_sheet_is_not_replaced_while_it_may_be_being_filled(command: Command) -> None:
    assert command("label", "--pairs", "5").exit_code == 0
    assert command("label", "--pairs", "5").exit_code == 0, "the very same sheet"
    other = command("label", "--pairs", "5", "--seed", "1")
    assert other.exit_code == 2
    assert "the key of another sheet" in other.output
    assert command("label", "--pairs", "5", "--seed", "1", "--force").exit_code == 0
    nowhere = command("label", "--filled", "ann.csv", "--out", "nowhere")
    assert nowhere.exit_code == 2
    assert "there is no nowhere/key.jsonl" in nowhere.output


def test_attacks_are_run_and_the_judge_that_likes_length_is_won_over(
    command: Command, judged: Workspace
) -> None:
    result = command("attack", "--pairs", "6")
    assert result.exit_code == 0, result.output
    assert "Attacks win over this judge" in result.stdout.replace("\n", " ")
    (record,) = known_attacks(judged.store, judge_called(judged.open().plan, None).identity)
    assert (record.pairs, record.control.won) == (6, 0)
    won = {success.name: success.won for success in record.attacks}
    assert len(won) >= 30
    assert won["padded with praise"] == 6
    assert won["empty"] == 0
    assert re.search(r"padded with praise +form +6 +6 ", result.stdout)


def test_attacks_with_no_verdict_are_missing_and_never_won(
    command: Command, judged: Workspace
) -> None:
    """This judge gives none on a question mark, which one attack holds."""
    command("attack", "--pairs", "6")
    (record,) = known_attacks(judged.store, judge_called(judged.open().plan, None).identity)
    (asking,) = [success for success in record.attacks if success.name == "Llama turn"]
    assert (asking.tried, asking.missing, asking.rate) == (0, 6, None)


def test_pairs_are_drawn_by_the_seed_from_different_prompts_and_never_equal(
    judged: Workspace,
) -> None:
    opened = judged.open()
    judge = judge_called(opened.plan, None)
    assert {(d.one, d.other) for d in duels(opened.plan, judge)} == {
        (name, "reference") for name in ("full-sft", "zero-shot")
    }  # fmt: skip
    pairs = own_pairs(opened, judge, 12, 0)
    assert pairs == own_pairs(opened, judge, 12, 0) != own_pairs(opened, judge, 12, 1)
    many = own_pairs(opened, judge, 1000, 0)
    assert len({pair.id for pair in many}) == len(many)
    assert all(content(p.one).strip() != content(p.other).strip() for p in many)
    assert len({pair.example_id for pair in many[:8]}) == 8
    three = [pair for _, pair in triples(opened, judge, 30, 0)]
    assert len(three) <= 30
    assert max(sum(p.example_id == q.example_id for q in three) for p in three) == 3


def test_chosen_answers_stand_first_as_often_as_second(judged: Workspace) -> None:
    drawn = list(data_pairs(judged.open(), "preferences", 20, 0))
    signs = [sign for _, _, sign in drawn]
    assert 3 < signs.count(1) < 17
    for _, pair, sign in drawn:
        assert (pair.one_is, pair.other_is)[sign == -1] == "chosen"


def test_answers_that_are_not_there_yet_are_asked_for(judged: Workspace, tmp_path: Path) -> None:
    opened = judged.open(store=tmp_path / "empty")
    with pytest.raises(HarnessError, match=r"has not run\n  run harness run"):
        calibrate(opened, rule="rules.py:longer")


def test_a_judge_that_fails_ends_with_status_5(judged: Workspace, tmp_path: Path) -> None:
    shutil.copytree(judged.folder, tmp_path / "copy")
    copy = Workspace(tmp_path / "copy", json.loads(json.dumps(judged.tree)))
    file = copy.folder / "verdicts.jsonl"
    write_jsonl(file, [{"prompt": "?", "one": "a", "other": "b", "verdict": 1}])
    replay = {"labeller": {"replay": {"file": file.name}}, "data": "letters", "label": "replay"}
    copy.write(scorers=[*judged.tree["scorers"], {"pairwise": replay}])
    opened = copy.open()
    file.write_text("{", encoding="utf-8")
    with pytest.raises((StageFailed, SuiteError)) as failure:
        calibrate(opened, judge="replay", rule="rules.py:longer", count=5)
    assert failure.value.exit_code == 5


def test_help_tells_what_to_do_first() -> None:
    shown = CliRunner().invoke(main, ["judge", "--help"]).output
    assert "harness run SUITE" in shown
    assert all(name in shown for name in ("attack", "calibrate", "label"))
    assert "..." not in shown.split("Commands:")[1]


def test_report_shows_credentials_beside_what_was_judged(
    command: Command, judged: Workspace, tmp_path: Path
) -> None:
    def summary(store: Path) -> str:
        written = CliRunner().invoke(
            main, ["report", str(judged.path), "--store", str(store), "--report-dir", "report"]
        )
        assert written.exit_code == 0, written.output
        text = Path("report/report.md").read_text(encoding="utf-8")
        page = Path("report/index.html").read_text(encoding="utf-8")
        assert ("uncalibrated" in text) == ("uncalibrated" in page)
        return text

    store = tmp_path / "store"
    shutil.copytree(judged.store, store)
    shutil.rmtree(store / "credentials", ignore_errors=True)
    text = summary(store)
    assert "judge\\_win\\_rate (uncalibrated)" in text or "judge_win_rate (uncalibrated)" in text
    assert "No winner is called" in text
    assert "how well the judge agrees with people is not known" in text
    (rates,) = [part for part in text.split("## ") if part.startswith("Judged win rates")]
    assert rates.count("| reference |") == 2
    assert "length-controlled" in rates
    suite = [str(judged.path), "--store", str(store), "--pairs", "30"]
    for rule, said in (("shorter", "not better than chance: kappa"), ("longer", "kappa 1.00 on")):
        calibrated = CliRunner().invoke(
            main, ["judge", "calibrate", *suite, "--rule", f"rules.py:{rule}"]
        )
        assert calibrated.exit_code == 0, calibrated.output
        text = summary(store)
        assert said in text, "the report is made again"
        assert ("No winner is called" in text) == (rule == "shorter")
        assert f"rules.py:{rule}" in text, "the table of judges"
        assert "Win rates with the judge's error" in text
        assert "with the judge's error, the win rate is" in text
        (kept,) = (store / "credentials").iterdir()
        kept.rename(kept.with_name("0" * 32))
        assert "(uncalibrated)" in summary(store), "the same file, of another judge"
        shutil.rmtree(store / "credentials")


@pytest.fixture
def rating(judged: Workspace, tmp_path: Path) -> Workspace:
    """The same suite with a judge that rates; what was trained and generated is cached."""
    shutil.copytree(judged.folder, tmp_path / "rating")
    copy = Workspace(tmp_path / "rating", json.loads(json.dumps(judged.tree)))
    dimensions = {"helpful": {"scale": [1, 5]}, "polite": {"scale": [1, 3]}}
    rates = {"labeller": {"judge": {"model": "tiny"}}, "data": "letters",
             "dimensions": dimensions, "prompt": "{{ dimension }} {{ answer }}"}  # fmt: skip
    copy.write(scorers=[{"pointwise": rates}])
    outcome = copy.run()
    assert not outcome.failed
    return copy


def test_a_judge_that_rates_is_held_to_labels_by_dimension(
    rating: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = [str(rating.path), "--store", str(rating.store)]

    def command(name: str, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["judge", name, *suite, *arguments])

    opened = rating.open()
    judge = judge_called(opened.plan, None)
    (duel,) = duels(opened.plan, judge)
    assert (duel.one, duel.other) == ("full-sft", "zero-shot")
    pairs = own_pairs(opened, judge, 12, 0)
    one, other = (ratings(s, opened.store) for s in (duel.stage, duel.rated) if s is not None)
    labels = []
    for pair in pairs:
        for name, sign in (("helpful", 1), ("polite", -1)):  # as the judge says, and the contrary
            a, b = one[pair.example_id, name], other[pair.example_id, name]
            labels.append(Label(pair, sign * ((a > b) - (a < b)), "ann", name))
    write_labels(tmp_path / "labels.jsonl", labels)
    result = command("calibrate", "--labels", "labels.jsonl")
    assert result.exit_code == 0, result.output
    (made,) = known_credentials(rating.store, judge.identity)
    lines = {part.slice: part.agreement.value for part in made.agreements}
    assert lines["dimension helpful"] == 1.0
    assert lines["dimension polite"] < 0.5
    assert (made.runs, made.position) == (2, None)
    assert made.repeatability is not None
    assert made.repeatability.value == 1.0, "nothing is sampled"
    assert command("calibrate", "--rule", "rules.py:longer").exit_code == 0
    elsewhere = command("calibrate", "--data", "preferences")
    assert elsewhere.exit_code == 0, "answers that the suite never rated are rated now"
    attacked = command("attack", "--pairs", "3")
    assert attacked.exit_code == 0, attacked.output
    (record,) = known_attacks(rating.store, judge.identity)
    assert record.control.won == 0
    assert command("label", "--pairs", "4").exit_code == 0


def ratings(stage: Any, store: Any) -> dict[tuple[str, str], float]:
    """(example id, dimension) -> the rating in a score stage."""
    lines = read_lines(stage.path(store.root))
    return {(line["example_id"], line["dimension"]): line["value"] for line in lines}


def test_pairs_of_rows_that_are_called_alike_are_told_apart_by_their_prompts() -> None:
    """Two evaluations may have rows of one id, and equal answers to them."""
    rows = [{"id": "1", "cluster": "1", "group": "", "prompt": p} for p in ("Why?", "Who?")]
    (one,), (other,) = (_pair(row, "a", "yes", "b", "no") for row in rows)
    assert one.id != other.id
    assert (one.prompt, other.prompt) == ("Why?", "Who?")


def test_a_label_of_a_text_holds_for_every_variant_that_gave_it() -> None:
    prompt = [{"role": "user", "content": "Why?"}]
    pair = Pair("p", prompt, "same", "other", "row", "one variant", "reference")
    both = {"row": ("other", "same"), "elsewhere": ("same", "other")}
    assert _meant({"row": prompt}, both, [Label(pair, 1), Label(pair, 0)]) == {"row": 0.25}
    assert _meant({"row": [{"role": "user", "content": "What?"}]}, both, [Label(pair, 1)]) == {}
