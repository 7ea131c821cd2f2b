"""What a stranger's suite may not do: write outside the store, reach the network by the back door,
carry a secret into records, or change whose code runs. And what of it runs is listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.core import from_yaml, registry
from harness.core.errors import HarnessError
from harness.core.secrecy import require_none
from harness.objectives._trl import permitted as _permitted
from harness.objectives._trl.arguments import fields_of
from harness.store.stage import Stage
from harness.suite.suite import Suite, load_suite
from harness.suite.worker_env import PERMITTED as VARIABLES
from tests.conftest import Workspace
from tests.planning.test_plan_refuses import planned, require_refused, sft

TRAINERS = {
    name: (declared, declared.trainer_config)
    for name in registry.names("objective")
    if (declared := registry.find("objective", name)) and getattr(declared, "trainer_config", "")
}
DANGEROUS = (
    "push_to_hub", "hub_token", "hub_model_id", "hub_strategy", "hub_private_repo", "output_dir",
    "run_name", "report_to", "resume_from_checkpoint", "deepspeed", "fsdp", "fsdp_config",
    "accelerator_config", "trackio_space_id", "project", "ddp_backend", "log_level",
    "load_best_model_at_end", "save_steps", "save_strategy", "do_eval", "debug", "bf16",
    "warmup_steps", "seed", "use_cpu", "trust_remote_code", "model_init_kwargs",
)  # fmt: skip


@pytest.mark.parametrize("objective", TRAINERS)
def test_every_argument_of_every_trainer_is_permitted_or_refused_with_its_reason(
    objective: str,
) -> None:
    """One that a new version of a library brings is refused, and has to be looked at here."""
    declared, place = TRAINERS[objective]
    for name in fields_of(place) - set(declared.model_fields):
        if name in _permitted.PERMITTED:
            continue
        known = name in _permitted.ELSEWHERE or _permitted.reason_of(name) != _permitted._UNKNOWN
        assert known, f"{name}: nothing says what it reads, writes or sends"
        with pytest.raises(HarnessError, match=name):
            from_yaml.build_fields(declared, {"args": {name: "x"}}, "here")


@pytest.mark.parametrize("objective", TRAINERS)
@pytest.mark.parametrize("name", DANGEROUS)
def test_what_writes_sends_or_runs_something_else_is_refused(objective: str, name: str) -> None:
    declared, place = TRAINERS[objective]
    if name not in fields_of(place):
        pytest.skip("it has no such argument")
    with pytest.raises(HarnessError) as caught:
        from_yaml.build_fields(declared, {"args": {name: "hf_not_shown"}}, "here")
    told = str(caught.value)
    assert told.startswith("here.args: ")
    assert name in told
    assert "hf_not_shown" not in told


@pytest.mark.parametrize("objective", TRAINERS)
def test_what_has_a_field_of_its_own_is_refused_under_args(objective: str) -> None:
    declared, place = TRAINERS[objective]
    for name in fields_of(place) & set(declared.model_fields):
        with pytest.raises(HarnessError, match=rf"{name} is an option of its own"):
            from_yaml.build_fields(declared, {"args": {name: 1}}, "here")


@pytest.mark.parametrize(
    "args",
    [{"generation_kwargs": {"custom_generate": "evil/code"}},
     {"liger_kernel_config": {"a": [{"api_key": "x"}]}},
     {"lr_scheduler_kwargs": {"hub_token": "x"}}],
)  # fmt: skip
def test_permitted_arguments_carry_nothing_inside(args: dict[str, Any]) -> None:
    declared = registry.find("objective", "grpo")
    with pytest.raises(HarnessError, match="may load something else or hold a secret"):
        from_yaml.build_fields(declared, {"args": args}, "here")


def test_arguments_that_change_training_alone_are_let_through() -> None:
    args = {"neftune_noise_alpha": 5, "optim_args": "a=1", "lr_scheduler_kwargs": {"num_cycles": 2}}
    declared = registry.find("objective", "sft")
    assert from_yaml.build_fields(declared, {"args": args}, "here").args == args  # type: ignore[attr-defined]


def test_push_to_the_hub_is_refused_by_plan(workspace: Workspace) -> None:
    args = {"push_to_hub": True, "hub_token": "hf_" + "a" * 34}
    workspace.tree |= sft(args={"push_to_hub": True})
    require_refused(workspace, "matrix.objective[0].sft.args", ["push_to_hub", "network"])
    workspace.tree |= sft(args=args)
    told = planned(workspace).output
    assert "token" in told
    assert "hf_aaaa" not in told


@pytest.mark.parametrize(
    "name",
    ["PYTHONPATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "CUDA_VISIBLE_DEVICES", "HF_TOKEN",
     "HF_HOME", "HF_ENDPOINT", "OMP_NUM_THREADS", "TENSORBOARD_LOGGING_DIR", "PYTHONSTARTUP",
     "MLFLOW_TRACKING_URI", "WANDB_API_KEY", "WANDB_BASE_URL", "http_proxy", "SSL_CERT_FILE",
     "TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR", "HARNESS_STORE", "", "x" * 500],
)  # fmt: skip
def test_variables_that_change_what_runs_or_where_are_refused(
    workspace: Workspace, name: str
) -> None:
    workspace.tree["resources"] = {"env": {name: "1"}}
    require_refused(workspace, "resources.env", [f"may not set {name[:100]}"])


def test_variables_that_tune_libraries_are_let_through(workspace: Workspace) -> None:
    workspace.tree["resources"] = {"env": dict.fromkeys(VARIABLES, "1")}
    found = planned(workspace)
    assert found.exit_code == 0, found.output
    assert "resources.env: TOKENIZERS_PARALLELISM=1" in found.output


NAMES = ("../up", "/root", "a/b", "..", ".", ".hidden", "a\\b", "a:b", "a#1", "x" * 81, " x", "",
         "-x", "a\nb", "a\tb", "~")  # fmt: skip


@pytest.mark.parametrize("section", ["models", "data", "base"])
@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_out_of_a_folder_are_refused(
    workspace: Workspace, section: str, name: str
) -> None:
    value = next(iter(workspace.tree[section].values()))
    workspace.tree[section] = {**workspace.tree[section], name: value}
    require_refused(workspace, section, ["name"])


@pytest.mark.parametrize(
    "name", ["Qwen3 0.6B", "übung", "数据", "both-25", "v1.10", "x=3", "a@b+c"]
)
def test_plain_names_of_any_script_are_names(workspace: Workspace, name: str) -> None:
    workspace.tree["data"] = {name: workspace.tree["data"]["letters"], "general": {
        "test": "general.jsonl"}}  # fmt: skip
    found = planned(workspace)
    assert found.exit_code == 0, found.output


SECRETS = ("hf_" + "aB3" * 12, "sk-proj-" + "a1" * 20, "ghp_" + "b" * 36, "AKIA" + "A1" * 8,
           "https://user:pass@host/x", "postgres://me:secret@db/x",
           "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeK", "xoxb-1234567890-abc")  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "place", ["description", "comment", "env", "kwargs", "setting", "escaped", "key"]
)
def test_secrets_are_refused_wherever_they_stand_and_are_not_shown(
    workspace: Workspace, secret: str, place: str
) -> None:
    arguments: list[str] = []
    tiny = {"path": workspace.tree["models"]["tiny"], "chat_template_kwargs": {"a": [secret]}}
    change: dict[str, dict[str, Any]] = {
        "description": {"description": f"see {secret} ..."},
        "env": {"resources": {"env": {"WANDB_NAME": secret}}},
        "kwargs": {"models": {"tiny": tiny}},
        "key": {"models": {"tiny": {**tiny, "chat_template_kwargs": {secret: 1}}}},
    }
    workspace.write(**change.get(place, {}))
    if place == "comment":
        workspace.path.write_text(f"# {secret}\n" + workspace.path.read_text())
    if place == "escaped":
        hidden = "".join(f"\\u{ord(letter):04x}" for letter in secret)
        workspace.path.write_text(f'description: "{hidden}"\n' + workspace.path.read_text())
    if place == "setting":
        arguments = ["--set", f"description='{secret}'"]
    done = CliRunner().invoke(main, ["plan", str(workspace.path), *arguments])
    assert done.exit_code == 2, done.output
    assert "access token" in done.output or "password" in done.output
    assert secret not in done.output
    assert "written to disk" in done.output


@pytest.mark.parametrize(
    "text", ["hf_home", "task-sk-1", "https://host/x?a=b@c", "a:b@c", "risk-free-as-it-can-be",
             "${HARNESS_REAL_DATA}/x"],
)  # fmt: skip
def test_what_is_no_secret_is_let_through(text: str) -> None:
    require_none(text, "")


@pytest.mark.parametrize("variable", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD"])
def test_variables_with_secrets_are_filled_into_no_path(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "not-to-be-seen")
    workspace.tree["data"]["letters"]["train"] = f"${{{variable}}}/train.jsonl"
    require_refused(workspace, "data.letters", [variable, "secret"])
    assert "not-to-be-seen" not in planned(workspace).output


def test_kernel_of_the_hub_is_code_that_is_trusted_or_not_run(workspace: Workspace) -> None:
    path = workspace.tree["models"]["tiny"]
    spec = {"path": path, "attn_implementation": "kernels-community/flash-attn"}
    workspace.tree["models"] = {"tiny": spec}
    require_refused(workspace, "models.tiny", ["kernel on the hub", "trust_remote_code"])
    workspace.tree["models"] = {"tiny": {**spec, "trust_remote_code": True}}
    told = planned(workspace).output
    assert "models.tiny: the kernel kernels-community/flash-attn of the hub" in told


def test_plan_lists_what_of_a_suite_runs(workspace: Workspace) -> None:
    (workspace.folder / "rule.py").write_text("def better(row, one, other):\n    return 0\n")
    endpoint = {"endpoint": {"base_url": "http://127.0.0.1:9/v1", "model": "m",
                             "api_key_env": "JUDGE_KEY"}}  # fmt: skip
    rlaif = {"rlaif": {"labeller": endpoint, "truth": "rule.py:better", "then": "dpo"}}
    workspace.tree |= {
        "matrix": {"method": ["lora", "bitfit"], "objective": ["sft", rlaif]},
        "exclude": [{"method": "bitfit", "objective": "rlaif"}],
        "scorers": ["rouge", {"win_rate": {"rule": "rule.py:better"}}],
        "models": {"tiny": {"path": workspace.tree["models"]["tiny"], "trust_remote_code": True}},
    }
    told = planned(workspace).output
    for words in (
        "read it before you run a suite that you do not trust",
        "models.tiny: Python that came with",
        "scorer win_rate: rule.py:better, Python",
        "objective rlaif: rule.py:better, Python",
        "labeller endpoint: requests to http://127.0.0.1:9/v1, with the key in JUDGE_KEY",
        "method bitfit: the installed package toy-plugin",
    ):
        assert words in told, told


def test_plan_lists_the_address_to_which_a_scorers_labeller_sends_answers(
    aligned: Workspace,
) -> None:
    judge = {"endpoint": {"base_url": "http://127.0.0.1:9/v1", "model": "m"}}
    aligned.tree["data"]["preferences"]["test"] = "preferences.jsonl"
    aligned.tree |= {"scorers": ["length", {"everything": {"judge": judge}}],
                     "evaluate": ["preferences"]}  # fmt: skip
    told = planned(aligned).output
    assert "labeller endpoint: requests to http://127.0.0.1:9/v1" in told


def test_suite_without_code_of_its_own_is_told_so(workspace: Workspace) -> None:
    workspace.tree["executor"] = "local"
    assert "brings no code of its own" in planned(workspace).output


@pytest.mark.parametrize("label", ["../../up", "/abs", "a/../../b", "x" * 900, "..", "lora[a/b]"])
def test_logs_of_trackers_stay_in_the_store(label: str, tmp_path: Path) -> None:
    from harness.stages.train import tracker_folder

    store = tmp_path / "store"
    folder = tracker_folder(store / "train" / "abc", label)
    assert folder.resolve().parent == (store / "tensorboard").resolve()
    folder.mkdir(parents=True)


def test_refused_suites_leave_nothing_in_the_store(workspace: Workspace) -> None:
    workspace.tree["description"] = SECRETS[0]
    planned(workspace)
    assert not workspace.store.exists() or not any(
        SECRETS[0].encode() in path.read_bytes() for path in workspace.store.rglob("*.json")
    )


def test_suites_that_are_sound_load_as_before(workspace: Workspace) -> None:
    workspace.write()
    loaded = load_suite(str(workspace.path))
    assert isinstance(loaded.suite, Suite)
    assert Stage("x", {}, resources=loaded.suite.resources).spec()["resources"]["env"] == {}
