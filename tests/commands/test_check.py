"""`harness check`: each outcome has its exit status, and its files say the same."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from statsmodels.stats.proportion import proportions_ztest

import harness
from harness.cli import main
from harness.commands import check as checking
from harness.comparison.gate import Checked, Side
from harness.comparison.share_contrasts import PairedShares
from harness.importers import baseline
from harness.models.hub import hub_snapshot
from harness.report.check import data, markdown
from tests.comparisons import HOSTILE
from tests.importers import samples

SCHEMA = Path(__file__).parents[2] / "docs" / "check.schema.json"


def scores(right: int, of: int = 400) -> list[int]:
    return [1] * right + [0] * (of - right)


def moved(worse: int, better: int = 0, of: int = 400) -> tuple[list[int], list[int]]:
    """(baseline, candidate): so many of 300 right ones became wrong, and of the wrong ones
    right."""
    base = scores(300, of)
    new = [0] * worse + base[worse:300] + [1] * better + base[300 + better :]
    return base, new


def sides(folder: Path, base: list[int], new: list[int]) -> tuple[str, str]:
    """(candidate, baseline) as lm-eval's sample files."""
    for name in ("base", "new"):
        (folder / name).mkdir(exist_ok=True)
    one = samples.lm_eval_samples(folder / "new", new)
    return str(one), str(samples.lm_eval_samples(folder / "base", base))


def check(candidate: str, baseline: str, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["check", candidate, "--baseline", baseline, *options])
    return done.exit_code, done.output


def test_each_outcome_has_its_exit_status(tmp_path: Path) -> None:
    for worse, better, status, word in (
        (80, 0, 1, "REGRESSED"), (0, 40, 0, "PASSED"), (4, 4, 0, "PASSED"),
        (12, 2, 3, "INCONCLUSIVE"),
    ):  # fmt: skip
        base, new = moved(worse, better)
        code, said = check(*sides(tmp_path, base, new))
        assert (code, said.split(":")[0]) == (status, word), said
    assert "more examples would decide it" in said
    assert check(*sides(tmp_path, base, new), "--allow", "inconclusive")[0] == 0
    assert check(*sides(tmp_path, base, new[:300]))[0] == 4
    assert check(str(tmp_path / "gone"), str(tmp_path / "gone2"))[0] == 2


def test_one_command_gives_mcnemar_where_lm_eval_gives_an_unpaired_test(tmp_path: Path) -> None:
    """lm-eval's PR 3868 tests two sample files as if they were of other questions: 75% of 400
    against 69.5%, z = 1.75, p = .080. Paired, 33 fell and 11 rose: McNemar's exact p = .0013."""
    base, new = moved(33, 11)
    candidate, against = sides(tmp_path, base, new)
    row = harness.compare(candidate, against).row(candidate, "exact_match")
    assert row.p == pytest.approx(PairedShares(11, 33, 400).p(0))
    assert row.p == pytest.approx(0.0013, abs=1e-4)
    assert proportions_ztest([sum(new), sum(base)], [400, 400])[1] == pytest.approx(
        0.080, abs=0.004
    )
    done = CliRunner().invoke(main, ["compare", candidate, against])
    assert (done.exit_code, "0.0013" in done.output, "worse" in done.output) == (0, True, True)


def test_sample_files_of_any_name_are_compared_if_their_examples_are_the_same(
    tmp_path: Path,
) -> None:
    renamed = []
    for path, name in zip(sides(tmp_path, *moved(80)), ("new", "old"), strict=True):
        renamed.append(str(Path(path).rename(tmp_path / f"samples_{name}.jsonl")))
    code, said = check(*renamed)
    assert (code, "examples of 'old' are taken for those of 'new'" in said) == (1, True), said
    assert harness.compare(*renamed).row(renamed[0], "exact_match").p is not None
    other = Path(samples.lm_eval_samples(tmp_path, scores(300), prompt="R"))
    other = other.rename(tmp_path / "samples_other.jsonl")
    code, said = check(renamed[0], str(other))
    assert (code, "not the same prompts" in said) == (4, True), said


def test_two_logs_of_inspect_are_compared_in_one_command(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    base, new = moved(30)
    one = samples.inspect_eval(tmp_path, base)
    two = samples.inspect_eval(tmp_path / "a", new)
    done = CliRunner().invoke(main, ["compare", str(two), str(one)])
    assert done.exit_code == 0, done.output
    assert "match/popularity" in done.output
    assert "worse" in done.output


def test_the_same_scores_pass_however_few_they_are(tmp_path: Path) -> None:
    code, said = check(*sides(tmp_path, [1, 0, 1], [1, 0, 1]))
    assert (code, "every example has the same score on both sides" in said) == (0, True)


def test_other_prompts_are_incomparable_unless_allowed(tmp_path: Path) -> None:
    """A chat template that is changed by one token makes other prompts."""
    base, _ = moved(0)
    candidate, against = sides(tmp_path, base, base)
    samples.lm_eval_samples(tmp_path / "new", base, prompt="Q ")
    code, said = check(candidate, against)
    assert (code, "not the same prompts: 400 of 400" in said) == (4, True)
    assert check(candidate, against, "--allow", "prompts")[0] == 0


def test_examples_that_one_side_lacks_are_left_out_only_when_told(tmp_path: Path) -> None:
    base, _ = moved(0)
    candidate, against = sides(tmp_path, base, base[:380])
    code, said = check(candidate, against)
    assert (code, "380 of up to 400" in said, "--allow missing" in said) == (4, True, True)
    code, said = check(candidate, against, "--allow", "missing")
    assert (code, "380" in said) == (0, True)


def test_metric_that_vanished_is_no_pass(tmp_path: Path) -> None:
    """A metric that the candidate lacks on an evaluation that it has cannot be judged."""
    base, new = tmp_path / "base.csv", tmp_path / "new.csv"
    rows = [f"e{i},1,0.5" for i in range(50)]
    base.write_text("\n".join(["example_id,acc,f1", *rows]))
    new.write_text("\n".join(["example_id,acc", *(row[:-4] for row in rows)]))
    code, said = check(str(new), str(base))
    assert (code, "f1" in said) == (4, True)
    code, said = check(str(new), str(base), "--allow", "missing")
    assert (code, "only the baseline has them: f1" in said) == (0, True)


@pytest.mark.parametrize("kind", ["examples", "values"])
def test_a_metric_that_one_side_lacks_has_the_arrow_of_the_other(tmp_path: Path, kind: str) -> None:
    """Which way is better is what the side that has the metric says."""
    for side, metrics in (("base", ("acc", "wer")), ("new", ("acc",))):
        named = [f"{metric}/tasks" for metric in metrics]
        rows = [{"example_id": f"e{i}", **dict.fromkeys(metrics, 1.0)} for i in range(50)]
        if kind == "values":
            samples.document(tmp_path / f"{side}.json", _results(named))
        else:
            lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
            (tmp_path / f"{side}.csv").write_text("\n".join(lines))
    ending = "csv" if kind == "examples" else "json"
    report = tmp_path / "out"
    code, said = check(str(tmp_path / f"new.{ending}"), str(tmp_path / f"base.{ending}"),
                       "--report-dir", str(report))  # fmt: skip
    assert code == 4, said
    claims = json.loads((report / "check.json").read_text())["claims"]
    assert {c["metric"]: c["higher_is_better"] for c in claims} == {"acc": True, "wer": False}
    for text in (said, (report / "check.md").read_text()):
        lacking = next(line for line in text.splitlines() if "not judged" in line and "wer" in line)
        assert "wer" in lacking.partition("↓")[0]
        assert "≤ +" in lacking


def _results(metrics: list[str]) -> dict[str, Any]:
    """A result file of lm-eval with values and no examples."""
    scores: dict[str, Any] = {}
    for name in metrics:
        metric = name.partition("/")[0]
        scores |= {f"{metric},none": 0.5, f"{metric}_stderr,none": 0.01}
    return {"results": {"tasks": scores}, "versions": {"tasks": 1}, "n-samples": {},
            "higher_is_better": {"tasks": {m.partition("/")[0]: not m.startswith("wer")
                                           for m in metrics}},
            "configs": {}, "lm_eval_version": "0.4.9", "model_name": "m"}  # fmt: skip


def test_clusters_widen_the_interval(tmp_path: Path) -> None:
    """Examples of one document are no independent evidence."""
    base, new = moved(40, 12)
    found = []
    for clusters in (False, True):
        paths = [tmp_path / f"{side}{clusters}.csv" for side in ("base", "new")]
        for path, values in zip(paths, (base, new), strict=True):
            rows = (f"e{i},{v},d{i // 40 if clusters else i}" for i, v in enumerate(values))
            path.write_text("\n".join(["example_id,acc,cluster", *rows]))
        done = check(str(paths[1]), str(paths[0]), "--report-dir", str(tmp_path / "out"))
        claim = json.loads((tmp_path / "out" / "check.json").read_text())["claims"][0]
        found.append((done[0], claim["high"] - claim["low"]))
    assert found[0][0] == 1
    assert found[1][0] == 3
    assert found[1][1] > 2 * found[0][1]


def test_results_without_examples_limit_the_verdict_and_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    one = samples.lm_eval_results(tmp_path, 0.75, 4000)
    two = samples.lm_eval_results(tmp_path / "a", 0.50, 4000)
    code, said = check(str(two), str(one))
    assert (code, "unpaired: no scores of examples" in said) == (1, True)
    one = samples.lm_eval_results(tmp_path, 0.75, 400)
    same = samples.lm_eval_results(tmp_path / "a", 0.75, 400)
    assert check(str(same), str(one))[0] == 3
    images = samples.peft_images(tmp_path)
    code, said = check(str(images), str(images))
    assert (code, "one figure without a standard error: no test" in said) == (4, True)


def test_claims_come_from_a_file(tmp_path: Path) -> None:
    base, new = moved(12, 2)
    paths = sides(tmp_path, base, new)
    claims = tmp_path / "claims.yaml"
    claims.write_text(
        "claims:\n- candidate not_worse baseline on exact_match by 0.10\n"
        "- {metric: exact_match/gsm8k, variant: candidate, relation: at_least, than: 0.6}\n"
        "- candidate better baseline on exact_match\n"
    )
    code, said = check(*paths, "--claims", str(claims))
    assert (code, "2 of 3 claims hold, 1 refuted" in said) == (1, True), said
    for text, message in (
        ("- candidate not_worse basline on exact_match by 0.1", "did you mean 'baseline'"),
        ("- candidate not_worse baseline on exact_mach by 0.1", "did you mean 'exact_match"),
        ("- candidate nt_worse baseline on x by 0.1", "claims[0]"),
        ("hello", "holds no list of claims"), ("[", "not YAML: line 1"),
    ):  # fmt: skip
        claims.write_text(text)
        code, said = check(*paths, "--claims", str(claims))
        assert (code, message in said, said.startswith(f"{claims}: ")) == (2, True, True), said


def test_mistakes_in_options_are_answered_with_the_fix(tmp_path: Path) -> None:
    paths = sides(tmp_path, scores(3, 5), scores(3, 5))
    for options, message in (
        (("--margin", "exact_mach=0.1"), "did you mean 'exact_match/gsm8k'"),
        (("--margin", "much"), "write 0.01, 5%, or METRIC=0.01"),
        (("--allow", "inconclusiv"), "did you mean 'inconclusive'"),
    ):
        code, said = check(*paths, *options)
        assert (code, message in said) == (2, True), said
    for name in ("pocket/demo", "x" * 5000, "\0", ""):
        code, said = check(name, paths[1])
        assert (code, "give SUITE:VARIANT" in said) == (2, True)


def test_files_for_ci_say_what_the_table_says(tmp_path: Path) -> None:
    base, new = moved(80)
    folder = tmp_path / "out"
    code, _ = check(*sides(tmp_path, base, new), "--report-dir", str(folder))
    told = json.loads((folder / "check.json").read_text())
    assert (code, told["exit_code"], told["outcome"]) == (1, 1, "regressed")
    case = ElementTree.parse(folder / "junit.xml").getroot().find("testsuite/testcase")
    assert case is not None
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("type") == "regressed"
    with (folder / "worse.csv").open() as handle:
        rows = list(csv.reader(handle))[1:]
    assert [row[2:] for row in rows] == [["1.0", "0.0"]] * 80
    assert told["worse"][0]["worse"] == 80
    text = (folder / "check.md").read_text()
    assert text.startswith(markdown.MARKER)
    assert "**REGRESSED" in text
    checked = data.read((folder / "check.json").read_text())
    assert markdown.summary(checked) == text, "a comment can be made from the JSON alone"


def test_junit_tells_errors_failures_and_skips_apart(tmp_path: Path) -> None:
    base, new = moved(12, 2)
    for values, options, tag, counts in (
        (new, (), "failure", ("1", "0", "0")),
        (new, ("--allow", "inconclusive"), "skipped", ("0", "0", "1")),
        (new[:300], (), "error", ("0", "1", "0")),
    ):
        folder = tmp_path / "out"
        check(*sides(tmp_path, base, values), "--report-dir", str(folder), *options)
        suite = ElementTree.parse(folder / "junit.xml").getroot().find("testsuite")
        assert suite is not None
        assert suite.find(f"testcase/{tag}") is not None
        assert tuple(suite.get(n) for n in ("failures", "errors", "skipped")) == counts


def test_summary_fits_a_pull_request_whatever_is_in_the_file(tmp_path: Path) -> None:
    """At most 20 lines before the fold, and 12 columns; names are shown as text."""
    hostile = [name.replace("\n", " ")[:200] or "x" for name in HOSTILE.values()]
    columns = list(dict.fromkeys(n.replace(",", ";").replace('"', "'") for n in hostile))
    columns += [f"metric {i}" for i in range(60)]
    for side, value in (("base", 1), ("new", 0)):
        rows = [",".join([f"e{i}", *[str(value)] * len(columns)]) for i in range(30)]
        text = "\n".join([",".join(["example_id", *columns]), *rows])
        (tmp_path / f"{side}.csv").write_bytes(text.encode("utf-8", "replace"))
    folder = tmp_path / "out"
    code, said = check(str(tmp_path / "new.csv"), str(tmp_path / "base.csv"), "--report-dir",
                       str(folder))  # fmt: skip
    assert code == 1, said
    assert len(said.splitlines()) < 60
    shown = (folder / "check.md").read_text().split("<details>")[0]
    assert len(shown.strip().splitlines()) <= markdown.LINES
    assert all(line.count("|") <= 13 for line in shown.splitlines())
    assert "<script>" not in shown
    ElementTree.parse(folder / "junit.xml")


def test_job_summary_is_given_to_the_service_that_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sides(tmp_path, scores(3, 5), scores(3, 5))
    target = tmp_path / "summary.md"
    target.write_text("before\n")
    monkeypatch.setenv(checking.STEP_SUMMARY, str(target))
    monkeypatch.setenv(checking.AZURE, "True")
    _, said = check(*paths, "--report-dir", str(tmp_path / "out"))
    assert target.read_text().startswith(f"before\n{markdown.MARKER}")
    assert f"##vso[task.uploadsummary]{tmp_path / 'out' / 'check.md'}" in said


def test_schema_is_published() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == data.schema()


def test_baseline_is_stored_shown_and_judged_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base, new = moved(80)
    candidate, against = sides(tmp_path, base, new)
    done = CliRunner().invoke(main, ["baseline", "set", "main", against])
    assert (done.exit_code, "baselines/main.json" in done.output) == (0, True)
    file = tmp_path / "baselines" / "main.json"
    assert file.stat().st_size < 12_000
    assert '"value": 0.75' in file.read_text()
    assert CliRunner().invoke(main, ["baseline", "show"]).output.strip() == "main"
    shown = CliRunner().invoke(main, ["baseline", "show", "main"]).output
    assert "exact_match/gsm8k  0.7500  400 examples" in shown
    assert check(candidate, "main")[0] == 1
    assert check(against, "main")[0] == 0
    text = file.read_text()
    file.write_text(text.replace('"columns": {"value": "e', '"columns": {"value": "f'))
    code, said = check(against, "main")
    assert (code, "damaged" in said) == (4, True)
    done = CliRunner().invoke(main, ["baseline", "show", "mian"])
    assert (done.exit_code, "stored: main" in done.output) == (2, True)


def test_seeds_are_a_level_of_their_own(tmp_path: Path) -> None:
    """Three seeds on either side: the claim is about the method, and its interval knows it."""
    rng = np.random.default_rng(0)
    for side, gain in (("base", 0.0), ("new", -0.1)):
        rows = [
            f"e{i},{seed},{0.5 + gain + shift + rng.normal(0, 0.05):.4f}"
            for seed, shift in enumerate((-0.03, 0.0, 0.03))
            for i in range(100)
        ]
        (tmp_path / f"{side}.csv").write_text("\n".join(["example_id,seed,score", *rows]))
    folder = tmp_path / "out"
    code, said = check(str(tmp_path / "new.csv"), str(tmp_path / "base.csv"), "--report-dir",
                       str(folder))  # fmt: skip
    claim = json.loads((folder / "check.json").read_text())["claims"][0]
    assert claim["seeds"] == 3, said
    assert code in (1, 3)


def test_an_unreadable_side_leaves_files_that_ci_reads(tmp_path: Path) -> None:
    paths = sides(tmp_path, scores(3, 5), scores(3, 5))
    Path(paths[0]).write_text("{")
    folder = tmp_path / "out"
    code, said = check(*paths, "--report-dir", str(folder))
    assert (code, said.startswith("NOT JUDGED: the candidate:")) == (4, True)
    assert json.loads((folder / "check.json").read_text())["outcome"] == "not judged"
    assert (
        ElementTree.parse(folder / "junit.xml").getroot().find("testsuite/testcase/error")
        is (not None)
        or "error" in (folder / "junit.xml").read_text()
    )


def test_fixture_of_pytest_fails_with_the_table(tmp_path: Path) -> None:
    base, new = moved(80)
    candidate, against = sides(tmp_path, base, new)
    (tmp_path / "test_gate.py").write_text(
        f"""
BASE = {{"acc": {{f"e{{i}}": float(i % 4 > 0) for i in range(300)}}}}

def test_same(assert_no_regression):
    assert_no_regression({against!r}, {against!r})
    assert_no_regression(BASE, BASE, margin=0.01)

def test_worse(assert_no_regression):
    assert_no_regression({candidate!r}, {against!r}, margin={{"exact_match": 0.05}})
"""
    )
    from importlib.metadata import entry_points

    installed = any(e.value == "harness.pytest_plugin" for e in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "harness.pytest_plugin"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, "-p", "no:cacheprovider", "-q", "test_gate.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(harness.__file__).parents[1])},
    )  # fmt: skip
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "AssertionError: REGRESSED" in done.stdout


def test_version_of_a_baseline_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    file.write_text(json.dumps({"format": baseline.FORMAT, "version": 2}))
    code, said = check(str(file), str(file))
    assert (code, "is of version 2, not 1" in said) == (4, True)


@pytest.mark.real
def test_which_of_the_published_differences_of_two_llamas_are_real(real_data: Path) -> None:
    """lm-eval's published results of LLaMA 13B and 7B, whose files have no scores of examples: of
    18 metrics, 6 are better and 1 is worse beyond chance; the rest may be noise."""
    name = "llama-{}_common_sense_reasoning_0-shot.json"
    large, small = (str(real_data / "results" / "lm_eval" / name.format(n)) for n in ("13B", "7B"))
    rows = [r for r in harness.compare(large, small).rows if r.group == large]
    verdicts = {f"{r.metric} {r.evaluation}": r.verdict for r in rows if r.p is not None}
    assert len(verdicts) == 18
    assert {n for n, verdict in verdicts.items() if verdict == "better"} == {
        "acc arc_easy", "acc_norm arc_easy", "acc hellaswag", "acc_norm hellaswag",
        "acc_norm prost", "acc_norm swag",
    }  # fmt: skip
    assert [n for n, verdict in verdicts.items() if verdict == "worse"] == ["acc boolq"]
    piqa = next(row for row in rows if row.evaluation == "piqa" and row.metric == "acc")
    assert (piqa.n, piqa.verdict) == (1838, "no difference shown")
    code, said = check(large, small, "--margin", "0.05")
    assert (code, "2 not judged" in said) == (4, True), "two figures have no standard error"


def test_check_that_nobody_reads_to_its_end_keeps_its_status(tmp_path: Path) -> None:
    """As in `harness check ... | head -1`, whose reader is gone before the table is written."""
    for name, score in (("base", 1), ("new", 0)):
        rows = "".join(f"{number},{score}\n" for number in range(100))
        (tmp_path / f"{name}.csv").write_text(f"example_id,acc\n{rows}")
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "harness.cli", "check", "new.csv", "--baseline", "base.csv"]
    done = subprocess.run(command, cwd=tmp_path, stdout=write, check=False)
    listed = subprocess.run([*command[:3], "list", "methods"], stdout=write, check=False)
    os.close(write)
    assert (done.returncode, listed.returncode) == (1, 141)


def test_score_beyond_all_measure_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "base.csv").write_text("example_id,acc\na,1\nb,1\n")
    (tmp_path / "new.csv").write_text("example_id,acc\na,0\nb,1e308\n")
    code, said = check(str(tmp_path / "new.csv"), str(tmp_path / "base.csv"))
    assert (code, "has the size 1e+308" in said) == (4, True)


@pytest.mark.parametrize(
    "mistake",
    [["--allow", "everything"], ["--margin", "much"], ["--confidence", "2"],
     ["--claims", "none.yaml"], ["--suite", "pocket/demo"], ["--no-such-option"],
     ["--baseline", "no-such-baseline"]],
    ids=" ".join,
)  # fmt: skip
def test_a_check_with_a_mistake_leaves_no_verdict_of_an_earlier_one(
    tmp_path: Path, mistake: list[str]
) -> None:
    sides_, report = sides(tmp_path, *moved(0)), tmp_path / "report"
    assert check(*sides_, f"--report-dir={report}")[0] == 0
    (report / "notes.txt").write_text("mine")
    code, said = check(*sides_, "--report-dir", str(report), *mistake)
    assert (code, [file.name for file in report.iterdir()]) == (2, ["notes.txt"]), said


def test_names_that_differ_have_comments_of_their_own() -> None:
    names = ["", "a b", "a-b", "ab", "a/b", "a--b", "a\nb", "a -->b", "x" * 60, "x" * 61, "x" * 62]
    checked = data.read(data.text(_empty()))
    marks = [markdown.summary(checked, name=name).split("\n", 1)[0] for name in names]
    assert len(set(marks)) == len(names)
    assert all(m.startswith("<!-- ") and m.index("-->") == len(m) - 3 for m in marks)
    assert marks[1] == "<!-- finetune-harness check a b -->"  # comments of plain names are found


def _empty() -> Checked:
    return Checked(Side("a", {}), Side("b", {}), (), (), (), frozenset(), "nothing")


def test_a_model_of_the_hub_is_taken_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, repository = "c" * 40, tmp_path / "models--us--tiny"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("us/tiny", f"us/tiny@{commit}", "us/tiny@main"):
        assert hub_snapshot(name, "--model") == snapshot
    for name, reason in (
        ("us/none", "'us/none' is no folder here, is not in the hub's cache"),
        ("./us/none", "'./us/none' is no folder, and no name on the hub"),
        ("us/tiny@elsewhere", "is not in the hub's cache"),
    ):
        done = CliRunner().invoke(main, ["check", "--model", name, "--suite", "pocket/exam",
                                         "--baseline", "x"])  # fmt: skip
        assert (done.exit_code, reason in done.output) == (2, True), done.output
        assert len(done.output.splitlines()) == 2


def records(file: Path, **state_bytes: float | None) -> str:
    """A record file of variants that each have an SFT, a DPO from there, answers and a score."""
    lines = []
    for name, amount in state_bytes.items():
        cost = {"state_bytes": amount, "tokens": 100, "train_seconds": 10.0, "flops": 1e9,
                "peak_memory": {"host_bytes": 2**30}}  # fmt: skip
        machine = {"processor": "a", "threads": 1, "waited": 0.0}
        metrics = {"metrics": {"rougeL": {"value": 0.4, "higher_is_better": True}}, "rows": 8}
        for kind, label, inputs, told in (
            ("data", "rows", {}, {}), ("train", f"{name}-sft", {"train": "rows"}, cost),
            ("train", name, {"start": f"train {name}-sft"}, cost),
            ("generate", name, {"checkpoint": f"train {name}"}, {"tokens_per_second": 50.0}),
            ("score", f"{name} rouge tasks", {}, {}),
        ):  # fmt: skip
            key = "rows" if kind == "data" else f"{kind} {label}"
            lines.append({"key": key, "kind": kind, "status": "ok", "label": label,
                          "inputs": inputs, "cost": told, "provenance": machine,
                          "config": {"scorer": {"name": "rouge", "version": 1}},
                          "metrics": metrics if kind == "score" else {}})  # fmt: skip
    return str(samples.lines(file, lines))


def test_costs_of_records_are_claimed_about(tmp_path: Path) -> None:
    file = records(tmp_path / "records.jsonl", full=1000.0, qlora=550.0, other=None)
    asked = tmp_path / "claims.yaml"

    def verdict(candidate: str, claim: str) -> tuple[int, str]:
        asked.write_text(f"- {claim}\n")
        return check(f"{file}:{candidate}", f"{file}:full", "--claims", str(asked))

    claim = "candidate's state memory is at most 60% of baseline's"
    code, said = verdict("qlora", claim)
    assert (code, "55.0%" in said, "550 B" in said) == (0, True, True), said
    assert verdict("full", claim)[0] == 1
    code, said = verdict("other", claim)
    assert (code, "the state memory of other was not measured" in said) == (4, True), said
    # Both trainings of a path count, and times are told apart by twice their size only.
    for most, status in ((200, 0), (199, 1)):
        tokens = f"{{metric: tokens, variant: candidate, relation: at_most, than: {most}}}"
        assert verdict("qlora", tokens)[0] == status
    assert verdict("qlora", "candidate better baseline on train_seconds")[0] == 3
    code, said = verdict("qlora", "candidate better baseline on stat_bytes")
    assert (code, "did you mean 'state_bytes'" in said) == (2, True), said
    code, said = verdict("qlora", "candidate better chance on state_bytes")
    assert (code, "nobody guesses" in said) == (2, True), said
