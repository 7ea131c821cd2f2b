"""Replies of an endpoint are kept, counted and never exceed a budget."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.core.errors import StageFailed
from harness.inference import reply_locks
from harness.inference.completions import Reply
from harness.inference.endpoint import ChatEndpoint
from harness.inference.replies import Replies, _Request
from harness.inference.reply_locks import claimed
from harness.inference.spending import Amount, most
from harness.models.endpoint import EndpointSettings
from tests.served import CROWDED, DROPPED, Serve, Server, says


def replies(folder: Path, server: Server, **fields: Any) -> Replies:
    asked = EndpointSettings(base_url=server.url, model="m", **fields)
    client = ChatEndpoint(server.url, "m", retries=asked.retries, sleep=lambda _: None)
    return Replies(folder, asked, client)


def bodies(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"messages": [{"role": "user", "content": f"q{n}"}], **fields} for n in range(count)]


def test_a_second_run_costs_nothing(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda body, _: says(body["messages"][0]["content"], completion_tokens=2))
    first = replies(tmp_path, server).ask(bodies(10))
    assert [reply.text for reply in first] == [f"q{n}" for n in range(10)]
    again = replies(tmp_path, server)
    second = again.ask(bodies(12))
    assert second[:10] == first
    assert len(server.asked) == 12
    assert again.cost(second[:10] * 2) == {
        "calls": 10,
        "prompt_tokens": 70,
        "completion_tokens": 20,
    }
    assert again.paid == Amount(2, 14, 4)


def test_equal_requests_are_sent_once_and_repeats_again(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda _, number: says(str(number)))
    asked = replies(tmp_path, server)
    same = bodies(1) * 5
    assert len({reply.text for reply in asked.ask(same)}) == 1
    assert asked.ask(same, repeat=1) != asked.ask(same)
    assert len(server.asked) == 2


def test_another_address_or_model_shares_no_reply(serve: Serve, tmp_path: Path) -> None:
    for text in ("one", "other"):
        server = serve(lambda *_, text=text: says(text))  # type: ignore[misc]
        assert replies(tmp_path, server).ask(bodies(1))[0].text == text


def test_an_address_with_a_slash_at_its_end_is_the_same(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda *_: says("A"))
    for url in (server.url, f"{server.url}/"):
        settings = EndpointSettings(base_url=url, model="m")
        assert settings == EndpointSettings(base_url=server.url, model="m")
        Replies(tmp_path, settings, ChatEndpoint.of(settings)).ask(bodies(1))
    assert server.paths == ["/v1/chat/completions"]


@given(st.integers(0, 400), st.integers(0, 3))
def test_a_file_cut_at_any_byte_loses_its_last_reply_alone(cut: int, more: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        there = EndpointSettings(base_url="http://127.0.0.1:9/v1", model="m")
        client = Echo("http://127.0.0.1:9/v1", "m")
        asked = Replies(Path(folder), there, client)
        asked.ask(bodies(3))
        whole = asked.log.path.read_bytes()
        kept = whole[: min(cut, len(whole))]
        asked.log.path.write_bytes(kept)
        client.asked.clear()
        texts = Replies(Path(folder), there, client).ask(bodies(3 + more))
        assert [reply.text for reply in texts] == [f"q{n}" for n in range(3 + more)]
        lines = kept.count(b"\n")
        # A reply that lost its line's end alone is read as soon as another one is written after it.
        unended = kept[-1:] == b"}" and whole[len(kept) :][:1] == b"\n"
        assert len(client.asked) in (3 + more - lines, 3 + more - lines - unended)
        client.asked.clear()
        Replies(Path(folder), there, client).ask(bodies(3 + more))
        assert client.asked == []


class Echo(ChatEndpoint):
    """Answers without a server."""

    asked: list[Any] = []

    def ask(self, body: Any, path: str = "", lost: Any = None) -> Reply:
        self.asked.append(body)
        return Reply(body["messages"][0]["content"], 1, 1)


RUN = """
import sys
from pathlib import Path
from harness.inference.endpoint import ChatEndpoint
from harness.inference.reply_locks import claimed
from harness.inference.replies import Replies
from harness.models.endpoint import EndpointSettings
url, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
settings = EndpointSettings(base_url=url, model="m", concurrency=4)
bodies = [{"messages": [{"role": "user", "content": f"q{n}"}]} for n in range(count)]
texts = Replies(folder, settings, ChatEndpoint.of(settings)).ask(bodies)
assert [reply.text for reply in texts] == [f"q{n}" for n in range(count)]
"""


def test_two_processes_that_need_the_same_replies_pay_once(serve: Serve, tmp_path: Path) -> None:
    def slow(body: dict[str, Any], _: int) -> Any:
        time.sleep(0.1)
        return says(body["messages"][0]["content"])

    server = serve(slow)
    command = [sys.executable, "-c", RUN, server.url, str(tmp_path), "24"]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert len(server.asked) == 24
    assert not list(tmp_path.glob("*.claims/*")), "no lock is left behind"


def test_a_request_whose_sender_was_killed_is_sent_by_who_waited(
    serve: Serve, tmp_path: Path
) -> None:
    begun, freed = threading.Event(), threading.Event()

    def first_hangs(body: dict[str, Any], number: int) -> Any:
        if number == 1:
            begun.set()
            freed.wait(60)
        return says(body["messages"][0]["content"])

    server = serve(first_hangs)
    process = subprocess.Popen([sys.executable, "-c", RUN, server.url, str(tmp_path), "1"])
    assert begun.wait(120)
    waiting = threading.Thread(target=lambda: replies(tmp_path, server).ask(bodies(1)))
    waiting.start()
    waiting.join(0.5)
    assert len(server.asked) == 1, "it waits for the other's reply"
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    waiting.join(60)
    freed.set()
    assert not waiting.is_alive()
    assert len(server.asked) == 2


def test_who_waits_for_another_process_stops_when_its_own_run_fails(
    serve: Serve, tmp_path: Path
) -> None:
    """One request is held elsewhere, and the other one fails for good."""
    server = serve(lambda *_: (401, {}, b"no"))
    asked = replies(tmp_path, server, concurrency=2)
    held = bodies(2)
    key = _Request(held[0], "chat/completions", 0, None).key
    elsewhere = claimed(asked.log.path, key, threading.Event())
    with elsewhere, pytest.raises(StageFailed, match="check the key"):
        asked.ask(held)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("count", "kills"), [(120, 1), pytest.param(1000, 3, marks=pytest.mark.slow)]
)
def test_a_killed_run_repeats_no_paid_call(
    serve: Serve, tmp_path: Path, count: int, kills: int
) -> None:
    """The server counts. What was under way at a kill may be asked again: at most one
    request for each thread."""
    enough = threading.Event()
    limit = count // 4

    def reply(body: dict[str, Any], number: int) -> Any:
        if number >= limit:
            enough.set()
        return says(body["messages"][0]["content"])

    server = serve(reply)
    command = [sys.executable, "-c", RUN, server.url, str(tmp_path), str(count)]
    for _ in range(kills):
        process = subprocess.Popen(command)
        assert enough.wait(200)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        limit = len(server.asked) + count // 5
        enough.clear()
    subprocess.run(command, check=True)
    times = Counter(body["messages"][0]["content"] for body in server.asked)
    assert len(times) == count
    assert sum(times.values()) - count <= kills * 4
    subprocess.run(command, check=True)
    assert len(server.asked) == sum(times.values())


def test_a_storm_of_429_loses_nothing(serve: Serve, tmp_path: Path) -> None:
    """For its first 60 requests the server accepts none, and every second one after that."""
    storm = serve(
        lambda body, n: CROWDED if n < 60 or n % 2 else says(body["messages"][0]["content"])
    )
    asked = replies(tmp_path, storm, concurrency=16, retries=0)
    assert [reply.text for reply in asked.ask(bodies(40))] == [f"q{n}" for n in range(40)]
    assert asked.paid.calls == 40


def test_no_more_requests_than_allowed_run_at_once(serve: Serve, tmp_path: Path) -> None:
    several = threading.Event()

    def reply(body: dict[str, Any], number: int) -> Any:
        if number > 1:
            several.set()
        assert several.wait(60)
        time.sleep(0.02)
        return says("A")

    server = serve(reply)
    replies(tmp_path, server, concurrency=3).ask(bodies(20))
    assert 1 < server.busiest <= 3


def test_processes_together_send_no_more_requests_than_allowed_at_once(
    serve: Serve, tmp_path: Path
) -> None:
    """As stages do that run side by side and ask one judge."""

    def slow(body: dict[str, Any], _: int) -> Any:
        time.sleep(0.05)
        return says(body["messages"][0]["content"])

    server = serve(slow)
    runs = [RUN, RUN.replace("q{n}", "r{n}"), RUN.replace("q{n}", "s{n}")]
    commands = [[sys.executable, "-c", run, server.url, str(tmp_path), "20"] for run in runs]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert len(server.asked) == 60
    assert 1 < server.busiest <= 4


def test_a_failure_keeps_what_was_answered(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda _, n: says("A") if n <= 3 else (401, {}, b"no"))
    with pytest.raises(StageFailed, match="check the key"):
        replies(tmp_path, server, concurrency=1).ask(bodies(6))
    server.reply = lambda *_: says("A")
    before = len(server.asked)
    replies(tmp_path, server).ask(bodies(6))
    assert len(server.asked) - before == 3


def test_progress_tells_rate_and_spending(serve: Serve, tmp_path: Path) -> None:
    server, told = serve(lambda *_: says("A", 1_000_000, completion_tokens=0)), list[Any]()
    asked = replies(tmp_path, server, prices={"prompt": 0.25, "completion": 1})
    answered = asked.ask(bodies(4), lambda *event: told.append(event))
    assert [event[:2] for event in told] == [(n, 4) for n in range(1, 5)]
    assert told[-1][2].startswith("replies, ")
    assert told[-1][2].endswith("/s, 1 spent")
    assert asked.cost(answered)["money"] == pytest.approx(1.0)


# --- budgets -------------------------------------------------------------------------------------


def spending(server: Server) -> int:
    """What the server has charged, in tokens: of each answered request 40 + 10."""
    return 50 * len(server.asked)


@pytest.mark.parametrize(
    ("budget", "calls"),
    [({"calls": 7}, 7), ({"tokens": 500}, 9), ({"money": 0.0005}, 9), ({"calls": 0}, 0)],
)
def test_a_budget_stops_before_it_is_exceeded(
    serve: Serve, tmp_path: Path, budget: dict[str, float], calls: int
) -> None:
    server = serve(lambda *_: says("A", 40, completion_tokens=10))
    prices = {"prompt": 1, "completion": 1}
    asked = replies(tmp_path, server, budget=budget, prices=prices, concurrency=4)
    with pytest.raises(StageFailed, match=r"(?s)could exceed the budget.*run again"):
        asked.ask(bodies(30, max_tokens=10))
    assert spending(server) <= 500
    # A request may take 10 tokens and, at most, one for each byte of its prompt, and some more.
    assert calls - 2 <= len(server.asked) <= calls
    before = len(server.asked)
    with pytest.raises(StageFailed, match="could exceed the budget"):
        replies(tmp_path, server, budget=budget, prices=prices).ask(bodies(30, max_tokens=10))
    assert len(server.asked) <= max(before, calls)
    # What was answered costs nothing, even when nothing is left.
    if before:
        replies(tmp_path, server, budget={"calls": 0}).ask(bodies(1, max_tokens=10))


def test_a_raised_budget_goes_on_where_it_stopped(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda *_: says("A"))
    with pytest.raises(StageFailed):
        replies(tmp_path, server, budget={"calls": 5}).ask(bodies(8))
    replies(tmp_path, server, budget={"calls": 8}).ask(bodies(8))
    assert len(server.asked) == 8


def test_tries_that_may_be_charged_count(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda _, n: DROPPED if n <= 3 else says("A", 1, completion_tokens=1))
    with pytest.raises(StageFailed, match="could exceed the budget"):
        replies(tmp_path, server, budget={"calls": 3}, retries=9, concurrency=1).ask(bodies(1))
    assert len(server.asked) == 3
    refusing = serve(lambda _, n: (503, {}, b"") if n <= 3 else says("A"))
    replies(tmp_path, refusing, budget={"calls": 1}, retries=9).ask(bodies(1))


def test_a_server_that_counts_no_tokens_is_taken_at_the_most(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda *_: says("A", 0))
    with pytest.raises(StageFailed, match="could exceed the budget of 300 tokens"):
        replies(tmp_path, server, budget={"tokens": 300}).ask(bodies(9, max_tokens=10))
    assert len(server.asked) == 300 // (most(bodies(1, max_tokens=10)[0]) or Amount()).tokens


def test_a_request_under_way_at_a_kill_counts_as_spent(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda *_: says("A"))
    asked = replies(tmp_path, server, budget={"calls": 1})
    asked._reserve("key of a killed run", bodies(1)[0])
    with pytest.raises(StageFailed, match="could exceed the budget of 1 calls"):
        replies(tmp_path, server, budget={"calls": 1}).ask(bodies(1))
    assert server.asked == []


def test_a_request_without_a_longest_answer_has_no_budget_in_tokens(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(lambda *_: says("A"))
    with pytest.raises(StageFailed, match="needs a longest answer"):
        replies(tmp_path, server, budget={"tokens": 9}).ask(bodies(1))
    assert server.asked == []


@settings(max_examples=30)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=4), st.integers(1, 99))
def test_the_most_is_no_less_than_any_tokenizer_counts(texts: list[str], longest: int) -> None:
    """A byte-level tokenizer without any merge, and a template of ten tokens a turn."""
    turns = [{"role": "user", "content": text} for text in texts]
    amount = most({"messages": turns, "max_tokens": longest})
    assert amount is not None
    assert amount.prompt_tokens >= sum(len(text.encode()) + 10 for text in texts)
    assert amount.completion_tokens == longest


CITY = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}


@pytest.mark.parametrize(
    "fields",
    [{"tools": [TOOL]}, {"response_format": {"type": "json_schema", "json_schema": TOOL}},
     {"functions": [TOOL["function"]]}, {"guided_regex": "[AB]" * 100}],
)  # fmt: skip
def test_the_most_counts_all_that_a_server_may_write_into_the_prompt(fields: Any) -> None:
    plain = most({**bodies(1)[0], "max_tokens": 1})
    more = most({**bodies(1)[0], "max_tokens": 1, **fields})
    assert plain is not None
    assert more is not None
    written = len(json.dumps(fields, indent=2))
    assert more.prompt_tokens - plain.prompt_tokens >= written


def test_the_most_counts_calls_of_tools_and_every_answer_that_is_drawn() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    turns = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    amount = most({"messages": turns, "max_tokens": 5})
    assert amount is not None
    assert amount.prompt_tokens > len(json.dumps(call))
    several = most({"prompt": "x", "max_tokens": 5, "best_of": 4})
    assert several is not None
    assert several.completion_tokens == 20


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"budget": {"money": 1}}, "needs prices"), ({"budget": {}}, "one of calls, tokens and money"),
     ({"budget": {"calls": -1}}, "greater than or equal to 0"), 
     ({"budget": {"dollars": 1}}, "dollars"),
     ({"prices": {"prompt": -1, "completion": 0}}, "greater than or equal to 0"),
     ({"prices": {"prompt": 1}}, "completion"), ({"concurrency": 0}, "greater than 0"),
     ({"model": ""}, "at least 1 character"), ({"base_url": "localhost:8000"}, "is an address"),
     ({"base_url": "http://h/v1/chat/completions"}, "without /chat/completions: http://h/v1 "),
     ({"base_url": "http://h/v1/completions/"}, "without /completions: http://h/v1 ")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EndpointSettings(**{"base_url": "http://localhost:1/v1", "model": "m", **fields})


def test_two_processes_may_share_the_file(serve: Serve, tmp_path: Path) -> None:
    """Lines of one do not break those of the other, and neither pays for what the other has."""
    server = serve(lambda body, _: says(body["messages"][0]["content"] * 50))
    command = [sys.executable, "-c", RUN.replace('[f"q{n}" for', '[f"q{n}" * 50 for'), server.url]
    both = [subprocess.Popen([*command, str(tmp_path), "60"]) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    (file,) = tmp_path.glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({line["asked"] for line in lines}) == 60


def test_one_thread_of_a_process_looks_for_a_free_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many that looked at once would take the processor while other processes have all places."""
    replies, looked, many = tmp_path / "replies.jsonl", list[int](), threading.Event()
    take = reply_locks._is_taken

    def look(lock: FileLock) -> bool:
        looked.append(threading.get_ident())
        if len(looked) >= 20:
            many.set()
        return take(lock)

    def ask() -> str:
        with reply_locks.one_of(replies, 2, threading.Event()):
            return "asked"

    with contextlib.ExitStack() as others, ThreadPoolExecutor(8) as pool:
        for _ in range(2):
            others.enter_context(reply_locks.one_of(replies, 2, threading.Event()))
        monkeypatch.setattr(reply_locks, "_is_taken", look)
        asked = [pool.submit(ask) for _ in range(8)]
        waited = many.wait(60)
        others.close()
        assert [future.result(60) for future in asked] == ["asked"] * 8
    assert waited
    assert len(set(looked[:20])) == 1
