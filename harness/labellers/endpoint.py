"""A model behind an OpenAI-compatible endpoint as the judge of two answers."""

from __future__ import annotations

import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator

from harness.core.component import NotHashed
from harness.core.errors import StageFailed
from harness.core.files import digest_json, write_atomic
from harness.inference.endpoint import ChatEndpoint, Refused, key_from
from harness.labellers._orders import PROMPT, averaged, both_orders, filled, require_fields
from harness.labellers.base import LabelJob, Labeller, Verdict

REPLIES = "replies.jsonl"
"""The file of all replies in the stage's work folder, so that a killed or failed stage does not ask
again. Refused requests are asked again."""
UNREADABLE = "the labeller's reply names no answer"
_WORTH = {"A": 1.0, "B": 0.0, "C": 0.5}
_MARKED = re.compile(r"\[\[([ABC])\]\]")
_BARE = re.compile(r"\W*(?:answer\W+)?([ABC])\W*", re.IGNORECASE)
_ASK = "\n\nReply with one letter and nothing else: A, B, or C where neither is better."
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_SECRET = re.compile(r".*(key|authorization|secret|password).*|token|(extra_)?headers", re.I | re.S)
"""Names of request fields that may hold a secret, which must not be written to disk. `max_tokens`
does not match."""
_LONGEST_REPLY = 10_000
"""Longest reply that is read, in characters."""


class Endpoint(Labeller):
    """A model behind an OpenAI-compatible endpoint (vLLM, llama.cpp, a provider), asked at
    temperature 0 which of two answers is better. It is asked in both orders of the answers, and the
    verdicts are averaged: replies that change with the order are a tie (Zheng et al., 2023,
    arXiv:2306.05685, section 3.4). A reply is A, B or C (a tie), alone or as [[A]]; other replies
    are counted and not used. Requests are repeated after 429 and 5xx. The key is read from the
    environment variable that `api_key_env` names when the stage runs, and is never written to disk.
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # an error may be about a pasted key
    VERSION = 1

    base_url: str
    """The address without `/chat/completions`, such as `http://localhost:8000/v1`."""
    model: str
    """The model's name at the endpoint. Choose a name with a date if there is one, since the model
    behind another name may change."""
    api_key_env: Annotated[str | None, NotHashed] = None
    """Name of the environment variable with the key, in capitals; null sends no key."""
    prompt: str = PROMPT
    """The prompt; {question}, {a} and {b} are filled in. A sentence on how to reply is added."""
    max_tokens: int | None = Field(16, gt=0)
    """Longest reply in tokens; null sends no limit, for a model that has no such field or that
    reasons first."""
    args: dict[str, Any] = {}
    """Other fields of the request, such as `{seed: 0}`. They are written to disk, so keys and
    headers are refused."""
    concurrency: Annotated[int, NotHashed] = Field(4, gt=0, le=256)
    """Number of concurrent requests."""
    timeout: Annotated[float, NotHashed] = Field(60.0, gt=0)
    """Seconds for one try."""
    retries: Annotated[int, NotHashed] = Field(5, ge=0)
    """Tries after the first."""
    longest_wait: Annotated[float, NotHashed] = Field(60.0, gt=0)
    """Longest wait before a try, in seconds; the stage fails if the server asks for more."""

    @field_validator("prompt")
    @classmethod
    def _complete(cls, value: str) -> str:
        return require_fields(value)

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, value: str) -> str:
        parts = urllib.parse.urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("base_url is an address such as https://api.example.org/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "base_url holds a user, a password or a query, and is written to disk; name the"
                " variable of a key with api_key_env"
            )
        return value

    @field_validator("api_key_env", mode="before")
    @classmethod
    def _a_name(cls, value: Any) -> Any:
        if value is None or (isinstance(value, str) and _VARIABLE.fullmatch(value)):
            return value
        raise ValueError(
            "api_key_env is the name of an environment variable, such as JUDGE_KEY (capitals,"
            " digits and _), and not the key; what it holds is not shown here"
        )

    @field_validator("args")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in sorted({"model", "messages", "stream", "n"} & set(value)):
            raise ValueError(f"{name} is decided by the harness; remove it")
        for name in _names(value):
            if _SECRET.fullmatch(name):
                raise ValueError(
                    f"{name} may hold a secret, and args are written to disk; name the variable of"
                    " a key with api_key_env"
                )
        return value

    def runs(self) -> tuple[str, ...]:
        key = f", with the key in {self.api_key_env}" if self.api_key_env else ""
        return (f"requests to {self.base_url}{key}: prompts and answers are sent there",)

    def calls_at_once(self) -> int:
        return self.concurrency

    def label(self, job: LabelJob) -> list[Verdict]:
        client = ChatEndpoint(
            self.base_url, self.model, key_from(self.api_key_env), self.timeout, self.retries,
            self.longest_wait,
        )  # fmt: skip
        replies = _Replies(job.work / REPLIES)
        longest = {} if self.max_tokens is None else {"max_tokens": self.max_tokens}
        options = {**longest, **self.args}
        asked = [filled(self.prompt, contest) + _ASK for contest in both_orders(job.contests)]
        bodies = [client.body(text, options) for text in asked]

        def reply(body: dict[str, Any]) -> str | None:
            return replies.of(body, client)

        texts = _in_order(reply, bodies, self.concurrency, job.progress)
        job.cost.update(replies.cost())
        if texts and all(text is None for text in texts):
            raise StageFailed(
                "endpoint",
                f"{self.base_url} refused every request; the first: {replies.refusal(bodies[0])}",
                fix="check model, max_tokens and args",
            )
        return averaged(job, [_verdict(text) for text in texts])


def _names(value: Any) -> Iterator[str]:
    """All names in a tree of mappings and lists."""
    if isinstance(value, dict):
        yield from map(str, value)
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _names(inner)


def _in_order(
    work: Callable[[dict[str, Any]], str | None],
    bodies: list[dict[str, Any]],
    workers: int,
    progress: Callable[[int, int, str], None],
) -> list[str | None]:
    """Run `work` on each body with several threads, and return the results in order.

    The first failure is raised, and calls that have not begun are cancelled.
    """
    texts: list[str | None] = []
    pool = ThreadPoolExecutor(workers)
    try:
        for text in pool.map(work, bodies):
            texts.append(text)
            progress(len(texts), len(bodies), "replies")
    finally:
        pool.shutdown(cancel_futures=True)
    return texts


def _verdict(text: str | None) -> Verdict:
    if text is None:
        return "refused by the labeller"
    letter = letter_of(text)
    return UNREADABLE if letter is None else _WORTH[letter]


def letter_of(text: str) -> str | None:
    """The letter of a reply that is A, B or C alone or marks exactly one as [[A]]; else None."""
    if len(text) > _LONGEST_REPLY:
        return None
    marked = set(_MARKED.findall(text))
    if marked:
        return marked.pop() if len(marked) == 1 else None
    bare = _BARE.fullmatch(text)
    return bare[1].upper() if bare else None


class _Replies:
    """Replies by the digest of their request, stored in a file line by line.

    Refusals are dropped when the file is read: the server may have been set up anew since.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, threading.Lock()
        self.known: dict[str, dict[str, Any]] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        for line in lines:
            try:
                kept = json.loads(line)
            except ValueError:
                continue  # a kill cut the line: the request is sent again
            if "refused" not in kept:
                self.known[kept["asked"]] = kept
        if lines:
            write_atomic(path, "".join(json.dumps(kept) + "\n" for kept in self.known.values()))

    def of(self, body: dict[str, Any], client: ChatEndpoint) -> str | None:
        """The reply to a request, from the file or from the endpoint; None if it was refused."""
        key = digest_json(body)
        if key not in self.known:
            kept: dict[str, Any] = {"asked": key, "text": None, "tokens": [0, 0]}
            try:
                reply = client.ask(body)
                kept |= {
                    "text": reply.text[: _LONGEST_REPLY + 1],
                    "tokens": [reply.prompt_tokens, reply.completion_tokens],
                }
            except Refused as refusal:
                kept["refused"] = str(refusal)
            with self.lock:
                self.known[key] = kept
                with self.path.open("a", encoding="utf-8") as handle:
                    handle.write(json.dumps(kept) + "\n")
        text = self.known[key]["text"]
        return None if text is None else str(text)

    def refusal(self, body: dict[str, Any]) -> str:
        """The endpoint's reason for refusing a request; "" if it did not refuse."""
        return str(self.known[digest_json(body)].get("refused", ""))

    def cost(self) -> dict[str, int]:
        """Number of calls and tokens of all attempts at the stage, without refusals of earlier
        attempts."""
        tokens = [kept["tokens"] for kept in self.known.values()]
        return {
            "calls": len(self.known),
            "prompt_tokens": sum(counts[0] for counts in tokens),
            "completion_tokens": sum(counts[1] for counts in tokens),
        }
