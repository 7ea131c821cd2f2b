"""What a report may not say is in none of its texts; what it may is as it was."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment
from markdown_it import MarkdownIt

from harness.comparison.result import Example
from harness.core.text import (
    Markdown,
    csv_cell,
    fenced,
    label,
    line,
    markdown,
    prose,
    rewrite,
    script_json,
    visible,
    well_formed,
)
from harness.report.formats import web
from harness.report.privacy import without_examples
from tests.comparisons import SECRET, comparison, variant


def every_text(value: Any) -> list[str]:
    found: list[str] = []
    rewrite(value, lambda text: found.append(text) or text)  # type: ignore[func-returns-value]
    return found


def test_without_examples_their_texts_are_nowhere() -> None:
    example = Example(
        "row-1", "tasks", "g", prompt="a prompt of its own", references=("the right answer",),
        answers={"lora-sft": "some other answer"}, scores={},
    )  # fmt: skip
    texts = (example.prompt, *example.references, *example.answers.values())
    quoting = variant("quoting", reasons=tuple(f"so: {text}." for text in texts),
                      audit=({"check": "a", "status": "failed", "detail": texts[2]},))  # fmt: skip
    leaky = replace(
        comparison(), examples=(example,), variants=(quoting,), notes=texts,
        suite_text=f"examples: {texts[0]}\n", provenance={"a": [texts[1], {texts[2]: 1}]},
    )  # fmt: skip
    found = without_examples(leaky)
    assert found.examples == ()
    for text in every_text(found):
        assert not any(secret in text for secret in texts)
    assert found.variants[0].reasons == ("so: [left out].",) * 3
    assert found.suite_text == "examples: [left out]\n"
    assert found.provenance == {"a": ["[left out]", {"[left out]": 1}]}
    assert (found.rows, found.baseline) == (leaky.rows, leaky.baseline)


def test_longest_sentence_goes_first_and_short_ones_stay() -> None:
    whole = f"{SECRET} and twelve ships"
    example = Example("r", "tasks", "g", f" {whole}\n", (SECRET, "twelve ships", "eleven ship"), {},
                      {})  # fmt: skip
    told = replace(comparison(), examples=(example,), notes=(f"<{whole}>", "eleven ship"))
    assert without_examples(told).notes == ("<[left out]>", "eleven ship")
    told = replace(told, notes=("twelve ships",))  # twelve letters
    assert without_examples(told).notes == ("[left out]",)


def test_structures_are_rewritten_whole_and_numbers_stay() -> None:
    tree = {"a": ["x", ("y", 1, 2.5, None, True)], "b": {"c": b"x"}}
    assert rewrite(tree, str.upper) == {
        "A": ["X", ("Y", 1, 2.5, None, True)], "B": {"C": b"x"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202eb", "a⟨U+202E⟩b"), ("\x07", "⟨U+0007⟩"), ("\ud800", "⟨U+D800⟩"),
        ("\u2028", "⟨U+2028⟩"), ("\ue000", "⟨U+E000⟩"), ("a\n\tb", "a\n\tb"), ("é 漢", "é 漢"),
        ("a\u00a0b\n", "a\u00a0b\n"),
    ],
)  # fmt: skip
def test_what_hides_or_reorders_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_names_stand_on_one_line_and_long_ones_keep_both_ends() -> None:
    assert line(" a\n b\tc ") == "a b c"
    assert label("x" * 120) == "x" * 120
    name = label("a" * 60 + "middle" + "b" * 60)
    assert name == "a" * 60 + "…" + "b" * 60


def test_markup_is_escaped_once_and_our_own_is_left_alone() -> None:
    assert markdown("a & <b> | *c*") == r"a &amp; &lt;b&gt; \| \*c\*"
    assert markdown("12. x") == r"12\. x"
    own = Markdown("**bold**")
    assert markdown(own) is own
    assert str(markdown("snake_case")) == "snake_case"
    assert markdown("http://x") == r"http:\//x"


@pytest.mark.parametrize(
    ("text", "told", "page"),
    [
        ("add `seeds: [0, 1]` for `a_b*`.", "add `seeds: [0, 1]` for `a_b*`.",
         "add <code>seeds: [0, 1]</code> for <code>a_b*</code>."),
        ("1. `<b>` & *c*", r"1\. `<b>` &amp; \*c\*", "1. <code>&lt;b&gt;</code> &amp; *c*"),
        ("a ` alone", r"a \` alone", "a ` alone"),
        ("``two`` and `one`", r"\`\`two\`\` and `one`", "``two`` and <code>one</code>"),
        ("a `b|c` d", r"a \`b\|c\` d", "a `b|c` d"),  # it would end a table's cell
        ("see \ue000 `x`", "see ⟨U+E000⟩ `x`", "see ⟨U+E000⟩ <code>x</code>"),
    ],
)  # fmt: skip
def test_code_in_a_sentence_is_code_in_every_format(text: str, told: str, page: str) -> None:
    assert prose(text) == told
    made = Environment(autoescape=True)
    made.filters["prose"] = web.template("macros.html.j2").environment.filters["prose"]
    assert made.from_string("{{ text | prose }}").render(text=text) == page


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="`ab <|\\*_[](&", max_size=12))
def test_a_sentence_has_no_markup_but_code(text: str) -> None:
    """What stands outside of code is shown as it is, whatever names are in it."""
    shown = MarkdownIt("commonmark").render(prose(f"x {text} x"))
    assert set(re.findall(r"</?(\w+)", shown)) <= {"p", "code"}
    plain = unescape(re.sub(r"</?(?:p|code)>", "", shown))
    assert re.sub(r"[`\s]", "", plain) == re.sub(r"[`\s]", "", f"x{text}x")


def test_fence_is_longer_than_any_in_the_text() -> None:
    assert fenced("a\n\n", "yaml") == "```yaml\na\n```"
    assert fenced("```` a").startswith("`````\n")
    assert fenced("``").startswith("```\n")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_cells_are_no_formulas(start: str) -> None:
    assert csv_cell(f"{start}1") == f"'{start}1"
    assert csv_cell(f"a{start}1") == f"a{start}1"
    assert csv_cell(-1.5) == -1.5


def test_json_in_a_page_ends_no_element() -> None:
    assert script_json({"a": "</b>&\u2028\u2029é"}) == (
        '{"a":"\\u003c/b\\u003e\\u0026\\u2028\\u2029é"}'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json({"a": float("nan")})
    assert well_formed("a\ud800\u202e") == "a⟨U+D800⟩\u202e"
