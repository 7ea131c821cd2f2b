"""The report's other formats say what the page says, and what is weighed is weighed right."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.comparison.pareto import front
from harness.report import answer
from harness.report.formats import latex, markdown
from harness.report.measures import payload
from harness.report.plots import figures
from harness.report.plots.forest import MOST, forests
from harness.report.plots.sweeps import sweeps
from harness.report.tables.families import seeds, transfer
from tests.comparisons import HOSTILE, comparison, hostile_texts, row, variant

value = st.one_of(st.none(), st.sampled_from([0.0, 1.0, 2.0, 3.0, float("nan")]))


@given(st.lists(st.tuples(value, value), max_size=12), st.booleans(), st.booleans())
def test_front_is_what_nothing_beats(
    points: list[tuple[float | None, float | None]], x_up: bool, y_up: bool
) -> None:
    found = front([x for x, _ in points], [y for _, y in points], x_up=x_up, y_up=y_up)
    known = {
        i: (x if x_up else -x, y if y_up else -y)
        for i, (x, y) in enumerate(points)
        if x is not None and y is not None and x == x and y == y
    }

    def beaten(own: tuple[float, float]) -> bool:
        return any(
            other != own and other[0] >= own[0] and other[1] >= own[1] for other in known.values()
        )

    assert sorted(found) == [i for i, own in known.items() if not beaten(own)]
    assert [points[i][0] for i in found] == sorted(points[i][0] or 0.0 for i in found)


def test_every_two_measures_have_their_front() -> None:
    told = payload(comparison())
    names = [measure["name"] for measure in told["measures"]]
    assert names[:2] == ["rougeL ↑", "forgetting ↓"]
    assert {"training time ↓", "state memory ↓", "trainable parameters ↓",
            "generation speed ↑"} <= set(names)  # fmt: skip
    assert len(told["fronts"]) == len(names) * (len(names) - 1)
    time, quality = names.index("training time ↓"), 0
    assert [told["names"][i] for i in told["fronts"][f"{time},{quality}"]] == [
        "zero-shot", "lora-sft", "full-sft",
    ]  # fmt: skip


def test_untrained_model_costs_no_training_and_a_failed_one_is_not_weighed() -> None:
    told = payload(comparison())
    assert "dpo-sft" not in told["names"]
    time = next(m for m in told["measures"] if m["key"] == "train_seconds")
    assert time["values"] == [0.0, 40.0, 12.0]


def test_forest_leaves_out_the_middle_of_very_many_and_says_so() -> None:
    names = [f"v{i}" for i in range(100)]
    rows = [row("zero-shot", "rougeL", 0.1, verdict="baseline")]
    rows += [row(name, "rougeL", 0.1 + i / 1000) for i, name in enumerate(names, 1)]
    many = comparison(
        rows=tuple(rows), variants=(variant("zero-shot"), *(variant(n, 1.0) for n in names))
    )
    (plot,) = forests(many)
    assert len(plot.bars) == MOST
    assert plot.left_out == 60
    assert plot.bars[0].name == "v99"
    assert all(bar.low <= bar.at <= bar.high for bar in plot.bars if bar.low and bar.high)
    assert all(0 <= bar.at <= 100 for bar in plot.bars)


def test_transfer_shows_each_variant_on_every_evaluation_and_the_answer_tells_it() -> None:
    good = comparison()
    variants = tuple(replace(v, labels={**v.labels, "data": "tasks"}) for v in good.variants)
    other = [
        row("zero-shot", "rougeL", 0.5, evaluation="other", verdict="baseline"),
        row("full-sft", "rougeL", 0.2, evaluation="other", verdict="worse"),
        row("lora-sft", "rougeL", 0.5, evaluation="other", verdict="no difference shown"),
    ]
    both = replace(good, variants=variants, rows=(*good.rows, *other))
    sheet = transfer(both)
    assert sheet.headers == ("variant", "trained on", "asked tasks", "asked other")
    full = next(line for line in sheet.lines if line.cells[0].text == "full-sft")
    assert full.cells[2].below.endswith("trained on this")
    assert full.cells[3].verdict == "worse"
    assert "On rows it was not trained for, its rougeL moves on other by" in answer(both)
    assert not transfer(good).lines
    assert "not trained for" not in answer(good)


def test_parts_of_a_mixture_and_rows_of_earlier_stages_were_trained_on() -> None:
    good = comparison()
    other = [row(v.group, "rougeL", 0.5, evaluation="other") for v in good.variants]
    variants = tuple(
        replace(
            v, labels={**v.labels, "data": "mixed"}, learnt=frozenset({"mixed", "tasks", "other"})
        )
        for v in good.variants
    )
    mixed = replace(good, variants=variants, rows=(*good.rows, *other))
    assert "not trained for" not in answer(mixed)
    full = next(line for line in transfer(mixed).lines if line.cells[0].text == "full-sft")
    assert all(cell.below.endswith("trained on this") for cell in full.cells[2:])
    # What a checkpoint from elsewhere was trained on is not known.
    away = replace(mixed, variants=tuple(replace(v, learnt=frozenset(), elsewhere=v.trained)
                                         for v in variants))  # fmt: skip
    assert "not trained for" not in answer(away)


def test_each_seed_stands_by_itself() -> None:
    good = comparison()
    runs = ((0, 0.40), (1, 0.42))
    rows = tuple(replace(r, by_seed=runs) if r.group == "full-sft" else r for r in good.rows)
    lines = seeds(replace(good, rows=rows)).lines
    own = [line for line in lines if line.cells[0].text == "full-sft"]
    assert [(line.cells[1].text, line.cells[2].text) for line in own][:2] == [
        ("0", "0.400"), ("1", "0.420"),
    ]  # fmt: skip


def test_a_hyper_parameter_that_is_an_axis_has_its_curve() -> None:
    names = {f"lora-r={r}": str(r) for r in (4, 8, 16)}
    variants = tuple(
        variant(name, 1.0, labels={"method": "lora", "lora.r": r}) for name, r in names.items()
    )
    rows = tuple(row(name, "rougeL", 0.3) for name in names)
    (drawing,) = sweeps(comparison(variants=(variant("zero-shot"), *variants), rows=rows))
    assert drawing.title == "rougeL ↑ against lora.r"
    assert drawing.numbers == (2, 3, 4)
    words = comparison(variants=(replace(variants[0], labels={"lora.r": "big"}),), rows=rows)
    assert sweeps(words) == []


def test_figures_stand_alone_with_names_and_are_well_formed() -> None:
    files = figures.files(comparison())
    kinds = {name.removeprefix("figures/") for name in files}
    keys = ("tradeoff-time", "tradeoff-memory", "forgetting", "losses", "forest")
    assert {f"{key}.{kind}" for kind in ("svg", "png") for key in keys} <= kinds
    for name, content in files.items():
        assert figures.OURS.fullmatch(name.removeprefix("figures/"))
        if name.endswith(".svg"):
            told = "".join(ElementTree.fromstring(content).itertext())
            assert "full-sft" in told
        else:
            assert content.startswith(b"\x89PNG")


def test_short_markdown_is_the_answer_and_the_results() -> None:
    short = markdown.summary(comparison())
    assert short.startswith("**pocket**: full-sft has the best estimate on rougeL")
    assert "| lora-sft | ▲ better | 0.401 [0.383, 0.419] | +0.301 [+0.281, +0.321] |" in short
    assert "out of memory" in short
    assert short.rstrip().endswith("harness run suites/pocket.yaml\n```")
    assert len(short) < len(markdown.report(comparison())) / 2


def test_latex_table_has_as_many_cells_as_columns() -> None:
    text = latex.report(comparison())
    for command in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption"):
        assert text.count(command) == 1
    spec = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)
    assert spec is not None
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")].splitlines()
    cells = [len(re.findall(r"(?<!\\)&", line)) + 1 for line in body if line.endswith(r"\\")]
    assert set(cells[:-1]) == {len(spec.group(1))}
    assert cells[-1] == 2  # the failed one, whose reason spans the rest
    assert r"{0.412 [0.394, 0.430]}$^{\blacktriangle}$" in text


@pytest.mark.parametrize("text", [t for t in hostile_texts() if len(t) < 1000])
def test_latex_holds_no_command_of_somebody_elses(text: str) -> None:
    safe = latex.escape(text)
    ours = r"\\(?:text\w+\{\}|dots\{\}|[{}$&#%_])|\$(?:-|\\\w+)\$"
    rest = re.sub(ours, "", safe)
    assert not set(rest) & set("\\{}$&#%_^~\n") - {"~"}


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex on the path")
def test_latex_compiles(tmp_path: Path) -> None:
    made = latex.report(comparison(suite=HOSTILE["close"]))
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,amssymb,textcomp}\\begin{document}"
        f"{made}\\end{{document}}"
    )
    command = ["pdflatex", "-halt-on-error", "t.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=240)


def test_a_metric_s_chance_level_stands_beside_its_name() -> None:
    changed = {"metric": "acc", "unit": "", "chance": 1 / 3}
    rows = tuple(replace(r, **changed) for r in comparison().rows if r.metric == "rougeL")
    with_unit = tuple(replace(r, metric="loss", unit="nats") for r in rows)
    page = markdown.report(replace(comparison(), rows=(*rows, *with_unit)))
    assert "acc ↑ (chance 0.33)" in page
    assert "loss ↑ (nats, chance 0.33)" in page
    assert "chance 0" not in markdown.report(comparison())
