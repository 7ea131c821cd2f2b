"""The reference's log-probabilities: computed once, shared, those of the start, refused if not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.comparison.provenance import ledger
from harness.core import registry
from harness.core.errors import StageFailed
from harness.methods.base import Method
from harness.models.files import ModelRef
from harness.objectives._trl import dpo as _dpo
from harness.objectives._trl.logps import Logps
from harness.objectives.base import TrainJob
from harness.objectives.dpo import Dpo, Loss
from harness.planning.pairs import pairs
from harness.stages._reference import LOGPS, reference_file
from harness.stages.base import Job
from harness.stages.reference import Reference
from harness.store.stage import Stage
from tests.conftest import DPO, SFT, Workspace
from tests.objectives.test_preference import PAIRS, QUICK, Killed, job_of, losses_of

METHODS = [p.method for p in pairs() if p.objective == "dpo" and not p.refusal]
SLOW = {**QUICK, "learning_rate": 1e-3}


# --- what is planned -----------------------------------------------------------------------------


def planned(workspace: Workspace, *settings: str, **fields: Any) -> dict[str, list[Stage]]:
    """Kind -> stages; of trainings, those of dpo alone."""
    workspace.tree["matrix"] |= {"objective": [{"dpo": {**DPO, **fields}}]}
    workspace.tree.pop("reward_model", None)
    found: dict[str, list[Stage]] = {"reference": [], "train": []}
    for stage in workspace.open(*settings).plan.stages():
        if stage.kind != "train" or stage.config["objective"]["name"] == "dpo":
            found.setdefault(stage.kind, []).append(stage)
    return found


def test_a_grid_over_one_start_plans_one_reference(aligned: Workspace) -> None:
    found = planned(
        aligned, "matrix.dpo.learning_rate=[0.1,0.2,0.3]", "matrix.dpo.beta=[0.1,0.5]",
        "matrix.dpo.loss_type=[sigmoid,ipo]", "matrix.dpo.num_train_epochs=[1,2]",
    )  # fmt: skip
    assert len(found["train"]) == 2 * 24
    assert [s.label for s in found["reference"]] == [
        "full-sft on preferences/train", "lora-sft on preferences/train",
    ]  # fmt: skip
    for stage in found["train"]:
        reference = stage.inputs["reference"]
        assert reference.inputs["start"] == stage.inputs["start"]
        assert reference.inputs["train"] == stage.inputs["train"]
    table = aligned.command("plan", "suite.yaml").stdout
    assert "reference      full-sft on preferences/train" in table


def test_trials_of_a_tuning_share_one_reference(aligned: Workspace) -> None:
    aligned.tree["data"]["letters"]["validation"] = {"path": "train.jsonl", "rows": [0, 8]}
    aligned.tree["matrix"] |= {"method": ["full"]}
    aligned.write(tune={"metric": "exact_match", "trials": 3,
                        "space": {"dpo.learning_rate": [0.1, 0.2, 0.3]}})  # fmt: skip
    found = planned(aligned)
    assert (len(found["train"]), len(found["reference"])) == (3, 1)


@pytest.mark.parametrize(
    ("setting", "count"),
    [("matrix.dpo.max_length=[32,64]", 2), ("matrix.dpo.ld_alpha=[0.5,0.7]", 2),
     ("matrix.dpo.overlong=[drop,truncate]", 2), ("matrix.sft.learning_rate=[0.1,0.2]", 2),
     ("models.tiny.attn_implementation=eager", 1), ("seeds=[0,1]", 2)],
)  # fmt: skip
def test_what_changes_the_figures_is_another_reference(
    aligned: Workspace, setting: str, count: int
) -> None:
    aligned.tree["matrix"] |= {"method": ["full"]}
    aligned.tree["models"]["tiny"] = {"path": aligned.tree["models"]["tiny"]}
    before = planned(aligned)["reference"]
    after = planned(aligned, setting)["reference"]
    assert len(after) == count
    assert count > 1 or after != before


@pytest.mark.parametrize(
    "fields",
    [{"share_reference": False}, {"precompute_ref_log_probs": True},
     {"args": {"sync_ref_model": True}}, {"args": {"truncation_mode": "keep_end"}}],
)  # fmt: skip
def test_trl_keeps_its_own_way_where_figures_would_not_do(
    aligned: Workspace, fields: dict[str, Any]
) -> None:
    found = planned(aligned, **fields)
    assert not found["reference"]
    assert all("reference" not in stage.inputs for stage in found["train"])


def test_from_the_base_a_seed_counts_where_the_fresh_adapter_is_no_base(aligned: Workspace) -> None:
    aligned.tree["matrix"] |= {"method": ["full", "lora", "p_tuning"]}
    found = planned(aligned, "seeds=[0,1]", start="base")
    methods = [stage.config["method"]["name"] for stage in found["reference"]]
    assert sorted(methods) == ["full", "lora", "p_tuning", "p_tuning"]


# --- the figures, and what is trained on them ----------------------------------------------------


def started(name: str, tiny_model: Path, folder: Path) -> Any:
    """A policy as the train stage hands it over: resumed from a checkpoint that is not the base."""
    method = cast(Method, registry.find("method", name)())
    ref = ModelRef(str(tiny_model), "float32", "cpu")
    if not folder.exists():
        torch.manual_seed(0)
        model = method.attach(method.load(ref))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter += 0.05 * torch.randn_like(parameter)
        folder.mkdir()
        method.save(model, folder)
    torch.manual_seed(0)
    return method.resume(method.load(ref), folder)


@pytest.fixture(scope="module")
def full(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint of full fine-tuning, and its figures of PAIRS."""
    root = tmp_path_factory.mktemp("full")
    return root / "start", written("full", Dpo(**SLOW), tiny_model, root)


def written(name: str, objective: Dpo, tiny_model: Path, root: Path) -> Path:
    """Figures of PAIRS, as the reference stage has them written."""
    model = started(name, tiny_model, root / "start")
    _dpo.reference(
        objective, job_of(model, tiny_model, root / "reference", PAIRS), root / "logps.safetensors"
    )
    return root / "logps.safetensors"


def both(name: str, objective: Dpo, tiny_model: Path, root: Path) -> TrainJob:
    """A training on the figures of its start, as the two stages make it; its job."""
    file = written(name, objective, tiny_model, root)
    model = started(name, tiny_model, root / "start")
    job = job_of(model, tiny_model, root / "shared", PAIRS)
    job = replace(job, reference_file=file)
    result = _dpo.train(objective, job)
    assert [check["check"] for check in result.checks] == ["the reference is its start"]
    return job


@pytest.mark.parametrize("name", METHODS)
def test_every_method_starts_at_ln_2(
    tiny_model: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And trains with no reference beside it: neither a model nor a copy of the adapter."""
    seen = []
    loss = _dpo.SharedReferenceTrainer._compute_loss

    def watched(self: Any, model: Any, *args: Any) -> Any:
        seen.append([type(self.ref_model).__name__, *getattr(self.model, "peft_config", ())])
        return loss(self, model, *args)

    monkeypatch.setattr(_dpo.SharedReferenceTrainer, "_compute_loss", watched)
    job = both(name, Dpo(**SLOW), tiny_model, tmp_path)
    own = [] if name in ("full", "bitfit") else ["default"]
    assert len(seen) == 3
    assert all(found == ["NoReference", *own] for found in seen)
    assert losses_of(job)[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses_of(job)[-1] != pytest.approx(math.log(2), abs=1e-6)


QUICK_LOSSES: list[dict[str, Any]] = [
    {"loss_type": "ipo"}, {"loss_type": "aot", "gradient_accumulation_steps": 2},
    {"ld_alpha": 0.5}, {"f_divergence_type": "js_divergence", "use_weighting": True},
    {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5], "max_length": 10,
     "overlong": "truncate"},
]  # fmt: skip
OTHERS: list[dict[str, Any]] = [
    {"loss_type": loss, "label_smoothing": 0.1 if loss in ("exo_pair", "robust") else 0.0}
    for loss in get_args(Loss) if loss not in ("sigmoid", "ipo", "aot")
]  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [*QUICK_LOSSES, *(pytest.param(fields, marks=pytest.mark.slow) for fields in OTHERS)],
    ids=lambda fields: "-".join(f"{k}={v}" for k, v in fields.items()),
)
def test_losses_equal_those_of_trl_with_a_reference_of_its_own(
    tiny_model: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    """TRL's own way is bit-equal to a plain script (test_preference); this one within rounding."""
    objective = Dpo(**{**QUICK, "per_device_train_batch_size": 3, **fields})
    job = both("full", objective, tiny_model, tmp_path)
    model = started("full", tiny_model, tmp_path / "start")
    own = job_of(model, tiny_model, tmp_path / "own", PAIRS)
    _dpo.train(objective, own)
    assert len(losses_of(job)) > 1
    assert losses_of(job) == pytest.approx(losses_of(own), rel=2e-5, abs=1e-6)


def test_figures_are_the_sums_of_the_answers_log_probabilities(
    tiny_model: Path, tmp_path: Path, full: tuple[Path, Path]
) -> None:
    """By the model's own logits, a pair at a time, unpadded; the prompt's tokens left out."""
    figures = Logps.load(full[1])
    model = started("full", tiny_model, full[0]).requires_grad_(False)
    tokenizer = job_of(model, tiny_model, tmp_path / "any", PAIRS).tokenizer
    assert figures.rows == tuple(str(i) for i in range(len(PAIRS)))
    for row, chosen, rejected in zip(PAIRS, figures.chosen, figures.rejected, strict=True):
        for side, figure in (("chosen", chosen), ("rejected", rejected)):
            text = row["prompt"] + row[side] + tokenizer.eos_token
            ids = torch.tensor(tokenizer(text)["input_ids"])
            begin = len(tokenizer(row["prompt"])["input_ids"])
            logps = model(input_ids=ids[None]).logits[0].log_softmax(-1)
            own = sum(float(logps[i - 1, ids[i]]) for i in range(begin, len(ids)))
            assert float(figure) == pytest.approx(own, rel=1e-5)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_every_answer_to_a_prompt_is_read_once(count: int) -> None:
    answers = [[10 + i] * (i + 1) for i in range(count)]
    pairs = [(a, b) for a in answers for b in answers if a is not b]
    rows = [{"prompt_ids": [p], "chosen_ids": a, "rejected_ids": b}
            for p in (1, 2) for a, b in pairs]  # fmt: skip
    asked, places = _dpo._answers(rows, together=False)
    assert len(asked) == 2 * -(-count // 2)
    for row, (chosen, rejected) in zip(rows, places, strict=True):
        for wanted, (side, at) in ((row["chosen_ids"], chosen), (row["rejected_ids"], rejected)):
            assert asked[at]["prompt_ids"] == tuple(row["prompt_ids"])
            assert asked[at][("chosen_ids", "rejected_ids")[side]] == tuple(wanted)


def test_killed_run_goes_on_to_the_same_bits(tiny_model: Path, tmp_path: Path) -> None:
    def kill(done: int, total: int, note: str) -> None:
        if done == 3:
            raise Killed

    whole = both("lora", Dpo(**QUICK), tiny_model, tmp_path)
    file = whole.reference_file

    def run(**more: Any) -> TrainJob:
        model = started("lora", tiny_model, tmp_path / "start")
        job = job_of(model, tiny_model, tmp_path / "cut", PAIRS, checkpoint_seconds=0, **more)
        job = replace(job, reference_file=file)
        _dpo.train(Dpo(**QUICK), job)
        return job

    with pytest.raises(Killed):
        run(progress=kill)
    assert (tmp_path / "cut" / "work" / "checkpoint-2" / "complete").is_file()
    again = run()
    assert losses_of(again) == losses_of(whole)
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


# --- what is refused -----------------------------------------------------------------------------


def refused(full: tuple[Path, Path], tiny_model: Path, tmp_path: Path, rows: Any) -> str:
    """What a training from the start in full[0] says to the figures in full[1]."""
    job = job_of(started("full", tiny_model, full[0]), tiny_model, tmp_path, rows)
    with pytest.raises(StageFailed) as failure:
        _dpo.train(Dpo(**SLOW), replace(job, reference_file=full[1]))
    assert not job.step_log.exists()
    return str(failure.value)


def test_figures_of_other_rows_are_refused(
    full: tuple[Path, Path], tiny_model: Path, tmp_path: Path
) -> None:
    rows = [*PAIRS, {"id": "new", "prompt": "p", "chosen": "x", "rejected": "y"}]
    said = refused(full, tiny_model, tmp_path, rows)
    assert "the reference has not read row new; it has figures for 12 pairs" in said


def without_end(row: dict[str, str]) -> dict[str, str]:
    """The same texts; the prompt's last letter begins the answers."""
    end = row["prompt"][-1]
    answers = {name: end + row[name] for name in ("chosen", "rejected")}
    return {"prompt": row["prompt"][:-1], **answers}


@pytest.mark.parametrize(
    "change",
    [lambda row: {**row, "prompt": row["prompt"] + "z"},
     lambda row: {**row, "chosen": row["chosen"] + "z"},
     lambda row: {**row, "rejected": row["rejected"] + "z"},
     lambda row: {**row, "chosen": row["rejected"], "rejected": row["chosen"]}, without_end],
    ids=["prompt", "chosen", "rejected", "swapped", "the prompt ends before"],
)  # fmt: skip
def test_figures_of_other_tokens_are_refused(
    full: tuple[Path, Path], tiny_model: Path, tmp_path: Path, change: Any
) -> None:
    rows = [change(row) if number == 5 else row for number, row in enumerate(PAIRS)]
    said = refused(full, tiny_model, tmp_path, rows)
    assert "row 5 has other tokens than when the reference read it" in said


def test_figures_of_another_checkpoint_are_refused(
    full: tuple[Path, Path], tiny_model: Path, tmp_path: Path
) -> None:
    model = started("full", tiny_model, full[0])
    with torch.no_grad():
        next(model.parameters()).mul_(1.01)
    model.save_pretrained(tmp_path / "moved")
    said = refused((tmp_path / "moved", full[1]), tiny_model, tmp_path, PAIRS)
    assert "the reference is not the starting checkpoint: 4 pairs, largest difference" in said


def test_a_start_that_gives_no_numbers_is_refused(
    full: tuple[Path, Path], tiny_model: Path, tmp_path: Path
) -> None:
    model = started("full", tiny_model, full[0])
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with pytest.raises(StageFailed, match="gives 12 pairs a log-probability that is no number"):
        _dpo.reference(Dpo(**SLOW), job_of(model, tiny_model, tmp_path, PAIRS), tmp_path / "file")
    assert not (tmp_path / "file").exists()


# --- end to end ----------------------------------------------------------------------------------


def test_trainings_of_a_grid_read_one_file_and_refuse_an_altered_one(aligned: Workspace) -> None:
    aligned.tree["matrix"] |= {"method": ["full"]}
    planned(aligned)
    settings = ("matrix.dpo.beta=[0.1,0.5]", *(f"sft.{k}={v}" for k, v in SFT.items()))
    outcome = aligned.run(*settings)
    assert not {r.label: (r.error or {}).get("message") for r in outcome.failed}
    by_kind: dict[str, list[Any]] = {}
    for record in outcome.records.values():
        by_kind.setdefault(record.kind, []).append(record)
    (reference,) = by_kind["reference"]
    trained = [r for r in by_kind["train"] if "reference" in r.inputs]
    assert {r.inputs["reference"] for r in trained} == {reference.key}
    assert len(trained) == 2
    for record in trained:
        assert record.metrics["first_loss"] == pytest.approx(math.log(2), abs=1e-6)
        checks = {found["check"]: found["status"] for found in record.metrics["audit"]}
        assert checks["the reference is its start"] == "passed"
        assert checks["it starts as its starting checkpoint"] == "passed"
    assert [check["status"] for check in reference.metrics["audit"]] == ["passed"]
    assert Reference.headline(reference) == f"24 pairs, {reference.metrics['tokens']} tokens"
    assert min(reference.cost[name] for name in ("flops_per_second", "state_bytes")) > 0
    opened = aligned.open(*settings)
    (stage,) = [s for s in opened.plan.stages() if s.kind == "reference"]
    assert min(stage.predicted["seconds"], stage.predicted["state_bytes"]) > 0
    assert all(stage in path.work() for path in opened.plan.paths)
    times = ledger(opened.plan, outcome.records)
    assert times["reference reference"] == reference.cost["phases"]["reference"]
    assert aligned.run(*settings).ran == []

    file = stage.path(aligned.store) / LOGPS
    tensors = load_file(file)
    tensors["chosen"][0] += 0.001
    save_file(tensors, file, {"rows": json.dumps([f"pair-{i}" for i in range(24)])})
    job = Job(aligned.store / "train" / trained[0].key[:24], lambda event: None)
    with pytest.raises(StageFailed, match="is not as the reference stage left it"):
        reference_file(job)
    # A run computes it anew, where something is left that reads it.
    more = aligned.run("matrix.dpo.beta=[0.1,0.5,0.9]", *settings[1:])
    assert not more.failed
    assert reference.key in more.ran
    assert reference_file(job) == file


@pytest.mark.parametrize("method", ["full", "lora"])
def test_in_bfloat16_the_reference_computes_as_training_does(
    aligned: Workspace, method: str
) -> None:
    """Adapters are float32 there: without training's autocast they would compute in float32 too,
    and the first loss, of a policy that is its reference, would not be ln 2."""
    path = aligned.tree["models"]["tiny"]
    fields = {**DPO, "max_steps": 1, "per_device_train_batch_size": 8}
    aligned.tree["matrix"] |= {"method": [method], "objective": [{"sft": SFT}, {"dpo": fields}]}
    aligned.tree.pop("reward_model", None)
    aligned.write(models={"tiny": {"path": path, "dtype": "bfloat16"}})
    outcome = aligned.run()
    assert not outcome.failed, [record.error for record in outcome.failed]
    (record,) = [r for r in outcome.records.values() if "reference is its start" in str(r.metrics)]
    assert record.metrics["first_loss"] == pytest.approx(math.log(2), abs=2e-4)
