"""Tests run in forks of one process that has imported every library already, but none of ours.

So a mutant costs its tests and the import of our own modules, not the ten seconds of torch,
transformers and TRL; and since the mutant lies on disk, in a copy of the checkout, the processes
that a test starts meet it too.
"""

from __future__ import annotations

import compileall
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

TIMEOUT, BROKEN = "timeout", 70
_KNOWN = "third_party_modules.txt"


class Checkout:
    """A copy of the checkout that is mutated in its place."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.root, self._scratch = folder / "tree", folder / "tmp"
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"],
            cwd=source, capture_output=True, text=True, check=True,
        ).stdout.split("\0")  # fmt: skip
        for name in filter(None, listed):
            if (source / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, self.root / name)
        # Compiled once: a mutant alone is compiled again.
        compileall.compile_dir(self.root / "harness", quiet=2)

    @contextmanager
    def mutated(self, module: str, code: str) -> Iterator[None]:
        """The checkout with another text of one module."""
        path = self.root / module
        source, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
        compiled = Path(importlib.util.cache_from_source(str(path)))
        kept = compiled.read_bytes() if compiled.exists() else None
        path.write_text(code, encoding="utf-8")
        # A compiled file is told from its source's second and size, which may be the same here.
        compiled.unlink(missing_ok=True)
        try:
            yield
        finally:
            path.write_bytes(source)
            os.utime(path, ns=times)
            if kept is not None:
                compiled.write_bytes(kept)

    def test(self, tests: Sequence[str], limit: float, log: Path | None = None) -> int | str:
        """pytest's exit code for these tests, the first failure ending them, or `timeout`.

        Args:
            tests: files, nodes and options. limit: seconds. log: a file for the output.
        """
        child = os.fork()
        if child == 0:
            os._exit(self._child(tests, log))
        end = time.monotonic() + limit
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                _kill_group(child)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        _kill_group(child)
        os.waitpid(child, 0)
        return TIMEOUT

    def _child(self, tests: Sequence[str], log: Path | None) -> int:
        os.setsid()
        target = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(target, stream)
        os.chdir(self.root)
        os.environ["PYTHONPATH"] = str(self.root)
        # The clean run, the one with a log, leaves what pytest compiles of the tests.
        sys.dont_write_bytecode = log is None
        os.environ["PYTHONDONTWRITEBYTECODE"] = "" if log else "1"
        sys.path.insert(0, str(self.root))
        try:
            import pytest

            options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={self._scratch}",
                       "-Wignore::pytest.PytestAssertRewriteWarning"]  # fmt: skip
            code = int(pytest.main([*options, *tests]))
            if log is not None:
                _tell_libraries(self.root, log.with_name(_KNOWN))
        except BaseException:
            traceback.print_exc()
            code = BROKEN
        sys.stdout.flush()
        sys.stderr.flush()
        return code


def warm(folder: Path) -> None:
    """Imports the libraries that a clean run was seen to use."""
    for name in (folder / _KNOWN).read_text().split():
        with suppress(Exception):
            importlib.import_module(name)


def _tell_libraries(root: Path, told: Path) -> None:
    """Adds the installed modules that are loaded, in their order, to a file."""
    known = told.read_text().split() if told.exists() else []
    loaded = [
        name for name, module in list(sys.modules.items())
        if name != "__main__"
        and "site-packages" in (getattr(module, "__file__", None) or "")
        and "pytest" not in name and not name.startswith(("hypothesis", "xdist", "toy_"))
    ]  # fmt: skip
    told.write_text("\n".join(dict.fromkeys([*known, *loaded])))


def _kill_group(child: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
