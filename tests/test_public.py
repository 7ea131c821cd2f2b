"""The public surface: what a script, a notebook or a plugin may rely on."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toy_scorer import Length

import harness
from harness.core.errors import HarnessError
from harness.scorers.base import Prediction
from tests.conftest import Workspace

FUNCTIONS = {
    "run": "(suite: 'str | Path', *, only: 'str | None' = None, limit: 'int | None' = None,"
    " settings: 'Sequence[str]' = (), store: 'str | Path | None' = None,"
    " report_dir: 'str | Path | None' = None, examples: 'bool' = True) -> 'Comparison'",
    "plan": "(suite: 'str | Path', *, only: 'str | None' = None, limit: 'int | None' = None,"
    " settings: 'Sequence[str]' = (), store: 'str | Path | None' = None) -> 'pd.DataFrame'",
    "compare": "(variant: 'str', baseline: 'str', *, store: 'str | Path | None' = None)"
    " -> 'Comparison'",
    "load": "(source: 'Comparison | str | Path') -> 'pd.DataFrame'",
}
BASES = {
    "Method": ("attach", "resume", "load_trained", "count_trainable"),
    "Objective": ("needs", "steps"),
    "Scorer": ("score", "declared"),
    "Labeller": ("label",),
    "StageKind": ("expected", "headline", "resources", "run"),
    "Executor": ("device", "dtype", "capacity", "room", "refuse", "start"),
}
"""Base class -> what a member may define."""


def test_these_names_are_public_and_no_others() -> None:
    assert set(harness.__all__) == {
        *FUNCTIONS, *BASES, "Comparison", "HarnessError", "__version__",
    }  # fmt: skip
    assert set(harness.__all__) <= set(dir(harness))
    with pytest.raises(AttributeError, match="module 'harness' has no attribute 'Runner'"):
        harness.Runner  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_keeps_its_signature_and_shows_how_it_is_used(name: str) -> None:
    function = getattr(harness, name)
    assert str(inspect.signature(function)) == FUNCTIONS[name]
    assert f"harness.{name}(" in (inspect.getdoc(function) or "")
    assert "HarnessError" in (inspect.getdoc(function) or "")


@pytest.mark.parametrize("name", BASES)
def test_a_base_is_the_class_that_members_of_ours_derive_from(name: str) -> None:
    base = getattr(harness, name)
    assert base.axis == name.removesuffix("Kind").lower()
    for method in BASES[name]:
        assert callable(getattr(base, method)), method


def test_type_checkers_see_what_is_imported_when_it_is_used() -> None:
    imports = {
        name
        for line in Path(harness.__file__).read_text(encoding="utf-8").splitlines()
        if line.startswith("    from harness.")
        for module, name in [line.split()[1::2]]
        if harness._MODULES[name] == module
    }
    assert imports == set(harness._MODULES) == set(harness.__all__) - {"__version__"}


def test_importing_the_package_loads_neither_torch_nor_pandas() -> None:
    code = "import harness, sys; print({'torch', 'pandas', 'pydantic'} & set(sys.modules))"
    used = (
        "from harness import plan, run, Method, Objective, Scorer, Labeller, Executor, StageKind;"
        " import sys; print({'torch', 'pandas', 'scipy'} & set(sys.modules))"
    )
    for text in (code, used):
        done = subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "set()"


def test_readmes_example_does_what_the_commands_do(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.folder)
    monkeypatch.setenv("HARNESS_STORE", "store")
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    code = readme.partition("## From Python\n\n```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)

    stages, comparison, row = names["stages"], names["comparison"], names["row"]
    assert set(stages.state) == {"to run"}
    assert list(stages.columns) == [
        "state", "kind", "label", "expected_seconds", "state_bytes", "key",
    ]  # fmt: skip
    assert set(stages.kind) >= {"data", "train", "generate", "score"}
    assert stages[stages.kind == "train"].state_bytes.notna().all()
    assert isinstance(comparison, harness.Comparison)
    assert not comparison.failed
    assert {v.group for v in comparison.variants} == {"zero-shot", "full-sft", "lora-sft"}
    assert comparison.command == "harness run suite.yaml --store store --only '*-sft'"
    table = names["table"].set_index(["variant", "metric", "evaluation", "slice"])
    assert table.estimate["lora-sft", "rougeL", row.evaluation, ""] == row.estimate.value
    assert (
        str(row.estimate) == f"{row.estimate.value:.4g} [{row.estimate.low:.4g},"
        f" {row.estimate.high:.4g}]"
    )
    assert names["pair"].baseline == "suite.yaml:full-sft"
    assert names["pair"].row("suite.yaml:lora-sft", "rougeL").estimate == row.estimate

    assert set(harness.plan("suite.yaml", only="*-sft").state) == {"cached"}
    again = harness.run("suite.yaml", only="*-sft", report_dir="reports/mine")  # the report stands
    assert again.rows == comparison.rows
    assert len(harness.load("reports/mine")) == len(table)
    Path("reports/mine/comparison.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(harness.HarnessError, match="cannot be read"):
        harness.load("reports/mine")


def broken(self: Length, prediction: Prediction) -> dict[str, float]:
    raise ValueError("no such thing as a length")


def test_a_variant_without_any_result_is_told_with_its_reason(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Length, "score", broken)
    workspace.write(scorers=["length"])
    comparison = harness.run(workspace.path, only="zero-shot", store=workspace.store)
    with pytest.raises(HarnessError, match=r"zero-shot has no results: .*no such thing"):
        comparison.row("zero-shot", "length")


def test_a_variant_that_failed_stands_in_the_comparison_and_raises_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Length, "score", broken)
    workspace.write(scorers=["exact_match", "length"])
    comparison = harness.run(workspace.path, only="zero-shot", store=workspace.store)
    (failed,) = comparison.failed
    assert "no such thing as a length" in failed.reasons[0]
    assert comparison.row("zero-shot", "exact_match").n == 12


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"suite": "none.yaml"}, "no suite file 'none.yaml'"),
        ({"only": "nobody*"}, "nobody"),
        ({"limit": 0}, "limit is a number of rows, 1 or more, not 0"),
        ({"limit": "8"}, "limit is a number of rows, 1 or more, not '8'"),
        ({"only": ["lora*"]}, "only is a pattern"),
        (
            {"settings": "seeds=[0,1]"},
            r"settings is a list of strings, and not this str\n.*settings=\[",
        ),
        ({"settings": {"seeds": [0]}}, "settings is a list of strings, and not this dict"),
        (
            {"settings": [{"seeds": [0]}]},
            "settings is a list of strings, and not this list",
        ),
        ({"settings": ["seed=1"]}, "seed"),
        ({"store": "suite.yaml"}, "suite.yaml"),
    ],
)
def test_mistakes_are_raised_as_harness_errors(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], words: str
) -> None:
    monkeypatch.chdir(workspace.folder)
    whole = {"suite": "suite.yaml", "store": "store", **options}
    for function in (harness.run, harness.plan):
        with pytest.raises(HarnessError, match=words):
            function(**whole)
