"""Verdicts that stand in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from harness.core.component import NotHashed
from harness.core.errors import DataError
from harness.core.files import digest_json
from harness.core.outside import as_planned
from harness.data.contest_files import is_said, numbered_objects
from harness.data.contests import EQUAL
from harness.labellers.base import Compared, Contest, LabelJob, Labeller, Places, Verdict


class Replay(Labeller):
    """Verdicts from a file: those of people, of a judge of another tool, or of an earlier run. Each
    line is an object with `prompt`, `one`, `other` and `verdict`, the probability that `one` is
    better: 1, 0, or 0.5 for a tie. A contest is found in either order, and has no verdict if it is
    not in the file. Equal answers tie.

    Where the rows are texts, prompt and answers are texts. Where they are chats (`messages`, or a
    prompt that is a list of messages), all three are lists of messages: `prompt` has every turn
    before the answer, the system's too, and an answer is one turn of the assistant, such as
    `[{"role": "assistant", "content": "Yes."}]`. Of a message, its role and content count."""

    VERSION = 2

    file: Annotated[str, NotHashed]  # hashed by its content
    """A JSON-lines file beside the suite, in the working folder or of the package's suites."""
    sha256: str = ""
    """Digest of the file. The harness fills it in."""

    def placed(self, places: Places) -> Self:
        file, sha256 = places.file(self.file, "file")
        return self.model_copy(update={"file": file, "sha256": sha256})

    def label(self, job: LabelJob) -> list[Verdict]:
        return [compared.mean for compared in self.compare(job)]

    def compare(self, job: LabelJob) -> list[Compared]:
        path = Path(self.file)
        with as_planned(path, self.sha256, lambda digest: digest(path)):
            known = _verdicts(path)
        missing = "not in the file of verdicts"
        return [
            EQUAL if contest.equal() else Compared((known.get(_key(contest), missing),))
            for contest in job.contests
        ]

    def sequences(self, answers: int) -> int:
        return 0


def _verdicts(path: Path) -> dict[str, Verdict]:
    """The verdict on each contest, in both orders; contests that stand twice have the mean.

    Raises:
        DataError: a line is no verdict.
    """
    said: dict[str, list[float]] = {}
    for number, row in numbered_objects(path, _FIX):
        contest, verdict = _line(row, f"{path.name}, line {number}")
        said.setdefault(_key(contest), []).append(verdict)
        said.setdefault(_key(contest.exchanged()), []).append(1 - verdict)
    return {key: sum(verdicts) / len(verdicts) for key, verdicts in said.items()}


_FIX = (
    'write {"prompt": "...", "one": "...", "other": "...", "verdict": 1}; of chats, each of the'
    ' three as a list: [{"role": "user", "content": "..."}]'
)


def _line(row: Mapping[str, Any], place: str) -> tuple[Contest, float]:
    for key in ("prompt", "one", "other"):
        if not is_said(row.get(key)):
            raise DataError(f"{place}: `{key}` is no text and no list of messages", fix=_FIX)
    verdict = row.get("verdict")
    if isinstance(verdict, bool) or not isinstance(verdict, int | float) or not 0 <= verdict <= 1:
        raise DataError(f"{place}: `verdict` is no number from 0 to 1", fix=_FIX)
    return Contest(row["prompt"], row["one"], row["other"]), float(verdict)


def _key(contest: Contest) -> str:
    return digest_json([_said(part) for part in (contest.prompt, contest.one, contest.other)])


def _said(value: Any) -> Any:
    """A text, or the role and content of each message: so a text is not one message of it."""
    if isinstance(value, str):
        return value
    return [[turn.get("role"), turn.get("content")] for turn in value]
