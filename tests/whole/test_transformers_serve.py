"""A real server, `transformers serve`, as a variant beside the same model here, under lm-eval, and
as a labeller. It needs `transformers[serving]` (fastapi, uvicorn)."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from harness.core.locate import package_suites
from harness.labellers.base import Contest, LabelJob
from harness.labellers.endpoint import UNREADABLE, Endpoint
from tests import lm_tasks
from tests.conftest import Workspace

pytestmark = pytest.mark.slow
POCKET = package_suites() / "pocket" / "models" / "pocket-1m"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `transformers serve` with the pocket model, started and stopped here."""
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed: pip install 'transformers[serving]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [
        str(Path(sys.executable).with_name("transformers")), "serve", str(POCKET), "--device",
        "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        if process.poll() is not None:
            pytest.fail(f"transformers serve ended: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"transformers serve does not answer: {log.read_text()[-2000:]}")


def test_a_served_model_answers_as_the_same_model_here(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "tasks").mkdir()
    lm_tasks.write(tmp_path / "tasks", 4)
    tree = {
        "name": "both",
        "models": {
            "here": "pocket/models/pocket-1m",
            "there": {"endpoint": {"base_url": server, "model": str(POCKET)}},
        },
        "data": {"tasks": {
            "train": "pocket/instruct/train.jsonl",
            "test": {"path": "pocket/instruct/test.jsonl", "limit": 24},
        }},
        "base": {
            "zero-shot": {"max_new_tokens": 12},
            "few-shot": {"max_new_tokens": 12, "num_fewshot": 2, "until": ["."]},
        },
        "scorers": ["rouge", {"lm_eval": {"tasks": ["written", "letters"],
                                          "include_path": "tasks"}}],
        "executor": "inline",
    }  # fmt: skip
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(tree))
    workspace = Workspace(tmp_path, tree)
    outcome = workspace.run()
    records = {(r.kind, r.label): r for r in outcome.records.values()}
    for use in ("zero-shot", "few-shot"):
        texts = [
            [json.loads(line)["text"] for line in
             (workspace.store / "generate" / records["generate", f"{use}@{name} on tasks"].key[:24]
              / "predictions.jsonl").read_text().splitlines()]
            for name in ("here", "there")
        ]  # fmt: skip
        assert texts[0] == texts[1]
        assert len(set(texts[0])) > 3
    here, there = (records["score", f"{name} lm_eval on written"] for name in ("here", "there"))
    assert there.metrics["metrics"] == here.metrics["metrics"]
    # It ignores that log-probabilities of prompts are asked for.
    (failed,) = outcome.failed
    assert failed.label == "there lm_eval on letters"
    assert "does not tell the log-probabilities of prompts" in (failed.error or {})["message"]


def test_a_served_model_labels(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    labeller = Endpoint(base_url=server, model=str(POCKET), max_tokens=4, again=0)
    contests = [Contest(f"Question {n}?", "yes", "no") for n in range(3)]
    for paid in (6, 0):
        told: list[tuple[int, int, str]] = []
        job = LabelJob(contests, lambda *event, told=told: told.append(event), tmp_path)
        verdicts = labeller.label(job)
        assert all(verdict == UNREADABLE or 0 <= verdict <= 1 for verdict in verdicts)
        assert job.cost["calls"] == 6
        assert job.cost["completion_tokens"] > 0
        assert len(told) == paid
