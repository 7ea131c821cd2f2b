"""Who is to blame: the file and the place in it, or the setting of the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.core.errors import near
from harness.executors import _gpus as gpus
from harness.suite.suite import load_suite
from tests.conftest import Workspace


def refusal(workspace: Workspace, *settings: str, **changes: object) -> str:
    workspace.write(**changes)
    words = [word for setting in settings for word in ("--set", setting)]
    arguments = ["plan", str(workspace.path), "--store", str(workspace.store), *words]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2, done.output
    return done.output


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("lora.rank=3", ["lora: unknown key 'rank'; did you mean 'r'?"]),
        ("sft.lr=1e-3", ["sft: unknown key 'lr'; did you mean 'learning_rate'?"]),
        ("lora.r=-1", ["lora.r: ", "(given: -1)"]),
        ("sft.keep=best", ["keep: best and eval_steps go together"]),
        ("sft.args={output_dir: x}", ["sft.args: output_dir"]),
        ("rouge.x=3", ["unknown component 'rouge'"]),
        ("seed=3", ["unknown key 'seed'; did you mean 'seeds'?"]),
        ("seeds=[1,1]", ["seeds: ", "each once"]),
        ("seeds=[1,x]", ["seeds[1]: ", "'x'"]),
        ("data.letters.foo=1", ["data.letters: unknown key 'foo'"]),
        ("data.other.path=1", ["data.other: it names no rows"]),
        ("scorers.0=ruge", ["scorers[0]: ", "did you mean 'rouge'?"]),
        ("matrix.objective=[sftt]", ["matrix.objective[0]: ", "did you mean 'sft'?"]),
        ("executor=slrum", ["executor: unknown executor"]),
        ("executor={local: {device_class: cuda}}", ["executor: ", "GPU"]),
        ("models.other=no/such/folder", ["models.other", "no/such/folder"]),
        ("name=off", ["name: ", "booleans", "quote it"]),
        ("generate={max_new_tokens: 1,0}", ["a key must be a name, not 0"]),
        ("generate", ["is not key=value"]),
        ("generate=[", ["not YAML"]),
    ],
)
def test_setting_that_is_wrong_is_blamed_itself(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, setting: str, words: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if "models" in setting:
        told = refusal(workspace, setting, matrix={**workspace.tree["matrix"], "model": ["other"]})
    else:
        told = refusal(workspace, setting)
    assert told.startswith(f"--set {setting}: "), told
    assert "overrides[" not in told
    assert all(word in told for word in words), told


def test_right_setting_takes_no_blame_for_a_wrong_file(workspace: Workspace) -> None:
    told = refusal(workspace, "sft.max_steps=3", scorers=["ruge"])
    assert told.startswith(f"{workspace.path}: scorers[0]: ")


def test_path_alone_takes_settings_as_if_it_were_written_out(workspace: Workspace) -> None:
    settings = ["models.tiny.dtype=float32", "data.letters.test.limit=3"]
    loaded = load_suite(str(workspace.path), settings)
    assert loaded.suite.models["tiny"].dtype == "float32"
    assert loaded.suite.models["tiny"].path == workspace.tree["models"]["tiny"]
    test = loaded.suite.data["letters"].test
    assert test is not None
    assert (test.path, test.limit) == ("test.jsonl", 3)


DPO = {"dpo": {"max_steps": 1}}


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        ({"sft.rank": 3}, "overrides[0].set.sft"),
        ({"sft.keep": "best"}, "overrides[0].set.sft"),  # of a stage that no axis writes down
        ({"dpo.data": "nobody"}, "overrides[0].set.dpo.data"),
        ({"dpo.start": "nobody"}, "overrides[0].set.dpo.start"),
    ],
)
def test_stage_that_the_matrix_does_not_write_down_is_told_by_the_override(
    workspace: Workspace, overrides: dict[str, object], place: str
) -> None:
    matrix = {"method": ["lora"], "objective": [DPO]}
    told = refusal(workspace, matrix=matrix, overrides=[{"match": {}, "set": overrides}])
    assert told.startswith(f"{workspace.path}: {place}: "), told


@pytest.mark.parametrize(
    ("given", "meant"),
    [("rank", "r"), ("lr", "learning_rate"), ("alpha", "lora_alpha"), ("targets", "target_modules"),
     ("dropout", "lora_dropout"), ("learning_rat", "learning_rate"), ("zzz", ""), ("", "")],
)  # fmt: skip
def test_near_names_are_those_that_are_meant(given: str, meant: str) -> None:
    known = ["r", "lora_alpha", "lora_dropout", "target_modules", "learning_rate", "max_length"]
    assert near(given, known) == meant


def test_gpus_that_torch_cannot_use_are_refused_by_plan_and_by_doctor(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shown by a variable, with no driver, or with a torch that was built without CUDA."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(gpus, "_DRIVERS", ("no-such-driver",))
    told = refusal(workspace, executor="local")
    assert "executor: CUDA_VISIBLE_DEVICES=0 shows a GPU" in told
    assert "no driver" in told
    assert "device_class: cpu" in told
    monkeypatch.setattr(gpus, "_DRIVERS", ("null",))
    monkeypatch.setattr(gpus, "_build", lambda: {"__version__": "2.13.0+cpu", "cuda": None})
    assert "torch 2.13.0+cpu is built without CUDA" in refusal(workspace, executor="local")
    monkeypatch.setattr(gpus, "_build", lambda: {"__version__": "2.13.0", "cuda": "13.0"})
    assert gpus.unusable() is None


def test_what_torch_was_built_with_is_read_without_importing_it() -> None:
    code = "import sys;from harness.executors import _gpus; print(_gpus._build()['__version__']);" \
        "assert 'torch' not in sys.modules"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import torch

    assert done.stdout.strip() == torch.__version__


def test_hub_without_a_network_is_one_sentence(tmp_path: Path, workspace: Workspace) -> None:
    """With HF_HUB_OFFLINE unset, as most machines have it; the hub's address leads nowhere."""
    import os

    workspace.write(models={"tiny": "no-one/no-such-model"})
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = workspace.command("plan", str(workspace.path), env=environment)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "the hub did not answer (ConnectError" in done.stderr
    assert "models.tiny" in done.stderr


def test_rule_that_is_not_there_is_refused_though_no_variant_asks_it(workspace: Workspace) -> None:
    scorers = ["rouge", {"win_rate": {"rule": "nowhere.py:better"}}]
    told = refusal(workspace, scorers=scorers)
    assert "scorers[1].win_rate.rule: there is no file 'nowhere.py'" in told


def test_scorers_that_no_variant_can_be_asked_are_told(workspace: Workspace) -> None:
    rule = {"win_rate": {"rule": "rule.py:better"}}
    (workspace.folder / "rule.py").write_text("def better(row, one, other):\n    return 0\n")
    told = refusal(workspace, scorers=[rule])
    assert "scorers[0].win_rate: scores no variant" in told
    workspace.write(scorers=["rouge", rule])
    warnings = workspace.open().plan.warnings
    assert any("scorers[1].win_rate scores no variant" in warning for warning in warnings)
