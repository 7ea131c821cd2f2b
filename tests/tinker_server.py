"""A local server of the Tinker protocol that really trains a LoRA, with PEFT and torch alone, and
fails as a test tells it."""

from __future__ import annotations

import copy
import io
import json
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from tinker.proto import tinker_public_pb2 as wire
from transformers import AutoModelForCausalLM

KEY = "tml-a-key-that-no-file-holds"
ALPHA = 32
Files = Mapping[str, bytes]
_MODULES = {
    "train_attn": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "train_mlp": ["gate_proj", "up_proj", "down_proj"],
    "train_unembed": ["lm_head"],
}


@dataclass
class Fault:
    """What the nth request (from 1) of a path gets in place of an answer, or after its work.

    Attributes:
        status: of the answer; 0: the connection ends.
        worked: whether the request has its effect all the same.
    """

    path: str
    number: int
    status: int
    worked: bool = False
    times: int = 1


class Trained:
    """A model that is trained here, and its optimizer."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        torch.manual_seed(config["seed"])
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        torch.manual_seed(config["seed"])
        targets = [name for flag, names in _MODULES.items() if config[flag] for name in names]
        lora = LoraConfig(
            r=config["rank"], lora_alpha=ALPHA, target_modules=targets, task_type="CAUSAL_LM"
        )
        self.model = get_peft_model(base, lora)
        self.config = dict(config)
        self.learning = [p for p in self.model.parameters() if p.requires_grad]
        self.adam = torch.optim.AdamW(self.learning)

    def passes(self, data: Any, learn: bool) -> list[np.ndarray]:
        """Log-probabilities of each datum's targets; gradients are summed if it learns."""
        said = []
        for datum in data:
            ids = np.concatenate(
                [np.frombuffer(c.encoded_text.tokens, dtype=np.int32) for c in datum.model_input]
            )
            targets = np.frombuffer(datum.loss_fn_inputs["target_tokens"].dense, dtype=np.int64)
            weights = np.frombuffer(datum.loss_fn_inputs["weights"].dense, dtype=np.float32)
            with torch.set_grad_enabled(learn):
                logits = self.model(input_ids=torch.tensor(ids[None].astype(np.int64))).logits[0]
                places = torch.tensor(targets.copy())[:, None]
                logprobs = logits.float().log_softmax(-1).gather(-1, places)[:, 0]
                loss = -(logprobs * torch.tensor(weights.copy())).sum()
            if learn:
                loss.backward()
            said.append(logprobs.detach().numpy())
        return said

    def step(self, asked: Mapping[str, Any]) -> None:
        if asked["grad_clip_norm"] > 0:
            torch.nn.utils.clip_grad_norm_(self.learning, asked["grad_clip_norm"])
        for group in self.adam.param_groups:
            group.update(
                lr=asked["learning_rate"], betas=(asked["beta1"], asked["beta2"]),
                eps=asked["eps"], weight_decay=asked["weight_decay"],
            )  # fmt: skip
        self.adam.step()
        self.adam.zero_grad()

    def state(self) -> dict[str, Any]:
        tensors = [p.detach().clone() for p in self.learning]
        return {"config": self.config, "tensors": tensors,
                "adam": copy.deepcopy(self.adam.state_dict())}  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        for parameter, tensor in zip(self.learning, state["tensors"], strict=True):
            parameter.data.copy_(tensor)
        self.adam.load_state_dict(copy.deepcopy(state["adam"]))

    def files(self) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as folder:
            self.model.save_pretrained(folder, save_embedding_layers=False)
            names = ("adapter_config.json", "adapter_model.safetensors")
            return {name: (Path(folder) / name).read_bytes() for name in names}


@dataclass
class TinkerServer:
    """Plays the service.

    Attributes:
        folder: the model that it trains. base: what it is called here.
        archive: whether it gives weights as older servers do, in a tar, and not file by file.
        tampers: changes the files before they are given; packs: makes the tar of them.
        asked: (path, body) of each request that it took; data: what each pass was given, as
            (tokens, targets, weights) of each datum.
    """

    folder: Path
    base: str = "tiny-1"
    archive: bool = False
    tampers: Callable[[dict[str, bytes]], dict[str, bytes]] = lambda files: files
    packs: Callable[[Files], bytes] | None = None
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    headers: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    data: list[list[tuple[list[int], list[int], list[float]]]] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.results: list[Any] = []
        self.known: dict[tuple[Any, ...], int] = {}
        self.models: dict[str, Trained] = {}
        self.states: dict[str, dict[str, Any]] = {}
        self.given: dict[str, dict[str, bytes]] = {}
        self.counts: dict[str, int] = {}
        self.sessions = 0

    def count(self, path: str) -> int:
        """How often a path was asked and had its effect."""
        return sum(name == path for name, _ in self.asked)

    def post(self, path: str, body: bytes, kind: str) -> tuple[int, str, bytes]:
        with self.lock:
            asked: Any = body if "protobuf" in kind else json.loads(body or b"{}")
            self.counts[path] = self.counts.get(path, 0) + 1
            number = self.counts[path]
            for fault in self.faults:
                if fault.path == path and 0 <= number - fault.number < fault.times:
                    if fault.worked:
                        self._answer(path, asked)
                    return fault.status, "application/json", b'{"detail": "a fault"}'
            return self._answer(path, asked)

    def _answer(self, path: str, asked: Any) -> tuple[int, str, bytes]:
        method = getattr(self, f"_{path.replace('/', '_')}", None)
        if path.startswith("sessions/"):
            method = self._finish
        if method is None:
            return 404, "application/json", b'{"detail": "Not Found"}'
        told = method(asked)
        if isinstance(told, tuple):
            return told
        return 200, "application/json", json.dumps(told).encode()

    def _client_config(self, asked: Any) -> Any:
        return {}

    def _create_session(self, asked: Any) -> Any:
        self.sessions += 1
        self.asked.append(("create_session", asked))
        return {"session_id": f"session-{self.sessions}"}

    def _session_heartbeat(self, asked: Any) -> Any:
        return {"type": "session_heartbeat"}

    def _finish(self, asked: Any) -> Any:
        self.asked.append(("finish", asked))
        return {}

    def _get_info(self, asked: Any) -> Any:
        return {"model_id": asked["model_id"], "model_data": {"model_name": self.base}}

    def _telemetry(self, asked: Any) -> Any:
        self.asked.append(("telemetry", asked))
        return {"status": "accepted"}

    def _create_model(self, asked: Any) -> Any:
        run = f"{asked['session_id']}:train:{asked['model_seq_id']}"

        def work() -> Any:
            if asked["base_model"] != self.base:
                return {"error": f"no model {asked['base_model']}", "category": "user"}
            self.models[run] = Trained(self.folder, asked["lora_config"])
            return {"model_id": run, "type": "create_model"}

        return self._promise("create_model", asked, (run, "create"), work)

    def _load_weights(self, asked: Any) -> Any:
        run = f"{asked['session_id']}:train:{asked['model_seq_id']}"

        def work() -> Any:
            if asked["path"] not in self.states:
                return {"error": f"no state {asked['path']}", "category": "user"}
            state = self.states[asked["path"]]
            self.models[run] = Trained(self.folder, state["config"])
            self.models[run].load(state)
            return {"type": "load_weights"}

        return self._promise("load_weights", asked, (run, "create"), work)

    def _forward_backward(self, body: bytes) -> Any:
        message = wire.ForwardBackwardRequest()
        message.ParseFromString(body)

        def work() -> bytes:
            learn = not message.forward_only
            said = self.models[message.model_id].passes(message.data, learn)
            if learn:
                self.data.append([_datum(d) for d in message.data])
            return _told(said)

        name = "forward" if message.forward_only else "forward_backward"
        return self._promise(name, None, (message.model_id, message.seq_id), work)

    def _optim_step(self, asked: Any) -> Any:
        def work() -> Any:
            self.models[asked["model_id"]].step(asked["adam_params"])
            return {"metrics": {}, "type": "optim_step"}

        return self._promise("optim_step", asked, (asked["model_id"], asked["seq_id"]), work)

    def _save_weights(self, asked: Any) -> Any:
        path = f"tinker://{asked['model_id']}/weights/{asked['path']}"

        def work() -> Any:
            self.states[path] = self.models[asked["model_id"]].state()
            return {"path": path, "type": "save_weights"}

        return self._promise("save_weights", asked, (asked["model_id"], asked["seq_id"]), work)

    def _save_weights_external(self, asked: Any) -> Any:
        if self.archive:
            return 404, "application/json", b'{"detail": "Not Found"}'
        return self._save("external_weights", asked)

    def _save_weights_for_sampler(self, asked: Any) -> Any:
        return self._save("sampler_weights", asked)

    def _save(self, kind: str, asked: Any) -> Any:
        def work() -> Any:
            files = self.models[asked["model_id"]].files()
            self.given[f"{asked['model_id']}/{asked['path']}"] = self.tampers(files)
            path = f"tinker://{asked['model_id']}/{kind}/{asked['path']}"
            return {"path": path, "type": asked["type"]}

        return self._promise(asked["type"], asked, (asked["model_id"], asked["seq_id"]), work)

    def _promise(self, name: str, asked: Any, once: Any, work: Callable[[], Any]) -> Any:
        """A request that is sent again has its effect once."""
        if once not in self.known:
            self.asked.append((name, asked))
            self.results.append(work())
            self.known[once] = len(self.results) - 1
        return {"request_id": str(self.known[once])}

    def _retrieve_future(self, asked: Any) -> Any:
        result = self.results[int(asked["request_id"])]
        return (200, "application/x-protobuf", result) if isinstance(result, bytes) else result

    def get(self, path: str, key: str | None) -> tuple[int, dict[str, str], bytes]:
        parts = path.partition("?")[0].strip("/").split("/")
        if parts[0] == "files":
            return 200, {}, self.given[f"{parts[1]}/{parts[2]}"][parts[3]]
        if parts[0] == "tars":
            files = self.given[f"{parts[1]}/{parts[2]}"]
            return 200, {}, (self.packs or packed)(files)
        if key != KEY:
            return 401, {}, b'{"detail": "who are you?"}'
        run, name = parts[3], parts[-2]
        if parts[-1] == "archive":
            return 302, {"Location": f"{self.url}/tars/{run}/{name}?signature=5"}, b""
        given = self.given[f"{run}/{name}"]
        urls = {file: f"{self.url}/files/{run}/{name}/{file}?signature=5" for file in given}
        told = {"urls": urls, "expires": "2099-01-01T00:00:00Z"}
        return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()


def packed(files: Files) -> bytes:
    """An archive as servers make it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _datum(datum: Any) -> tuple[list[int], list[int], list[float]]:
    ids = np.frombuffer(datum.model_input[0].encoded_text.tokens, dtype=np.int32).tolist()
    targets = np.frombuffer(datum.loss_fn_inputs["target_tokens"].dense, dtype=np.int64).tolist()
    weights = np.frombuffer(datum.loss_fn_inputs["weights"].dense, dtype=np.float32).tolist()
    return ids, targets, weights


def _told(said: list[np.ndarray]) -> bytes:
    message = wire.ForwardBackwardOutput()
    message.loss_fn_output_type = "CrossEntropyLossReturn"
    record = message.loss_fn_outputs.add()
    record.num_datums = len(said)
    offsets = np.cumsum([0, *(4 * len(one) for one in said)]).astype(np.int64)
    record.fields["logprobs"].CopyFrom(
        wire.BatchedTensor(
            data=b"".join(one.astype(np.float32).tobytes() for one in said),
            offsets=offsets.tobytes(),
            dtype=wire.DTYPE_FLOAT32,
        )
    )
    return message.SerializeToString()


@contextmanager
def playing(server: TinkerServer) -> Iterator[TinkerServer]:
    """The server, at `server.url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.removeprefix("/api/v1/")
            server.headers.append((path, dict(self.headers)))
            if self.headers.get("X-API-Key") != KEY:
                return self._send(401, {}, b'{"detail": "who are you?"}')
            status, kind, told = server.post(path, body, self.headers.get("Content-Type", ""))
            return self._send(status, {"Content-Type": kind}, told)

        def do_GET(self) -> None:
            server.headers.append((self.path, dict(self.headers)))
            self._send(*server.get(self.path, self.headers.get("X-API-Key")))

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            if status == 0:
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Connections that a test breaks off."""

    web = Quiet(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{web.server_address[1]}"
    thread = threading.Thread(target=web.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        web.shutdown()
        web.server_close()
