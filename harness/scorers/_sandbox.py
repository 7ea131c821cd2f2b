"""Runs programs that a model wrote, each in a process of its own inside bubblewrap.

A program sees Python's standard library and an empty folder in memory, and nothing else of the
machine: no network, no environment variables, no files of the user, no other process. Time, memory,
processes and files are limited, and every process that it started ends with it.

What this does not protect from: faults of the kernel or of bubblewrap itself, what can be told from
how long things take, and load: programs may use all of their limits at once. A program can also
pass a test dishonestly, as it runs in one interpreter with its test (so does HumanEval's own code).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import IO, cast

BWRAP = "bwrap"
INSTALL = "apt-get install bubblewrap"
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin")
_FIRST_UID, _UIDS = 61_000, 4_000
"""Users that nobody is: the kernel counts processes by user, so that each program has its own."""
_PYTHON = "/python"
"""Where this Python stands inside, when it is not the system's: its own folder may be one that only
its owner can enter."""
_STARTUP_SECONDS = 60.0
"""How long bubblewrap and Python may take to start on a busy machine."""
_SAID = 4096
"""Bytes of what comes out of the sandbox that are read: a program can find the way out and flood
it."""

# The first process inside. It is root there only where the harness runs as root, and then becomes
# nobody before the program begins: the kernel limits no processes of root.
_RUNNER = r"""
import os, resource, sys
uid, memory, processes, size, seconds = map(int, sys.argv[1:])
token, _, program = sys.stdin.buffer.read().decode("utf-8", "surrogatepass").partition("\n")
out, first = os.dup(1), os.getpid()
os.set_inheritable(out, False)
null = os.open("/dev/null", os.O_RDWR)
for stream in (0, 1, 2):
    os.dup2(null, stream)
if uid:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
for name, limit in (("AS", memory), ("NPROC", processes), ("FSIZE", size), ("CPU", seconds),
                    ("CORE", 0), ("NOFILE", 64)):
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (limit, limit))
del sys.argv[1:]
os.write(out, b"!")
try:
    exec(compile(program, "program.py", "exec"), {})  # as code_eval does: it is no main program
except BaseException as error:
    said = type(error).__name__ + ": " + str(error)[:200]
else:
    said = token
if os.getpid() == first:
    os.write(out, said.encode("utf-8", "replace"))
os._exit(0)
"""


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    Attributes:
        seconds: of time on the clock, and of processor time.
        memory: bytes of address space of each of its processes.
        processes: how many it may have at once, threads included.
        file_bytes: bytes of its folder, and of any one file.
    """

    seconds: float = 10.0
    memory: int = 1 << 30
    processes: int = 16
    file_bytes: int = 16 << 20


@dataclass(frozen=True)
class Outcome:
    """Whether a program ran to its end without an error, and the reason if it did not."""

    passed: bool
    reason: str = ""


@cache
def refusal() -> str | None:
    """Why no program can be run on this machine, with the fix; None where it can.

    A program that prints nothing is tried, as some machines forbid what bubblewrap needs.
    """
    if sys.platform != "linux":
        return "generated code runs inside bubblewrap, which needs Linux"
    if shutil.which(BWRAP) is None:
        return f"generated code runs inside bubblewrap, which is not installed: {INSTALL}"
    tried = run_program("pass")
    if tried.passed:
        return None
    return f"generated code runs inside bubblewrap, which does not start here: {tried.reason}"


def run_program(program: str, limits: Limits | None = None) -> Outcome:
    """Run one program to its end, or to its limits.

    A program passes where its last line was reached: `sys.exit(0)` in the middle is a failure.

    Raises:
        OSError: bubblewrap is not installed (see `refusal`).
    """
    limits = limits or Limits()
    token = secrets.token_hex(16)
    told, tells = os.pipe()
    process = subprocess.Popen(
        _command(limits, tells),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},  # /proc/1/environ inside shows what bubblewrap was started with
        start_new_session=True,
        pass_fds=(tells,),
    )
    os.close(tells)
    try:
        _send(process, f"{token}\n{program}".encode("utf-8", "surrogatepass"))
        if not _began(process):
            return Outcome(False, _no_start(process, limits))
        first = _first_inside(told)
        answer = _answer(process, limits.seconds)
    finally:
        _end(process)
        os.close(told)
    _gone(first)
    if answer is None:
        return Outcome(False, f"it ran longer than {limits.seconds:g} s")
    message = answer.decode("utf-8", "replace")
    if message == token:
        return Outcome(True)
    return Outcome(False, message[:_SAID] or _silence(process, limits))


def run_programs(
    programs: Sequence[str], limits: Limits | None = None, at_once: int | None = None
) -> Iterator[Outcome]:
    """The outcome of each program in their order, several at a time (by default one for each
    processor that this process may use)."""
    workers = at_once or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(max_workers=workers) as pool:
        yield from pool.map(lambda program: run_program(program, limits), programs)


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The chance that at least one of `k` samples is correct, without bias (Chen et al., 2021,
    arXiv:2107.03374, equation 1).

    Raises:
        ValueError: there are fewer samples than `k`.
    """
    if not 0 <= correct <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {correct} correct among {samples} samples is not defined")
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def _send(process: subprocess.Popen[bytes], text: bytes) -> None:
    """Hand the program over; a process that ended at once says so itself."""
    with contextlib.suppress(BrokenPipeError), cast(IO[bytes], process.stdin) as stdin:
        stdin.write(text)
    process.stdin = None


def _began(process: subprocess.Popen[bytes]) -> bool:
    """Wait until the program begins, so that its time is its own; False where it never does."""
    stdout = cast(IO[bytes], process.stdout)
    ready, _, _ = select.select([stdout], [], [], _STARTUP_SECONDS)
    return bool(ready) and os.read(stdout.fileno(), 1) == b"!"


def _first_inside(told: int) -> int | None:
    """A descriptor of the first process inside, whose number bubblewrap tells as JSON through
    `told`; None on kernels before 5.3, which have no such descriptors."""
    with open(told, "rb", closefd=False) as info:
        number = json.load(info)["child-pid"]
    with contextlib.suppress(OSError):
        return os.pidfd_open(number)
    return None


def _gone(first: int | None) -> None:
    """Wait until no process is left inside: the kernel ends them a moment after bubblewrap, and the
    first one last (man 7 pid_namespaces)."""
    if first is not None:
        select.select([first], [], [], _STARTUP_SECONDS)
        os.close(first)


def _answer(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """What came out until the end, or as much as is read; None where the time is over before."""
    out = cast(IO[bytes], process.stdout).fileno()
    end = time.monotonic() + seconds
    said = b""
    while len(said) < _SAID:
        ready, _, _ = select.select([out], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return None
        part = os.read(out, _SAID - len(said))
        if not part:
            break
        said += part
    return said


def _no_start(process: subprocess.Popen[bytes], limits: Limits) -> str:
    """Why a program never began."""
    out = cast(IO[bytes], process.stdout)
    if process.poll() is None and not select.select([out], [], [], 0)[0]:
        _end(process)
        return f"bubblewrap did not start it within {_STARTUP_SECONDS:g} s"
    return _silence(process, limits)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End bubblewrap, and with it all that lives in its process namespace."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _silence(process: subprocess.Popen[bytes], limits: Limits) -> str:
    """Why a program ended without a word."""
    _, errors = process.communicate()
    status = process.returncode
    if status in (-signal.SIGXCPU, 128 + signal.SIGXCPU, -signal.SIGKILL, 128 + signal.SIGKILL):
        return f"it was ended at its limit of {limits.seconds:g} s of processor time"
    lines = (errors or b"").decode("utf-8", "replace").strip().splitlines()
    return f"it ended early, with status {status}" + (f" ({lines[-1][:200]})" if lines else "")


def _command(limits: Limits, info: int) -> list[str]:
    """Bubblewrap's command line, with the first process inside it, whose number is told through
    the descriptor `info`."""
    root = os.geteuid() == 0
    uid = _FIRST_UID + secrets.randbelow(_UIDS) if root else 0
    # Without root a user namespace gives the rights to mount. With root there is none, as the
    # processes of its users would all count as root's.
    rights = (
        ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        if root
        else ["--unshare-user"]
    )
    folders = [part for path in _SYSTEM for part in ("--ro-bind-try", path, path)]
    python = os.path.realpath(sys.executable)
    if not python.startswith("/usr/"):
        folders += ["--ro-bind", sys.base_prefix, _PYTHON]
        folders += ["--setenv", "LD_LIBRARY_PATH", f"{_PYTHON}/lib"]
        python = python.replace(os.path.realpath(sys.base_prefix), _PYTHON, 1)
    return [
        shutil.which(BWRAP) or BWRAP,
        "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
        "--unshare-cgroup-try", *rights, "--die-with-parent", "--new-session", "--clearenv",
        "--info-fd", str(info),
        *folders, "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev",
        "--perms", "1777", "--size", str(limits.file_bytes), "--tmpfs", "/tmp",
        "--remount-ro", "/", "--chdir", "/tmp", "--setenv", "HOME", "/tmp",
        python, "-I", "-S", "-c", _RUNNER,
        str(uid), str(limits.memory), str(limits.processes), str(limits.file_bytes),
        str(math.ceil(limits.seconds)),
    ]  # fmt: skip
