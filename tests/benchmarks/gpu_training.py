"""Training through the harness against a plain TRL script: time, FLOPs, memory, losses."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from gpu_shapes import SHAPES, Clock, RandomRef, forget, matmul_rate, peaks, rows, texts

LOSSES_APART = 0.01
"""Of a loss: further from one another, in bfloat16, the sides did not train the same."""


@dataclass(frozen=True)
class Training:
    """What is trained, by both sides.

    Attributes:
        batch: rows of a step. length: tokens of a row. warm_up: steps that are not counted.
        checkpointing: whether activations are computed again; several: the next where the one
            before took more memory than there is.
        rounds: how often each side trains, in turns; which goes first alternates.
        adapter: options of the method. rate: the learning rate.
    """

    shape: str
    method: str
    batch: int
    length: int
    steps: int = 16
    warm_up: int = 4
    checkpointing: tuple[bool, ...] = (False, True)
    rounds: int = 1
    rate: float = 1e-4
    adapter: tuple[tuple[str, Any], ...] = ()


def train(case: Training, device: str) -> dict[str, Any]:
    """Both sides' figures, and what they say together."""
    found: dict[str, Any] = {"settings": asdict(case), "matmul_flops_per_second": 0.0}
    found["matmul_flops_per_second"] = matmul_rate(device)
    short = []
    for checkpointing in case.checkpointing:
        sides = _sides(case, device, checkpointing)
        lacking = sorted(name for name, side in sides.items() if "out_of_memory" in side)
        found |= {"checkpointing": checkpointing, **sides}
        if not lacking:
            break
        short.append({"checkpointing": checkpointing, "out_of_memory": lacking, **sides})
    if short:
        found["tried"] = short
    return found | _together(case, found)


def _sides(case: Training, device: str, checkpointing: bool) -> dict[str, dict[str, Any]]:
    """Each side's steps of all rounds, its peaks and its losses."""
    sides: dict[str, dict[str, Any]] = {"trl": {}, "harness": {}}
    for number in range(case.rounds):
        for name in ("trl", "harness") if number % 2 == 0 else ("harness", "trl"):
            if "out_of_memory" in sides[name]:
                continue
            made = _within_memory(SIDES[name], case, device, checkpointing)
            made["seconds"] = sides[name].get("seconds", []) + made.get("seconds", [])
            sides[name] |= made
    return sides


def _within_memory(side: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    import torch

    told = ""
    forget(given[1])
    before = torch.cuda.memory_allocated() if given[1] != "cpu" else 0
    try:
        found = side(*given)
    except torch.OutOfMemoryError as error:
        told = str(error).splitlines()[0]
    if told:  # out of the except block, which holds on to the failed side's tensors
        found = {"out_of_memory": told, **peaks(given[1])}
        forget(given[1])
    return {**found, "allocated_before": before}


def _together(case: Training, found: dict[str, Any]) -> dict[str, Any]:
    own, plain = found["harness"], found["trl"]
    tokens, made = case.batch * case.length, {}
    for name, side in (("harness", own), ("trl", plain)):
        if side.get("seconds"):
            step = side["seconds_per_step"] = median(side["seconds"])
            side["tokens_per_second"] = tokens / step
            for share, flops in own.get("flops_per_token", {}).items():
                rate = flops * tokens / step
                made[f"{share}_{name}"] = rate / found["matmul_flops_per_second"]
    if "out_of_memory" in own or "out_of_memory" in plain:
        return {"status": "out of memory", **made}
    apart = max(abs(a - b) / abs(b) for a, b in zip(own["losses"], plain["losses"], strict=True))
    made |= {
        "of_plain_step": own["seconds_per_step"] / plain["seconds_per_step"],
        "losses_apart": apart,
        "losses_may_be_apart": LOSSES_APART,
    }
    if own.get("predicted") and own.get("peak_allocated"):
        made["predicted_of_peak"] = own["predicted"] / own["peak_allocated"]
    return {"status": "ok" if apart <= LOSSES_APART else "void: the losses differ", **made}


def _method(case: Training) -> Any:
    from harness.methods.full import Full
    from harness.methods.lora import Lora
    from harness.methods.qlora import Qlora

    return {"full": Full, "lora": Lora, "qlora": Qlora}[case.method](**dict(case.adapter))


def _texts(case: Training) -> list[str]:
    """A row of exactly `length` tokens with the end that training adds; each is seen once."""
    return texts(case.steps * case.batch, case.length - 1)


def through_harness(case: Training, device: str, checkpointing: bool) -> dict[str, Any]:
    """The harness's own method, precision, trainer and loss; what is left out is its audits."""
    from harness.objectives._trl.sft import train as train_sft
    from harness.objectives.base import TrainJob
    from harness.objectives.sft import Sft
    from harness.stages._companions import trainable
    from harness.stages.train import reset

    method = _method(case)
    objective = Sft(
        max_steps=case.steps, per_device_train_batch_size=case.batch, max_length=case.length,
        learning_rate=case.rate, optim="adamw_torch_fused", gradient_checkpointing=checkpointing,
    )  # fmt: skip
    ref = RandomRef(case.shape, "bfloat16", device)
    base = method.load(ref)
    predicted = _predicted(method, objective, base, case)
    load_peak = peaks(device)
    reset(0)
    model, _ = trainable(method, objective, base, None)
    flops = _flops_per_token(model, case)
    forget(device)
    clock = Clock(device)
    with tempfile.TemporaryDirectory() as folder:
        job = TrainJob(
            model=model, tokenizer=ref.tokenizer(), rows=rows(_texts(case)), validation=[],
            checkpoints=Path(folder), step_log=Path(folder) / "steps.jsonl", seed=0, data_seed=0,
            dtype="bfloat16", device=device, checkpoint_seconds=1e9, report_to=[], label="bench",
            progress=clock.mark, gates=method.gates(model),
        )  # fmt: skip
        result = train_sft(objective, job)
        losses = [line["loss"] for line in _lines(job.step_log)]
    return {
        "seconds": clock.seconds()[case.warm_up - 1 :],
        "losses": losses,
        "load": load_peak,
        **peaks(device),
        "predicted": predicted,
        "flops_per_token": flops,
        "activations": result.saved_activation_bytes,
        "optimizer": result.optimizer_bytes,
        "gradients": result.gradient_bytes,
    }


def plain_trl(case: Training, device: str, checkpointing: bool) -> dict[str, Any]:
    """A plain TRL script with the same settings, on the same texts."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, prepare_model_for_kbit_training
    from transformers import BitsAndBytesConfig, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    clock, losses = Clock(device), []

    class Watch(TrainerCallback):
        def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
            if logs and "loss" in logs:
                losses.append(logs["loss"])
                clock.mark()

    ref = RandomRef(case.shape, "bfloat16", device)
    if case.method == "qlora":
        base = ref.load(
            quantization=BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
            )
        )  # fmt: skip
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    else:
        base = ref.load() if case.method == "lora" else ref.load().float()
    torch.manual_seed(0)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    load_peak = peaks(device)
    forget(device)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        trainer = SFTTrainer(
            model=base,
            processing_class=ref.tokenizer(),
            train_dataset=Dataset.from_list([{"text": text} for text in _texts(case)]),
            peft_config=None if case.method == "full" else lora,
            callbacks=[Watch()],
            args=SFTConfig(
                output_dir=folder, max_steps=case.steps, per_device_train_batch_size=case.batch,
                max_length=case.length, learning_rate=case.rate, bf16=True, packing=False,
                gradient_checkpointing=checkpointing, optim="adamw_torch_fused", logging_steps=1,
                save_strategy="no", report_to=[], use_cpu=device == "cpu", seed=0, data_seed=0,
                dataloader_pin_memory=device != "cpu", disable_tqdm=True,
            ),
        )  # fmt: skip
        trainer.train()
    return {
        "seconds": clock.seconds()[case.warm_up - 1 :],
        "losses": losses,
        "load": load_peak,
        **peaks(device),
    }


SIDES = {"harness": through_harness, "trl": plain_trl}


def _predicted(method: Any, objective: Any, base: Any, case: Training) -> int | None:
    """What `harness plan` would say of the training's memory, in bytes."""
    from harness.stages._cost import BYTES_A_TOKEN, Rates
    from harness.stages._training_cost import expected_training
    from harness.store.store import Store

    length = case.length * BYTES_A_TOKEN
    data = {"rows": case.steps * case.batch, "mean_bytes": length, "longest_bytes": length}
    with tempfile.TemporaryDirectory() as folder:
        rates = Rates(Store(Path(folder)), "cuda")  # of a store in which nothing has run
        found = expected_training(method.describe(base), method, objective, data, rates, "bfloat16")
    told = found.get("peak_bytes")
    return None if told is None else int(told)


def _flops_per_token(model: Any, case: Training) -> dict[str, float]:
    """Model FLOPs of a token, forward and backward, whatever is computed again.

    `mfu`: 4 N + 2 T for N parameters in products (an input embedding of its own is in none) and T
    that train: 6 N for full fine-tuning. `mfu_with_attention`: 6 layers x width x length more, half
    of the square of positions (causal), forward once and backward twice.
    """
    from harness.core.measure import number_count
    from harness.stages._cost import training_flops

    shape = SHAPES[case.shape]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    looked_up = 0
    if not shape["tie_word_embeddings"]:
        looked_up = shape["vocab_size"] * shape["hidden_size"]
    number = number_count(model.parameters()) - looked_up
    plain = training_flops(number, min(trained, number), 1)
    width = shape.get("head_dim", shape["hidden_size"] // shape["num_attention_heads"])
    width *= shape["num_attention_heads"]
    attention = 6.0 * shape["num_hidden_layers"] * width * case.length
    return {"mfu": plain, "mfu_with_attention": plain + attention}


def _lines(path: Path) -> list[dict[str, Any]]:
    import json

    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
