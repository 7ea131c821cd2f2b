"""Files from addresses that a service gave."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import StageFailed
from harness.inference.download import download

KEY = "tml-a-secret-key"


class Store(BaseHTTPRequestHandler):
    """Answers by path; `seen` has what each request brought."""

    answers: dict[str, list[tuple[int, dict[str, str], bytes]]]
    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.seen.append((path, self.headers.get("X-API-Key")))
        known = self.answers[path]
        status, headers, body = known.pop(0) if len(known) > 1 else known[0]
        if status == 0:
            self.connection.close()
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Connections that a test breaks off."""


@pytest.fixture
def stores() -> Iterator[Any]:
    """Two servers: (address, class that answers) of each."""
    running, made = [], []
    for _ in range(2):
        kind = type("Its", (Store,), {"answers": {}, "seen": []})
        web = Quiet(("127.0.0.1", 0), kind)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        running.append(web)
        made.append((f"http://127.0.0.1:{web.server_address[1]}", kind))
    yield made
    for web in running:
        web.shutdown()
        web.server_close()


def fetch(url: str, path: Path, **options: Any) -> None:
    download(url, path, **{"limit": 100, "sleep": lambda seconds: None, **options})


def test_a_key_goes_to_its_service_alone(stores: Any, tmp_path: Path) -> None:
    (service, ours), (other, theirs) = stores
    ours.answers["/a"] = [(302, {"Location": f"{other}/b?signature=1"}, b"")]
    theirs.answers["/b"] = [(200, {}, b"weights")]
    fetch(f"{service}/a", tmp_path / "file", origin=service, headers={"X-API-Key": KEY})
    assert (tmp_path / "file").read_bytes() == b"weights"
    assert ours.seen == [("/a", KEY)]
    assert theirs.seen == [("/b", None)]


def test_what_breaks_is_tried_again(stores: Any, tmp_path: Path) -> None:
    service, ours = stores[0]
    ours.answers["/a"] = [(503, {}, b""), (0, {}, b""), (200, {"Content-Length": "9"}, b"half"),
                          (200, {}, b"weights")]  # fmt: skip
    fetch(f"{service}/a", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("answer", "said"),
    [((200, {}, bytes(101)), "more than the 100 bytes"), ((403, {}, b""), "status 403"),
     ((302, {"Location": "file:///etc/passwd"}, b""), "file:///etc/passwd as an address"),
     ((302, {"Location": "/a"}, b""), "again and again"), ((500, {}, b""), "500, 4 times")],
)  # fmt: skip
def test_other_answers_are_refused(stores: Any, tmp_path: Path, answer: Any, said: str) -> None:
    service, ours = stores[0]
    ours.answers["/a"] = [answer]
    with pytest.raises(StageFailed, match=said) as caught:
        fetch(f"{service}/a?signature=secret", tmp_path / "file", headers={"X-API-Key": KEY})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://[::1/x?sig=secret", "http://127.0.0.1:99999/x?sig=secret",
            f"http://{'a' * 70}.com/?sig=secret"],
)  # fmt: skip
@pytest.mark.parametrize("redirected", [False, True])
def test_what_is_no_address_is_told_without_its_query(
    stores: Any, tmp_path: Path, url: str, redirected: bool
) -> None:
    service, ours = stores[0]
    ours.answers["/a"] = [(302, {"Location": url}, b"")]
    with pytest.raises(StageFailed, match="is no address of the web") as caught:
        fetch(f"{service}/a" if redirected else url, tmp_path / "file", headers={"X-API-Key": KEY})
    assert "secret" not in str(caught.value)


def test_a_body_that_cannot_be_decoded_is_told(stores: Any, tmp_path: Path) -> None:
    service, ours = stores[0]
    ours.answers["/a"] = [(200, {"Content-Encoding": "gzip"}, b"no gzip at all")]
    with pytest.raises(StageFailed, match="DecodingError, 4 times"):
        fetch(f"{service}/a", tmp_path / "file")


def test_an_endless_body_is_cut_at_the_limit(stores: Any, tmp_path: Path) -> None:
    service, ours = stores[0]
    ours.answers["/a"] = [(200, {}, bytes(5_000_000))]
    with pytest.raises(StageFailed, match="more than the 100 bytes"):
        fetch(f"{service}/a", tmp_path / "file")
    assert (tmp_path / "file").stat().st_size <= 100


class Clock:
    """Time that passes when it is asked for, and while one sleeps."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("answer", [(503, {}, b""), (200, {}, bytes(900_000))])
def test_all_tries_and_parts_of_a_body_together_have_one_limit_of_time(
    stores: Any, tmp_path: Path, answer: Any
) -> None:
    service, ours = stores[0]
    ours.answers["/a"] = [answer]
    clock = Clock(step=1.0)
    with pytest.raises(
        StageFailed, match=r"within 7 s \(the method's `download_timeout`\)"
    ) as told:
        fetch(f"{service}/a?signature=secret", tmp_path / "file", limit=10**6, most=7.0,
              clock=clock, sleep=clock.sleep)  # fmt: skip
    assert "secret" not in str(told.value)
    assert clock.now < 20
