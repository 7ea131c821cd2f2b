"""The code behind records and reports: which files count, and who notices that one changed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import harness
from harness.commands import report as reports
from harness.core import component, registry, sources
from harness.core.sources import digest_of, package_digest, source_files
from harness.objectives.base import Objective
from harness.store.made_by import CODE, changed_since, code_behind, mixed
from harness.store.stage import Record
from tests.conftest import Workspace

PACKAGE = Path(harness.__file__).parent
WORK = ("stages", "methods", "objectives", "scorers", "labellers", "inference", "data")
ASIDE = {
    "harness.stages.preview",  # shows rows, and leaves no record
    "harness.scorers._sandbox",  # no scorer runs programs yet
    # Of `harness judge`: no stage labels by hand, or attacks.
    "harness.data.judge_attacks",
    "harness.data.judge_labels",
    "harness.data.label_sheets",
    "harness.methods._peft.soft_prompt_mixed",  # of harness.adapters, which no stage uses
}
FILES = {
    "member.py": "from fresh.shared import arithmetic\nfrom . import beside\n",
    "__init__.py": "",
    "beside.py": "def work():\n    from .late import later\n",
    "late.py": "later = 1\n",
    "shared/__init__.py": "",
    "shared/arithmetic.py": "import fresh.shared.deep\n",
    "shared/deep.py": "import json\n",
    "typed.py": "",
    "stranger.py": "import fresh.member\n",
}


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of its own, with a member of some axis."""
    folder = tmp_path / "fresh"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    aside = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fresh import typed\n"
    (folder / "beside.py").write_text(aside + FILES["beside.py"])
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def again(*modules: str) -> str:
    """The digest as a process that starts now would have it."""
    for remembered in (digest_of, sources._file, sources._imported, sources._installed_with):
        remembered.cache_clear()
    return digest_of(*modules)


@pytest.mark.parametrize("name", [*FILES])
def test_digest_changes_with_every_file_that_is_imported_and_with_no_other(
    fresh: Path, name: str
) -> None:
    before = again("fresh.member")
    with (fresh / name).open("a") as file:
        file.write("# changed\n")
    changed = again("fresh.member") != before
    assert changed == (name not in ("typed.py", "stranger.py"))


@pytest.mark.parametrize(
    "text",
    [
        "from harness import Scorer\n",
        "import harness\nclass Mine(harness.Scorer): ...\n",
        "class Mine(ours.Scorer): ...\nimport harness as ours\n",
    ],
)
def test_base_that_comes_by_its_public_name_counts(fresh: Path, text: str) -> None:
    (fresh / "member.py").write_text(text)
    again()
    files = source_files("fresh.member")
    assert {"harness.scorers.base", "harness.core.component", "fresh"} <= set(files)
    assert "harness.methods.base" not in files
    assert not [name for name in files if name.startswith("harness.commands")]


def test_every_module_that_a_member_names_for_its_work_counts(fresh: Path) -> None:
    class Named(Objective):
        impl = "fresh.beside:work"
        reference = "fresh.shared.deep:reference"

    again()
    assert {"fresh.beside", "fresh.late", "fresh.shared.deep"} <= set(
        source_files(*Named.modules())
    )
    assert Named.source_digest() == again(*Named.modules())


def test_modules_that_one_plugin_installs_count_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.py").write_text("import helper_of_one\nimport stranger_of_one\n")
    (tmp_path / "helper_of_one.py").write_text("")
    (tmp_path / "stranger_of_one.py").write_text("")
    for name, modules in (("one", "one\nhelper_of_one"), ("another", "stranger_of_one")):
        folder = tmp_path / f"{name}-0.1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
        (folder / "top_level.txt").write_text(modules)
    monkeypatch.syspath_prepend(tmp_path)
    again()
    assert set(source_files("one")) == {"one", "helper_of_one"}


def test_every_file_that_does_work_is_behind_the_records_of_some_stage() -> None:
    kinds = [path.stem for path in (PACKAGE / "stages").glob("[a-z]*.py")]
    behind = {name for kind in kinds if f"harness.stages.{kind}" not in ASIDE
              for name in source_files("harness.worker", f"harness.stages.{kind}")}  # fmt: skip
    for axis in component.AXES:
        for name in registry.names(axis):
            declared = registry.find(axis, name)
            modules = (declared.__module__, (declared.impl or declared.__module__).split(":")[0])
            behind |= set(source_files(*modules))
    for part in WORK:
        for path in (PACKAGE / part).rglob("*.py"):
            dotted = ".".join(["harness", *path.relative_to(PACKAGE).with_suffix("").parts])
            assert dotted.removesuffix(".__init__") in behind | ASIDE
    for name in (
        "harness.core.aggregate",
        "harness.store.score_table",
        "harness.models.files",
        "harness.models.resolve",
        "harness.stages.base",
    ):
        assert name in behind


def test_whatever_a_module_holds_of_another_stands_among_its_sources() -> None:
    """Seen in the modules as they are loaded, not in their import statements."""
    for kind in ("train", "generate", "score", "lengths", "reference", "label"):
        __import__(f"harness.stages.{kind}")
        known = source_files(f"harness.stages.{kind}")
        for name in known:
            held = vars(sys.modules[name]).values() if name in sys.modules else ()
            for value in held:
                if isinstance(value, ModuleType):
                    origin = value.__name__
                elif isinstance(value, type | FunctionType):
                    origin = value.__module__
                else:
                    continue
                if origin.startswith(f"{name}."):
                    continue  # a package holds its modules, whoever imported them
                assert not origin.startswith("harness.") or origin in known, (name, value)


def test_the_control_half_asks_for_digests_without_loading_torch() -> None:
    import subprocess

    script = (
        "import sys\nfrom harness.store.made_by import code_behind\n"
        "config = {'method': {'name': 'qlora'}, 'objective': {'name': 'ppo'}}\n"
        "print(sorted(code_behind('train', config)), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['method qlora', 'objective ppo', 'stage train'] False"


def record(kind: str, code: dict[str, str], **config: Any) -> Record:
    return Record(
        key="k" * 64, kind=kind, status="ok", config=config, provenance={CODE: code} if code else {}
    )


def test_record_made_by_other_code_is_told_by_its_parts() -> None:
    config = {"method": {"name": "lora"}, "objective": {"name": "sft"}}
    now = code_behind("train", config)
    assert set(now) == {"stage train", "method lora", "objective sft"}
    assert changed_since([record("train", now, **config), record("train", {}, **config)]) is None
    stale = [record("train", {**now, part: "another"}, **config) for part in now]
    warning = str(changed_since([*stale, stale[0]]))
    assert warning.startswith("4 cached stages were made by other code")
    for part in ("stage train (2)", "method lora (1)", "objective sft (1)", "VERSION"):
        assert part in warning
    asking = {"scorer": {"name": "everything", "judge": {"name": "longest", "version": 1}}}
    assert set(code_behind("score", asking)) == {
        "stage score", "scorer everything", "labeller longest",
    }  # fmt: skip
    asking["scorer"]["judge"] = {"name": "that nobody has any more", "version": 1}
    assert set(code_behind("score", asking)) == {"stage score", "scorer everything"}
    gone = {"scorer": {"name": "that nobody has any more"}}
    assert changed_since([record("score", code_behind("score", {}), **gone)]) is None


def test_records_of_one_report_made_by_different_code_are_told_to_its_reader() -> None:
    one, other = record("generate", {"stage generate": "a"}), record(
        "generate", {"stage generate": "b"}
    )  # fmt: skip
    assert mixed([one, one, record("generate", {})]) is None
    assert "stage generate (2)" in str(mixed([one, other, one]))


def test_every_record_of_a_run_tells_the_code_that_made_it(workspace: Workspace) -> None:
    outcome = workspace.run(only="zero-shot")
    assert outcome.records
    for made in outcome.records.values():
        assert made.provenance[CODE] == code_behind(made.kind, made.config)
    assert changed_since(outcome.records.values()) is None
    opened = workspace.open(only="zero-shot")
    folder = workspace.folder / "report"

    def reported() -> bool:
        return reports.report(opened, outcome.records, folder, examples=True).comparison is not None

    assert [reported(), reported()] == [True, False]
    for name, stand_in in (
        ("package_digest", lambda: "b"),
        ("versions", lambda names: {"x": "1"}),
        ("digest_of", lambda *modules: "b"),  # of what plugins bring
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reports, name, stand_in)
            assert [reported(), reported()] == [True, False]
        assert [reported(), reported()] == [True, False]


@pytest.mark.parametrize("name", ["member.py", "shared/deep.py", "page.css"])
def test_report_is_made_again_when_any_file_of_the_package_changes(fresh: Path, name: str) -> None:
    """Also one of the same size and the same time, as some checkouts leave them."""
    (fresh / "page.css").write_text("a {}\n")
    before, status = package_digest(fresh), (fresh / name).stat()
    (fresh / name).write_bytes(b"#" * status.st_size)
    os.utime(fresh / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert package_digest(fresh) != before


@pytest.mark.parametrize("axis", ["method", "objective", "scorer", "labeller"])
def test_a_raised_version_gives_every_component_another_identity(axis: str) -> None:
    for name in registry.names(axis):
        declared = registry.find(axis, name)
        if any(field.is_required() for field in declared.model_fields.values()):
            continue
        raised = type(declared.__name__, (declared,), {"VERSION": declared.VERSION + 1})
        known, other = declared().identity(), raised().identity()
        assert known != other, name
        assert known == {**other, "version": declared.VERSION}, name
