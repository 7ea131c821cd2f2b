"""What scorers name outside the store, read as it was planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, assert_never

from harness.core.outside import Digest, as_planned, files_digest, tree_digest
from harness.data.preference_rule import load_function, load_rule
from harness.scorers._asks import NamedFile, NamedFolder, NamedFunction, NamedRule, Outside


def read_outside(asked: Outside, place: Path, identity: Mapping[str, str]) -> Any:
    """A rule, a function, or the path of a file or folder.

    Args:
        place: where its file, or the folder, lies.
        identity: of its content, as it was planned.

    Raises:
        StageFailed: the content has changed since then.
    """
    match asked:
        case NamedRule():
            return load_rule(place, identity)
        case NamedFunction():
            return load_function(place, identity)
        case NamedFolder():
            with as_planned(place, identity["sha256"], _tree(place)):
                return place
        case NamedFile(_, files):
            identify = partial(files_digest, place, files(place))
            with as_planned(place, identity["sha256"], identify):
                return place
        case _:
            assert_never(asked)


def _tree(folder: Path) -> Callable[[Digest], str]:
    return lambda digest: tree_digest(folder, digest)
