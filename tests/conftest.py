"""A tiny random model, a tiny suite, and ways to run it; made once a session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings

# A busy machine fails no test.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
PLUGIN = Path(__file__).parent / "plugin"
sys.path.insert(0, str(PLUGIN))
os.environ["PYTHONPATH"] = os.pathsep.join([str(PLUGIN), os.environ.get("PYTHONPATH", "")])
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of tiny matrices, threads only wait for each other
os.environ["HF_HUB_OFFLINE"] = "1"

from harness.commands import run as runs  # noqa: E402
from harness.commands.session import open_suite  # noqa: E402
from harness.scheduling.progress import ConsoleReporter  # noqa: E402
from harness.scheduling.schedule import Outcome  # noqa: E402
from tests.families import byte_tokenizer  # noqa: E402
from tests.served import Serve, serving  # noqa: E402


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of some 20,000 parameters with a byte-level tokenizer and a chat template."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256,
        tie_word_embeddings=True, eos_token_id=0, pad_token_id=1, bos_token_id=None,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def chat_rows(start: int, count: int) -> list[dict[str, Any]]:
    """Rows that a random model can learn a little of: repeat a letter."""
    rows = []
    for i in range(start, start + count):
        letter = chr(97 + i % 26)
        answer = letter * (2 + i % 3)
        rows.append(
            {
                "id": f"row-{i}",
                "task": "even" if i % 2 == 0 else "odd",
                "messages": [
                    {"role": "user", "content": f"{letter}{i}?"},
                    {"role": "assistant", "content": answer},
                ],
                "references": [answer],
            }
        )
    return rows


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@dataclass
class Workspace:
    """A folder with a small suite; `run` goes through the same path as the command."""

    folder: Path
    tree: dict[str, Any]

    @property
    def path(self) -> Path:
        return self.folder / "suite.yaml"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def write(self, **changes: Any) -> Path:
        self.tree |= changes
        self.path.write_text(yaml.safe_dump(self.tree, sort_keys=False), encoding="utf-8")
        return self.path

    def open(self, *settings: str, store: Path | None = None, only: str | None = None) -> Any:
        self.write()
        return open_suite(str(self.path), settings, store or self.store, only, None)

    def run(self, *settings: str, store: Path | None = None, only: str | None = None) -> Outcome:
        opened = self.open(*settings, store=store, only=only)
        with open(os.devnull, "w") as nowhere:
            return runs.run_stages(opened, ConsoleReporter(nowhere))

    def command(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """The command in a process of its own, in the workspace's folder."""
        return subprocess.run(
            [sys.executable, "-m", "harness.cli", *arguments],
            cwd=self.folder, capture_output=True, text=True, timeout=600, check=False, **options,
        )  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, tiny_model: Path) -> Workspace:
    """Full and LoRA beside the base, on 24 rows, in seconds."""
    return workspace_in(tmp_path, tiny_model)


def workspace_in(folder: Path, model: Path) -> Workspace:
    """The tiny suite in a folder, for fixtures that several tests share."""
    write_jsonl(folder / "train.jsonl", chat_rows(0, 24))
    write_jsonl(folder / "test.jsonl", chat_rows(100, 12))
    write_jsonl(folder / "general.jsonl", [{"text": f"text number {i}"} for i in range(6)])
    tree = {
        "name": "tiny",
        "models": {"tiny": str(model)},
        "data": {
            "letters": {"train": "train.jsonl", "test": "test.jsonl"},
            "general": {"test": "general.jsonl"},
        },
        "matrix": {
            "method": ["full", {"lora": {"r": 4}}],
            "objective": [
                {"sft": {"learning_rate": 1e-2, "per_device_train_batch_size": 4, "max_length": 64}}
            ],
        },
        "base": {"zero-shot": {"max_new_tokens": 4}},
        "scorers": [
            "rouge",
            "exact_match",
            {"perplexity": {"data": "general", "label": "general"}},
        ],
        "generate": {"max_new_tokens": 4},
        "executor": "inline",
    }
    workspace = Workspace(folder, tree)
    workspace.write()
    return workspace


SFT = {"learning_rate": 1e-2, "max_steps": 3, "per_device_train_batch_size": 4, "max_length": 64}
DPO = {**SFT, "data": "preferences"}
PPO = {
    "learning_rate": 1e-3, "max_steps": 1, "rollout_batch_size": 4, "minibatch_size": 4,
    "ppo_epochs": 1, "max_new_tokens": 4, "max_length": 64,
}  # fmt: skip
PTX = {**PPO, "ptx_data": "general"}
REWARD = {**SFT, "data": "preferences"}


def preferences(count: int) -> list[dict[str, Any]]:
    """Pairs in which the letter repeated is better than an evasive answer."""
    rows = []
    for i in range(count):
        letter = chr(97 + i % 26)
        rows.append(
            {
                "id": f"pair-{i}",
                "prompt": [{"role": "user", "content": f"{letter}{i}?"}],
                "chosen": [{"role": "assistant", "content": letter * (2 + i % 3)}],
                "rejected": [{"role": "assistant", "content": "no" * (1 + i % 2)}],
                "dimension": "helpful" if i % 2 else "polite",
            }
        )
    return rows


@pytest.fixture
def aligned(workspace: Workspace) -> Workspace:
    """The tiny suite with preferences, thumbs and general text, and every recipe."""
    pairs = preferences(24)
    write_jsonl(workspace.folder / "preferences.jsonl", pairs)
    thumbs = [
        {"id": f"{row['id']}-{up}", "prompt": row["prompt"], "label": up,
         "completion": row["chosen" if up else "rejected"]}
        for row in pairs for up in (True, False)
    ]  # fmt: skip
    write_jsonl(workspace.folder / "thumbs.jsonl", thumbs)
    workspace.write(
        data={
            "letters": {"train": "train.jsonl", "test": "test.jsonl"},
            "general": {"train": "general.jsonl", "test": "general.jsonl"},
            "preferences": {"train": "preferences.jsonl"},
            "thumbs": {"train": "thumbs.jsonl"},
        },
        matrix={
            "data": ["letters"],
            "method": ["full", {"lora": {"r": 4}}],
            "objective": [{"sft": SFT}, {"dpo": DPO}, {"ppo": PPO}, {"ppo_ptx": PTX}],
        },
        reward_model=REWARD,
        scorers=["exact_match"],
        base={},
    )
    return workspace


@pytest.fixture
def real_data() -> Path:
    """The folder of real material; tests that need it are skipped elsewhere."""
    named = os.environ.get("HARNESS_REAL_DATA", "")
    if not named or not Path(named).is_dir():
        pytest.skip("HARNESS_REAL_DATA names no folder of real models and data")
    return Path(named)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts local servers of the OpenAI protocol (tests/served.py), and ends them."""
    monkeypatch.setenv("no_proxy", "*")
    with serving() as start:
        yield start
