"""What alignment cost, as the report shows it: a table, a plot and a sentence, or nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.comparison.result import Comparison, Estimate, Measured, Tax
from harness.report import answer, numbers, render
from harness.report.plots import figures
from harness.report.plots.alignment import tax_plot
from harness.report.tables import alignment as tax
from tests.comparisons import HOSTILE, comparison, cost_of, variant


def taxed(*costs: Tax) -> Comparison:
    return comparison(taxes=costs)


@pytest.fixture
def one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports with this plot alone: the others take most of the time that a report takes."""
    monkeypatch.setattr(figures, "drawings", tax_plot)
    monkeypatch.setattr(figures, "ordered", lambda *_: ([], 0))


def test_nothing_aligned_shows_no_section_table_or_plot() -> None:
    assert "alignment" not in [d.key for d in figures.drawings(comparison())]
    assert tax.sheet(comparison()).lines == ()
    assert tax.kept(comparison()) == ""
    assert "language" not in answer(comparison())


@pytest.mark.usefixtures("one_figure")
def test_aligned_variants_have_a_section_a_table_and_a_plot(tmp_path: Path) -> None:
    made = taxed(cost_of("full-sft", 0.4, 2.0), cost_of("lora-sft", 0.3, 0.1, "better"))
    render(made, tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert 'id="h-tax"' in page
    assert 'href="#h-tax"' in page
    assert "## What alignment cost" in text
    assert page.count("Gained against lost: reward ↑ over forgetting ↓") == 1
    for kind in ("svg", "png"):
        assert (tmp_path / "figures" / f"alignment.{kind}").is_file()
    assert "full-sft" in (tmp_path / "figures" / "alignment.svg").read_text(encoding="utf-8")
    render(comparison(), tmp_path)
    assert not (tmp_path / "figures" / "alignment.svg").exists()
    assert "h-tax" not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_sentence_says_who_kept_the_language_who_gained_and_who_lost_most() -> None:
    open_ = "no difference shown"
    made = taxed(
        cost_of("full-sft", 0.9, 2.0), cost_of("lora-sft", 0.5, 0.1, open_),
        cost_of("dpo-sft", 0.2, -0.1, open_), cost_of("zero-shot", 0.2, 5.0),
    )  # fmt: skip
    told = tax.kept(made)
    assert told in answer(made)
    assert "No loss (forgetting ↓, each against its start) is shown for" in told
    assert "for dpo-sft and lora-sft, of which lora-sft" in told
    assert "of which lora-sft (+0.50 [+0.40, +0.60]) gained most in reward ↑;" in told
    assert told.endswith("of 2 that lost some, zero-shot (+5.00 [+4.90, +5.10]) lost most.")
    bare = cost_of("lora-sft", 0.0, 0.1, open_)
    reward = Measured("reward", replace(bare.measures[0].row, verdict=open_))
    still = taxed(replace(bare, measures=(reward, *bare.measures[1:])))
    assert "it is not shown to have gained in reward ↑ (at best lora-sft (" in tax.kept(still)
    assert tax.kept(taxed(cost_of("full-sft", 0.9, 2.0), cost_of("lora-sft", 1.0, 1.0))).startswith(
        "Every aligned variant measured lost language (forgetting ↓, each against its start):"
        " lora-sft (+1.00"
    )


def test_least_and_most_are_said_with_their_doubt_where_intervals_meet() -> None:
    close = taxed(cost_of("full-sft", 0.4, 1.0), cost_of("lora-sft", 0.3, 1.1))
    doubt = "(by the estimate; intervals overlap)"
    assert f"[+0.90, +1.10]) least {doubt}, lora-sft" in tax.kept(close)
    assert tax.kept(close).endswith(f"most {doubt}.")
    far = taxed(cost_of("full-sft", 0.4, 1.0), cost_of("lora-sft", 0.3, 2.0))
    assert "overlap" not in tax.kept(far)
    open_ = "no difference shown"
    gained = taxed(cost_of("full-sft", 0.4, 0.1, open_), cost_of("lora-sft", 0.3, 0.0, open_))
    assert f"gained most {doubt} in reward" in tax.kept(gained)


def test_what_was_not_measured_is_said_and_never_zero() -> None:
    whole = cost_of("full-sft", 0.4, 2.0)
    part = replace(whole, group="lora-sft", measures=whole.measures[:1])
    failed = Tax("dpo-sft", "sft", (), "train of dpo-sft: out of memory")
    made = taxed(whole, part, failed)
    found = tax.sheet(made)
    _, second, third = found.lines
    assert [cell.text for cell in second.cells[4:]] == [numbers.MISSING] * 2
    assert [cell.below for cell in second.cells[4:]] == ["not measured"] * 2
    assert all(cell.sort is None for cell in second.cells[4:])
    assert third.reason == failed.reason
    assert "Not measured here: the preference over the start (win_rate)" in found.note
    assert "of lora-sft and dpo-sft it is not known" in tax.kept(made)
    (drawing,) = (d for d in figures.drawings(made) if d.key == "alignment")
    assert drawing.numbers == (2,)
    assert "Not drawn, as a measure is missing: lora-sft, dpo-sft." in drawing.caption
    blind = taxed(replace(whole, measures=whole.measures[:2]))
    assert "is not known" in tax.kept(blind)
    assert "alignment" not in [d.key for d in figures.drawings(blind)]


def test_without_rewards_the_plot_is_of_preferences() -> None:
    whole = cost_of("full-sft", 0.4, 2.0)
    won = replace(whole.measures[0].row, metric="win_rate", estimate=Estimate(0.9, 0.8, 1.0))
    made = taxed(replace(whole, measures=(Measured("preference", won), *whole.measures[1:])))
    (drawing,) = (d for d in figures.drawings(made) if d.key == "alignment")
    assert drawing.labels == ("change in forgetting ↓", "change in win_rate ↑")
    assert "from one half" in drawing.caption


@pytest.mark.usefixtures("one_figure")
def test_hostile_names_do_nothing_in_the_table_the_plot_and_the_sentence(tmp_path: Path) -> None:
    bad = [text for text in HOSTILE.values() if not any("\ud800" <= c <= "\udfff" for c in text)]
    costs = []
    for i, name in enumerate(bad):
        whole = cost_of(name, 0.1 * i, 1.0 + i)
        family = replace(whole.measures[0].row, slice=name, metric=name, evaluation=name)
        measures = (*whole.measures, Measured("answers", family))
        costs.append(replace(whole, start=name, measures=measures))
    costs.append(Tax("failed", bad[0], (), "; ".join(bad)))
    good = comparison()
    variants = (*good.variants, *(variant(name, 3.0) for name in bad), variant("failed"))
    render(replace(good, variants=variants, taxes=tuple(costs)), tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    drawn = (tmp_path / "figures" / "alignment.svg").read_text(encoding="utf-8")
    for found in (page, drawn):
        assert "<script>document" not in found
        assert "<img" not in found
    assert "&lt;img src=x" in page
    for found in (page, text):
        assert not set(found) & set("\u202e\u2066\u200b\u200d\ufeff\u2028\u2029\x00\x1b")
    assert "<script>" not in text
    section = text.partition("## What alignment cost")[2].partition("\n## ")[0]
    widths = {line.replace(r"\|", "").count("|") for line in section.splitlines()
              if line.startswith("| ")}  # fmt: skip
    assert len(widths) == 1
