"""The keys of every stage of every committed suite, as they are planned over an empty store.

    python tests/golden_keys.py     # write the list again (tests/golden_keys.txt)

A key that moves runs its stage again for everybody: a change that moves one says why, and writes
the list in the same commit. No torch, no worker: a few seconds.

What a suite takes from elsewhere is stood in for (files of HARNESS_REAL_DATA, a model from a
package), and every tuning is won by its first trial, so that what follows it is planned too.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

from harness.core.locate import package_suites, packaged_suites
from harness.models.files import ModelInfo
from harness.models.resolve import describe_folder
from harness.models.spec import ModelSpec
from harness.planning import sources as plan_sources
from harness.planning.planner import Plan, plan
from harness.store.stage import Record
from harness.store.store import Store
from harness.suite.suite import Loaded, load_suite

LIST = Path(__file__).with_suffix(".txt")
SETTINGS = {
    "code": ("scorers=[{lm_eval: {tasks: [humaneval, mbpp], allow_code_execution: true}}]",),
}
"""What a suite is not planned without."""
_DIGITS = 16
_ELSEWHERE = re.compile(r"\$\{HARNESS_REAL_DATA\}/([\w./-]+)")
_ROUNDS = 5
"""Plans of one suite: a search that learns asks again."""


def keys_of(file: Path) -> list[str]:
    """`kind label key` of every stage of a suite, in order."""
    with tempfile.TemporaryDirectory() as name, _alone(Path(name), file):
        store = Store(Path(name) / "store")
        planned = _won(load_suite(str(file), SETTINGS.get(file.stem, ())), store)
        store.close()
    stages = {stage.key: stage for stage in (*planned.groundwork(), *planned.stages())}
    return sorted(f"{s.kind} {s.label} {s.key[:_DIGITS]}" for s in stages.values())


def _alone(folder: Path, file: Path) -> mock._patch_dict:
    """The environment that plans a suite alike on every machine."""
    elsewhere = folder / "elsewhere"
    for named in _ELSEWHERE.findall(file.read_text(encoding="utf-8")):
        place = elsewhere / named
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.suffix:
            place.write_text(f"in the place of {named}\n", encoding="utf-8")
        elif not place.exists():
            shutil.copytree(_pocket(), place)
    shown = {"HARNESS_REAL_DATA": str(elsewhere), "CUDA_VISIBLE_DEVICES": ""}
    shown["HF_HUB_OFFLINE"] = "0"  # data sets of benchmarks would be fetched
    return mock.patch.dict(os.environ, shown)


def _pocket() -> Path:
    return package_suites() / "pocket/models/pocket-1m"


def _from_package(spec: ModelSpec, suite_file: Path, store: Store, where: str) -> ModelInfo:
    """In the place of a model that would be converted from GGUF."""
    return describe_folder(spec, _pocket(), {"gguf": f"in the place of {spec.package}"}, where)


def _won(loaded: Loaded, store: Store) -> Plan:
    """The plan once every tuning has ended."""
    known: dict[str, Record] = {}
    with mock.patch.object(plan_sources, "resolve_gguf", _from_package):
        for _ in range(_ROUNDS):
            planned = plan(loaded, store, known=known)
            if not planned.open:
                return planned
            known |= dict(_winners(planned))
    raise AssertionError(f"{loaded.path}: its tunings do not end in {_ROUNDS} rounds")


def _winners(planned: Plan) -> Iterator[tuple[str, Record]]:
    for tuning in planned.tunings():
        select = tuning.select
        if select is not None:
            won = {"winner": {"set": dict(tuning.trials[0].settings)}}
            config = dict(select.config)
            yield (
                select.key,
                Record(key=select.key, kind="select", status="ok", config=config, metrics=won),
            )


def golden() -> dict[str, list[str]]:
    """Suite -> its lines, as they are committed."""
    found: dict[str, list[str]] = {}
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            lines = found.setdefault(line[2:], [])
        elif line:
            lines.append(line)
    return found


def write(found: Mapping[str, list[str]]) -> None:
    """Write the list."""
    parts = ["\n".join([f"# {suite}", *lines]) for suite, lines in found.items()]
    LIST.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    """Write the list, and say what moved."""
    before = golden() if LIST.is_file() else {}
    now = {name: keys_of(file) for name, file in packaged_suites().items()}
    write(now)
    for name in sorted(before.keys() | now.keys()):
        moved = set(now.get(name, ())) - set(before.get(name, ()))
        if moved or name not in now:
            print(f"{name}: {len(moved)} of {len(now.get(name, ()))} stages have another key")
    print(f"{LIST.name}: {sum(map(len, now.values())):,} keys of {len(now)} suites")


if __name__ == "__main__":
    main()
