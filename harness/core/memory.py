"""Amounts of memory: reads them from text, and measures this machine's memory."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT])(?:iB|B)?")
_POWERS = {"K": 10, "M": 20, "G": 30, "T": 40}
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files in which Linux gives the memory limit of a container: cgroups of version 2 and of version
1."""


def amount(text: str) -> int:
    """The bytes of an amount such as `32G` or `500M`, in powers of 1024, as in Slurm.

    Raises:
        ValueError: the text is not such an amount.
    """
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an amount of memory; write it as 500M, 32G or 1T")
    return int(float(match[1]) * 2 ** _POWERS[match[2]])


def of_this_machine() -> int:
    """The bytes of memory of this machine, or the limit of the container of this process if it is
    lower."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such limit, or the word `max`
            total = min(total, int(Path(file).read_text()))
    return total
