"""A local server of the OpenAI protocol that answers, fails and breaks off as a test tells it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""
Reply = Callable[[dict[str, Any], int], Answer]
DROPPED: Answer = (-1, {}, b"")
"""The connection ends without an answer."""
HTML: Answer = (200, {"Content-Type": "text/html"}, b"<html>Sign in</html>")
CROWDED: Answer = (429, {}, b'{"error": {"message": "slow down"}}')


def says(text: Any, prompt_tokens: int = 7, **usage: int) -> Answer:
    """A chat completion."""
    body = {
        "choices": [{"message": {"content": text}}],
        "usage": {"prompt_tokens": prompt_tokens, **usage},
    }
    return as_json(body)


def as_json(body: Any) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def half(answer: Answer) -> Answer:
    """The answer, broken off in its middle."""
    status, headers, body = answer
    return status, {**headers, "Content-Length": str(len(body))}, body[: len(body) // 2]


def stalled(answer: Answer, seconds: float) -> Answer:
    """The answer, with so many seconds in its middle."""
    status, headers, body = answer
    return status, {**headers, "X-Stall": str(seconds)}, body


class Jobs:
    """Plays a service with fine-tuning jobs; the tuned models answer by `tuned`, others by `plain`.

    Attributes:
        states: what a job says of itself at each question, the last one for ever.
        files: content of each uploaded file; jobs: each job that was started.
        cancelled: ids of jobs, as they were asked to be cancelled.
        lost: how many starts of jobs are done, and never answered.
        refuses: whether it takes no file.
    """

    def __init__(self, plain: Reply, tuned: Reply, states: Sequence[str] = ("succeeded",)) -> None:
        self.plain, self.tuned, self.states = plain, tuned, list(states)
        self.files: dict[str, str] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.lost, self.refuses = 0, False
        self.cancelled: list[str] = []

    def __call__(self, body: dict[str, Any], number: int) -> Answer:
        raise AssertionError("a service is asked at paths")

    def at(self, path: str, body: dict[str, Any]) -> Answer:
        part = path.removeprefix("/v1/").partition("?")[0]
        if part == "files":
            return self._file(body)
        if part.endswith("/cancel"):
            name = part.split("/")[-2]
            self.cancelled.append(name)
            return as_json({"id": name, "status": "cancelled"})
        if part.startswith("fine_tuning/jobs/"):
            name = part.rpartition("/")[2]
            return as_json(self._state(name)) if name in self.jobs else (404, {}, b"no such job")
        if part == "fine_tuning/jobs" and body:
            return self._start(body)
        if part == "fine_tuning/jobs":
            return as_json(self._listed(path))
        answers = self.tuned if str(body["model"]).startswith("ft:") else self.plain
        return answers(body, 0)

    def _file(self, body: dict[str, Any]) -> Answer:
        if self.refuses:
            return 400, {}, b'{"error": {"message": "line 1 is no chat"}}'
        name = f"file-{len(self.files)}"
        self.files[name] = body["raw"].decode()
        return as_json({"id": name, "status": "processed"})

    def _start(self, body: dict[str, Any]) -> Answer:
        name = f"job-{len(self.jobs)}"
        self.jobs[name] = {**body, "asked": 0}
        if self.lost > 0:
            self.lost -= 1
            return DROPPED
        return as_json({"id": name, "status": "queued"})

    def _listed(self, path: str) -> dict[str, Any]:
        """A page of the jobs, the newest first, as OpenAI's API has it."""
        asked = parse_qs(path.partition("?")[2])
        names = [*reversed(self.jobs)]
        if "after" in asked:
            names = names[names.index(asked["after"][0]) + 1 :]
        shown = names[: int(asked["limit"][0])]
        return {
            "data": [{"id": name, **self.jobs[name]} for name in shown],
            "has_more": len(shown) < len(names),
        }

    def _state(self, name: str) -> dict[str, Any]:
        job = self.jobs[name]
        status = self.states[min(job["asked"], len(self.states) - 1)]
        job["asked"] += 1
        state: dict[str, Any] = {"id": name, "status": status, "created_at": 1000}
        if status.lower() in ("succeeded", "success", "completed"):
            state |= {"fine_tuned_model": f"ft:{job['model']}:{name}", "trained_tokens": 480,
                      "finished_at": 1090}  # fmt: skip
        if status == "failed":
            state["error"] = {"message": "the file has too few rows"}
        if status == "error":
            state["error"] = "out of quota"  # as some services tell it: a text
        return state


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # many threads of a test connect at once


class Server:
    """What it was asked is kept.

    Attributes:
        asked: bodies of the requests, in order; keys: their Authorization; paths: their paths.
        headers: all headers of the last request.
        busiest: the most requests that it answered at the same time.
    """

    def __init__(self, reply: Callable[[dict[str, Any], int], Answer]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.headers: dict[str, str] = {}
        self.busiest = self._busy = 0
        self._lock = threading.Lock()
        self.reply = reply
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                kind = self.headers.get("Content-Type", "")
                body = json.loads(raw) if kind.startswith("application/json") else {"raw": raw}
                server._serve(self, body)

            def do_GET(self) -> None:
                server._serve(self, {})

            def log_message(self, *_: Any) -> None:
                pass

        self.http = _Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def _serve(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        with self._lock:
            self.asked.append(body)
            self.keys.append(handler.headers.get("Authorization"))
            self.paths.append(handler.path)
            self.headers = dict(handler.headers.items())
            number = len(self.asked)
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        try:
            at = getattr(self.reply, "at", None)
            answer = self.reply(body, number) if at is None else at(handler.path, body)
        finally:
            with self._lock:
                self._busy -= 1
        with suppress(OSError):  # the client may have gone
            _write(handler, answer)

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


def _write(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    status, headers, content = answer
    handler.close_connection = True
    if status < 0:
        handler.connection.shutdown(socket.SHUT_RDWR)
        return
    stall = float(headers.pop("X-Stall", "0")) if "X-Stall" in (headers := dict(headers)) else 0.0
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name, value)
    handler.send_header("Connection", "close")
    handler.end_headers()
    middle = len(content) // 2 if stall else 0
    handler.wfile.write(content[:middle])
    handler.wfile.flush()
    time.sleep(stall)
    handler.wfile.write(content[middle:])


Serve = Callable[[Callable[[dict[str, Any], int], Answer]], Server]


@contextmanager
def serving() -> Iterator[Serve]:
    """Start servers during the block."""
    servers: list[Server] = []

    def start(reply: Callable[[dict[str, Any], int], Answer]) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    try:
        yield start
    finally:
        for server in servers:
            server.close()
