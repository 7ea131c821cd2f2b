"""The client of OpenAI-compatible endpoints, against a local server with faults."""

from __future__ import annotations

import json
import logging
import threading
import traceback
from typing import Any

import pytest

from harness.core.errors import StageFailed
from harness.inference.endpoint import COMPLETIONS, ChatEndpoint, Refused, key_from
from harness.inference.wire import asked_wait, masked
from tests.served import (
    CROWDED,
    DROPPED,
    HTML,
    Answer,
    Serve,
    Server,
    as_json,
    half,
    says,
    stalled,
)  # fmt: skip


def client(server: Server, waits: list[float], **fields: Any) -> ChatEndpoint:
    return ChatEndpoint(server.url, "m", sleep=waits.append, jitter=lambda: 0.0, **fields)


def test_faults_that_pass_are_tried_again_and_waits_honoured(serve: Serve) -> None:
    faults = [
        (429, {"Retry-After": "7"}, b"slow down"),
        (503, {"Retry-After": "soon"}, b""),
        (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b""),
        (200, {}, b"<html>not JSON</html>"),
        (200, {}, b'{"choices": []}'),
        says(7),
        says("A"),
    ]
    server, waits = serve(lambda _, number: faults[number - 1]), list[float]()
    found = client(server, waits, key="secret", retries=6).ask({"x": 1})
    assert (found.text, found.prompt_tokens) == ("A", 7)
    assert waits == [7.0, 1.0, 2.0, 4.0, 8.0, 16.0]
    assert set(server.keys) == {"Bearer secret"}


@pytest.mark.parametrize(
    ("answer", "said", "tries"),
    [
        ((401, {}, b"bad key secret-key"), "check the key", 1),
        ((404, {}, b"no such model"), "check base_url and model", 1),
        ((302, {"Location": "http://127.0.0.1:9/steal"}, b""), "redirects", 1),
        ((429, {"Retry-After": "3600"}, b""), "asks to wait 3600 s", 1),
        ((500, {}, b"\x1b[2Jboom"), "no answer in 3 tries", 3),
        ((200, {}, b'{"a":' * 100_000), "no answer in 3 tries", 3),
        ((200, {}, b" " * (5 * 2**20)), "a body of more than", 3),
    ],
)
def test_faults_that_stay_end_with_their_cause_and_never_the_key(
    serve: Serve, answer: Answer, said: str, tries: int
) -> None:
    server = serve(lambda *_: answer)
    with pytest.raises(StageFailed) as caught:
        client(server, [], key="secret-key", retries=2).ask({})
    assert said in str(caught.value)
    assert "secret-key" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(server.asked) == tries


def test_a_key_is_masked_before_anything_is_cut(serve: Serve) -> None:
    key = "sk-" + "0123456789" * 5
    for said in (b"x" * 180 + key.encode(), (key + " ").encode() * 100, key[:-1].encode()):
        server = serve(lambda *_, said=said: (404, {}, said))  # type: ignore[misc]
        with pytest.raises(StageFailed) as caught:
            client(server, [], key=key).ask({})
        assert "***" in str(caught.value)
        assert key[:4] not in str(caught.value)
    server = serve(lambda *_: says(f"Your key is {key}. A"))
    assert client(server, [], key=key).ask({}).text == "Your key is ***. A"


@pytest.mark.parametrize(
    ("key", "said"),
    [("token-abc123", "the next token"), ("none", "none of them"), ("EMPTY", "AN EMPTY LIST")],
)
def test_keys_of_local_servers_change_no_answer(serve: Serve, key: str, said: str) -> None:
    assert client(serve(lambda *_: says(said)), [], key=key).ask({}).text == said


def test_a_dead_endpoint_is_no_hang() -> None:
    with pytest.raises(StageFailed, match="gave no answer in 2 tries"):
        ChatEndpoint("http://127.0.0.1:9/v1", "m", retries=1, sleep=lambda _: None).ask({})


def test_the_key_comes_from_the_environment_when_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    assert key_from(None) is None
    with pytest.raises(StageFailed, match="environment variable JUDGE_KEY, which should"):
        key_from("JUDGE_KEY")
    monkeypatch.setenv("JUDGE_KEY", "se\ncret")
    with pytest.raises(StageFailed) as caught:
        key_from("JUDGE_KEY")
    assert "cret" not in str(caught.value).replace("secret", "")
    monkeypatch.setenv("JUDGE_KEY", " k-1\n")
    assert key_from("JUDGE_KEY") == "k-1"


@pytest.mark.parametrize(
    "fault",
    [DROPPED, HTML, half(says("A")), (500, {}, b""), (502, {}, b"<html>"),
     as_json({"error": {"message": "overloaded", "code": 503}}), as_json({"error": "busy"}),
     as_json([]), as_json({"choices": [{"message": "A"}]}), (408, {}, b""), CROWDED],
    ids=["dropped", "wrong type", "half", "500", "502", "error with a status", "error",
         "list", "odd choice", "408", "429"],
)  # fmt: skip
def test_each_fault_that_passes_costs_one_more_try(serve: Serve, fault: Answer) -> None:
    server = serve(lambda _, number: fault if number == 1 else says("A"))
    assert client(server, []).ask({}).text == "A"
    assert len(server.asked) == 2


def test_a_body_that_stalls_costs_one_more_try(serve: Serve) -> None:
    server = serve(lambda _, number: stalled(says("A"), 0.7) if number == 1 else says("B"))
    # On a busy machine a try that does not stall may take as long, and is made again too.
    assert client(server, [], timeout=0.4, retries=100).ask({}).text == "B"
    assert len(server.asked) >= 2


def test_an_error_under_status_200_has_its_own_status(serve: Serve) -> None:
    for code, kind in ((400, Refused), (401, StageFailed)):
        server = serve(lambda *_, code=code: as_json({"error": {"code": code}}))  # type: ignore[misc]
        with pytest.raises(kind):
            client(server, []).ask({})
        assert len(server.asked) == 1


def test_a_server_without_credit_is_not_asked_again(serve: Serve) -> None:
    body = b'{"error": {"code": "insufficient_quota"}}'
    server = serve(lambda *_: (429, {}, body))
    with pytest.raises(StageFailed, match="add credit"):
        client(server, []).ask({})
    assert len(server.asked) == 1


def test_a_storm_of_429_uses_up_patience_and_no_tries(serve: Serve) -> None:
    server, waits = serve(lambda _, n: CROWDED if n <= 12 else says("A")), list[float]()
    assert client(server, waits, retries=0, longest_wait=8.0).ask({}).text == "A"
    assert waits == [0.5, 1.0, 2.0, 4.0] + [8.0] * 8
    server = serve(lambda *_: CROWDED)
    with pytest.raises(StageFailed, match=r"(?s)no answer in 5 tries.*raise patience"):
        client(server, [], retries=0, patience=10.0).ask({})


def test_back_offs_of_many_threads_differ(serve: Serve) -> None:
    server, waits = serve(lambda _, n: (500, {}, b"") if n % 2 else says("A")), list[float]()
    for number in range(3):
        endpoint = ChatEndpoint(server.url, "m", sleep=waits.append, jitter=lambda n=number: n / 3)  # type: ignore[misc]
        endpoint.ask({})
    assert waits == sorted(set(waits))
    assert waits[0] == 0.5
    assert waits[-1] < 0.5 * 1.25


def test_nothing_of_the_environment_is_sent(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK would send keys and headers of the environment to whatever address it asks."""
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "sk-of-another-service")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: sk-of-another-service")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    server = serve(lambda *_: says("A"))
    client(server, []).ask({"x": 1})
    client(server, [], key="ours").ask({"x": 1})
    assert server.keys == [None, "Bearer ours"]
    assert "another-service" not in str(server.headers)
    assert not {name for name in server.headers if name.lower().startswith("x-")}


def test_a_key_is_in_no_log_and_no_traceback(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = "sk-0123456789abcdef"
    faults = [(401, {}, key.encode()), DROPPED, HTML, (400, {}, key.encode())]
    for fault in faults:
        server = serve(lambda *_, fault=fault: fault)  # type: ignore[misc]
        with pytest.raises((StageFailed, Refused)) as caught:
            client(server, [], key=key, retries=0).ask({})
        assert key[:6] not in "".join(traceback.format_exception(caught.value))
    assert caplog.records
    assert key[:6] not in caplog.text
    assert key[:6] not in repr(client(server, [], key=key))


def test_a_refusal_of_the_model_is_told(serve: Serve) -> None:
    refusal = {"message": {"content": None, "refusal": "I cannot"}}
    filtered = {"message": {"content": ""}, "finish_reason": "content_filter"}
    for choice, reason in ((refusal, "I cannot"), (filtered, "content_filter")):
        server = serve(lambda *_, choice=choice: as_json({"choices": [choice]}))  # type: ignore[misc]
        assert client(server, []).ask({}).refused == reason


def test_log_probabilities_are_read_where_they_are_given(serve: Serve) -> None:
    likeliest = [{"token": "4", "logprob": -0.1}, {"token": "5", "logprob": -2.5}]
    choice = {
        "message": {"content": "4"},
        "logprobs": {"content": [{"token": "4", "logprob": -0.1, "top_logprobs": likeliest}]},
    }
    server = serve(lambda *_: as_json({"choices": [choice]}))
    assert client(server, []).ask({}).logprobs == ({"4": -0.1, "5": -2.5},)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "assistant"}, ""),
        ({"role": "assistant", "reasoning_content": "Hm."}, ""),
        (
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                    {"type": "text", "text": "B"},
                ],
            },
            "B",
        ),
    ],
)
def test_a_message_may_say_nothing_or_in_parts(
    serve: Serve, message: dict[str, Any], text: str
) -> None:
    """As servers that parse the thinking send it, with log-probabilities that were not asked for
    in number."""
    logprobs = {"content": [{"token": "B", "logprob": -0.1}]}
    server = serve(lambda *_: as_json({"choices": [{"message": message, "logprobs": logprobs}]}))
    reply = client(server, [], retries=0).ask({})
    assert (reply.text, reply.logprobs) == (text, ({},))


def test_a_plain_completion_is_asked_at_its_own_path(serve: Serve) -> None:
    server = serve(lambda *_: as_json({"choices": [{"text": " B", "finish_reason": "length"}]}))
    reply = client(server, []).ask({"prompt": "A"}, COMPLETIONS)
    assert (reply.text, reply.finish, server.paths) == (" B", "length", ["/v1/completions"])


def test_half_a_surrogate_pair_can_be_written_to_a_file(serve: Serve, tmp_path: Any) -> None:
    server = serve(lambda *_: says("A \ud83d"))
    text = client(server, []).ask({"messages": [{"content": "a \ud83d b"}]}).text
    (tmp_path / "text").write_text(text, encoding="utf-8")
    assert server.asked[0]["messages"][0]["content"].startswith("a ")


def test_one_client_serves_many_threads(serve: Serve) -> None:
    server = serve(lambda body, _: says(body["x"]))
    endpoint, texts = client(server, []), dict[int, str]()

    def ask(number: int) -> None:
        texts[number] = endpoint.ask({"x": str(number)}).text

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {number: str(number) for number in range(16)}


@pytest.mark.parametrize("asked_for", ["0", "-5", "0.01", "Fri, 01 Jan 2021 00:00:00 GMT"])
def test_a_server_that_asks_for_no_wait_is_not_asked_without_a_pause(
    serve: Serve, asked_for: str
) -> None:
    """Such a 429 for ever would be a loop without an end."""
    server = serve(lambda *_: (429, {"Retry-After": asked_for}, b"{}"))
    waits: list[float] = []
    with pytest.raises(StageFailed, match="raise patience"):
        client(server, waits, patience=20).ask({})
    assert waits == [0.5, 1, 2, 4, 8]


def test_a_date_without_a_zone_is_of_greenwich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_000_000_000.0)
    for date in ("Sun, 09 Sep 2001 01:47:10 -0000", "Sun, 09 Sep 2001 01:47:10 GMT"):
        assert asked_wait({"Retry-After": date}) == 30


def test_an_error_in_the_choice_is_no_answer(serve: Serve) -> None:
    """Gateways answer 200 where the service behind them broke off."""
    broken = {"message": {"content": "half an ans"}, "finish_reason": "error",
              "error": {"code": 502, "message": "provider"}}  # fmt: skip
    server = serve(lambda _, n: as_json({"choices": [broken]}) if n == 1 else says("whole"))
    assert client(server, []).ask({}).text == "whole"


def test_a_code_that_is_a_text_counts_as_its_number(serve: Serve) -> None:
    told = {"error": {"code": "401", "message": "who are you?"}}
    server = serve(lambda *_: as_json(told))
    with pytest.raises(StageFailed, match="check the key"):
        ChatEndpoint(server.url, "m", sleep=lambda _: None).ask({})
    assert len(server.asked) == 1


def test_a_key_is_masked_as_json_writes_it_too() -> None:
    key = 'q"uo\\te-key-1234'
    assert "uo" not in masked(json.dumps({"echo": key}), key)
