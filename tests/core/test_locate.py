"""A name that is nearly right is answered with the right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from harness.cli import main
from harness.core.errors import SuiteError, unknown
from harness.core.locate import can_be_on_the_hub, find_suite, locate


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("suite.yaml").touch()
    Path("my suites").mkdir()
    Path("my suites/first run.yml").touch()
    Path("rows").mkdir()
    Path("rows/train.jsonl").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("siute.yaml", "suite.yaml"),
        ("suite.yml", "suite.yaml"),
        ("suite", "suite.yaml"),
        ("my suites/first_run.yaml", "my suites/first run.yml"),
        ("my suites", "my suites/first run.yml"),
        (".", "suite.yaml"),
        ("pocket/dmeo", "pocket/demo"),
    ],
)
def test_the_nearest_suite_is_named(typed: str, meant: str, folder: Path) -> None:
    with pytest.raises(SuiteError) as caught:
        find_suite(typed)
    head = str(caught.value).split("\n")[0]
    assert head.startswith(f"no suite file '{typed}'")
    assert head.endswith(f"; did you mean '{meant}'?")
    assert ("which is a folder" in head) is Path(typed).is_dir()


def test_nothing_is_guessed_where_only_the_ending_is_alike(folder: Path) -> None:
    with pytest.raises(SuiteError) as suite_missing:
        find_suite("xyzzy.yaml")
    with pytest.raises(SuiteError) as rows_missing:
        locate("rows/xyzzy.jsonl", folder / "suite.yaml", "data.a.train")
    assert "did you mean" not in f"{suite_missing.value} {rows_missing.value}"


def test_the_nearest_file_of_a_folder_is_named(folder: Path) -> None:
    with pytest.raises(SuiteError, match=r"'rows/trian\.jsonl'; did you mean 'rows/train\.jsonl'"):
        locate("rows/trian.jsonl", folder / "suite.yaml", "data.a.train")


def test_list_names_the_nearest_word() -> None:
    for typed, meant in (("keyz", "keys"), ("method", "methods")):
        answer = CliRunner().invoke(main, ["list", typed])
        assert answer.exit_code == 2
        assert f"unknown word '{typed}'; did you mean '{meant}'?" in answer.output
    assert "known: none" in unknown("baseline", "a", [])


PLACES = ("/", "~", "/proc", ".")


def suite(key: str, place: str) -> dict[str, Any]:
    """A suite whose `key` names a folder that is no such thing."""
    pocket, rows = "pocket/models/pocket-1m", "pocket/instruct/test.jsonl"
    model: Any = pocket
    data: dict[str, Any] = {"train": rows, "test": rows}
    scorers: list[Any] = ["exact_match"]
    more: dict[str, Any] = {}
    judge = {"judge": {"model": "small", "prompt": place}}
    match key:
        case "model":
            model = place
        case "path":
            model = {"path": place}
        case "gguf":
            model = {"gguf": place}
        case "chat_template":
            model = {"path": pocket, "chat_template": place}
        case "rows":
            data["train"] = place
        case "data":
            data = {"path": place, "train": {"rows": [0, 2]}, "test": {"rows": [2, 4]}}
        case "rule":
            scorers = [{"win_rate": {"rule": place}}]
        case "prompt":
            scorers = [{"pairwise": {"labeller": judge}}]
        case "include_path":
            scorers = [{"lm_eval": {"tasks": ["pocket_exam"], "include_path": place}}]
        case "checkpoint":
            more = {"checkpoints": {"kept": place}}
        case _:
            raise AssertionError(key)
    return {
        "name": "places", "models": {"small": model}, "data": {"tasks": data},
        "matrix": {"method": ["lora"], "objective": ["sft"]}, "scorers": scorers,
        "base": {"zero-shot": {}}, "baseline": "zero-shot", **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    "key",
    ["model", "path", "gguf", "chat_template", "rows", "data", "rule", "prompt", "include_path",
     "checkpoint"],
)  # fmt: skip
def test_a_folder_that_is_no_such_thing_is_refused_in_a_sentence(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing below it is read, however much that is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("harness.core.files.MOST_FILES", 1000)
    places = PLACES[:1] if key == "include_path" else PLACES
    for place in places:
        Path("suite.yaml").write_text(yaml.safe_dump(suite(key, place)), encoding="utf-8")
        answer = CliRunner().invoke(main, ["plan", "suite.yaml"])
        assert answer.exit_code == 2, (place, answer.output)
        assert answer.output.startswith("suite.yaml: "), answer.output
        assert "Traceback" not in answer.output
        assert "string should match" not in answer.output
        assert len(answer.output.splitlines()) <= 3, answer.output


@pytest.mark.parametrize(
    "name",
    ["gpt2", "org/name", "a.b/c-d_e", "--help", "-x", "x-", ".x", "x.", "a--b", "a..b", "a/b.git",
     "a" * 96, "a" * 97, "o/" + "a" * 96, "o/" + "a" * 97, "a/", "/a", "a/b/c", "", "a b", "_", "é",
     "a/_b", "_a/b", "-a/b", "a-/b", "x@y"],
)  # fmt: skip
def test_names_on_the_hub_are_those_that_its_client_takes(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        taken = True
    except HFValidationError:
        taken = False
    assert can_be_on_the_hub(name) is taken


@pytest.mark.parametrize("name", ["--help", "-x", "a--b", "x.", "a/b.git", "a" * 97])
def test_model_of_a_name_that_no_hub_has_is_refused_by_its_place(name: str, folder: Path) -> None:
    with pytest.raises(SuiteError, match=r"^models\.x\.path: there is no '"):
        locate(name, folder / "suite.yaml", "models.x.path")


def test_file_without_the_ending_of_a_suite_is_answered_with_it(folder: Path) -> None:
    Path("mine").touch()
    with pytest.raises(SuiteError, match=r"^mine: the name of a suite's file ends in \.yaml"):
        find_suite("mine")
