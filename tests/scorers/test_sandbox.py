"""Programs that a model wrote: right ones pass, wrong ones fail, hostile ones do no harm."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.scorers import _sandbox
from harness.scorers._sandbox import INSTALL, Limits, pass_at_k, refusal, run_program, run_programs

needs_bubblewrap = pytest.mark.skipif(refusal() is not None, reason=str(refusal()))
LIMITS = Limits(seconds=3.0, memory=512 << 20, processes=8, file_bytes=4 << 20)
PATIENT = replace(LIMITS, seconds=60.0)
"""For programs that end by themselves, on a busy machine too."""
SECRET = "a-secret-of-the-user"
LEFT = f"left-{uuid.uuid4()}"

HOSTILE = {
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "threads without end": (
        "import threading, time\nwhile True:\n"
        "    threading.Thread(target=time.sleep, args=(60,)).start()"
    ),
    "endless loop": "while True:\n    pass",
    "endless sleep": "import time\ntime.sleep(10_000)",
    "output without end": "while True:\n    print('x' * 1_000_000)",
    "10 GB of memory": "x = bytearray(10 * 2**30)",
    "memory in small parts": "x = []\nwhile True:\n    x.append('y' * 1_000_000)",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\nf = lambda: f()\nf()",
    "writes over the system": "open('/usr/bin/python3', 'w')",
    "writes into the home folder": f"import pathlib\nopen(pathlib.Path('HOME', '{LEFT}'), 'w')",
    "fills the disk": "with open('x', 'wb') as f:\n    while True:\n        f.write(b'0' * 2**20)",
    "fills the disk by many files": (
        "n = 0\nwhile True:\n    n += 1\n    open(f'f{n}', 'wb').write(b'0' * 2**20)"
    ),
    "reads the user's files": "open('/etc/shadow').read()",
    "reads the environment": (
        "import os\nenvironment = open('/proc/1/environ').read() + str(os.environ)\n"
        f"assert '{SECRET}' in environ" + "ment"
    ),
    "reads its runner's environment": (
        "import glob\nassert any("
        f"b'{SECRET}' in open(p, 'rb').read() for p in glob.glob('/proc/[0-9]*/environ'))"
    ),
    "asks the network": "import socket\nsocket.create_connection(('1.1.1.1', 80), timeout=2)",
    "asks a server of this machine": (
        "import socket\nsocket.create_connection(('127.0.0.1', PORT), timeout=2)"
    ),
    "becomes root": "import os\nos.setuid(0)\nopen('/usr/x', 'w')",
    "kills every process": "import os\nos.kill(-1, 9)\nos.kill(os.getppid(), 9)\nraise SystemExit",
    "leaves through the root": "import os\nos.chroot('/tmp')",
    "mounts a file system": (
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "assert libc.mount(b'none', b'/usr', b'tmpfs', 0, None) == 0"
    ),
    "says that it passed": "import os\nos.write(1, b'passed')\nos._exit(0)",
    "floods the way out": (
        "import os\nfor way in range(3, 16):\n    try:\n"
        "        while os.write(way, b'x' * 10**6):\n            pass\n"
        "    except OSError:\n        pass"
    ),
    "fills the devices' folder": "open('/dev/x', 'w').write('y')",
    "ends before its test": "raise SystemExit(0)\nassert False",
}


def processes_with(mark: str) -> list[str]:
    """Command lines of this machine's processes that hold a text, read at once: `ps` takes long
    enough for a process that is being ended to be gone."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_text())
    return [line for line in found if mark in line]


def children() -> list[str]:
    """Programs that this process has started and that still run."""
    command = ["ps", "-o", "comm=", "--ppid", str(os.getpid())]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return [name for name in lines if name == "bwrap"]


@needs_bubblewrap
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_program_fails_in_its_time_and_leaves_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import socket

    monkeypatch.setenv("SOME_TOKEN", SECRET)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = HOSTILE[name].replace("PORT", str(port)).replace("HOME", str(Path.home()))
        outcome = run_program(program, LIMITS)
    assert not outcome.passed
    assert outcome.reason
    assert SECRET not in outcome.reason
    assert not children()
    assert not (Path.home() / LEFT).exists()


@needs_bubblewrap
def test_what_a_program_starts_ends_before_its_outcome_is_told() -> None:
    for _ in range(5):
        mark = f"{time.time_ns()}"
        program = (
            "import os, time\nfor _ in range(6):\n    if os.fork() == 0:\n        os.setsid()\n"
            f"        os.execv('/bin/sleep', ['sleep', '{mark}'])\ntime.sleep(0.2)"
        )
        assert run_program(program, PATIENT).passed
        assert not processes_with(mark)


@needs_bubblewrap
@pytest.mark.parametrize(
    ("program", "passes"),
    [
        ("assert 1 + 1 == 2", True),
        ("assert 1 + 1 == 3", False),
        ("def f(:", False),
        ("import math, collections, re, heapq, itertools\nassert math.gcd(4, 6) == 2", True),
        ("open('x', 'w').write('y')\nassert open('x').read() == 'y'", True),
        ("input('a number')", False),
        ("assert 'Ärger \N{SNOWMAN}'.upper().startswith('ÄRGER')", True),
        ("import numpy", False),  # nothing but the standard library is there
        ("\0", False),
        ("raise ValueError('\\udcff')", False),
        ("", True),
        # code_eval runs none of these parts either
        ("if __name__ == '__main__':\n    raise SystemExit(input())", True),
    ],
)
def test_a_program_passes_where_it_reaches_its_end(program: str, passes: bool) -> None:
    outcome = run_program(program, PATIENT)
    assert outcome.passed == passes, outcome.reason
    assert bool(outcome.reason) != passes


@needs_bubblewrap
def test_outcomes_come_in_the_programs_order() -> None:
    programs = [f"assert {n} % 3 == 0" for n in range(12)]
    passed = [outcome.passed for outcome in run_programs(programs, PATIENT)]
    assert passed == [n % 3 == 0 for n in range(12)]


@needs_bubblewrap
def test_what_comes_out_is_read_to_a_limit() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = run_program(HOSTILE["floods the way out"], Limits(seconds=60))
    assert not outcome.passed
    assert len(outcome.reason) <= 4096
    assert "it ran longer than" not in outcome.reason
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_sandbox_that_does_not_start_is_told_and_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_sandbox, "_STARTUP_SECONDS", 0.1)
    monkeypatch.setattr(_sandbox, "_command", lambda limits, info: ["sleep", "1000"])
    assert "did not start" in run_program("pass", LIMITS).reason
    monkeypatch.setattr(_sandbox, "_STARTUP_SECONDS", 60.0)
    fails = ["sh", "-c", "echo no >&2; exit 3"]
    monkeypatch.setattr(_sandbox, "_command", lambda limits, info: fails)
    assert "status 3 (no)" in run_program("pass", LIMITS).reason


def test_without_bubblewrap_the_refusal_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_sandbox.shutil, "which", lambda name: None)
    assert INSTALL in str(refusal.__wrapped__())


@needs_bubblewrap
@pytest.mark.real
def test_the_published_sample_file_has_its_published_score() -> None:
    folder = os.environ.get("HARNESS_REAL_DATA")
    if not folder:
        pytest.skip("HARNESS_REAL_DATA does not name the real data")
    place = Path(folder) / "benchmarks" / "humaneval"
    problem = json.loads((place / "example_problem.jsonl").read_text(encoding="utf-8"))
    samples = (place / "example_samples.jsonl").read_text(encoding="utf-8").splitlines()
    programs = [
        f"{problem['prompt']}{json.loads(line)['completion']}\n{problem['test']}\n"
        f"check({problem['entry_point']})"
        for line in samples
    ]
    limits = replace(LIMITS, seconds=6.0)  # one of them sleeps for ten seconds
    passed = [outcome.passed for outcome in run_programs(programs, limits)]
    assert pass_at_k(len(passed), sum(passed), 1) == 0.5


@pytest.mark.parametrize(
    ("samples", "correct", "k", "chance"),
    [(6, 3, 1, 0.5), (2, 1, 2, 1.0), (5, 0, 3, 0.0)],
)
def test_pass_at_k_is_the_unbiased_estimate(
    samples: int, correct: int, k: int, chance: float
) -> None:
    # The product form of Chen et al., as human-eval computes it.
    product = 1.0
    if samples - correct >= k:
        for n in range(samples - correct + 1, samples + 1):
            product *= 1.0 - k / n
        product = 1.0 - product
    assert pass_at_k(samples, correct, k) == pytest.approx(product)
    assert pass_at_k(samples, correct, k) == chance


@given(st.integers(1, 60), st.data())
def test_pass_at_k_grows_with_k(samples: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, samples))
    chances = [pass_at_k(samples, correct, k) for k in range(1, samples + 1)]
    assert chances == sorted(chances)
    assert chances[0] == pytest.approx(correct / samples)


@pytest.mark.parametrize(("samples", "correct", "k"), [(3, 1, 4), (3, 4, 1), (0, 0, 1), (3, 1, 0)])
def test_pass_at_k_of_too_few_samples_is_refused(samples: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match="is not defined"):
        pass_at_k(samples, correct, k)
