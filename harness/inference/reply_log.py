"""The file of an endpoint's replies: what was asked, answered and spent.

The file is only ever appended to, one line for each event, each in a single write. So it survives a
kill at any moment, several processes may share it, and what was spent can be summed from it.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

from harness.inference.completions import Reply
from harness.inference.spending import Amount

_DEFAULTS = asdict(Reply(""))


class ReplyLog:
    """What one file tells. All that it knows was read from the file, its own lines included.

    Attributes:
        replies: the reply to each request, by the request's digest.
        spent: all that was spent on this file, with the most that requests under way can cost.
    """

    def __init__(self, path: Path) -> None:
        """Read the file, if there is one. Requests that were refused are not known, so that they
        are asked again: the server may have been set up anew since."""
        self.path = path
        self.spent = Amount()
        self.replies: dict[str, Reply] = {}
        self._reserved: dict[str, list[Amount]] = {}
        self._offset = 0
        self.refresh()
        self.replies = {key: reply for key, reply in self.replies.items() if not reply.refused}

    def reserve(self, key: str, amount: Amount) -> None:
        """Note the most that a request or a job that is sent now can cost."""
        self._write({"asked": key, "sent": _counts(amount)})

    def lose(self, key: str, amount: Amount) -> None:
        """Note a try that brought no answer, and may be charged."""
        self._write({"asked": key, "lost": _counts(amount)})

    def fail(self, key: str) -> None:
        """Note that a request came to nothing, and free what was reserved for it."""
        self._write({"asked": key, "failed": True})

    def keep(self, key: str, reply: Reply, charged: Amount | None = None) -> None:
        """Note a reply, and free what was reserved for it.

        Args:
            charged: what it cost, if that is not what it counts.
        """
        event: dict[str, Any] = {"asked": key, "reply": _changed(reply)}
        self._write(event if charged is None else {**event, "charged": _counts(charged)})

    def charge(self, key: str, amount: Amount | None) -> None:
        """Note what a job did cost, in place of what was reserved for it; None: nothing."""
        self._write({"asked": key, **({} if amount is None else {"charged": _counts(amount)})})

    def refresh(self) -> None:
        """Read what was appended since, by this process or another."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            lines = file.read().rpartition(b"\n")[0]
        if not lines:
            return
        self._offset += len(lines) + 1
        for line in lines.split(b"\n"):
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a kill cut the line: the request is sent again
            self._take(event)

    def _write(self, event: Mapping[str, Any]) -> None:
        line = json.dumps(event).encode() + b"\n"
        with self.path.open("a+b", buffering=0) as file:
            if file.seek(0, 2):
                file.seek(-1, 2)
                line = line if file.read(1) == b"\n" else b"\n" + line  # a kill cut the last line
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, "no space left for a reply", str(self.path))
        self.refresh()

    def _take(self, event: Mapping[str, Any]) -> None:
        """Add one event to what is known."""
        key = event["asked"]
        if "sent" in event:
            self._reserved.setdefault(key, []).append(Amount(*event["sent"]))
            self.spent += Amount(*event["sent"])
            return
        if "lost" in event:
            self.spent += Amount(*event["lost"])
            return
        if self._reserved.get(key):
            self.spent -= self._reserved[key].pop()
        if "reply" in event:
            reply = self.replies[key] = Reply(**{"text": "", **event["reply"]})
            counts = (1, reply.prompt_tokens, reply.completion_tokens)
            self.spent += Amount(*event.get("charged", counts))
        elif "charged" in event:
            self.spent += Amount(*event["charged"])


def _changed(reply: Reply) -> dict[str, Any]:
    """The fields of a reply that have not their default."""
    return {name: value for name, value in asdict(reply).items() if value != _DEFAULTS[name]}


def _counts(amount: Amount) -> list[int]:
    counts = list(astuple(amount))
    return counts if amount.training_tokens else counts[:-1]
