"""`harness check`: may this candidate ship? One outcome, for people and for CI."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.commands.sides import scored, side
from harness.comparison.gate import (
    ALLOWANCES,
    CANDIDATE,
    Checked,
    Settings,
    Side,
    on_the_same_task,
)
from harness.comparison.judged import judge
from harness.comparison.measured import Measured, Run
from harness.core.errors import EXIT_NOT_JUDGED, HarnessError, StoreError, SuiteError, unknown, why
from harness.core.files import write_atomic
from harness.core.from_yaml import explain
from harness.core.text import number_of
from harness.report.check import data, junit, markdown, terminal
from harness.suite.claims import Claim
from harness.suite.text import read_file

STEP_SUMMARY = "GITHUB_STEP_SUMMARY"
"""GitHub, Gitea and Forgejo name a file in this variable, which becomes the job's summary."""
AZURE = "TF_BUILD"
"""Azure Pipelines sets this, and reads commands from the output."""
FILES = ("check.json", "check.md", "junit.xml", "worse.csv")
_MOST_CLAIMS = 1000


@dataclass(frozen=True)
class Request:
    """The options of a check.

    Attributes:
        claims: the file of claims; None for the default claims.
        margins: each `0.01`, `5%`, or `METRIC=0.01`.
        allow: names of ALLOWANCES.
        name: tells several checks of one pull request apart.
        suite: the suite by which `candidate`, then a folder of a model or its name on the hub, is
            scored first.
    """

    candidate: str
    baseline: str
    claims: Path | None = None
    margins: Sequence[str] = ()
    confidence: float = 0.95
    allow: Sequence[str] = ()
    report_dir: Path | None = None
    name: str = ""
    suite: str = ""


def check(
    request: Request,
    store: Path,
    given: Mapping[str, Sequence[Measured]] = {},
    *,
    announced: bool = True,
) -> tuple[Checked, str]:
    """Judge the candidate, write the files, and give the table for the terminal. What an earlier
    check left in the folder is removed first: if this one fails, there is no verdict.

    What cannot be read or compared is an outcome too: `not judged`, with the files that CI reads.

    Args:
        given: `candidate` or `baseline` -> its metrics, which are then not read.
        announced: whether the CI service gets the job's summary.

    Raises:
        HarnessError: an option is wrong.
    """
    if request.report_dir is not None:
        discard(request.report_dir)
    settings = Settings(_margins(request.margins), request.confidence, _allowed(request.allow))
    claims = None if request.claims is None else read_claims(request.claims)
    checked = _judged(request, claims, settings, store, given)
    if request.report_dir is not None:
        write(checked, request.report_dir, request.name)
    if announced:
        announce(checked, request.report_dir, request.name)
    return checked, terminal.table(checked)


def _judged(
    request: Request,
    claims: Sequence[Claim] | None,
    settings: Settings,
    store: Path,
    given: Mapping[str, Sequence[Measured]],
) -> Checked:
    sides = {}
    for role, name in (("candidate", request.candidate), ("baseline", request.baseline)):
        if role in given:
            sides[role] = Side(name, {0: Run(role, tuple(given[role]), source={"tool": "scores"})})
            continue
        try:
            if role == CANDIDATE and request.suite:
                sides[role] = scored(name, request.suite, store)
            else:
                sides[role] = side(name, store)
        except HarnessError as error:
            if error.exit_code != EXIT_NOT_JUDGED:
                raise
            empty = Side(request.candidate, {}), Side(request.baseline, {})
            return Checked(*empty, (), (), (), settings.allow, f"the {role}: {error}")
    sides["baseline"] = on_the_same_task(sides["baseline"], sides["candidate"])
    with _of_file(request.claims):
        checked = judge(sides["candidate"], sides["baseline"], claims, settings)
    if not checked.verdicts:
        ours, theirs = (", ".join(list(s.metrics)[:8]) for s in sides.values())
        return replace(
            checked, error=f"no shared metric: the candidate has {ours}; the baseline has {theirs}"
        )
    return checked


@contextlib.contextmanager
def _of_file(claims: Path | None) -> Iterator[None]:
    """Put the file of the claims before what is wrong with one of them."""
    try:
        yield
    except HarnessError as error:
        if claims is None:
            raise
        raise SuiteError(f"{claims}: {error}") from None


def _margins(given: Sequence[str]) -> dict[str, float | str]:
    """Metric -> margin.

    Raises:
        HarnessError: one is no margin.
    """
    margins: dict[str, float | str] = {}
    for text in given:
        metric, equals, amount = text.rpartition("=")
        try:
            probe = Claim(metric="x", variant="x", relation="not_worse", margin=amount)
        except ValidationError as error:
            raise HarnessError(
                f"--margin {text!r}: {error.errors()[0]['msg'].removeprefix('Value error, ')}",
                fix="write 0.01, 5%, or METRIC=0.01",
            ) from None
        if equals and not metric:
            raise HarnessError(f"--margin {text!r} names no metric", fix="write METRIC=0.01")
        margins[metric] = probe.margin
    return margins


def _allowed(names: Sequence[str]) -> frozenset[str]:
    """The names of what is allowed, each on its own or joined by commas.

    Raises:
        HarnessError: one is unknown.
    """
    every = [part.strip() for name in names for part in name.split(",") if part.strip()]
    for name in every:
        if name not in ALLOWANCES:
            raise HarnessError(unknown("allowance", name, ALLOWANCES, where="--allow"))
    return frozenset(every)


def read_claims(file: Path) -> list[Claim]:
    """The claims in a YAML file: a list of lines or mappings, alone or under `claims:`.

    Raises:
        SuiteError: the file has a mistake; the message names the claim.
    """
    content = read_file(file)[0]
    given: Any = content.get("claims") if isinstance(content, dict) else content
    if not isinstance(given, list) or not given:
        raise SuiteError(
            "holds no list of claims", where=str(file),
            fix="write one a line: `- candidate not_worse baseline on rougeL by 0.01`",
        )  # fmt: skip
    if len(given) > _MOST_CLAIMS:
        raise SuiteError(
            f"has {number_of(len(given), 'claim')}, more than {_MOST_CLAIMS}", where=str(file)
        )
    claims = []
    for number, one in enumerate(given):
        try:
            claims.append(Claim.model_validate(one))
        except ValidationError as error:
            raise SuiteError(explain(error, Claim, f"{file}: claims[{number}]")) from None
    return claims


def write(checked: Checked, folder: Path, name: str = "") -> None:
    """Write check.json, check.md, junit.xml and worse.csv.

    Raises:
        StoreError: a file cannot be written.
    """
    contents = (
        data.text(checked), markdown.summary(checked, name=name), junit.document(checked),
        data.worse_csv(checked),
    )  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in zip(FILES, contents, strict=True):
            write_atomic(folder / file, content)
    except OSError as error:
        raise StoreError(
            f"the report cannot be written: {why(error)}", where=str(folder)
        ) from error


def discard(folder: Path) -> None:
    """Remove what an earlier check wrote, so that nobody reads it as the verdict of this one.

    Raises:
        StoreError: a file cannot be removed.
    """
    try:
        for file in FILES:
            (folder / file).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"an old report cannot be removed: {why(error)}", where=str(folder)
        ) from error


def announce(checked: Checked, folder: Path | None, name: str = "") -> None:
    """Give the job's summary to the CI service that this runs in, if it has one."""
    target = os.environ.get(STEP_SUMMARY)
    if target:
        try:
            with open(target, "a", encoding="utf-8") as handle:
                handle.write(markdown.summary(checked, name=name))
        except OSError as error:
            raise StoreError(f"the job's summary cannot be written: {why(error)}") from error
    if os.environ.get(AZURE) and folder is not None:
        print(f"##vso[task.uploadsummary]{(folder / FILES[1]).resolve()}")
