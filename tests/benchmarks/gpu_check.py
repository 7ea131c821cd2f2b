"""What a GPU does with every method: `make gpu-check`.

    python tests/benchmarks/gpu_check.py --seconds 170    # what fits; a later call goes on
    python tests/benchmarks/gpu_check.py --cpu            # demo and suite, on the CPU

Three parts, each told on its own, so that a fault in one hides nothing of the others:
- the tests marked `gpu`;
- the pocket demo, in bfloat16 on the card: its verdicts against those of a CPU in float32
  (tests/fixtures/demo_verdicts.csv);
- suites/pocket/gpu.yaml: tokens a second, peak memory and energy of every method, and the
  predictions beside them.

Figures are written after each part, under the device's name. A later call leaves out the parts that
are good, and goes on with the stages of a suite that an earlier one did not reach, as long as the
code is the same (build/gpu-check). Exit status 1 where anything failed or was not reached; 3
without a GPU, when nothing is measured. `--cpu` tries the command itself, and its file is no
result. The CPU's verdicts are made again, after `make demo`, by `harness report
suites/pocket/demo.yaml` with a `--set` for each line of `gpu_check.py --demo-set`, and
`--keep-verdicts` with that report's comparison.csv.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[2]))  # behind this file's own folder

from gpu_machine import (
    NO_GPU,
    RESULTS,
    ROOT,
    TRIES,
    describe,
    device_name,
    folder_of,
    keep,
    kept,
)
from gpu_suites import (
    DEMO_SETTINGS,
    Setting,
    call,
    keep_verdicts,
    other_verdicts,
    run,
    trainings,
)

PARTS = ("tests", "demo", "suite")
NO_TESTS = 5
LEAST = 15.0
"""Seconds left under which no further part is begun."""
MEANT = ("harness", "suites/pocket", "tests/whole")
"""Folders that decide what is found."""


def tests(setting: Setting, seconds: float) -> dict[str, Any]:
    """Whether the tests marked `gpu` pass. Warnings of whichever libraries stand beside the card's
    driver are none of the card's."""
    several = ["-n", str(max(1, min(6, (os.cpu_count() or 2) // 2)))]
    command = [
        sys.executable, "-m", "pytest", "-m", "gpu", "-W", "default", "tests/whole/test_gpu.py",
        *(several if importlib.util.find_spec("xdist") else []),
    ]  # fmt: skip
    status = call(command, seconds, OMP_NUM_THREADS="1", HARNESS_TEST_DEVICE=setting.device)
    return {"status": _word(status, status in (0, NO_TESTS))}


def demo(setting: Setting, seconds: float) -> dict[str, Any]:
    """The demo's verdicts beside a CPU's."""
    suite = ROOT / "suites" / "pocket" / "demo.yaml"
    found = run(suite, "demo", setting, DEMO_SETTINGS, seconds)
    others = other_verdicts(found.rows) if found.rows else []
    good = found.status == 0 and not others
    return {
        "status": _word(found.status, good), "exit": found.status,
        "verdicts": len(found.rows), "other verdicts": others,
    }  # fmt: skip


def suite(setting: Setting, seconds: float) -> dict[str, Any]:
    """Figures of every method."""
    found = run(setting.suite, "suite", setting, (), seconds)
    told = {"status": _word(found.status, found.status == 0), "exit": found.status}
    return {**told, "runs": trainings(found)}


def _word(status: int | None, good: bool) -> str:
    return "stopped: no time was left" if status is None else "ok" if good else "failed"


def digest() -> str:
    """Of the files that decide what is found; a file of results is none of them."""
    every = hashlib.sha256()
    for name in MEANT:
        for path in sorted((ROOT / name).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                every.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return every.hexdigest()[:12]


def work_folder(tree: str, name: str) -> Path:
    """Where the suites of this code run on a device; those of other code are removed."""
    folder = TRIES / "gpu-check" / tree
    for other in folder.parent.glob("*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder / name


Part = Callable[[float], dict[str, Any]]
"""Seconds that it may take -> its status, and what it found."""


def measure(parts: Mapping[str, Part], file: Path, seconds: float, again: bool, name: str) -> bool:
    """Run the parts that `file` lacks, as long as time is left.

    Returns:
        whether every one of them is ok now.
    """
    end, tree, about = time.monotonic() + seconds, digest(), describe()
    found = {"device": name, **about, "parts": kept(file).get("parts", {})}
    for each, work in parts.items():
        known = found["parts"].get(each, {})
        if known.get("status") == "ok" and known.get("tree") == tree and not again:
            continue
        start, left = time.monotonic(), end - time.monotonic()
        if left < LEAST:
            if known.get("tree") != tree:
                found["parts"][each] = {"status": "not run: no time was left", "tree": tree}
            continue
        told = work(left)
        about_it = {"tree": tree, "commit": about["commit"], "date": about["date"]}
        found["parts"][each] = {**told, **about_it, "seconds": round(time.monotonic() - start, 1)}
        keep(file, found)
    keep(file, found)
    return all(found["parts"][each]["status"] == "ok" for each in parts)


def main() -> int:
    """Run, write, print."""
    options = _options()
    if options.demo_set:
        print(*DEMO_SETTINGS, sep="\n")
        return 0
    if options.keep_verdicts:
        keep_verdicts(options.keep_verdicts)
        return 0
    name = "cpu" if options.cpu else device_name()
    if name is None:
        print("this machine shows no GPU: nothing was measured", file=sys.stderr)
        return NO_GPU
    file = folder_of(options.out, name, figures=not options.cpu) / "gpu-check.json"
    folder = work_folder(digest(), file.parent.name)
    setting = Setting("cpu" if options.cpu else "cuda", folder, options.suite, tuple(options.set))
    works = {"tests": tests, "demo": demo, "suite": suite}
    only = options.only or (PARTS[1:] if options.cpu else PARTS)
    parts = {part: partial(works[part], setting) for part in only}
    seconds = options.seconds or (1e6 if options.cpu else 170.0)
    whole = measure(parts, file, seconds, options.again, name)
    tell(kept(file)["parts"])
    print(file)
    return 0 if whole else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help=f"default: {RESULTS}, of a CPU build/tries")
    parser.add_argument("--seconds", type=float, help="of this call, in all; default: 170 on a GPU")
    parser.add_argument("--suite", type=Path, default=ROOT / "suites" / "pocket" / "gpu.yaml")
    parser.add_argument("--set", action="append", default=[], help="as of harness run")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="default: all; on a CPU no tests")
    parser.add_argument("--again", action="store_true", help="also the parts that were good")
    parser.add_argument("--cpu", action="store_true", help="try the command itself, on the CPU")
    parser.add_argument("--keep-verdicts", type=Path, metavar="CSV", help="a CPU's, and no more")
    parser.add_argument("--demo-set", action="store_true", help="print its --set, line by line")
    return parser.parse_args()


def tell(parts: Mapping[str, Any]) -> None:
    """A few lines of what was found."""
    for name, part in parts.items():
        print(f"{name}: {part['status']}")
    for row in parts.get("demo", {}).get("other verdicts", []):
        print(f"another verdict: {row['row']}: {row['here']} here, {row['cpu']} on a CPU")
    for line in parts.get("suite", {}).get("runs", []):
        if "error" in line:
            print(f"{line['variant']:<28} FAILED: {line['error']}")
            continue
        print(
            f"{line['variant']:<28} {line['train_tokens_per_second']:>10,.0f} tokens/s"
            f"  peak {line['peak_memory']}  predicted {line['predicted']}"
        )


if __name__ == "__main__":
    sys.exit(main())
