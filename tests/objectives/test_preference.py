"""Reward, DPO and KTO: the losses of plain TRL scripts, references, rankings, records."""

from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from harness.core.errors import DataError
from harness.data.pairs import grouped, pairs_of
from harness.models.files import ModelRef
from harness.objectives._trl import dpo as _dpo
from harness.objectives._trl import kto as _kto
from harness.objectives._trl import reward_training as _reward
from harness.objectives._trl.reward_figures import calibration_error, summary
from harness.objectives.base import Evidence, TrainJob
from harness.objectives.dpo import Dpo
from harness.objectives.kto import Kto
from harness.objectives.reward import Reward
from tests.stages.test_resumed_audit import same as same_evidence

TRAIN = {"dpo": _dpo.train, "kto": _kto.train, "reward": _reward.train}
PAIRS = [
    {"prompt": f"say {c}: ", "chosen": c * (1 + i % 4), "rejected": "no" * (1 + i % 3)}
    for i, c in enumerate("abcdefghijkl")
]
CHATS = [
    {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "chosen": [{"role": "assistant", "content": row["chosen"]}],
        "rejected": [{"role": "assistant", "content": row["rejected"]}],
    }
    for row in PAIRS
]
THUMBS = [
    {"prompt": row["prompt"], "completion": row["chosen" if up else "rejected"], "label": up}
    for row in PAIRS
    for up in (True, False)
]
QUICK: dict[str, Any] = {
    "learning_rate": 1e-2, "per_device_train_batch_size": 4, "max_length": 64,
}  # fmt: skip


def model_of(folder: Path, *, head: str = "lm", adapter: Path | bool | None = None) -> Any:
    """The tiny model; with a fresh adapter (True), or one resumed from a checkpoint."""
    torch.manual_seed(0)
    auto = AutoModelForCausalLM if head == "lm" else AutoModelForSequenceClassification
    options = {} if head == "lm" else {"num_labels": 1}
    model = auto.from_pretrained(folder, dtype=torch.float32, **options)
    if adapter is True:
        return get_peft_model(model, lora(head))
    if adapter is not None:
        return PeftModel.from_pretrained(model, adapter, is_trainable=True)
    return model


def lora(head: str, **options: Any) -> LoraConfig:
    return LoraConfig(
        r=4, target_modules="all-linear", task_type="CAUSAL_LM" if head == "lm" else "SEQ_CLS",
        modules_to_save=["score"] if head == "score" else None, **options,
    )  # fmt: skip


def job_of(model: Any, tiny_model: Path, folder: Path, rows: Any, **more: Any) -> TrainJob:
    (folder / "work").mkdir(parents=True, exist_ok=True)
    given = {
        "model": model, "tokenizer": AutoTokenizer.from_pretrained(tiny_model), "rows": rows,
        "validation": [], "checkpoints": folder / "work", "step_log": folder / "steps.jsonl",
        "seed": 0, "data_seed": 0, "dtype": "float32", "device": "cpu", "report_to": [],
        "checkpoint_seconds": 1e9, "label": "test", "progress": lambda *_: None,
    }  # fmt: skip
    return TrainJob(**{**given, **more})


def losses_of(job: TrainJob) -> list[float]:
    return [json.loads(line)["loss"] for line in job.step_log.read_text().splitlines()]


@pytest.fixture(scope="module")
def sft(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints that are not the base, as an SFT would leave them: full, lora and pissa."""
    root = tmp_path_factory.mktemp("sft")
    for name in ("full", "lora", "pissa"):
        model: Any = model_of(tiny_model)
        if name != "full":
            start = {"init_lora_weights": "pissa"} if name == "pissa" else {}
            model = get_peft_model(model, lora("lm", **start))
        torch.manual_seed(5)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter += 0.05 * torch.randn_like(parameter)
        model.save_pretrained(
            root / name, **({} if name == "full" else {"save_embedding_layers": False})
        )
    return {name: root / name for name in ("full", "lora", "pissa")}


def started(tiny_model: Path, sft: dict[str, Path], method: str) -> Any:
    """The policy as the train stage hands it over: the base, brought to the SFT's checkpoint."""
    if method != "full":
        return model_of(tiny_model, adapter=sft[method])
    model = model_of(tiny_model)
    model.load_state_dict(model_of(sft["full"]).state_dict())
    return model  # whose config still names the base's folder


def plain_trl(kind: str, model: Any, tiny_model: Path, folder: Path, rows: Any, **own: Any) -> Any:
    """What a user would write without the harness."""
    import trl

    trainer_class, config = {
        "dpo": (trl.DPOTrainer, trl.DPOConfig), "kto": (trl.KTOTrainer, trl.KTOConfig),
        "reward": (trl.RewardTrainer, trl.RewardConfig),
    }[kind]  # fmt: skip
    if kind != "reward" and not isinstance(model, PeftModel):
        own_reference = {"ref_model": copy.deepcopy(model)}
    else:
        own_reference = {}
    trainer = trainer_class(
        model=model, processing_class=AutoTokenizer.from_pretrained(tiny_model),
        train_dataset=Dataset.from_list(rows), **own_reference,
        args=config(
            output_dir=str(folder / "trl"), learning_rate=1e-2, num_train_epochs=1,
            per_device_train_batch_size=4, max_length=64, optim="adamw_torch", bf16=False,
            gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to=[],
            use_cpu=True, seed=0, data_seed=0, dataloader_pin_memory=False, disable_tqdm=True,
            **own,
        ),
    )  # fmt: skip
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


# --- the same losses as plain TRL ----------------------------------------------------------------


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize(
    ("rows", "loss"), [(PAIRS, "sigmoid"), (CHATS, "ipo")], ids=["strings", "chats"]
)
def test_dpo_losses_equal_plain_trl(
    tiny_model: Path, sft: dict[str, Path], tmp_path: Path, method: str, rows: Any, loss: str
) -> None:
    job = job_of(started(tiny_model, sft, method), tiny_model, tmp_path, rows)
    _dpo.train(Dpo(loss_type=loss, beta=0.3, **QUICK), job)
    model = started(tiny_model, sft, method)
    plain = plain_trl("dpo", model, tiny_model, tmp_path, rows, loss_type=loss, beta=0.3)
    assert len(plain) == 3
    assert losses_of(job) == pytest.approx(plain, abs=0, rel=1e-6)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_kto_losses_equal_plain_trl(
    tiny_model: Path, sft: dict[str, Path], tmp_path: Path, method: str
) -> None:
    job = job_of(started(tiny_model, sft, method), tiny_model, tmp_path, THUMBS)
    result = _kto.train(Kto(shuffle=False, desirable_weight=1.2, **QUICK), job)
    model = started(tiny_model, sft, method)
    plain = plain_trl("kto", model, tiny_model, tmp_path, THUMBS, desirable_weight=1.2)
    assert losses_of(job) == pytest.approx(plain, abs=0, rel=1e-6)
    assert result.metrics["wanted"] == result.metrics["unwanted"] == 12


@pytest.mark.parametrize("adapter", [None, True], ids=["full", "lora"])
@pytest.mark.parametrize("rows", [PAIRS, CHATS], ids=["strings", "chats"])
def test_reward_losses_equal_plain_trl(
    tiny_model: Path, tmp_path: Path, adapter: Any, rows: Any
) -> None:
    model = model_of(tiny_model, head="score", adapter=adapter)
    job = job_of(model, tiny_model, tmp_path, rows)
    _reward.train(Reward(held_out=0, **QUICK), job)
    model = model_of(tiny_model, head="score", adapter=adapter)
    chats = [{s: r["prompt"] + r[s] for s in ("chosen", "rejected")} for r in rows]
    plain = plain_trl("reward", model, tiny_model, tmp_path, chats)
    assert losses_of(job) == pytest.approx(plain, abs=0, rel=1e-5)


def test_reward_margins_equal_plain_trl(tiny_model: Path, tmp_path: Path) -> None:
    scored = [{**row, "chosen_score": 3 + i % 3, "rejected_score": 1}
              for i, row in enumerate(PAIRS)]  # fmt: skip
    job = job_of(model_of(tiny_model, head="score"), tiny_model, tmp_path, scored)
    _reward.train(Reward(held_out=0, margin_scale=0.5, **QUICK), job)
    plain_rows = [{"chosen": r["prompt"] + r["chosen"], "rejected": r["prompt"] + r["rejected"],
                   "margin": 0.5 * (r["chosen_score"] - 1)} for r in scored]  # fmt: skip
    model = model_of(tiny_model, head="score")
    plain = plain_trl("reward", model, tiny_model, tmp_path, plain_rows)
    assert losses_of(job) == pytest.approx(plain, abs=0, rel=1e-5)


# --- the reference -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["full", "lora", "pissa"])
@pytest.mark.parametrize("precompute", [False, True])
def test_dpo_starts_at_ln_2(
    tiny_model: Path, sft: dict[str, Path], tmp_path: Path, method: str, precompute: bool
) -> None:
    model = started(tiny_model, sft, method)
    ids = torch.tensor([[40, 41, 42, 43]])
    base = model_of(tiny_model)(ids).logits
    start = model(ids).logits.detach()
    assert not torch.allclose(start, base, atol=1e-2)  # so that the base would not do as reference
    job = job_of(model, tiny_model, tmp_path, PAIRS)
    result = _dpo.train(
        Dpo(precompute_ref_log_probs=precompute, **{**QUICK, "learning_rate": 1e-3}), job
    )
    assert result.metrics["first_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert losses_of(job)[-1] != pytest.approx(math.log(2), abs=1e-6)
    # Nothing of the reference is left on the model, or in what is saved.
    assert not [name for name, _ in model.named_parameters() if ".ref." in name]
    assert not torch.equal(model(ids).logits, start)
    if method != "full":
        model.save_pretrained(tmp_path / "saved", save_embedding_layers=False)
        assert not [path for path in (tmp_path / "saved").iterdir() if path.is_dir()]
        if method == "lora":
            again = model_of(tiny_model, adapter=tmp_path / "saved")
            assert torch.allclose(again(ids).logits, model.eval()(ids).logits, atol=1e-6)


@pytest.mark.parametrize("method", ["full", "lora", "pissa"])
def test_kto_starts_at_one_half(
    tiny_model: Path, sft: dict[str, Path], tmp_path: Path, method: str
) -> None:
    job = job_of(started(tiny_model, sft, method), tiny_model, tmp_path, THUMBS)
    _kto.train(Kto(**{**QUICK, "learning_rate": 1e-3}), job)
    first, *_, last = [json.loads(line) for line in job.step_log.read_text().splitlines()]
    assert first["loss"] == pytest.approx(0.5, abs=1e-6)  # 1 - sigmoid(0), with a KL of 0
    assert first["kl"] == pytest.approx(0, abs=1e-5)
    assert last["loss"] < first["loss"]


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("kind", "method"), [("dpo", "full"), ("dpo", "lora"), ("kto", "lora"), ("reward", "lora")]
)
def test_killed_run_goes_on_to_the_same_bits(
    tiny_model: Path, sft: dict[str, Path], tmp_path: Path, kind: str, method: str
) -> None:
    objective: Any = {
        "dpo": Dpo(**QUICK), "kto": Kto(**QUICK), "reward": Reward(held_out=0, **QUICK)
    }[kind]  # fmt: skip
    rows = THUMBS if kind == "kto" else PAIRS

    def run(folder: Path, **more: Any) -> tuple[TrainJob, Evidence]:
        start = (
            model_of(tiny_model, head="score", adapter=True)
            if kind == "reward"
            else started(tiny_model, sft, method)
        )
        job = job_of(start, tiny_model, folder, rows, checkpoint_seconds=0, **more)
        found = TRAIN[kind](objective, job).evidence
        assert found is not None
        return job, found

    def kill(done: int, total: int, note: str) -> None:
        if done == 3:
            raise Killed

    whole, seen = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "cut", progress=kill)
    assert (tmp_path / "cut" / "work" / "checkpoint-2" / "complete").is_file()
    again, seen_again = run(tmp_path / "cut")
    assert losses_of(again) == losses_of(whole)
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert same_evidence(seen, seen_again)


# --- rankings ------------------------------------------------------------------------------------


def test_ranking_gives_every_pair_but_the_ties() -> None:
    # D > C > A = B, as in InstructGPT: six comparisons, one of them a tie.
    row = {"prompt": "p", "responses": ["a", "b", "c", "d"], "ranks": [3, 3, 2, 1]}
    pairs, counts = pairs_of([row], "drop")
    found = {(pair.chosen, pair.rejected) for pair in pairs}
    assert found == {("d", "c"), ("d", "a"), ("d", "b"), ("c", "a"), ("c", "b")}
    assert counts == {"ties": 1}
    assert [len(group) for group in grouped(pairs)] == [5]
    assert all(pair.margin is None for pair in pairs)


def test_scores_give_margins() -> None:
    row = {"prompt": "p", "responses": ["a", "b", "c"], "scores": [1, 4.5, 1]}
    pairs, counts = pairs_of([row], "drop", (1, 7))
    assert {(p.chosen, p.rejected, p.margin) for p in pairs} == {("b", "a", 3.5), ("b", "c", 3.5)}
    assert counts == {"ties": 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": "x", "rejected": "x"}, "the two answers are equal"),
        ({"chosen": "x", "rejected": " "}, "an answer is empty"),
        ({"chosen": "x", "rejected": "y", "chosen_score": 9, "rejected_score": 1},
         "a score is outside 1 to 7"),
        ({"chosen": "x", "rejected": "y", "chosen_score": 1, "rejected_score": 2},
         "the rejected answer has the higher score"),
        ({"responses": ["x", "y"], "ranks": [1]}, "there is not one rank or score"),
    ],
)  # fmt: skip
def test_unusable_rows_are_counted_or_refused(row: dict[str, Any], reason: str) -> None:
    rows = [{"prompt": "p", **row}, PAIRS[0]]
    pairs, counts = pairs_of(rows, "drop", (1, 7))
    assert len(pairs) == 1
    assert [name for name in counts if name.startswith(reason)]
    with pytest.raises(DataError, match=reason):
        pairs_of(rows, "error", (1, 7))


def test_pairs_of_one_prompt_weigh_as_one_in_one_batch(tiny_model: Path, tmp_path: Path) -> None:
    from torch.nn.functional import logsigmoid

    many = {"prompt": "p: ", "responses": ["aa", "b", "ccc", "d"], "ranks": [1, 2, 3, 4]}
    rows = [many, PAIRS[0]]
    model = model_of(tiny_model, head="score")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)

    def score(text: str) -> torch.Tensor:
        return model(torch.tensor([tokenizer(text=text + "<|end|>")["input_ids"]])).logits[0, 0]

    with torch.no_grad():
        six = [
            -logsigmoid(score("p: " + one) - score("p: " + other)).item()
            for i, one in enumerate(many["responses"])
            for other in many["responses"][i + 1 :]
        ]
        alone = -logsigmoid(score("say a: a") - score("say a: no")).item()
    job = job_of(model, tiny_model, tmp_path, rows)
    result = _reward.train(Reward(held_out=0, **{**QUICK, "per_device_train_batch_size": 2}), job)
    assert losses_of(job) == pytest.approx([(sum(six) / 6 + alone) / 2], rel=1e-5)
    assert (result.metrics["prompts"], result.metrics["pairs"]) == (2, 7)


# --- the reward model's record -------------------------------------------------------------------


def test_held_out_figures_tell_what_was_learnt(tiny_model: Path, tmp_path: Path) -> None:
    # The longer answer is always better, and that is learnable; `odd` has it the other way round
    # only where it is held out, so the record must show a poor dimension beside a good one.
    rows = [
        {"prompt": f"{i} ", "chosen": "aaaa", "rejected": "b", "dimension": "even"}
        for i in range(40)
    ]
    odd = [{"prompt": f"o{i} ", "chosen": "b", "rejected": "aaaa", "dimension": "odd"}
           for i in range(8)]  # fmt: skip
    even = [{**row, "prompt": "e" + row["prompt"]} for row in rows[:8]]
    job = job_of(
        model_of(tiny_model, head="score"), tiny_model, tmp_path, rows, validation=[*even, *odd]
    )
    found = _reward.train(Reward(**QUICK), job).metrics
    assert found["held_out/accuracy/even"] == 1
    assert found["held_out/accuracy/odd"] == 0
    assert found["held_out/accuracy"] == 0.5
    assert found["held_out/length_correlation"] > 0.9
    assert found["held_out/longer_is_rewarded"] == 1
    assert found["held_out/longer_is_better"] == 0.5
    assert found["held_out/calibration_error"] > 0.3


def test_held_out_prompts_are_not_trained_on(tiny_model: Path, tmp_path: Path) -> None:
    job = job_of(model_of(tiny_model, head="score"), tiny_model, tmp_path, PAIRS)
    found = _reward.train(Reward(held_out=0.25, **QUICK), job).metrics
    assert (found["prompts"], found["held_out/pairs"]) == (9, 3)


def test_calibration_error_is_small_only_for_true_rates() -> None:
    numbers = np.random.default_rng(0)
    size = numbers.normal(0, 2, 20000)
    better = numbers.random(20000) < 1 / (1 + np.exp(-size))
    honest = np.where(better, size, -size)
    assert calibration_error(honest) < 0.02
    assert calibration_error(3 * honest) > 0.1
    assert calibration_error(np.zeros(50)) == 0


def test_figures_of_a_reward_that_only_counts_length() -> None:
    longer = np.array([1, 1, -1, -1, 0])
    found = summary(np.array([2.0, 1, -1, -2, 0]), longer, ["x", "x", "y", "y", "y"])
    assert found["accuracy"] == pytest.approx(0.5)
    assert found["longer_is_rewarded"] == 1
    assert found["longer_is_better"] == 0.5
    assert found["accuracy/x"] == 1
    assert found["accuracy/y"] == pytest.approx(1 / 6)


def test_pairs_that_weigh_nothing_teach_nothing_and_break_nothing(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = [{**row, "dimension": "ab"[i % 2]} for i, row in enumerate(PAIRS)]
    model = model_of(tiny_model, head="score")
    objective = Reward(
        **{**QUICK, "per_device_train_batch_size": 1}, held_out=0,
        dimension_weights={"a": 0.0}, train_sampling_strategy="sequential",
    )  # fmt: skip
    job = job_of(model, tiny_model, tmp_path, rows)
    _reward.train(objective, job)
    losses = losses_of(job)[: len(rows)]
    assert set(losses[::2]) == {0.0}
    assert min(losses[1::2]) > 0
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        Reward(dimension_weights={"a": -1.0})


def test_a_score_stands_at_a_rows_end_whatever_pad_token_the_config_names(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "padded otherwise")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": 2}))
    torch.manual_seed(0)
    model = ModelRef(str(folder), "float32", "cpu").load("score")
    ids = torch.tensor([[5, 6, 7, 1, 1], [5, 6, 7, 8, 9]])  # 1 is the tokenizer's
    with torch.no_grad():
        padded = model(input_ids=ids, attention_mask=(ids != 1).long()).logits[0]
        alone = model(input_ids=ids[:1, :3]).logits[0]
    assert torch.allclose(padded, alone, atol=1e-6)
