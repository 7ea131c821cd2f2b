"""ORPO, GRPO and RLOO: the losses of plain TRL scripts, references, whole batches, no signal."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from pydantic import ValidationError
from transformers import AutoTokenizer

from harness.core.errors import DataError, StageFailed
from harness.objectives._reward_functions import FUNCTIONS
from harness.objectives._trl import online_trainer as _online_trainer
from harness.objectives._trl import orpo as _orpo
from harness.objectives.base import Evidence, TrainJob
from harness.objectives.grpo import Grpo
from harness.objectives.orpo import Orpo
from harness.objectives.rloo import Rloo
from harness.variants.names import Names
from tests.conftest import Workspace, chat_rows, write_jsonl
from tests.objectives.test_preference import (
    CHATS,
    PAIRS,
    Killed,
    job_of,
    losses_of,
    model_of,
    sft,
    started,
)
from tests.stages.test_resumed_audit import same as same_evidence

__all__ = ["sft"]  # the fixture
QUICK: dict[str, Any] = {
    "learning_rate": 1e-2, "per_device_train_batch_size": 4, "max_length": 64,
}  # fmt: skip
SAMPLED: dict[str, Any] = {
    **QUICK, "num_generations": 2, "max_new_tokens": 6, "reward_functions": ["brevity"],
    "num_train_epochs": 1,
}  # fmt: skip
ONLINE: dict[str, Any] = {"grpo": Grpo, "rloo": Rloo}


def asked(count: int = 8) -> list[dict[str, Any]]:
    return [{"prompt": f"say {i}: ", "references": [f"{i}"]} for i in range(count)]


def vowels(completions: list[str], **_: Any) -> list[float]:
    """A reward that any two different answers tell apart."""
    return [sum(map(ord, text)) % 97 / 97 for text in completions]


@pytest.fixture(autouse=True)
def _rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FUNCTIONS, "vowels", lambda answer, row: vowels([answer])[0])


def plain_trl(kind: str, model: Any, tiny_model: Path, folder: Path, rows: Any, **own: Any) -> Any:
    """What a user would write without the harness."""
    import trl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer
    trainer_class, config = {
        "orpo": (ORPOTrainer, ORPOConfig), "grpo": (trl.GRPOTrainer, trl.GRPOConfig),
        "rloo": (trl.RLOOTrainer, trl.RLOOConfig),
    }[kind]  # fmt: skip
    more = {} if kind == "orpo" else {"reward_funcs": vowels}
    trainer = trainer_class(
        model=model, processing_class=AutoTokenizer.from_pretrained(tiny_model),
        train_dataset=Dataset.from_list(rows), **more,
        args=config(
            output_dir=str(folder / "trl"), learning_rate=1e-2, num_train_epochs=1,
            per_device_train_batch_size=4, optim="adamw_torch", bf16=False,
            gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to=[],
            use_cpu=True, seed=0, data_seed=0, dataloader_pin_memory=False, disable_tqdm=True,
            disable_dropout=True, **own,
        ),
    )  # fmt: skip
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


# --- the same losses as plain TRL ----------------------------------------------------------------


@pytest.mark.parametrize("adapter", [None, True], ids=["full", "lora"])
@pytest.mark.parametrize("rows", [PAIRS, CHATS], ids=["strings", "chats"])
def test_orpo_losses_equal_plain_trl(
    tiny_model: Path, tmp_path: Path, adapter: Any, rows: Any
) -> None:
    job = job_of(model_of(tiny_model, adapter=adapter), tiny_model, tmp_path, rows)
    result = _orpo.train(Orpo(beta=0.2, **QUICK), job)
    model = model_of(tiny_model, adapter=adapter)
    plain = plain_trl("orpo", model, tiny_model, tmp_path, rows, beta=0.2, max_length=64)
    losses = [entry["loss"] for entry in plain]
    assert len(losses) == 3
    assert losses_of(job) == pytest.approx(losses, abs=0, rel=1e-6)
    # Every token of both sides, prompts included, once an epoch.
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    if rows is PAIRS:
        sides = [row["prompt"] + row[side] for row in rows for side in ("chosen", "rejected")]
        assert result.tokens == sum(len(tokenizer(side)["input_ids"]) + 1 for side in sides)


def test_orpo_first_loss_is_the_papers(tiny_model: Path, tmp_path: Path) -> None:
    """Equations 6 and 7, from the model's own log-probabilities."""
    from torch.nn.functional import cross_entropy, logsigmoid

    model, row = model_of(tiny_model), PAIRS[5]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    start = len(tokenizer(row["prompt"])["input_ids"])

    def logp(answer: str) -> torch.Tensor:  # mean over the answer's tokens, its end included
        ids = torch.tensor([tokenizer(row["prompt"] + answer + "<|end|>")["input_ids"]])
        logits = model(ids).logits[0, :-1].log_softmax(-1)
        return logits.gather(-1, ids[0, 1:, None])[start - 1 :, 0].mean()

    with torch.no_grad():
        one, other = logp(row["chosen"]), logp(row["rejected"])
        odds = (one - other) - (torch.log1p(-one.exp()) - torch.log1p(-other.exp()))
        ids = torch.tensor(tokenizer(row["prompt"] + row["chosen"] + "<|end|>")["input_ids"])
        likelihood = cross_entropy(model(ids[None]).logits[0, :-1], ids[1:])
        wanted = likelihood - 0.3 * logsigmoid(odds)
    job = job_of(model, tiny_model, tmp_path, [row])
    result = _orpo.train(Orpo(beta=0.3, **QUICK), job)
    assert result.metrics["first_loss"] == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_online_losses_equal_plain_trl(
    tiny_model: Path, sft: dict[str, Path], tmp_path: Path, kind: str, method: str
) -> None:
    """The plain script starts from the SFT's own folder, which TRL then loads as the reference."""
    own = {"loss_type": "grpo"} if kind == "grpo" else {}
    rows = asked()
    job = job_of(started(tiny_model, sft, method), tiny_model, tmp_path, rows)
    fields = {**SAMPLED, "reward_functions": ["vowels"], "beta": 0.3, **own}
    _online_trainer.train(ONLINE[kind](**fields), job)
    model = model_of(sft["full"]) if method == "full" else started(tiny_model, sft, method)
    plain = plain_trl(
        kind, model, tiny_model, tmp_path, [{"prompt": row["prompt"]} for row in rows],
        num_generations=2, max_completion_length=6, beta=0.3, **own,
    )  # fmt: skip
    assert len(plain) == 4
    lines = [json.loads(line) for line in job.step_log.read_text().splitlines()]
    for name in ("loss", "reward", "kl", "entropy", "completions/mean_length", "grad_norm"):
        assert [line[name] for line in lines] == pytest.approx(
            [entry[name] for entry in plain], abs=1e-7, rel=1e-5
        ), name
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert abs(lines[-1]["kl"]) > 1e-4


# --- the reference -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
@pytest.mark.parametrize("method", ["full", "lora", "pissa"])
def test_reference_is_the_start_and_nothing_of_it_is_left(
    tiny_model: Path, sft: dict[str, Path], tmp_path: Path, kind: str, method: str
) -> None:
    model = started(tiny_model, sft, method)
    ids = torch.tensor([[40, 41, 42, 43]])
    start = model(ids).logits.detach()
    assert not torch.allclose(start, model_of(tiny_model)(ids).logits, atol=1e-2)
    job = job_of(model, tiny_model, tmp_path, asked(4))
    result = _online_trainer.train(
        ONLINE[kind](**{**SAMPLED, "reward_functions": ["vowels"], "beta": 0.1}), job
    )
    assert result.metrics["first_kl"] == pytest.approx(0, abs=1e-6)
    assert not [name for name, _ in model.named_parameters() if ".ref." in name]
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    assert "forward" not in vars(inner)
    assert not torch.equal(model(ids).logits, start)


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_reference_of_ia3_is_its_start_too(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    """TRL itself leaves the copy of (IA)3's vectors at ones: the base, not the start."""
    from peft import IA3Config, get_peft_model

    names = ["q_proj", "down_proj"]
    config = IA3Config(
        task_type="CAUSAL_LM", target_modules=names, feedforward_modules=["down_proj"]
    )
    model: Any = get_peft_model(model_of(tiny_model), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.5 * torch.randn_like(parameter)
    job = job_of(model, tiny_model, tmp_path, asked(4))
    fields = {**SAMPLED, "reward_functions": ["vowels"], "beta": 0.1}
    assert _online_trainer.train(ONLINE[kind](**fields), job).metrics["first_kl"] == 0
    assert not [name for name, _ in model.named_parameters() if name.endswith(".ref")]


@pytest.mark.parametrize("kind", ["prompt_tuning", "p_tuning"])
def test_orpo_scores_a_soft_prompts_rows_and_not_its_prompt(
    tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    from peft import PromptEncoderConfig, PromptTuningConfig, get_peft_model

    declared = PromptTuningConfig if kind == "prompt_tuning" else PromptEncoderConfig
    config = declared(task_type="CAUSAL_LM", num_virtual_tokens=5)
    torch.manual_seed(0)
    model: Any = get_peft_model(model_of(tiny_model), config)
    row = PAIRS[5]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ids = tokenizer(row["prompt"] + row["chosen"] + "<|end|>", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, 5:-1]
    likelihood = torch.nn.functional.cross_entropy(logits, ids[0, 1:])
    result = _orpo.train(Orpo(beta=0, **QUICK), job_of(model, tiny_model, tmp_path, [row]))
    assert result.metrics["first_loss"] == pytest.approx(likelihood.item(), rel=1e-5)


def test_soft_prompts_are_refused_where_a_copy_is_needed() -> None:
    from harness.methods.p_tuning import PTuning
    from harness.planning.pairs import refusal_of

    assert "a second prompt in one model" in str(refusal_of(PTuning(), Grpo(), "sft"))
    assert refusal_of(PTuning(), Orpo(), None) is None


# --- rewards -------------------------------------------------------------------------------------


def test_a_reward_model_scores_the_tokens_that_were_sampled(
    tiny_model: Path, sft: dict[str, Path], tmp_path: Path
) -> None:
    reward_model = model_of(tiny_model, head="score")
    torch.nn.init.normal_(reward_model.score.weight)
    seen: list[tuple[list[int], list[int]]] = []

    def watched(prompts: list[list[int]], answers: list[list[int]]) -> list[float]:
        seen.extend(zip(prompts, answers, strict=True))
        with torch.no_grad():
            return [
                reward_model(torch.tensor([p + a])).logits[0, 0].item()
                for p, a in zip(prompts, answers, strict=True)
            ]

    fields = {**SAMPLED, "reward_functions": []}
    one = job_of(started(tiny_model, sft, "lora"), tiny_model, tmp_path / "a", CHATS)
    one.reward_model = copy.deepcopy(reward_model)
    other = job_of(started(tiny_model, sft, "lora"), tiny_model, tmp_path / "b", CHATS)
    other.reward_model = watched
    figures = [_online_trainer.train(Rloo(**fields), job).metrics for job in (one, other)]
    assert figures[0]["final_reward"] == pytest.approx(figures[1]["final_reward"], rel=1e-4)
    assert losses_of(one) == pytest.approx(losses_of(other), abs=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    prompts = {tokenizer.decode(prompt) for prompt, _ in seen}
    assert prompts <= {f"<|user|>{row['prompt'][0]['content']}<|assistant|>" for row in CHATS}
    assert len(seen) == 24


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_equal_rewards_are_reported_as_no_signal(
    tiny_model: Path, sft: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    model = started(tiny_model, sft, "full")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    job = job_of(model, tiny_model, tmp_path, asked())
    objective = ONLINE[kind](**{**SAMPLED, "reward_functions": ["exact_match"], "beta": 0})
    result = _online_trainer.train(objective, job)  # no random answer is exact
    assert result.metrics["groups_without_signal"] == 1
    assert result.metrics["batches_without_signal"] == result.steps == 4
    assert result.evidence is not None
    assert not result.evidence.signal
    assert objective.may_lack_signal
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize(
    ("name", "answer", "value"),
    [
        ("exact_match", " 12 +  3 ", 1), ("exact_match", "12", 0), ("last_number", "so 1,015.", 0),
        ("last_number", "it is 3", 1), ("last_number", "none", 0), ("brevity", "", 1),
        ("brevity", "one two three", 0.25),
    ],
)  # fmt: skip
def test_named_rewards(name: str, answer: str, value: float) -> None:
    assert FUNCTIONS[name](answer, {"references": ["12 + 3", "no number"]}) == value


def test_rewards_that_cannot_be_meant_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="did you mean 'exact_match'"):
        Grpo(reward_functions=["exact_mach"])
    with pytest.raises(ValidationError, match="no whole groups"):
        Grpo(per_device_train_batch_size=6, num_generations=4)
    job = job_of(model_of(tiny_model), tiny_model, tmp_path, asked())
    with pytest.raises(StageFailed, match="was given no reward model"):
        _online_trainer.train(Grpo(**{**SAMPLED, "reward_functions": []}), job)
    few, many = (
        job_of(job.model, tiny_model, tmp_path, asked(7)),
        Grpo(**{**SAMPLED, "per_device_train_batch_size": 16}),
    )
    with pytest.raises(DataError, match="are fewer than the 8"):
        _online_trainer.train(many, few)
    with pytest.raises(DataError, match="8 of 8 prompts leave no room"):
        _online_trainer.train(Grpo(**{**SAMPLED, "max_length": 8, "overlong": "error"}), job)
    assert Names(Grpo, {"reward_functions": ["brevity"]}).beside == []
    assert Names(Grpo).beside == ["reward"]


# --- whole batches -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_killed_run_goes_on_where_a_batch_of_answers_ended(
    tiny_model: Path, sft: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    objective = ONLINE[kind](
        **{**SAMPLED, "reward_functions": ["vowels"], "steps_per_generation": 2, "beta": 0.1,
           "num_train_epochs": 2}
    )  # fmt: skip
    assert objective.steps_a_batch == 2

    def run(folder: Path, **more: Any) -> tuple[TrainJob, Evidence]:
        model = started(tiny_model, sft, "lora")
        job = job_of(model, tiny_model, folder, asked(), checkpoint_seconds=0, **more)
        found = _online_trainer.train(objective, job).evidence
        assert found is not None
        return job, found

    def kill(done: int, total: int, note: str) -> None:
        if done == 4:
            raise Killed

    whole, seen = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "cut", progress=kill)
    kept = [path.name for path in (tmp_path / "cut" / "work").glob("checkpoint-*")]
    assert kept == ["checkpoint-2"]  # not 3, amid a batch
    again, seen_again = run(tmp_path / "cut")
    assert again.step_log.read_text() == whole.step_log.read_text()
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert same_evidence(seen, seen_again)


@pytest.mark.parametrize(
    ("fields", "rows", "steps"),
    [
        ({}, 8, 4), ({}, 9, 4), ({"num_iterations": 3}, 8, 12), ({"num_train_epochs": 2.5}, 8, 10),
        ({"gradient_accumulation_steps": 2}, 8, 2), ({"steps_per_generation": 4}, 9, 4),
        ({"gradient_accumulation_steps": 2, "steps_per_generation": 1}, 10, 3),
        ({"max_steps": 3}, 8, 3),
    ],
)  # fmt: skip
def test_steps_are_told_before_training(
    tiny_model: Path, tmp_path: Path, fields: dict[str, Any], rows: int, steps: int
) -> None:
    objective = Rloo(**{**SAMPLED, "max_new_tokens": 1, "max_length": 32, **fields})
    assert objective.steps(rows) == steps
    job = job_of(model_of(tiny_model), tiny_model, tmp_path, asked(rows))
    assert _online_trainer.train(objective, job).steps == steps


# --- recipes -------------------------------------------------------------------------------------


@pytest.fixture
def aligned(workspace: Workspace) -> Workspace:
    """The tiny suite with pairs, and the three objectives."""
    pairs = [{"id": f"pair-{i}", **row, "dimension": ""} for i, row in enumerate(CHATS)]
    write_jsonl(workspace.folder / "pairs.jsonl", pairs)
    write_jsonl(workspace.folder / "train.jsonl", chat_rows(0, 8))
    fields = {"learning_rate": 1e-2, "max_length": 64, "per_device_train_batch_size": 4,
              "max_steps": 2}  # fmt: skip
    sampled = {**fields, "num_generations": 2, "max_new_tokens": 4}
    workspace.write(
        data={"letters": {"train": "train.jsonl", "test": "test.jsonl"},
              "pairs": {"train": "pairs.jsonl"}},
        matrix={
            "data": ["letters"],
            "method": [{"lora": {"r": 4}}],
            "objective": [
                {"sft": fields}, {"orpo": {**fields, "data": "pairs"}}, {"grpo": sampled},
                {"rloo": {**sampled, "reward_functions": ["exact_match", "vowels"]}},
            ],
        },
        reward_model={**fields, "data": "pairs"},
        scorers=["exact_match"],
        base={},
    )  # fmt: skip
    return workspace


def test_recipes_end_to_end(aligned: Workspace) -> None:
    """ORPO from the base; GRPO and RLOO from the SFT, with a reward model where it is asked for."""
    paths = {p.variant.id: p.train for p in aligned.open().plan.paths if p.train}
    assert set(paths["lora-orpo"].inputs) == {"train"}
    assert set(paths["lora-grpo"].inputs) == {"train", "start", "reward"}
    assert set(paths["lora-rloo"].inputs) == {"train", "start"}
    for name in ("grpo", "rloo"):
        assert paths[f"lora-{name}"].inputs["start"].key == paths["lora-sft"].key
    outcome = aligned.run()
    assert not [record.error for record in outcome.failed]
    for name in ("orpo", "grpo", "rloo"):
        record = outcome.records[paths[f"lora-{name}"].key]
        assert record.metrics["steps"] == 2
        assert record.cost["tokens"] > 0
    assert "groups_without_signal" in outcome.records[paths["lora-grpo"].key].metrics


def test_training_without_a_signal_ends_with_its_checks_skipped(aligned: Workspace) -> None:
    """Equal rewards move nothing: that is a result, and no fault of the method."""
    outcome = aligned.run('rloo.reward_functions=["exact_match"]', "rloo.beta=0", only="lora-rloo")
    assert not [record.error for record in outcome.failed]
    audits = [
        {check["check"]: check for check in record.metrics["audit"]}
        for record in outcome.records.values()
        if record.metrics.get("batches_without_signal")
    ]
    (found,) = audits
    for name in ("training moved every trainable tensor", "it differs from its start"):
        assert found[name]["status"] == "skipped"
        assert found[name]["detail"].startswith("no step carried a signal")
    assert found["the checkpoint reloads"]["status"] == "passed"
