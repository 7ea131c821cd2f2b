"""What a suite's YAML means, and what in it is told by its line instead of being guessed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import SuiteError
from harness.suite.suite import Suite, load_suite
from harness.suite.text import VALUES, read_yaml
from tests.conftest import Workspace


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E5", 1e5), ("-2.5e+3", -2500.0), (".5", 0.5), ("1.", 1.0), ("3", 3),
        ("1_000", 1000), ("0x1f", 31), ("0o17", 15), ("-0", 0), ("+7", 7),
        ("2026-01-01", "2026-01-01"), ("2026-13-45", "2026-13-45"), ("2:00:00", "2:00:00"),
        ("1:30", "1:30"), ("1.2.3", "1.2.3"), ("1,5", "1,5"), ("=", "="), ("'off'", "off"),
        ("off", False), ("~", None), ("!!str 1.10", "1.10"), ("!!float 1", 1.0),
        ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
        ("{a: 1, <<: {a: 2, b: 3}}", {"a": 1, "b": 3}),
        ("{<<: [{a: 1}, {a: 2, b: 2}]}", {"a": 1, "b": 2}),
    ],
)  # fmt: skip
def test_values_are_what_they_look_like(text: str, value: Any) -> None:
    found = read_yaml(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\noff: 2", ["line 2", "key off", "booleans", "quote it: 'off'"]),
        ("a: 1\n1.10: 2", ["line 2", "not 1.10", "quote it"]),
        ("{a: 1,0e-3}", ["line 1", "0e-3", "comma", "1.5"]),
        ("[a]: 1", ["a key must be a name, not a list"]),
        ("a: 1\na: 2", ["line 2", "'a' occurs twice"]),
        ("x: 017", ["017", "base 8", "write 17, or quote it"]),
        ("x: " + "9" * 5000, ["too large"]),
        ("x: 0x" + "f" * 5000, ["too large"]),
        ("x: !!int y", ["'y' is no int"]),
        ("x: !!timestamp 2026-13-45", ["!!timestamp", "remove it"]),
        ("x: !!python/object/apply:os.system [ls]", ["line 1", "python/object"]),
        ("x: !!set {a, b}", ["!!set"]),
        ("x: !!map a", ["!!map"]),
        ("&a [*a]", ["alias", "inside the value that it repeats"]),
        ("{<<: 3}", ["`<<`", "not a mapping"]),
        ("[" * 100 + "]" * 100, ["64 levels"]),
        ("[" * 5000 + "]" * 5000, ["64 levels"]),
        ('"\\0"', ["character '\\x00'"]),
        ('"\\ud800"', ["\\ud800"]),
        ("a\n\x1b", ["line 2", "'\\x1b'"]),
        ("a: b: c", ["not YAML", "line 1, column 5"]),
        ("a:\n\tb: 1", ["not YAML", "line 2"]),
    ],
)
def test_what_no_suite_means_is_told_by_its_line(text: str, words: list[str]) -> None:
    with pytest.raises(SuiteError) as caught:
        read_yaml(text)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    with pytest.raises(SuiteError, match=f"more than {VALUES:,} values"):
        read_yaml(text)


NUMBER = re.compile(r"[-+]?(0o[0-7]+|[0-9_.]+([eE][-+]?[0-9]+)?)")
"""How YAML 1.2 writes numbers; some of them are texts to YAML 1.1, and so to PyYAML's dumper."""


def read_alike(text: str) -> bool:
    """Whether YAML 1.1, which PyYAML writes, and a suite take a text for the same."""
    import yaml

    return not (NUMBER.fullmatch(text) and yaml.safe_dump(text).startswith(text))


# PyYAML does not read its own "\x85" again, nor NUL.
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\x85"), max_size=8)
    .filter(read_alike),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text(st.characters(codec="ascii", min_codepoint=32), max_size=5).filter(read_alike),
        inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(TREES)
def test_what_a_dumper_writes_is_read_again(tree: Any) -> None:
    import yaml

    assert read_yaml(yaml.safe_dump(tree, allow_unicode=True)) == tree


@pytest.mark.parametrize(("text", "number"), [("1e-3", 0.001), ("0E0", 0.0), ("5e5", 500_000.0)])
def test_texts_that_a_dumper_leaves_bare_are_numbers_and_no_keys(text: str, number: float) -> None:
    import yaml

    assert not read_alike(text)
    assert read_yaml(yaml.safe_dump({"a": text})) == {"a": number}
    with pytest.raises(SuiteError, match="quote it"):
        read_yaml(yaml.safe_dump({text: None}))


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("off", ["name: ", "booleans", "quote it"]),
        ("no", ["booleans"]),
        ("1.10", ["a text is needed", "a number", "quote it"]),
        ("7", ["quote it as you write it"]),
        ("~", ["no value"]),
    ],
)
def test_text_that_yaml_took_for_something_else_is_to_be_quoted(
    workspace: Workspace, written: str, words: list[str]
) -> None:
    text = workspace.path.read_text().replace("name: tiny", f"name: {written}")
    workspace.path.write_text(text)
    with pytest.raises(SuiteError) as caught:
        load_suite(str(workspace.path))
    told = str(caught.value)
    assert told.startswith(f"{workspace.path}: name: "), told
    assert all(word in told for word in words), told
    assert "False" not in told


def test_suite_with_a_byte_order_mark_is_read(workspace: Workspace, tmp_path: Path) -> None:
    workspace.path.write_bytes(b"\xef\xbb\xbf" + workspace.path.read_bytes())
    assert load_suite(str(workspace.path)).suite.name == "tiny"


@pytest.mark.parametrize("path", ["x" * 300 + "/y", "~nobody-at-all/x", "/dev/zero", "."])
def test_paths_that_lead_to_no_file_are_refused(workspace: Workspace, path: str) -> None:
    from tests.planning.test_plan_refuses import require_refused

    workspace.tree["data"]["letters"]["train"] = path
    require_refused(workspace, "data.letters", [path[:50]])


WRONG = {
    "a number": 3, "a text": "word", "a list": [1], "a mapping": {"x": 1}, "nothing": None,
    "a boolean": True, "a list of mappings": [{"x": 1}],
}  # fmt: skip
JARGON = ("valid dictionary", "valid list", "valid integer", "valid string", "instance of",
          "unable to parse", "input should be a", "input should be '")  # fmt: skip


@pytest.mark.parametrize("section", Suite.model_fields)
def test_a_section_of_another_type_is_told_in_the_words_of_yaml(
    workspace: Workspace, section: str
) -> None:
    refusals = 0
    for value in WRONG.values():
        workspace.write(**{section: value})
        try:
            load_suite(str(workspace.path))
        except SuiteError as error:
            refusals += 1
            told = str(error)
            assert str(workspace.path) in told
            assert section in told
            assert not any(words in told for words in JARGON), told
    assert refusals or section == "executor"  # which a plan builds


@pytest.mark.parametrize("section", ["models", "data", "matrix", "base", "scorers", "generate"])
def test_a_misspelt_section_is_told_before_what_it_would_have_brought(
    workspace: Workspace, section: str
) -> None:
    workspace.tree[f"{section[:-1]}q"] = workspace.tree.pop(section)
    workspace.write()
    with pytest.raises(
        SuiteError, match=f"unknown key '{section[:-1]}q'; did you mean '{section}'"
    ):
        load_suite(str(workspace.path))


def test_a_setting_may_name_its_place_as_messages_do(workspace: Workspace) -> None:
    for place in ("seeds[0]", "seeds.0"):
        assert load_suite(str(workspace.path), ["seeds=[7]", f"{place}=9"]).suite.seeds == [9]
    with pytest.raises(SuiteError, match=r"no place 'scorers\.9\.rouge'") as caught:
        load_suite(str(workspace.path), ["scorers[9].rouge=3"])
    assert "--set 'scorers=[...]'" in str(caught.value)
