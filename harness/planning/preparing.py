"""What scorers read outside the store, and what they prepare once for all variants of one
tokenizer, as stages in a plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import HarnessError, SuiteError
from harness.core.locate import locate
from harness.core.outside import files_digest, tree_digest
from harness.data.preference_rule import find_rule
from harness.planning.checkpoints import Checkpoints
from harness.planning.places import SuitePlaces
from harness.planning.sources import Sources
from harness.planning.tokenizers import tokenizer_of
from harness.scorers._asks import (
    Asked,
    NamedFile,
    NamedFolder,
    NamedFunction,
    NamedRule,
    Outside,
    Prepared,
    Subject,
)
from harness.scorers.base import Scorer
from harness.stages.requests import Requests
from harness.store.stage import Stage
from harness.variants.variant import Variant

Located = tuple[str, dict[str, str]]
"""Where a file or folder lies, and the identity of its content."""


def find_outside(asked: Outside, name: str, sources: Sources, where: str) -> Located:
    """Find a rule, function, file or folder that a scorer asks for.

    Args:
        name: what the scorer asks for it by.
        where: the scorer's place in the suite.

    Raises:
        SuiteError: there is no such thing.
    """
    file, digest = sources.file, sources.store.file_digest
    match asked:
        case NamedRule(named, option) | NamedFunction(named, option):
            return find_rule(named, file, digest, f"{where}.{option or name}")
        case NamedFile(named, files, option):
            place = SuitePlaces(file, digest, where).file(named, option or name)[0]
            return place, {"sha256": files_digest(Path(place), files(Path(place)), digest)}
        case NamedFolder(named):
            folder = locate(named, file, f"{where}.{name}")
            if folder is None or not folder.is_dir():
                raise SuiteError(
                    f"there is no folder '{named}'",
                    where=f"{where}.{name}",
                    fix="name one beside the suite, in the working folder or of the package's"
                    " suites",
                )
            try:
                return str(folder), {"sha256": tree_digest(folder, digest)}
            except HarnessError as error:
                raise SuiteError(error.message, where=f"{where}.{name}", fix=error.fix) from error
            except OSError as error:
                message = f"{error.filename} cannot be read: {error.strerror}"
                raise SuiteError(message, where=f"{where}.{name}") from error


def all_outside(asks: Mapping[str, Asked]) -> dict[str, Outside]:
    """What a scorer and its preparation read outside the store."""
    prepared = [asked.reads for asked in asks.values() if isinstance(asked, Prepared)]
    outside = {name: asked for name, asked in asks.items() if isinstance(asked, Outside)}
    return {name: asked for reads in (outside, *prepared) for name, asked in reads.items()}


def places_of(scorer: Scorer, sources: Sources, where: str) -> dict[str, Path]:
    """Where the folders, the files and the files of functions lie that a scorer asks for.

    Raises:
        SuiteError: one is not there.
    """
    outside = all_outside(scorer.asks(Subject()))
    return {n: Path(find_outside(asked, n, sources, where)[0]) for n, asked in outside.items()}


class Preparing:
    """Makes the stages in which scorers prepare.

    Attributes:
        stages: by their keys; equal ones are one.
    """

    def __init__(self, sources: Sources, checkpoints: Checkpoints) -> None:
        self.sources, self.checkpoints = sources, checkpoints
        self.stages: dict[str, Stage] = {}
        self._refused: dict[str, None] = {}

    def stage(
        self, scorer: Scorer, reads: Mapping[str, Outside], variant: Variant, label: str, where: str
    ) -> Stage:
        """The stage of what a scorer prepares for a variant.

        Args:
            reads: what it reads besides the variant's tokenizer.
            label: names what is prepared.
            where: the scorer's place in the suite.
        """
        located = {n: find_outside(asked, n, self.sources, where) for n, asked in reads.items()}
        identity: dict[str, Any] = {n: content for n, (_, content) in located.items()}
        tokenizer = tokenizer_of(variant, self.sources, self.checkpoints)
        requests = Requests(
            tokenizer=tokenizer.model,
            checkpoint=tokenizer.checkpoint,
            scorer={**scorer.identity(), **identity},
            settings=scorer.planned(),
            rules={name: place for name, (place, _) in located.items()},
            place=tokenizer.place,
            where=f"{self.sources.file}: {where}",
        )
        stage = requests.stage(
            label=f"{label} for {variant.model}", resources=self.sources.suite.resources
        )
        if stage.key not in self.stages and not self.sources.store.done(stage, outputs=True):
            try:
                scorer.require_data(where, {n: Path(place) for n, (place, _) in located.items()})
            except SuiteError as refused:  # the data of all scorers is told at once
                self._refused[str(refused)] = None
        return self.stages.setdefault(stage.key, stage)

    def require_data(self) -> None:
        """Raise SuiteError if some scorer's data is not here and cannot be fetched."""
        if self._refused:
            raise SuiteError("\n".join(self._refused))
