"""Other tools' published results: read whole or refused, compared as what they are."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.comparison.contrasts import Contrast
from harness.comparison.result import Conditions
from harness.comparison.unpaired import Figure, contrast_of
from harness.core.errors import DataError
from harness.importers import peft_comparison
from harness.importers import peft_method_comparison as peft
from harness.store.stage import Record
from tests.importers import samples

RUN: dict[str, Any] = {
    "run_info": {
        "created_at": "2026-01-01", "total_time": 100.0, "experiment_name": "lora/a",
        "train_config": {"model_id": "some/model", "seed": 0}, "peft_config": {"r": 8},
        "error_msg": "",
    },
    "train_info": {
        "accelerator_memory_max": 2**30, "train_time": 90.0, "file_size": 4096,
        "num_trainable_params": 1000, "num_total_params": 100_000, "status": "success",
        "metrics": [
            {"step": 250, "train loss": 0.9},
            {"step": 500, "test accuracy": 0.5, "train loss": 0.7, "train total tokens": 7,
             "forgetting": 0.25},
        ],
    },
    "meta_info": {
        "model_info": {"sha": "abc"},
        "dataset_info": {"metamath": {"sha": "m"}, "gsm8k": {"sha": "g"}},
        "package_info": {"torch-version": "2.13.0", "torch-commit-hash": None},
        "system_info": {"accelerator": "GPU", "system": "Linux", "release": "6"},
    },
}  # fmt: skip


def write(folder: Path, name: str, correct: int, **train: Any) -> Path:
    run = copy.deepcopy(RUN)
    run["run_info"]["experiment_name"] = name
    run["train_info"]["metrics"][-1]["test accuracy"] = correct / 200
    run["train_info"] |= train
    folder.mkdir(exist_ok=True)
    path = folder / f"{name.replace('/', '--')}.json"
    path.write_text(json.dumps(run))
    return path


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    write(folder, "full-finetuning/a", 100)
    write(folder, "lora/a", 104)
    write(folder, "lora/b", 150)
    write(folder, "ia3/a", 0, status="failed", metrics=[])
    return tmp_path


def test_runs_are_compared_and_what_they_lack_is_said(published: Path) -> None:
    found = peft_comparison.compare(
        peft.read_records(published, 200), "full-finetuning/a", published
    )
    close, far = (found.row(name, "accuracy") for name in ("lora/a", "lora/b"))
    assert (close.verdict, far.verdict) == ("no difference shown", "better")
    assert far.difference is not None
    assert far.difference.value == pytest.approx(0.25)
    assert (far.n, far.seeds, far.level) == (200, 1, "checkpoint")
    assert far.p is not None
    assert far.p_holm == pytest.approx(2 * far.p), "Holm over the two accuracies"
    assert found.row("lora/a", "forgetting").verdict == "incomparable"
    assert found.row("full-finetuning/a", "forgetting").verdict == "baseline"
    (failed,) = found.failed
    assert (failed.group, failed.reasons) == ("ia3/a", ("ended as 'failed'",))
    assert found.command.endswith("--baseline full-finetuning/a --test-rows 200")
    said = " ".join(found.notes)
    assert "no per-example rows" in said
    assert "seed 0" in said
    by_group = {variant.group: variant for variant in found.variants}
    assert by_group["lora/a"].cost["peak_device_bytes"] == 2**30
    assert by_group["lora/a"].timed == (Conditions("GPU"),)
    assert by_group["lora/a"].losses == (((250, 0.9), (500, 0.7)),)


def test_command_writes_a_report_and_records_that_hold(published: Path) -> None:
    report, records = published / "report", published / "records.jsonl"
    found = CliRunner().invoke(
        main,
        ["import", "peft-method-comparison", str(published), "--test-rows", "200",
         "--report-dir", str(report), "--records", str(records)],
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    page, short = (report / "index.html").read_text(), (report / "report.md").read_text()
    for text in (page, short):
        plain = re.sub(r"\\(.)", r"\1", text)
        assert "Unpaired tests of two shares" in plain
        assert "Paired on the same examples" not in plain
        assert str(published.parent) not in plain, "a page says nothing of the machine's folders"
    read = [Record.model_validate_json(line) for line in records.read_text().splitlines()]
    assert [r.status for r in read] == ["ok", "failed", "ok", "ok"]
    assert read[0].metrics["correct"] == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "not a result of PEFT's method comparison"),
        ('{"run_info": {}}', "KeyError 'train_info'"),
    ],
)
def test_file_that_is_no_run_is_named(published: Path, text: str, message: str) -> None:
    (published / "results" / "other.json").write_text(text)
    with pytest.raises(DataError, match=r"other\.json") as caught:
        peft.read_records(published, 200)
    assert message in str(caught.value)


def test_mistakes_are_answered_with_the_choices(
    published: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def said(*arguments: str) -> str:
        found = CliRunner().invoke(
            main, ["import", "peft-method-comparison", str(published), *arguments]
        )
        assert found.exit_code == 2
        return found.output

    assert "is no share of 1319 rows" in said()
    assert "did you mean 'lora/a'" in said("--test-rows", "200", "--baseline", "lora/aa")
    (published / "results" / "full-finetuning--a.json").unlink()
    assert "name one of: lora/a, lora/b" in said("--test-rows", "200")
    with pytest.raises(DataError, match=r"no \*\.json of a run"):
        peft.read_records(tmp_path_factory.mktemp("empty"), 200)


def difference(ours: int, theirs: int) -> Contrast:
    """Of two shares of 200, of which the examples are not known."""
    one, other = (Figure(right / 200, 200, right, ()) for right in (ours, theirs))
    return contrast_of(one, other)


def test_interval_and_p_of_two_shares_agree_and_power_is_what_is_promised() -> None:
    for correct in range(60, 141, 4):
        found = difference(correct, 100)
        low, high = found.interval(0.05)
        assert (found.p(0.0) < 0.05) is not (low <= 0 <= high)
    seen, rng = difference(100, 100).detectable(0.05), np.random.default_rng(0)
    draws = zip(rng.binomial(200, 0.5 + seen / 2, 500), rng.binomial(200, 0.5 - seen / 2, 500),
                strict=True)  # fmt: skip
    shown = [difference(int(a), int(b)).p(0.0) < 0.05 for a, b in draws]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.06)


def test_figures_of_image_generation_are_shown_and_not_tested(tmp_path: Path) -> None:
    """Its files have one data set and a figure of a few pictures; its folder was refused once."""
    for name, similarity in (("full-finetuning/a", 0.71), ("lora/a", 0.69)):
        run = samples.peft_run({"test dino_similarity": similarity, "drift": 0.26})
        run["run_info"]["experiment_name"] = name
        samples.document(tmp_path / f"{name.replace('/', '--')}.json", run)
    done = CliRunner().invoke(main, ["import", str(tmp_path), "--report-dir", str(tmp_path / "r")])
    assert done.exit_code == 0, done.output
    compared = peft_comparison.compare(peft.read_records(tmp_path), "full-finetuning/a", tmp_path)
    row = compared.row("lora/a", "dino_similarity")
    assert (row.verdict, row.estimate.value) == ("incomparable", 0.69)
    assert row.note == "one figure a run, without its spread: no test"
    assert not compared.row("lora/a", "drift").higher_is_better
    assert "no difference can be tested" in " ".join(compared.notes)
    samples.document(tmp_path / "speed.json", {"run_info": {}, "generation_info": {}})
    with pytest.raises(DataError, match="holds times of generation, and no score"):
        peft.read_records(tmp_path)


def test_runs_of_any_tool_are_compared_and_reported(tmp_path: Path) -> None:
    """Paired where scores of examples are known; a record file holds what was read."""
    right = [1] * 60 + [0] * 40
    files = [samples.table(tmp_path, right, "old.csv"),
             samples.table(tmp_path, [0] * 15 + right[15:], "new.csv")]  # fmt: skip
    report, records = tmp_path / "report", tmp_path / "records.jsonl"
    done = CliRunner().invoke(main, ["import", *map(str, files), "--report-dir", str(report),
                                     "--records", str(records)])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "new.csv" in done.output
    assert "worse" in done.output
    assert len(records.read_text().splitlines()) == 2
    assert "worse" in (report / "summary.md").read_text()


def test_an_import_leaves_a_report_of_other_results_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, right in (("one", "1"), ("two", "0")):
        Path(f"{name}.csv").write_text(f"example_id,acc\na,1\nb,{right}\n", encoding="utf-8")

    def imported(*words: str) -> tuple[str, str, str]:
        result = CliRunner().invoke(main, ["import", *words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        told = result.output.splitlines()[-1]
        match = re.match(r"report: (.*)/index.html", told)
        assert match
        page = Path(match[1], "index.html").read_text(encoding="utf-8")
        return match[1], page, told

    first, page, told = imported("one.csv")
    assert "another report" not in told
    assert imported("one.csv") == (first, page, told)  # the same again is written where it was
    second, other, told = imported("two.csv")
    assert second == f"{first}-2"
    assert other != page
    assert f"{first} has another report; --report-dir {first} replaces it" in told
    assert Path(first, "index.html").read_text(encoding="utf-8") == page
    assert imported("two.csv", "--report-dir", first)[0] == first
    assert Path(first, "index.html").read_text(encoding="utf-8") != page


def results(folder: Path, model: str, **scores: float) -> str:
    """A file of lm-eval's results: values and their standard errors of one metric on tasks."""
    found = {task: {"acc,none": value, "acc_stderr,none": 0.01} for task, value in scores.items()}
    content = {"results": found, "configs": {}, "lm_eval_version": "0.4.9", "model_name": model,
               "versions": dict.fromkeys(scores, 1),
               "n-samples": {t: {"effective": 1000} for t in scores}}  # fmt: skip
    return str(samples.document(folder / f"{model}.json", content))


def test_an_import_is_told_over_all_its_metrics_and_unknown_costs_are_not_none(
    tmp_path: Path,
) -> None:
    files = [results(tmp_path, "small", a=0.5, b=0.5, c=0.5),
             results(tmp_path, "large", a=0.5, b=0.7, c=0.3)]  # fmt: skip
    report = tmp_path / "report"
    done = CliRunner().invoke(main, ["import", *files, "--report-dir", str(report)])
    assert done.exit_code == 0, done.output
    names = ("index.html", "report.md", "summary.md")
    texts = [(report / name).read_text(encoding="utf-8") for name in names]
    for text in (" ".join(done.output.split()), *texts):
        assert ("Over all 3 metrics: against small, large is better on 1, worse on 1, without a"
                " shown difference on 1.") in text  # fmt: skip
        assert "What the runs cost is not known" in text
        for none in ("no training", "not trained", "untrained model", "training time"):
            assert none not in re.sub("<script.*", "", text, flags=re.DOTALL)
    assert "on the same examples" not in texts[1]
    assert "Unpaired where a side has no scores of examples" in texts[1]


@pytest.mark.real
def test_published_runs_of_peft(real_data: Path) -> None:
    """Accuracies are shares of GSM8K's 1,319; what differs from LoRA beyond chance."""
    records = peft.read_records(real_data / "results" / "peft_metamathqa")
    found = peft_comparison.compare(records, "lora/llama-3.2-3B-rank32", Path("peft_metamathqa"))
    verdicts = {row.group: row.verdict for row in found.rows if row.metric == "accuracy"}
    assert len(verdicts) == len(found.variants) == 17
    assert list(verdicts.values()).count("better") == 0
    same = {group for group, verdict in verdicts.items() if verdict == "no difference shown"}
    assert {name.split("/")[0] for name in same} == {"full-finetuning", "ia3", "lily", "lora"}
    row = found.row("lora/llama-3.2-3B-rank32", "accuracy")
    assert (row.n, round(row.estimate.value, 4)) == (1319, 0.4784)
