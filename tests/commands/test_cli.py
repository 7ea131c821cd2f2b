"""The command as its user meets it."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from harness.cli import main
from harness.store.store import Store
from harness.suite.suite import Suite
from tests.conftest import Workspace, workspace_in

ROOT = Path(__file__).parents[2]

BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'transformers', 'trl', 'peft'):
            raise ImportError(f'{name} is imported by the control half')
sys.meta_path.insert(0, Blocked())
"""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_declaration_and_the_whole_control_half_import_with_torch_blocked() -> None:
    code = f"""{BLOCK}
import importlib, pkgutil, harness
from harness.core import component, registry
for name in ("cli", "commands", "importers", "report", "comparison", "planning", "variants",
             "scheduling", "suite", "store", "core"):
    module = importlib.import_module(f"harness.{{name}}")
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), f"harness.{{name}}."):
        importlib.import_module(found.name)
for name in harness.__all__:
    getattr(harness, name)
for axis in component.AXES:
    for name in registry.names(axis):
        declared = registry.find(axis, name)
        assert declared.__doc__, name
        for field, info in declared.model_fields.items():
            assert info.description, (name, field)
        print(name)
"""
    assert {"full", "lora", "sft", "rouge", "local", "length"} <= set(python(code).split())


def test_help_loads_neither_torch_nor_pandas() -> None:
    code = "import harness.cli, sys; print([m for m in sys.modules if m in ('torch','pandas')])"
    assert python(code).strip() == "[]"


SECRET = "hf_thisIsASecretThatMustNotLeak"


def run_with_secret(workspace: Workspace) -> subprocess.CompletedProcess[str]:
    arguments = ("run", "suite.yaml", "--store", "store", "--report-dir", "report")
    return workspace.command(*arguments, env={**os.environ, "HF_TOKEN": SECRET})


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Workspace:
    """The tiny suite, run by the command with a secret in its environment."""
    workspace = workspace_in(tmp_path_factory.mktemp("ran"), tiny_model)
    done = run_with_secret(workspace)
    assert done.returncode == 0, done.stderr
    return workspace


def test_cached_run_says_so_and_starts_no_worker(ran: Workspace) -> None:
    ran.write(executor={"local": {"threads": 1}})
    log = ran.store / "log.txt"
    before = log.stat().st_mtime_ns if log.exists() else None
    again = run_with_secret(ran)
    assert again.returncode == 0, again.stderr
    assert "everything is cached" in again.stderr
    assert (log.stat().st_mtime_ns if log.exists() else None) == before
    assert "index.html" in again.stdout


def test_secret_in_the_environment_reaches_no_file(ran: Workspace) -> None:
    files = [path for path in ran.folder.rglob("*") if path.is_file()]
    assert ran.folder / "report" / "index.html" in files
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path


def test_typo_is_answered_with_exit_status_2_and_no_traceback(workspace: Workspace) -> None:
    workspace.write(matrix={"method": ["lroa"], "objective": ["sft"]})
    done = workspace.command("plan", "suite.yaml")
    assert done.returncode == 2
    assert "did you mean 'lora'" in done.stderr
    assert "Traceback" not in done.stderr


def test_compare_names_its_baseline_and_a_choice_once(workspace: Workspace) -> None:
    objective = {"sft": {"max_steps": 1}}
    workspace.write(seeds=[0, 1], matrix={"method": ["full", "lora"], "objective": [objective]})
    workspace.run()
    pair = ("suite.yaml:lora-sft", "suite.yaml:full-sft")
    done = workspace.command("compare", *pair, "--store", "store")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{pair[0]} against the baseline {pair[1]}")
    unknown = workspace.command("compare", "suite.yaml:lora-sfft", pair[1], "--store", "store")
    assert unknown.returncode == 2
    assert unknown.stderr.count("lora-sft") == 2  # meant, and known
    page = workspace.command("report", "suite.yaml", "--store", "store", "--report-dir", "report")
    assert page.returncode == 0, page.stderr
    told = (workspace.folder / "report" / "report.md").read_text()
    assert "harness run suite.yaml --store store" in told
    assert "harness report" not in told


@pytest.mark.parametrize("axis", ["methods", "objectives", "scorers", "executors", "suites"])
def test_list_documents_every_axis(workspace: Workspace, axis: str) -> None:
    done = workspace.command("list", axis)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 1


def test_list_shows_a_members_options(workspace: Workspace) -> None:
    done = workspace.command("list", "methods", "lora")
    assert "target_modules = 'all-linear'" in done.stdout
    assert "arXiv:2106.09685" in done.stdout


def test_init_writes_a_suite_that_plans_and_does_not_overwrite(workspace: Workspace) -> None:
    assert workspace.command("init", "mine.yaml").returncode == 0
    assert workspace.command("init", "mine.yaml").returncode == 2
    done = workspace.command("plan", "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert "lora-sft" in done.stdout


def test_members_from_outside_the_package_run_together(workspace: Workspace) -> None:
    workspace.write(
        matrix={"method": ["bitfit"], "objective": ["plain_sft"]}, scorers=["length"],
        executor="inline",
    )  # fmt: skip
    outcome = workspace.run()
    assert not outcome.failed
    assert {r.label for r in outcome.records.values() if r.kind == "train"} == {"bitfit-plain_sft"}


def test_readme_explains_the_demo_as_it_is() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [
        yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    ]
    demo = yaml.safe_load((ROOT / "suites" / "pocket" / "demo.yaml").read_text(encoding="utf-8"))
    del demo["description"]
    assert blocks[0] == demo
    assert Suite.model_validate(blocks[1]).name == "my-decision"


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS, errno.ENOENT])
@pytest.mark.parametrize("digests", [True, False])
def test_what_the_machine_refuses_is_a_sentence_and_no_crash(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, number: int, digests: bool
) -> None:
    """Of a file that the suite names, with its place; of any other, with its name."""

    def fails(*_: object, **__: object) -> str:
        raise OSError(number, os.strerror(number), "rows/somewhere.jsonl")

    if digests:
        monkeypatch.setattr(Store, "file_digest", fails)
    else:
        monkeypatch.setattr("harness.commands.plan.describe_plan", fails)
    done = CliRunner().invoke(main, ["plan", str(workspace.path), "--store", str(workspace.store)])
    if number == errno.ENOENT:  # this may be a mistake of ours
        assert done.exit_code == 70
        return
    assert done.exit_code == 2, done.output
    assert f"rows/somewhere.jsonl cannot be used: {os.strerror(number).lower()}" in done.output
    assert ("models.tiny: " in done.output) == digests
    assert "Traceback" not in done.output
