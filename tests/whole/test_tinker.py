"""A LoRA that a service of the Tinker protocol computes, beside one that is trained here."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load, load_file, save

from harness.commands.plan import describe_plan
from harness.comparison.compare import compare
from harness.core.errors import ModelError, StageFailed, SuiteError
from harness.methods._elsewhere import Weights, Work
from harness.methods.tinker import Tinker
from harness.stages.base import Job
from harness.store.stage import Record
from tests.conftest import Workspace
from tests.tinker_server import KEY, Fault, TinkerServer, playing

# The client leaves some sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SFT = {
    "learning_rate": 1e-2, "num_train_epochs": 2, "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2, "lr_scheduler_type": "cosine", "warmup_ratio": 0.2,
    "max_length": 64,
}  # fmt: skip
STEPS = 6


@pytest.fixture
def server(tiny_model: Path) -> Iterator[TinkerServer]:
    with playing(TinkerServer(tiny_model)) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """No socket is left to the tests of other files."""
    yield
    gc.collect()


@pytest.fixture
def suite(workspace: Workspace, server: TinkerServer, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A LoRA at the service, and little that is scored."""
    monkeypatch.setenv("TINKER_API_KEY", KEY)
    method = {
        "base_url": server.url, "base_model": "tiny-1", "r": 4, "save_steps": 2,
        "prices": {"training": 50},
    }  # fmt: skip
    workspace.write(
        matrix={"method": [{"tinker": method}], "objective": [{"sft": SFT}]},
        scorers=[{"perplexity": {"data": "general", "label": "general"}}],
    )
    return workspace


def trained(outcome: Any, name: str = "tinker") -> Record:
    (record,) = [
        r for r in outcome.records.values()
        if r.kind == "train" and r.config["method"]["name"] == name
    ]  # fmt: skip
    return record


def adapter(suite: Workspace, record: Record) -> dict[str, Any]:
    folder = suite.store / "train" / record.key[:24] / "checkpoint"
    tensors: dict[str, Any] = load_file(folder / "adapter_model.safetensors")
    return tensors


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert float((tensor - other[name]).abs().max()) < 2e-5, name


def forget(suite: Workspace, record: Record) -> None:
    (suite.store / "train" / record.key[:24] / "record.json").unlink(missing_ok=True)


def test_the_weights_that_come_back_are_those_of_the_same_training_here(
    suite: Workspace, server: TinkerServer
) -> None:
    lora = {"lora": {"r": 4, "lora_alpha": 32}}
    suite.tree["matrix"]["method"].insert(0, lora)
    outcome = suite.run()
    assert not outcome.failed, [(r.label, r.error) for r in outcome.failed]
    here, there = trained(outcome, "lora"), trained(outcome)
    assert_equal(adapter(suite, here), adapter(suite, there))
    assert there.metrics["steps"] == here.metrics["steps"] == STEPS
    assert there.metrics["final_loss"] == pytest.approx(here.metrics["final_loss"], abs=1e-4)
    assert {c["status"] for c in there.metrics["audit"]} == {"passed"}
    lines = [
        [json.loads(line) for line in (suite.store / "train" / r.key[:24] / "steps.jsonl").open()]
        for r in (here, there)
    ]
    for name in ("loss", "learning_rate", "num_tokens"):
        figures = [[line[name] for line in log] for log in lines]
        assert figures[0] == pytest.approx(figures[1], rel=1e-4), name
    opened = suite.open()
    variants = compare(opened.plan, outcome.records, opened.store).variants
    timed = {v.group: [condition.device for condition in v.timed] for v in variants}
    assert timed["tinker-sft"] == [f"the service {server.url}"]
    costs = {v.group: v.cost for v in variants}
    ours, theirs = costs["lora-sft"], costs["tinker-sft"]
    for name in ("tokens", "parameters", "trainable_parameters"):
        assert theirs[name] == ours[name]
    assert theirs["service_money"] == pytest.approx(theirs["tokens"] * 50 / 1e6)
    unknown = ("peak_host_bytes", "state_bytes", "flops", "mfu", "seconds_per_step", "joules")
    assert {theirs[name] for name in unknown} == {None}
    asked = [name for name, _ in server.asked]
    assert asked.count("optim_step") == STEPS
    assert asked.count("forward_backward") == STEPS * 2
    assert asked.count("save_weights") == 3
    assert "telemetry" not in asked
    written = [path.read_bytes() for path in suite.folder.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in text for text in written)
    # The same rows are to be trained on with another rank: what it costs is known now.
    suite.tree["matrix"]["method"][1]["tinker"]["r"] = 8
    told = describe_plan(suite.open(), why=False)
    assert f"method tinker: training rows are sent as tokens to {server.url}" in told
    assert "with the key in TINKER_API_KEY" in told
    assert "18 calls of other servers" in told
    assert "in money" in told


def test_a_run_that_broke_off_goes_on_from_the_state_at_the_service(
    suite: Workspace, server: TinkerServer
) -> None:
    """The fifth step never comes; the state was saved after the fourth."""
    whole = adapter(suite, trained(suite.run()))
    server.asked.clear()
    server.counts.clear()
    store = suite.folder / "second"
    server.faults = [
        Fault("forward_backward", 2, 429), Fault("optim_step", 2, 0, worked=True),
        Fault("optim_step", 6, 403, times=1000),
    ]  # fmt: skip
    outcome = suite.run(store=store)
    error = trained(outcome).error or {}
    assert "403" in error["message"]
    assert "run again to go on after step 4, or remove" in error["message"]
    assert server.count("optim_step") == 4
    server.faults = []
    outcome = suite.run(store=store)
    assert not outcome.failed, [(r.label, r.error) for r in outcome.failed]
    assert (server.count("create_model"), server.count("load_weights")) == (1, 1)
    assert server.count("optim_step") == STEPS
    record = trained(outcome)
    folder = store / "train" / record.key[:24]
    assert_equal(whole, load_file(folder / "checkpoint" / "adapter_model.safetensors"))
    assert [json.loads(line)["step"] for line in (folder / "steps.jsonl").open()] == [*range(1, 7)]
    # What is trained is never trained again for the same key: only the weights are fetched.
    (folder / "record.json").unlink()
    assert not suite.run(store=store).failed
    assert server.count("optim_step") == STEPS
    assert server.count("create_model") == 1


@pytest.mark.slow
def test_answers_that_are_lost_or_late_change_nothing(
    suite: Workspace, server: TinkerServer
) -> None:
    server.faults = [
        Fault("forward_backward", 2, 429), Fault("optim_step", 2, 500, worked=True),
        Fault("forward_backward", 5, 0), Fault("save_weights", 1, 0, worked=True),
        Fault("retrieve_future", 4, 429),
    ]  # fmt: skip
    suite.tree["matrix"]["method"].insert(0, {"lora": {"r": 4, "lora_alpha": 32}})
    outcome = suite.run()
    assert not outcome.failed, [(r.label, r.error) for r in outcome.failed]
    assert_equal(adapter(suite, trained(outcome, "lora")), adapter(suite, trained(outcome)))
    assert server.count("optim_step") == STEPS


@pytest.mark.slow
def test_older_servers_give_an_archive(suite: Workspace, server: TinkerServer) -> None:
    server.archive = True
    outcome = suite.run()
    assert not outcome.failed, [(r.label, r.error) for r in outcome.failed]
    tars = [headers for path, headers in server.headers if path.startswith("/tars/")]
    assert tars
    assert all(headers.get("X-API-Key") in (None, KEY) for headers in tars)


def untrained(files: dict[str, bytes]) -> dict[str, bytes]:
    tensors = load(files["adapter_model.safetensors"])
    zeroed = {n: t * 0 if "lora_B" in n else t for n, t in tensors.items()}
    return {**files, "adapter_model.safetensors": save(zeroed)}


def wider(files: dict[str, bytes]) -> dict[str, bytes]:
    config = json.loads(files["adapter_config.json"])
    return {**files, "adapter_config.json": json.dumps({**config, "r": 8}).encode()}


def scaled(files: dict[str, bytes]) -> dict[str, bytes]:
    config = json.loads(files["adapter_config.json"])
    return {**files, "adapter_config.json": json.dumps({**config, "lora_alpha": 4000}).encode()}


def larger(files: dict[str, bytes]) -> dict[str, bytes]:
    return {**files, "adapter_model.safetensors": bytes(8_000_000)}


def test_weights_that_are_not_those_that_were_trained_fail_the_cell(
    suite: Workspace, server: TinkerServer
) -> None:
    """Each attempt fetches again what was saved, and trains nothing."""
    expected = {
        wider: "trained rank 8, where r is 4",
        scaled: "what came back is what the service trained",
        untrained: "the trained model differs from its base",
        larger: "more than the",
    }
    record = trained(suite.run())
    (name,) = server.given
    good = server.given[name]
    for tamper, said in expected.items():
        server.given[name] = tamper(good)
        forget(suite, record)
        failed = trained(suite.run())
        assert said in (failed.error or {})["message"]
        assert "run again to fetch the weights again, or remove" in (failed.error or {})["message"]
        forget(suite, failed)
    server.given[name] = good
    assert not suite.run().failed
    assert server.count("create_model") == 1


@pytest.mark.slow
def test_another_model_at_the_service_is_seen_after_one_step(
    suite: Workspace, server: TinkerServer, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(server.folder)
    for parameter in model.parameters():
        parameter.data *= 6
    server.folder = tmp_path / "another"
    model.save_pretrained(server.folder)
    message = (trained(suite.run()).error or {})["message"]
    assert "the service starts from this base" in message
    assert "base_model" in message
    assert server.count("optim_step") == 1


@pytest.mark.parametrize("key", ["tml-another-key-of-mine", "no-prefix-4711", ""])
def test_a_key_is_nowhere_but_in_the_environment(
    suite: Workspace, server: TinkerServer, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("TINKER_API_KEY", key)
    outcome = suite.run()
    message = (trained(outcome).error or {})["message"]
    assert any(said in message for said in ("who are you?", "'tml-' prefix", "is not set"))
    assert not server.asked
    written = [p.read_bytes() for p in suite.folder.rglob("*") if p.is_file()]
    assert not any(secret.encode() in text for text in written for secret in (KEY, key) if secret)


def test_what_a_service_says_meanwhile_is_shown_without_the_key(
    suite: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(self: Tinker, work: Work) -> Weights:
        work.note(f"{KEY} is no key of mine")
        raise StageFailed("service", "no more")

    monkeypatch.setattr(Tinker, "train", said)
    notes: list[str] = []
    monkeypatch.setattr(Job, "note", lambda self, text: notes.append(text))
    suite.run()
    assert "*** is no key of mine" in notes
    assert not any(KEY in note for note in notes)


@pytest.mark.parametrize(
    ("objective", "method", "said"),
    [
        ({"dpo": {"start": "base", "data": "letters"}}, {}, "does not write them down as tokens"),
        ({"sft": {**SFT, "packing": True}}, {}, "tinker does not carry packing"),
        ({"sft": {**SFT, "optim": "adafactor"}}, {}, "optim: adafactor is not the AdamW"),
        ({"sft": {**SFT, "max_seconds": 9}}, {}, "max_seconds would end them"),
        ({"sft": {**SFT, "args": {"label_smoothing_factor": 0.1}}}, {}, "label_smoothing_factor"),
        ({"sft": {**SFT, "token_metrics": True}}, {}, "token_metrics needs the logits"),
        ({"sft": SFT}, {"base_model": None}, "name the model at the service with base_model"),
        ({"sft": SFT}, {"lora_alpha": 16}, "lora_alpha"),
    ],
)  # fmt: skip
def test_what_the_service_cannot_train_is_refused_by_the_plan(
    suite: Workspace, objective: dict[str, Any], method: dict[str, Any], said: str
) -> None:
    fields = {**suite.tree["matrix"]["method"][0]["tinker"], **method}
    suite.tree["matrix"] = {"method": [{"tinker": fields}], "objective": [objective]}
    with pytest.raises((SuiteError, ModelError), match=said):
        suite.open()


@pytest.mark.slow
def test_a_process_that_is_killed_amid_the_training_goes_on(
    suite: Workspace, server: TinkerServer
) -> None:
    whole = adapter(suite, trained(suite.run()))
    taken = server.count("optim_step")
    store = suite.folder / "second"
    server.faults = [Fault("optim_step", server.counts["optim_step"] + 5, 429, times=1000)]
    command = [sys.executable, "-m", "harness.cli", "run", str(suite.path), "--store", str(store)]
    process = subprocess.Popen(command, start_new_session=True, cwd=suite.folder)
    while server.count("optim_step") < taken + 4 and process.poll() is None:
        time.sleep(0.1)
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    server.faults = []
    outcome = suite.run(store=store)
    assert not outcome.failed, [(r.label, r.error) for r in outcome.failed]
    assert server.count("load_weights") == 1
    record = trained(outcome)
    folder = store / "train" / record.key[:24] / "checkpoint"
    assert_equal(whole, load_file(folder / "adapter_model.safetensors"))
