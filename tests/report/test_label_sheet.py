"""A blinded sheet, filled in by a labeller in a real browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.data.judge_labels import Pair
from harness.data.label_sheets import blinded, unblinded
from harness.report.label_sheet import page
from tests.browser import CHROMIUM, Browser
from tests.comparisons import HOSTILE

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium or google-chrome on the path")
ACCESSIBILITY = (Path(__file__).parents[1] / "accessibility.js").read_text(encoding="utf-8")
SHOWN = "[...document.querySelectorAll('article')].find(a => !a.hidden)"
PAIRS = [
    Pair(f"p{i}", f"question {i}", f"good {i}", f"bad {i}", one_is="lora-sft", other_is="base")
    for i in range(5)
] + [Pair(name, text, "good", text) for name, text in HOSTILE.items()]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def written(folder: Path, seed: int) -> Path:
    path = folder / "sheet.html"
    path.write_text(page(blinded(PAIRS, seed)), encoding="utf-8")
    return path


def better(browser: Browser) -> str:
    """The key of the good answer of the pair that is shown."""
    text = browser.run(f"{SHOWN}.querySelector('.two section .shown').textContent")
    return "1" if text.startswith("good") else "2"


def test_sheet_filled_in_by_keys_and_saved_gives_the_labels(
    browser: Browser, tmp_path: Path
) -> None:
    sheet = blinded(PAIRS, 0)
    browser.open(written(tmp_path, 0))
    browser.save_to(tmp_path)
    for _ in PAIRS:
        assert "save them" not in browser.run("document.getElementById('status').textContent")
        browser.press(better(browser))
    assert "All are labelled" in browser.run("document.getElementById('status').textContent")
    assert browser.run("document.activeElement.id") == "save"
    browser.press("Enter")
    saved = tmp_path / f"labels-{sheet[0].number.partition('-')[0]}.csv"
    for _ in range(1_000):
        if saved.is_file() and saved.stat().st_size:
            break
        time.sleep(0.05)
    assert saved.read_text() == browser.run("document.getElementById('csv').value").replace(
        "\r", ""
    )
    labels = unblinded(sheet, saved, "ann")
    assert len(labels) == len(PAIRS)
    assert all(label.sign == 1 for label in labels)
    assert browser.console == []


def test_labels_can_be_changed_skipped_and_given_by_hand(browser: Browser, tmp_path: Path) -> None:
    sheet = blinded(PAIRS, 1)
    browser.open(written(tmp_path, 1))
    browser.press("1")
    browser.press("p")
    browser.press("t")
    browser.press("n")
    browser.run(f"{SHOWN}.querySelector('input[value=\"2\"]').click()")
    lines = browser.run("document.getElementById('csv').value").split()
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    given = [line.partition(",")[2] for line in lines[1:]]
    assert given == ["tie", "2"]
    assert [line.partition(",")[0] for line in lines[1:]] == [
        s.number for s in (sheet[0], sheet[2])
    ]
    browser.run("document.getElementById('open').click()")
    assert browser.run(f"{SHOWN}.dataset.id") == sheet[3].number


def test_keys_label_nothing_once_they_are_off_or_meant_for_the_browser(
    browser: Browser, tmp_path: Path
) -> None:
    browser.open(written(tmp_path, 2))
    browser.run("document.getElementById('keys').click()")
    browser.press("1")
    assert browser.run("document.getElementById('csv').value").split() == ["id,label"]


def test_labels_outlive_a_reload(browser: Browser, tmp_path: Path) -> None:
    browser.open(written(tmp_path, 3))
    browser.press("1")
    browser.press("2")
    before = browser.run("document.getElementById('csv').value")
    browser.reload()
    assert browser.run("document.getElementById('csv').value") == before
    assert browser.run(f"{SHOWN}.dataset.id") == blinded(PAIRS, 3)[2].number


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_sheet_opens_without_a_network_and_is_accessible(
    browser: Browser, tmp_path: Path, width: int, scheme: str
) -> None:
    path = written(tmp_path, 4)
    browser.open(path, width, scheme)
    for shown in blinded(PAIRS, 4):
        assert browser.run(f"{SHOWN}.dataset.id") == shown.number
        assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.run(ACCESSIBILITY) == []
        browser.press("n")
    assert browser.console == []
    assert browser.requests == [path.as_uri()]
    assert browser.run("document.title") == "Which answer is better?"
    unnamed = {"button", "link", "textbox", "radio", "checkbox", "region"}
    assert [n for n in browser.tree() if n["role"] in unnamed and not n["name"].strip()] == []


def test_sheet_names_no_model(tmp_path: Path) -> None:
    text = written(tmp_path, 5).read_text(encoding="utf-8")
    assert not any(name in text for name in ("lora-sft", "base</", ">p1<", "turned"))
