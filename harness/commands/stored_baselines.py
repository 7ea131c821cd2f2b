"""The stored baselines that a suite's claims compare with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import HarnessError, SuiteError, unknown
from harness.core.files import digest_file
from harness.core.locate import BASELINE_NAME, BASELINES
from harness.planning.planner import Plan
from harness.suite.claims import STORED

if TYPE_CHECKING:  # it takes a second to import, which a suite without such claims need not wait
    from harness.comparison.measured import Run


def require_baselines(planned: Plan) -> None:
    """Check that the stored baselines of all claims are there.

    Raises:
        SuiteError: one is not; the message has the nearest name.
    """
    for place, name, file in _named(planned):
        if not file.is_file():
            known = [path.stem for path in BASELINES.glob("*.json")]
            message = unknown("stored baseline", name, known, hint=f"the files of {BASELINES}/")
            raise SuiteError(message, where=f"{planned.file}: {place}.than")


def digests_of(planned: Plan) -> dict[str, str]:
    """`stored:NAME` -> the digest of its file."""
    return {f"{STORED}{name}": digest_file(file) for _, name, file in _named(planned)
            if file.is_file()}  # fmt: skip


def read_baselines(planned: Plan) -> Mapping[str, Mapping[int, Run]]:
    """`stored:NAME` -> its runs, by seed.

    Raises:
        SuiteError: a file is not there, is damaged, or has several variants.
    """
    require_baselines(planned)
    return {f"{STORED}{name}": _read(place, file) for place, name, file in _named(planned)}


def _read(place: str, file: Path) -> dict[int, Run]:
    from harness import importers

    try:
        runs = importers.read(file, "baseline")
    except HarnessError as error:
        raise SuiteError(error.message, where=f"{place}.than: {file}", fix=error.fix) from None
    return {run.seed: run for run in runs}


def _named(planned: Plan) -> Iterator[tuple[str, str, Path]]:
    """(place, name, file) of each stored baseline that claims name, each once."""
    names: dict[str, str] = {}
    for claim in planned.claims:
        if claim.against.startswith(STORED):
            names.setdefault(claim.against.removeprefix(STORED), claim.place)
    for name, place in names.items():
        # A name that could lead to another folder is the name of no file.
        plain = BASELINE_NAME.fullmatch(name) is not None
        yield place, name, BASELINES / f"{name if plain else '-'}.json"
