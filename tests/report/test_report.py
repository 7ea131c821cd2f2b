"""The report: what it says first, and that nothing in it can do harm."""

from __future__ import annotations

import csv
import html
import html.parser
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness.comparison import load
from harness.comparison.result import Conditions, Estimate
from harness.core import text as safe
from harness.report import answer, numbers, render, terminal_table
from harness.report.formats.html import page as page_of
from harness.report.plots import figures
from harness.report.plots.losses import running_mean
from tests.comparisons import HOSTILE, SECRET, comparison, hostile, row, variant


class Elements(html.parser.HTMLParser):
    """The elements of a page as a browser's parser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an ordinary report."""
    return render(comparison(), tmp_path_factory.mktemp("ordinary"))[0].parent


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report full of hostile text."""
    return render(hostile(), tmp_path_factory.mktemp("hostile"))[0].parent


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without plots, which take most of the time that a report takes."""
    monkeypatch.setattr(figures, "drawings", lambda _: [])
    monkeypatch.setattr(figures, "ordered", lambda *_: ([], 0))


def page(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


def test_answer_names_the_best_variant_its_margin_and_its_doubt() -> None:
    told = answer(comparison())
    head = "full-sft has the best estimate on rougeL (higher is better): 0.412 [0.394, 0.430]"
    assert told.startswith(head)
    assert "better than the baseline zero-shot by +0.312 [+0.292, +0.332]" in told
    assert "n\u00a0=\u00a0300, 3 seeds" in told


def test_answer_names_the_cheapest_as_good_and_what_it_forgets() -> None:
    told = answer(comparison())
    assert "Not shown to be worse by its interval, and cheaper, is lora-sft" in told
    assert "It takes less: training time (12.0 s against 40.0 s)." in told
    assert "What was forgotten: forgetting ↓ of lora-sft by " in told
    assert "(no change is shown once all comparisons are counted) and of full-sft by" in told
    assert told.endswith("(worse).")


def test_the_answer_is_about_what_was_learnt_whatever_a_metric_of_forgetting_is_called() -> None:
    rows = (
        row(
            "zero-shot", "exact_match", 0.5, verdict="baseline", evaluation="older", forgetting=True
        ),
        row("full-sft", "exact_match", 0.4, evaluation="older", forgetting=True),
        row("zero-shot", "accuracy", 0.1, verdict="baseline"),
        row("full-sft", "accuracy", 0.3),
    )
    assert answer(comparison(rows=rows)).startswith("full-sft does best on accuracy")


def test_answer_does_not_call_an_unproven_lead_a_win() -> None:
    rows = (
        row("zero-shot", "rougeL", 0.40, verdict="baseline"),
        row("full-sft", "rougeL", 0.41, verdict="no difference shown", seeds=1, p=0.3, p_holm=0.6,
            difference=Estimate(0.01, -0.01, 0.03)),
    )  # fmt: skip
    told = answer(comparison(rows=rows))
    assert "no difference from the baseline zero-shot is shown (+0.010 [" in told
    assert "; one of 0.015 could have been seen)" in told
    assert "about this checkpoint, not the method" in told
    assert "Not shown to be worse by its interval, and cheaper, is zero-shot" in told
    assert "It needs no training, " in told


def test_answer_calls_nobody_as_good_whom_a_paired_difference_sets_apart() -> None:
    """Its own interval may overlap, and the adjustment for all comparisons may undo the verdict."""
    rows = (
        row("zero-shot", "rougeL", 0.40, half=0.1, verdict="baseline"),
        row("full-sft", "rougeL", 0.50, half=0.1, verdict="no difference shown", p=0.007,
            p_holm=0.067, difference=Estimate(0.1, 0.02, 0.18)),
    )  # fmt: skip
    told = answer(comparison(rows=rows))
    assert "apart from the baseline zero-shot by itself (+0.100 [+0.020, +0.180])" in told
    assert "not once all comparisons of the report are counted (p 0.007 and 0.067)" in told
    assert "As good" not in told


def test_answer_says_of_whom_nothing_can_be_said() -> None:
    rows = (row("zero-shot", "rougeL", 0.40, verdict="baseline"),)
    told = answer(comparison(rows=rows))
    assert told.startswith("Nothing can be said of ")
    assert "full-sft" in told.partition(":")[0]
    assert "No variant beats" not in told
    assert "no other variant was measured" in told


def test_answer_says_where_all_others_are_worse() -> None:
    rows = (
        row("zero-shot", "rougeL", 0.40, verdict="baseline"),
        row("full-sft", "rougeL", 0.30, verdict="worse"),
    )
    assert "is best on rougeL" in (told := answer(comparison(rows=rows)))
    assert "full-sft is worse" in told


def test_answer_speaks_of_seeds_only_where_something_was_trained() -> None:
    rows = (
        row("zero-shot", "rougeL", 0.42, verdict="baseline", seeds=1),
        row("full-sft", "rougeL", 0.41, verdict="no difference shown", seeds=1),
    )
    told = answer(comparison(rows=rows))
    assert told.startswith("No variant beats the baseline zero-shot")
    assert "seed" not in told
    assert "about this checkpoint" not in told


def test_answer_says_when_nothing_has_a_result(tmp_path: Path) -> None:
    empty = comparison(rows=(), examples=(), variants=(comparison().variants[-1],))
    assert answer(empty) == "No variant has a result: 1 of 1 failed."
    assert "out of memory" in terminal_table(empty)
    names = {path.name for path in render(empty, tmp_path)}
    assert names == {
        "index.html", "report.md", "summary.md", "comparison.csv", "comparison.tex",
        "comparison.parquet",
    }  # fmt: skip


def test_failed_cells_appear_with_their_reason(report: Path) -> None:
    table = load(report)
    assert "out of memory | 8 GiB" in page(report)
    assert r"out of memory \| 8 GiB" in (report / "report.md").read_text(encoding="utf-8")
    assert "FAILED dpo-sft: train of dpo-sft: out of memory" in terminal_table(comparison())
    assert (
        table[table.variant == "dpo-sft"].note.item() == "train of dpo-sft: out of memory | 8 GiB"
    )


@pytest.mark.usefixtures("no_figures")
def test_contamination_that_could_not_be_checked_says_why(tmp_path: Path) -> None:
    error = {"pair": "tasks / tasks", "error": {"reason": "data", "message": "no test rows"}}
    render(comparison(contamination=(error,)), tmp_path)
    assert "failed</span>: <bdi>no test rows" in page(tmp_path)
    assert "failed: no test rows" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_terminal_summary_fits_100_columns() -> None:
    many = comparison()
    names = [f"lora-r={i}-lora_alpha={2 * i}-learning_rate=0.00{i}-sft" for i in range(20)]
    rows = [row(name, f"metric-{m}", 0.3) for m in range(10) for name in names]
    many = replace(
        many,
        variants=(*many.variants, *(variant(name, 3.0) for name in names)),
        rows=(*many.rows, *rows),
    )
    lines = terminal_table(many).splitlines()
    assert max(len(line) for line in lines) <= 100
    assert "0.412 [0.394, 0.430]" in terminal_table(many)


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        (Estimate(0.41234, 0.39434, 0.43034), "0.412 [0.394, 0.430]"),
        (Estimate(12.3456, 10.1, 14.5), "12.3 [10.1, 14.5]"),
        (Estimate(1234.5, 1034.0, 1434.0), "1,234 [1,034, 1,434]"),
        (Estimate(-0.00001, -0.02, 0.02), "0.000 [\u22120.020, 0.020]"),
        (Estimate(1.0, 1.0, 1.0), "1.000 [1.000, 1.000]"),
        (Estimate(0.123456), "0.1235 (no interval)"),
        (Estimate(float("inf"), None, None), "∞ (no interval)"),
        (Estimate(float("nan")), "not a number (no interval)"),
    ],
)  # fmt: skip
def test_digits_are_those_the_interval_justifies(estimate: Estimate, shown: str) -> None:
    assert numbers.both(estimate) == shown


def test_costs_carry_their_units() -> None:
    assert [numbers.seconds(s) for s in (0.4, 12.34, 245, 59.96, 11_220)] == [
        "0.40 s", "12.3 s", "4 min 05 s", "1 min 00 s", "3 h 07 min",
    ]  # fmt: skip
    assert [numbers.size(b) for b in (12, 13_000_000, 1024**3 - 1, 2**31)] == [
        "12 B", "12.4 MiB", "1.0 GiB", "2.0 GiB",
    ]  # fmt: skip
    assert [numbers.energy(j) for j in (None, 84, 999.6, 12_345, 4.56e6, 7e9)] == [
        numbers.MISSING, "84.0 J", "1.00 kJ", "12.3 kJ", "4.56 MJ", "7,000 MJ",
    ]  # fmt: skip


def test_model_output_cannot_run_as_script(hostile_report: Path) -> None:
    text = page(hostile_report)
    found = Elements(text).found
    scripts = [attributes for tag, attributes in found if tag == "script"]
    data = [{"type": "application/json", "id": f"{name}-data"} for name in ("measures", "examples")]
    assert scripts == [*data, {}]
    assert not {"img", "iframe", "object", "embed", "base", "link"} & {tag for tag, _ in found}
    assert not [name for _, attributes in found for name in attributes if name.startswith("on")]
    assert not [attributes for _, attributes in found if "style" in attributes]
    policy = next(a["content"] for _, a in found if "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'; script-src 'sha256-" in policy
    assert "unsafe" not in policy
    assert "innerHTML" not in text


def test_examples_are_shown_as_they_were_written(hostile_report: Path) -> None:
    embedded = re.search(r'id="examples-data">(.*?)</script>', page(hostile_report), re.S)
    assert embedded is not None
    assert not set(embedded.group(1)) & set("<>&\u2028\u2029")
    prompts = [example["prompt"] for example in json.loads(embedded.group(1))["examples"]]
    for name in ("script", "close", "image", "template", "formula", "table", "long"):
        assert HOSTILE[name] in prompts


def test_template_syntax_in_names_is_not_evaluated(hostile_report: Path) -> None:
    assert "{{7*7}}" in page(hostile_report)


@pytest.mark.parametrize("name", ["index.html", "report.md"])
def test_hidden_characters_are_written_out(hostile_report: Path, name: str) -> None:
    text = (hostile_report / name).read_text(encoding="utf-8")
    assert not set(text) & set("\u202e\u2066\u200b\u200d\ufeff\u2028\u2029\x00\x1b")
    assert "⟨U+202E⟩" in text
    assert "⟨U+200B⟩" in text


def test_markdown_tables_keep_their_shape(hostile_report: Path) -> None:
    text = (hostile_report / "report.md").read_text(encoding="utf-8")
    text = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", text, flags=re.S | re.M)
    columns: list[int] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("| "):
            columns.append(len(re.findall(r"(?<!\\)\|", line)))
        else:
            assert len(set(columns)) <= 1
            columns = []
    links = re.findall(r"(?<!\\)\]\(([^)]*)\)?", text)
    assert all(re.fullmatch(r"summary\.md|index\.html|#[\w-]+", target) for target in links)
    assert "<b>" not in text
    assert "<script" not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[x](http://evil.example)", r"\[x\](http:\//evil.example)"),
        ("[x]: //evil", r"\[x\]: //evil"),
        ("see www.evil.example a@b.c", r"see www\.evil.example a\@b.c"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("# no\n- list", r"\# no - list"),
        ("1. list", r"1\. list"),
        ("0.1.0", "0.1.0"),
        ("-0.33 [-0.74, -0.14]", "-0.33 [-0.74, -0.14]"),
        ("#1 of 3", "#1 of 3"),
        ("[0.3, 0.5]", "[0.3, 0.5]"),
        ("2026) and so on", r"2026\) and so on"),
        (r"a\|b", r"a\\\|b"),
        ("_so_ exact_match 0.4 [0.3, 0.5] (n = 3)", r"\_so\_ exact_match 0.4 [0.3, 0.5] (n = 3)"),
    ],
)
def test_markdown_markup_is_inert_and_plain_text_stays_plain(text: str, shown: str) -> None:
    assert safe.markdown(text) == shown


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["a", "12", "0.1.0", ".", ")", " ", "-", "+", "#", "=", "[", "]", "(", "!",
                         ":", "_", "*", "`", "~~", "<b>", "&amp;", "|", "\\", ">", "/"]),
        max_size=8,
    ).map("".join)
)  # fmt: skip
def test_a_markdown_reader_shows_any_text_as_it_is_and_escapes_are_no_letters(text: str) -> None:
    written = safe.markdown(text)
    assert not re.search(r"(?<!\\)\\[^\W_]", written)
    if not (plain := safe.line(text)):
        return
    for around in ("%s", "- %s", "| %s |\n| --- |\n| %s |"):
        cells = around.count("%s")
        shown = READER.render(around % ((written,) * cells))
        tags = set(re.findall(r"</?(\w+)", shown))
        assert tags <= {"p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}, shown
        told = html.unescape(re.sub(r"<[^>]+>|\n", "", shown))
        assert told == plain * cells


READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@pytest.mark.parametrize(("busy", "across"), [(False, "training time"), (True, "state memory")])
def test_the_page_opens_with_a_cost_that_is_known_of_the_trained_variants(
    busy: bool, across: str
) -> None:
    """Times that cannot be compared are left out of the plot; the untrained alone show nothing."""
    made = comparison()
    timed = (Conditions("cpu", 1, busy),)
    trained = [replace(v, timed=timed) if v.trained else v for v in made.variants]
    rows = (*made.rows, row("few-shot", "rougeL", 0.2))
    variants = (*trained, variant("few-shot"))
    text = page_of(replace(made, variants=variants, rows=rows), None)
    chosen = re.search(r"<option [^>]* selected>([^<]*)", text[text.index('id="t-x"') :])
    assert chosen
    assert chosen[1].startswith(across)


def test_code_blocks_outlast_the_fences_in_them() -> None:
    assert safe.fenced("a\n```\n# b", "yaml").startswith("````yaml\n")


@pytest.mark.usefixtures("no_figures")
def test_csv_holds_no_formula(tmp_path: Path) -> None:
    renamed = [variant(name, 1.0) for name in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1")]
    rows = tuple(row(v.group, "rougeL", 0.3, estimate=Estimate(-0.3, -0.4, -0.2)) for v in renamed)
    render(comparison(variants=tuple(renamed), rows=rows, baseline="=1+1"), tmp_path)
    with (tmp_path / "comparison.csv").open(encoding="utf-8", newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert [line["variant"] for line in lines] == [f"'{v.group}" for v in renamed]
    assert {line["estimate"] for line in lines} == {"-0.3"}


def test_table_survives_the_disk(report: Path) -> None:
    table = load(report)
    best = table[(table.variant == "full-sft") & (table.metric == "rougeL") & (table.slice == "")]
    assert best.estimate.item() == 0.412
    assert best.train_seconds.item() == 40.0
    assert len(table) == len(comparison().rows) + 1


def test_page_asks_nothing_of_the_network(report: Path) -> None:
    for tag, attributes in Elements(page(report)).found:
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            wanted = attributes.get(name) or "#"
            # A link may lead to a file that was written beside the page; nothing else is named.
            assert wanted.startswith("#") or (tag == "a" and (report / wanted).exists())
    assert not re.search(r"https?://|@import|url\((?!#)", page(report))


@pytest.mark.usefixtures("no_figures")
def test_without_examples_no_sentence_of_the_data_is_written(tmp_path: Path) -> None:
    leaky = comparison()
    quoted = variant("quoted", status="failed", reasons=(f"row 3: '{SECRET}, so seven.' is odd",))
    render(replace(leaky, variants=(*leaky.variants, quoted)), tmp_path)
    assert SECRET in page(tmp_path)
    files = render(replace(leaky, variants=(*leaky.variants, quoted)), tmp_path, examples=False)
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path.name
    assert "were left out of this report" in page(tmp_path)


def test_same_comparison_gives_the_same_bytes(tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in render(comparison(), tmp_path / "a")}
    again = {path.name: path.read_bytes() for path in render(comparison(), tmp_path / "b")}
    assert first == again


@pytest.mark.usefixtures("no_figures")
def test_interrupted_report_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    render(comparison(), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        render(hostile(), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_importing_the_report_loads_no_plotting() -> None:
    code = (
        "import sys, harness.report; print(*({'matplotlib', 'pandas', 'torch'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.integers(1, 12))
def test_losses_are_averaged_over_what_was_before(values: list[float], window: int) -> None:
    found = running_mean(values, window)
    wanted = [np.mean(values[: i + 1][-window:]) for i in range(len(values))]
    assert found == pytest.approx(wanted, abs=1e-9)
