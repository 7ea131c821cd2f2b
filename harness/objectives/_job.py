"""What a train stage hands to an objective, and what the objective says of the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.data.row import Row


@dataclass
class TrainJob:
    """What the train stage hands to an objective: everything resolved, nothing to look up.

    Attributes:
        model: trainable, attached or resumed by the method.
        rows: training rows in one layout, already short enough.
        checkpoints: folder for this stage's own checkpoints; an earlier run's may lie there.
        step_log: JSON lines, one a step, that survives a kill.
        progress: called as progress(done, total, note).
        note: told what a person should know at once.
        reference_logits: the starting policy, frozen: reference_logits(input_ids, attention_mask)
            -> logits, (batch, tokens, vocabulary). PPO needs it; a method's add_reference makes it.
        reward_model: scores a prompt with its answer: a sequence classifier of one label (with the
            policy's vocabulary), or reward_model(prompts, answers) -> numbers, of token ids each.
        reward_tokenizer: the reward model's; None where it is known to be the policy's.
        value_model: makes a plain copy of the reward model, in float32; None: copy it.
        reference_file: log-probabilities of the starting policy, as `Objective.reference` wrote
            them; None: the trainer computes them itself.
        gates: a trainable tensor -> another, through which its gradient passes: none can while that
            is all zeros, as LoRA's B is at the start.
    """

    model: Any
    tokenizer: Any
    rows: list[Row]
    validation: list[Row]
    checkpoints: Path
    step_log: Path
    seed: int
    data_seed: int
    dtype: str
    device: str
    checkpoint_seconds: float
    report_to: list[str]
    label: str
    progress: Callable[[int, int, str], None]
    more_rows: Mapping[str, list[Row]] = field(default_factory=dict)
    """Role -> rows of the other data entries that `Objective.more_data` names."""
    reference_logits: Callable[[Any, Any], Any] | None = None
    reward_model: Any = None
    reward_tokenizer: Any = None
    value_model: Callable[[], Any] | None = None
    reference_file: Path | None = None
    gates: Mapping[str, str] = field(default_factory=dict)
    note: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Evidence:
    """What the first steps showed; the audit holds it against the rows and the method.

    Attributes:
        batches: what entered the model: input_ids, attention_mask and labels, as lists of rows.
        without_gradient: trainable tensors that had no gradient but zero, and could have had one.
        behind_gates: those that could have none yet, as the job's `gates` say.
        signal: whether any tensor had one; without it (all rewards equal, say) nothing can be told.
        reached: name -> the step (from 1) that the first gradient came before.
        dues: name -> steps, and which of a tensor's places, as `_movement.spread` chooses them,
            each moves where all is float32.
        untold: tensors of which that cannot be told, as another kind of optimizer moves them.
    """

    batches: tuple[Mapping[str, list[list[int]]], ...] = ()
    without_gradient: tuple[str, ...] = ()
    behind_gates: tuple[str, ...] = ()
    signal: bool = False
    reached: Mapping[str, int] = field(default_factory=dict)
    dues: Mapping[str, Sequence[tuple[int, Any]]] = field(default_factory=dict)
    untold: frozenset[str] = frozenset()

    def as_of(self, step: int) -> Evidence:
        """What can be expected of the weights after a step, which may be an early one: what the
        steps up to it showed. Whether gradients arrive is told by all."""
        later = [name for name, first in self.reached.items() if first > step]
        dues = {n: [due for due in own if due[0] <= step] for n, own in self.dues.items()}
        return replace(
            self,
            behind_gates=tuple(sorted({*self.behind_gates, *later})),
            reached={name: first for name, first in self.reached.items() if first <= step},
            dues={name: own for name, own in dues.items() if own},
        )


@dataclass(frozen=True)
class TrainResult:
    """What training says of itself; the model in the job is the trained one.

    Attributes:
        tokens: tokens the model saw, padding excluded, over all epochs.
        seconds_per_step: median wall time of a step, in seconds; 0 if it was not measured.
        saved_activation_bytes: bytes autograd kept at the first step, parameters excluded; None
            where they are not known.
        earlier_seconds: of the attempts that led to the checkpoint it went on from.
        checks: findings of the objective's own for the audit: check, status, detail.
        notes: sentences that a reader of the figures must know, for the record and the report.
    """

    steps: int
    tokens: int
    seconds_per_step: float = 0.0
    saved_activation_bytes: int | None = None
    optimizer_bytes: int | None = None
    gradient_bytes: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    evidence: Evidence | None = None
    earlier_seconds: float = 0.0
    checks: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()
