"""The same rows for an optimizer step train the same weights, however they are cut into passes."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core import registry
from harness.objectives._reward_functions import FUNCTIONS
from harness.objectives._trainer import TrainerObjective
from tests.objectives.test_preference import job_of, losses_of, model_of

STEP = 12
"""Rows of an optimizer step, and of an epoch, whose last pass may be smaller."""
TEXTS = [{"text": "ab " * (1 + i * i % 9)} for i in range(STEP)]
ASKED = [{"prompt": f"say {i}: ", "completion": "cd" * (1 + i * i % 7)} for i in range(STEP)]
PAIRS = [
    {"prompt": f"say {i}: ", "chosen": "ab" * (1 + i * i % 9), "rejected": "no" * (1 + i % 5),
     "dimension": "brief" if i % 3 else "kind"}
    for i in range(STEP)
]  # fmt: skip
THUMBS = [
    {"prompt": f"say {i}: ", "completion": "ab" * (1 + i * i % 9), "label": i % 3 == 0}
    for i in range(STEP)
]
PROMPTS = [{"prompt": f"say {i}: ", "references": [f"{i}"]} for i in range(STEP)]
SAMPLED = {"reward_functions": ["length"], "num_generations": 2, "max_new_tokens": 6}
EVERY: dict[str, tuple[str, list[dict[str, Any]], dict[str, Any]]] = {
    "sft": ("sft", ASKED, {}),
    "sft, texts": ("sft", TEXTS, {}),
    "cpt, unpacked": ("cpt", TEXTS, {"packing": False}),
    "reward": ("reward", PAIRS, {"held_out": 0}),
    "reward, weighed": ("reward", PAIRS, {"held_out": 0, "dimension_weights": {"brief": 5}}),
    "dpo": ("dpo", PAIRS, {}),
    "dpo with a likelihood": (
        "dpo", PAIRS, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1, 1]}
    ),
    "kto": ("kto", THUMBS, {"shuffle": False}),
    "kto, lora": ("kto", THUMBS, {"shuffle": False}),
    "kto, precomputed": ("kto", THUMBS, {"shuffle": False, "precompute_ref_log_probs": True}),
    "kto, no KL": ("kto", THUMBS, {"shuffle": False, "loss_type": "apo_zero_unpaired"}),
    "orpo": ("orpo", PAIRS, {}),
    "grpo": ("grpo", PROMPTS, SAMPLED),
    "grpo, dapo": ("grpo", PROMPTS, {**SAMPLED, "loss_type": "dapo"}),
    "rloo": ("rloo", PROMPTS, SAMPLED),
}  # fmt: skip
WHOLE = [(12, 1), (4, 3), (2, 6)]
UNEVEN = [(5, 3), (7, 2)]
"""Rows of a pass, and passes of a step."""
EVERYDAY = [(12, 1), (4, 3), (5, 3)]


@pytest.fixture(autouse=True)
def _rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FUNCTIONS, "length", lambda answer, row: sum(map(ord, answer)) % 97 / 97)


def test_every_objective_that_accumulates_is_in_this_table() -> None:
    found = {name: registry.find("objective", name) for name in registry.names("objective")}
    accumulate = {n for n, c in found.items() if issubclass(c, TrainerObjective)}
    assert accumulate == {name for name, _, _ in EVERY.values()} | {"toy_objective"} & accumulate


@pytest.mark.parametrize(
    ("name", "options"), [("dpo", {"loss_type": "aot"}), ("grpo", {**SAMPLED, "loss_type": "bnpo"})]
)
def test_losses_that_are_defined_over_a_forward_pass_are_told(
    name: str, options: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    declared: Any = registry.find("objective", name)
    module, _, function = declared.impl.partition(":")
    train: Callable[..., Any] = getattr(importlib.import_module(module), function)
    rows = PAIRS if name == "dpo" else PROMPTS
    for passes, told in ((1, 0), (2, 1)):
        objective = declared(
            max_steps=1, max_length=64, per_device_train_batch_size=4,
            gradient_accumulation_steps=passes, **options,
        )  # fmt: skip
        job = job_of(model_of(tiny_model), tiny_model, tmp_path / str(passes), rows)
        notes = train(objective, job).notes
        assert len(notes) == told
        assert all(f"gradient_accumulation_steps {passes}" in note for note in notes)


@pytest.mark.parametrize(
    "cuts",
    [pytest.param(EVERYDAY, id="three cuts"),
     pytest.param([*WHOLE, *UNEVEN], id="all cuts", marks=pytest.mark.slow)],
)  # fmt: skip
@pytest.mark.parametrize("case", EVERY)
def test_weights_depend_on_the_rows_of_a_step_and_not_on_how_they_are_cut(
    case: str, cuts: list[tuple[int, int]], tiny_model: Path, tmp_path: Path
) -> None:
    name, rows, options = EVERY[case]
    declared: Any = registry.find("objective", name)
    module, _, function = declared.impl.partition(":")
    train: Callable[..., Any] = getattr(importlib.import_module(module), function)
    if options.get("num_generations"):
        cuts = [cut for cut in cuts if cut in WHOLE]
    found = {}
    for size, passes in cuts:
        objective = declared(
            learning_rate=0.1, optim="sgd", max_steps=2, max_length=64,
            per_device_train_batch_size=size, gradient_accumulation_steps=passes,
            lr_scheduler_type="constant", train_sampling_strategy="sequential", **options,
        )  # fmt: skip
        model = model_of(tiny_model, head=declared.head, adapter=True if "lora" in case else None)
        before = copy.deepcopy(model.state_dict())
        job = job_of(model, tiny_model, tmp_path / f"{size} x {passes}", rows)
        train(objective, job)
        moved = {n: value - before[n] for n, value in model.state_dict().items()}
        found[size, passes] = losses_of(job), moved
    losses, moved = found[STEP, 1]
    largest = max(float(change.abs().max()) for change in moved.values())
    assert largest > 1e-5
    for cut, (other_losses, other) in found.items():
        assert other_losses == pytest.approx(losses, rel=1e-4, abs=1e-6), cut
        gap = max(float((other[n] - change).abs().max()) for n, change in moved.items())
        assert gap < 1e-3 * largest, cut
