"""The exceptions of this package. Every message says what is wrong, where, and how to fix it."""

from __future__ import annotations

import contextlib
import difflib
import errno
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from harness.core.other_tools import plain, same

EXIT_OK, EXIT_REGRESSED, EXIT_USAGE, EXIT_INCONCLUSIVE = 0, 1, 2, 3
EXIT_NOT_JUDGED, EXIT_FAILED_CELLS, EXIT_CRASH = 4, 5, 70
EXIT_PIPE = 141
"""As of a program that a closed pipe ends."""


class HarnessError(Exception):
    """A failure with a known cause.

    Args:
        message: what is wrong.
        where: the place, such as a path in the suite.
        fix: what to do about it.
    """

    exit_code = EXIT_USAGE
    reason = "error"

    def __init__(self, message: str, *, where: str = "", fix: str = "") -> None:
        self.message, self.where, self.fix = message, where, fix
        head = f"{where}: {message}" if where else message
        super().__init__(f"{head}\n  {fix}" if fix else head)


class SuiteError(HarnessError):
    """The suite's YAML is wrong."""


class DataError(HarnessError):
    """Rows are missing, malformed or unusable."""

    reason = "data"


class ModelError(HarnessError):
    """A model is missing, unsafe to load, or unsuited to its use."""

    reason = "model"


class StoreError(HarnessError):
    """The folder of stages cannot be read or written."""

    reason = "store"


class StageFailed(HarnessError):
    """A stage ended without a result. It is written to the stage's record; other stages go on."""

    exit_code = EXIT_FAILED_CELLS

    def __init__(self, reason: str, message: str, *, fix: str = "") -> None:
        self.reason = reason
        super().__init__(message, fix=fix)


_SHOWN, _FEW, _NEAREST = 40, 12, 5
"""The most names that a message lists; the most where a command lists all; and how many of more
than these, the nearest ones."""


def near(value: str, known: Iterable[str]) -> str:
    """The known name that was most likely meant; empty if there is none.

    In this order: the same name in other letters, the name that other tools call so, a name with
    these initials (`lr`), a name with a similar spelling, a name that contains this word (`alpha`).
    """
    known = sorted(known)
    if ours := same(value, known):
        return ours
    asked = plain(value)
    initials = [n for n in known if "_" in n and "".join(w[:1] for w in n.split("_")) == asked]
    alike = difflib.get_close_matches(value[:200], known, n=1, cutoff=0.5)
    alike += difflib.get_close_matches(asked[:200], known, n=1, cutoff=0.5)
    part = [n for n in known if len(asked) > 2 and asked in n.split("_")]
    return next(iter([*initials, *alike, *part]), "")


def mistyped(value: str, known: Iterable[str]) -> str:
    """The known name that only a letter or two set apart from this one; empty if there is none."""
    return next(iter(difflib.get_close_matches(value[:200], known, n=1, cutoff=0.85)), "")


def unknown(
    what: str,
    value: str,
    known: Iterable[str],
    *,
    where: str = "",
    hint: str = "",
    command: str = "",
    here: str = "",
    sure: bool = False,
) -> str:
    """The message for an unknown name, with the nearest known name.

    Args:
        what: the kind of name, such as `scorer`.
        hint: a remark behind the list of known names.
        command: lists all names; of many names, only the nearest are shown then.
        here: what there is in its place, where that is known; a name is guessed by its spelling
            then only if it is very near.
        sure: this very name is known elsewhere, so that none is guessed by its spelling.
    """
    known = sorted(set(known))
    spelt = "" if sure else mistyped(value, known) if here else near(value, known)
    meant = same(value, known) or spelt
    guess = f"; did you mean '{meant}'?" if meant else ""
    prefix = f"{where}: " if where else ""
    lines = [f"{prefix}unknown {what} '{shortened(value)}'{guess}"]
    lines += [f"  {here}"] if here and not meant else []
    if not command or len(known) <= _FEW:
        return "\n".join([*lines, _all(known, "; ".join(filter(None, [hint, command])))])
    alike = difflib.get_close_matches(plain(value)[:200], known, n=_NEAREST, cutoff=0.45)
    nearest = [] if len(lines) > 1 else list(dict.fromkeys([meant, *alike] if meant else alike))
    every = f"{f'{hint}; ' if hint else ''}all {len(known)}: {command}"
    listed = f"known: {', '.join(nearest)}, ...  ({every})" if nearest else every
    return "\n".join([*lines, f"  {listed}"])


def _all(known: Sequence[str], hint: str) -> str:
    """The line of all known names."""
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    listed = ", ".join(shortened(name) for name in known[:_SHOWN]) or "none"
    return f"  known: {listed}{more}" + (f"  ({hint})" if hint else "")


_EVERY = re.compile(r"^  (?:known: .*\()?.*\b(all \d+: harness list [^)]*)\)?$")
"""The end of a message for an unknown name."""


def joined(messages: Iterable[str], most: int = 10) -> str:
    """Several messages as one, each once; a list of known names that several have is told once.

    Args:
        most: the most messages; the others are counted.
    """
    each = list(dict.fromkeys(messages))
    lines, told = list[str](), set[str]()
    for message in each[:most]:
        for line in message.split("\n"):
            known = _EVERY.search(line)
            if known is None or known[1] not in told:
                lines.append(line)
            told |= {known[1]} if known else set()
    more = [f"  and {len(each) - most} more of such"] if len(each) > most else []
    return "\n".join([*lines, *more])


def shortened(value: str, length: int = 100) -> str:
    """The text, cut to at most `length` characters."""
    return value if len(value) <= length else f"{value[: length - 3]}..."


def placed(message: str, file: str, settings: Mapping[str, str] = {}) -> str:
    """A message whose lines begin with a place in a file, with the file's name put before each
    line. If a setting of the command line wrote the value at that place, the setting is put there
    instead.

    Args:
        settings: place -> the setting that wrote its value.
    """
    return "\n".join(
        line if line.startswith(("  ", "--")) else _placed(line, file, settings)
        for line in message.split("\n")
    )


def _placed(line: str, file: str, settings: Mapping[str, str]) -> str:
    message = line.removeprefix(f"{file}: ").lstrip(".").removeprefix(": ")
    for place, setting in reversed(list(settings.items())):
        parts = place.split(".")
        above = [(".".join(parts[:i]), parts[i]) for i in range(1, len(parts))]
        named = any(
            message.startswith(f"{outer}: ") and f"'{key}'" in message for outer, key in above
        )
        if named or message.startswith(tuple(f"{place}{mark}" for mark in ".[:")):
            return f"--set {shortened(setting)}: {re.sub(_OVERRIDE, '', message)}"
    return f"{file}: {message}"


_OVERRIDE = r"^overrides\[\d+\]\.set[.:] ?"
"""The place of a component's `--set` in the suite, which the user did not write."""


@contextlib.contextmanager
def boundary(part: str) -> Iterator[None]:
    """Convert the exceptions of the block to StageFailed, with `part` in the message.

    Args:
        part: the part that the block runs, such as a component or a library.

    Raises:
        StageFailed: for every exception but a HarnessError, which is raised unchanged.
    """
    try:
        yield
    except HarnessError:
        raise
    except MemoryError as error:
        raise StageFailed("out of memory", f"{part}: host memory is exhausted") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StageFailed(
                "disk full", f"{part}: {why(error)}", fix="free space, run again"
            ) from error
        raise StageFailed("input/output", f"{part}: {why(error)}") from error
    except Exception as error:
        raise StageFailed(reason_of(error), f"{part}: {type(error).__name__}: {error}") from error


_PERMISSION, _SPACE = "check who may read and write it", "free space, or name another place"
_OF_THE_MACHINE = {
    errno.EACCES: _PERMISSION, errno.EPERM: _PERMISSION, errno.EROFS: "name another place",
    errno.ENOSPC: _SPACE, errno.EDQUOT: _SPACE, errno.ENAMETOOLONG: "give it a shorter name",
    errno.EIO: "the disk or the network behind it fails", errno.EMFILE: "raise `ulimit -n`",
}  # fmt: skip
"""What the machine refuses, and what to do about it; other errors may be faults of ours."""


def refused(error: OSError, where: str = "") -> HarnessError | None:
    """What the machine refuses, as a sentence; None where it may be a fault of this package.

    Args:
        where: the place in the suite that names the file.
    """
    fix = _OF_THE_MACHINE.get(error.errno or 0)
    if fix is None:
        return None
    name = error.filename2 or error.filename
    why = (error.strerror or str(error)).lower()
    message = f"{shortened(str(name))} cannot be used: {why}" if name else why
    return HarnessError(message, where=where, fix=fix)


def why(error: Exception) -> str:
    """What an error says: of one of the machine its words and its file, without its number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    name = error.filename2 or error.filename
    return f"{error.strerror}: '{shortened(str(name))}'" if name else error.strerror


_OF_MEMORY = ("outofmemory", "out of memory", "can't allocate memory", "status_alloc_failed")
"""Signs of it in an error's name or text: of torch, CUDA and HIP, the CPU, cuBLAS and cuDNN."""


def reason_of(error: Exception) -> str:
    """The reason of a failure: `out of memory`, `disk full` or `error`. Torch's out-of-memory
    errors are recognised by name, since this module must not import torch."""
    if isinstance(error, MemoryError):
        return "out of memory"
    text = f"{type(error).__name__} {error}".lower()
    if any(sign in text for sign in _OF_MEMORY):
        return "out of memory"
    if "no space left" in text:
        return "disk full"
    return "error"
