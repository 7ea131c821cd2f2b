"""What the fields of a labeller name: prompts and files of the suite, found where it is planned."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import SuiteError, shortened
from harness.core.locate import locate
from harness.data.prompts import prompt_text, require_fields


@dataclass(frozen=True)
class SuitePlaces:
    """Finds files for one labeller (harness.labellers.base.Places).

    Attributes:
        suite_file: the suite's file.
        digest: computes the sha256 of a file.
        where: the labeller's place in the suite, for messages.
    """

    suite_file: Path
    digest: Callable[[Path], str]
    where: str

    def prompt(
        self, named: str, field: str, needed: Collection[str], known: Collection[str]
    ) -> str:
        """As `Places.prompt`."""
        where = f"{self.where}.{field}"
        text = prompt_text(named, self.suite_file, where)
        try:
            return require_fields(text, needed, known)
        except ValueError as error:
            if text != named:
                raise SuiteError(f"{shortened(named)}: {error}", where=where) from None
            fix = "write the template here, or name a file that ends in .jinja"
            raise SuiteError(str(error), where=where, fix=fix) from None

    def file(self, named: str, field: str) -> tuple[str, str]:
        """As `Places.file`."""
        where = f"{self.where}.{field}"
        path = locate(named, self.suite_file, where)
        if path is None or not path.is_file():
            raise SuiteError(
                f"'{shortened(named)}' is no file",
                where=where,
                fix="name one beside the suite, in the working folder or of the package's suites",
            )
        return str(path), self.digest(path)
