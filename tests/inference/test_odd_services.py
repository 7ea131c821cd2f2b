"""Answers of services that are odd and still paid for, and environments that let nobody ask."""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from typing import Any

import pytest

from harness.core.errors import StageFailed
from harness.inference.endpoint import COMPLETIONS, ChatEndpoint, Refused
from harness.inference.wire import LARGEST, unpacked
from tests.served import Answer, Serve, Server, as_json, says


def client(server: Server, **fields: Any) -> ChatEndpoint:
    return ChatEndpoint(server.url, "m", sleep=lambda _: None, jitter=lambda: 0.0, **fields)


def packed(body: bytes, encoding: str) -> Answer:
    return 200, {"Content-Type": "application/json", "Content-Encoding": encoding}, body


BESIDE: list[dict[str, Any]] = [
    *(
        {"usage": usage}
        for usage in ("none", [7], 7, {"prompt_tokens": "7"}, {"prompt_tokens": -7})
    ),
    {"usage": {"prompt_tokens": True, "completion_tokens": 0.5}},
]
LOGPROBS: list[Any] = [
    None, [], "none", {"content": None}, {"content": [1]}, {"content": [{"top_logprobs": [{}]}]},
    {"content": [{"top_logprobs": [{"token": "A", "logprob": None}]}]},
]  # fmt: skip


@pytest.mark.parametrize("beside", BESIDE, ids=str)
def test_an_answer_with_an_odd_usage_is_not_paid_twice(
    serve: Serve, beside: dict[str, Any]
) -> None:
    server = serve(lambda *_: as_json({"choices": [{"message": {"content": "A"}}], **beside}))
    reply = client(server, retries=0).ask({})
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("A", 0, 0)


@pytest.mark.parametrize("told", LOGPROBS, ids=str)
def test_an_answer_with_odd_log_probabilities_has_none(serve: Serve, told: Any) -> None:
    choice = {"message": {"content": "A"}, "logprobs": told}
    server = serve(lambda *_: as_json({"choices": [choice]}))
    reply = client(server, retries=0).ask({})
    assert (reply.text, reply.logprobs) == ("A", ())


def test_tokens_that_are_counted_in_decimals_count(serve: Serve) -> None:
    usage = {"prompt_tokens": 7.0, "completion_tokens": 1.0}
    server = serve(lambda *_: as_json({"choices": [{"message": {"content": "A"}}], "usage": usage}))
    reply = client(server).ask({})
    assert (reply.prompt_tokens, reply.completion_tokens) == (7, 1)


@pytest.mark.parametrize("body", [{"choices": []}, {"choices": None, "usage": {}}], ids=str)
@pytest.mark.parametrize("path", ["chat/completions", COMPLETIONS])
def test_an_answer_that_never_has_a_choice_is_a_refusal(
    serve: Serve, body: dict[str, Any], path: str
) -> None:
    """Services answer so whose filter found the prompt wanting: it is missing, and fails no other
    request."""
    server = serve(lambda *_: as_json(body))
    with pytest.raises(Refused, match=r"an answer without a choice .*in 3 tries"):
        client(server, retries=2).ask({}, path)
    assert len(server.asked) == 3


def test_an_error_without_a_choice_is_an_error(serve: Serve) -> None:
    server = serve(lambda *_: as_json({"choices": [], "error": {"message": "overloaded"}}))
    with pytest.raises(StageFailed, match="overloaded"):
        client(server, retries=1).ask({})


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress)],
)
def test_a_packed_answer_is_read_though_none_was_asked_for(
    serve: Serve, encoding: str, pack: Any
) -> None:
    server = serve(lambda *_: packed(pack(says("A")[2]), encoding))
    assert client(server).ask({}).text == "A"
    assert server.headers["Accept-Encoding"] == "identity"


def test_a_small_body_that_unpacks_to_a_huge_one_is_refused_in_pieces(serve: Serve) -> None:
    content = json.dumps({"choices": [{"message": {"content": "A" * 64 * LARGEST}}]})
    body = gzip.compress(content.encode(), 1)
    server = serve(lambda *_: packed(body, "gzip"))
    with pytest.raises(StageFailed, match="a body of more than"):
        client(server, retries=0).ask({})
    pieces = itertools.islice(unpacked([body], "gzip"), 100)
    assert max(map(len, pieces)) <= 2**16


@pytest.mark.parametrize(
    ("body", "encoding", "said"),
    [(gzip.compress(b"{}" * 99)[:20], "gzip", "is cut"), (b"no gzip", "gzip", "is damaged"),
     (b"{}", "zstd", "packed by 'zstd'")],
)  # fmt: skip
def test_a_packed_body_that_cannot_be_read_is_tried_again(
    serve: Serve, body: bytes, encoding: str, said: str
) -> None:
    server = serve(lambda _, n: packed(body, encoding) if n == 1 else says("A"))
    assert client(server).ask({}).text == "A"
    server = serve(lambda *_: packed(body, encoding))
    with pytest.raises(StageFailed, match=said):
        client(server, retries=1).ask({})


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [("all_proxy", "socks5://ann:s3cr3t@127.0.0.1:9", "all_proxy.*socksio"),
     ("HTTPS_PROXY", "ftp://ann:s3cr3t@127.0.0.1:9", "HTTPS_PROXY"),
     ("HTTP_PROXY", "http://ann:s3cr3t@127.0.0.1:port", "HTTP_PROXY"),
     ("SSL_CERT_FILE", "/no/s3cr3t.pem", "SSL_CERT_FILE")],
)  # fmt: skip
def test_an_environment_that_lets_nobody_ask_is_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(StageFailed, match=rf"(?s){said}") as caught:
        ChatEndpoint("http://127.0.0.1:9/v1", "m").ask({})
    assert "s3cr3t" not in str(caught.value)


def test_a_request_that_fails_behind_a_proxy_says_so(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda *_: says("A"))
    for name in ("NO_PROXY", "no_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://ann:s3cr3t@127.0.0.1:9")
    with pytest.raises(StageFailed, match=r"through the proxy.*NO_PROXY") as caught:
        client(server, retries=0).ask({})
    assert "s3cr3t" not in str(caught.value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert client(server).ask({}).text == "A"


def test_an_address_without_its_path_is_answered_with_one(serve: Serve) -> None:
    server = serve(lambda *_: (404, {}, b"no such path"))
    bare = server.url.removesuffix("/v1")
    with pytest.raises(StageFailed, match=rf"for most servers it is {bare}/v1$"):
        ChatEndpoint(bare, "m").ask({})
    with pytest.raises(StageFailed, match=r"check base_url and model$"):
        client(server).ask({})


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_body_of_several_packed_ones_is_read_to_its_end(size: int) -> None:
    """All but the first one were lost, without a word."""
    body = gzip.compress(b"one, ") + gzip.compress(b"two, ") + gzip.compress(b"three")
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    assert b"".join(unpacked(parts, "gzip")) == b"one, two, three"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
def test_empty_body_is_empty_however_it_is_called_packed(encoding: str) -> None:
    """A refusal without a body is told by its status; it was called a cut answer."""
    assert list(unpacked([], encoding)) == []
    assert b"".join(unpacked([b""], encoding)) == b""
