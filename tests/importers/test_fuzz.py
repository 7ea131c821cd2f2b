"""A thousand damaged result files: each is refused with a sentence and status 4, none passes."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import importers
from harness.cli import main
from harness.importers import csv_table
from harness.importers.baseline import text_of
from tests.importers import mutations, samples
from tests.importers.samples import FILES

OPENED: list[str] | None = None
"""The files that were opened, while a test asks for them."""


def _listen(event: str, arguments: tuple) -> None:
    if OPENED is not None and event == "open":
        OPENED.append(str(arguments[0]))


sys.addaudithook(_listen)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The names of all files that the test opens, as Python's audit events tell them."""
    global OPENED
    OPENED = []
    yield OPENED
    OPENED = None


def damaged(folder: Path, seed: int) -> tuple[str, str, Path, Path]:
    """(format, what was done, the damaged file, the file as it was)."""
    rng = random.Random(seed)
    what = rng.choice(list(FILES))
    for side in ("bad", "good"):
        (folder / side).mkdir(parents=True, exist_ok=True)
    good, bad = (FILES[what][1](folder / side) for side in ("good", "bad"))
    victim = bad
    if bad.is_dir():
        victim = bad / "per_instance_stats.json"
    way = mutations.damage(victim, rng)
    return what, f"{way} of {victim.name}", bad, good


def check(candidate: Path, baseline: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["check", str(candidate), "--baseline", str(baseline),
                                     "--margin", "1", *options])  # fmt: skip
    return done.exit_code, done.output


def refuse(folder: Path, seeds: range) -> None:
    for seed in seeds:
        what, done, bad, good = damaged(folder / str(seed), seed)
        for candidate, baseline in ((bad, good), (good, bad)):
            status, said = check(candidate, baseline)
            assert status == 4, (seed, what, done, status, said)
            assert said.startswith("NOT JUDGED"), (seed, what, done, said)
            assert "Traceback" not in said, (seed, what, done, said)


def test_stored_baseline_with_odd_values_is_judged_or_refused(tmp_path: Path) -> None:
    (run, *_) = importers.read(FILES["lm-eval results"][1](tmp_path))
    good, bad, report = (tmp_path / name for name in ("good.json", "bad.json", "report"))
    good.write_text(text_of("main", [run], "1"))
    for name, odd in (("evaluation", "\ud800"), ("n", 10**400), ("conditions", {"a": "\ud800"})):
        told = json.loads(good.read_text())
        told["metrics"][0][name] = odd
        bad.write_text(json.dumps(told))
        for sides in ((bad, good), (good, bad)):
            status, said = check(*sides, "--report-dir", str(report))
            assert (status in (0, 3, 4), "a fault of the harness" in said) == (True, False), said
    bad.write_text(json.dumps({**json.loads(good.read_text()), "metrics": []}))
    assert check(bad, good)[0] == check(good, bad)[0] == 4


def test_hundred_damaged_files_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path, range(50))


@pytest.mark.slow
def test_thousand_damaged_files_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path, range(50, 1050))


def undisturbed(folder: Path, seeds: range) -> None:
    for seed in seeds:
        rng, place = random.Random(seed), folder / str(seed)
        place.mkdir()
        what = rng.choice(list(FILES))
        file = FILES[what][1](place)
        if file.is_dir():
            file = file / rng.choice(["run_spec.json", "per_instance_stats.json"])
        mutations.noise(file, rng)
        path = file.parent if file.parent != place else file
        status, said = check(path, path)
        assert status in (0, 2, 3, 4), (seed, what, status, said)  # 2: which of two variants?
        assert "Traceback" not in said


def test_noise_anywhere_in_a_file_gives_no_traceback(tmp_path: Path) -> None:
    undisturbed(tmp_path, range(50))


@pytest.mark.slow
def test_noise_in_a_thousand_files_gives_no_traceback(tmp_path: Path) -> None:
    undisturbed(tmp_path, range(50, 1050))


def test_nothing_outside_the_given_folder_is_read_or_written(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path in a file leads nowhere: samples, members of archives, links, names of baselines."""
    secret = samples.every_eval_ever_samples(tmp_path)
    given, work = tmp_path / "given", tmp_path / "work"
    given.mkdir()
    work.mkdir()
    monkeypatch.chdir(work)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    good = samples.every_eval_ever(given)
    text = good.read_text()[:-1]
    good.write_text(f'{text}, "detailed_evaluation_results": {{"format": "jsonl", "file_path":'
                    f' "../{secret.name}"}}}}')  # fmt: skip
    (given / secret.name).symlink_to(secret)
    archive = samples.inspect_eval(given)
    mutations.outside(archive, random.Random(0))
    opened.clear()
    for candidate in (given, good, archive, Path("../given/x"), Path("../secret")):
        status, said = check(candidate, good)
        assert status in (0, 2, 3, 4), said
    status, said = check(given, good)
    assert (status, "is a link out of the given folder" in said) == (4, True)
    status, said = check(archive, good)
    assert (status, "a member outside itself" in said) == (4, True)
    done = CliRunner().invoke(main, ["baseline", "set", "../main", str(good)])
    assert (done.exit_code, "is no name of a baseline" in done.output) == (2, True)
    assert not [name for name in opened if name.endswith(secret.name)]
    written = {p for p in tmp_path.rglob("*") if p.is_file()} - before
    assert all(path.is_relative_to(given) for path in written), written
    assert list(work.rglob("*")) == []


@pytest.mark.slow
def test_table_of_ten_million_rows_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    with file.open("w") as handle:
        handle.write("example_id,accuracy\n")
        for start in range(0, 10**7, 10**5):
            handle.writelines(f"e{i},1\n" for i in range(start, start + 10**5))
    status, said = check(file, file)
    assert (status, f"more than {csv_table.MAX_ROWS:,}" in said) == (4, True)


def test_too_many_rows_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_table, "MAX_ROWS", 6)
    file = samples.table(tmp_path)
    status, said = check(file, file)
    assert (status, "8 rows, more than 6" in said) == (4, True)
