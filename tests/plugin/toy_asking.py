"""A scorer from outside the package that asks for all that can be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.scorers.base import SHARE, Asked, LoadedModel, Metric, ScoreJob, Scorer, Subject


class Everything(Scorer):
    """Reads all that a scorer can ask for."""

    metrics = {
        "by_rule": Metric(bounds=SHARE), "by_judge": Metric(bounds=SHARE), "reward": Metric(),
        "from_start": Metric(), "from_base": Metric(), "from_baseline": Metric(),
        "base_length": Metric(),
    }  # fmt: skip

    rule: str = "pocket/truth.py:better"
    """A rule that compares with the baseline's answers."""
    judge: str | dict[str, Any] = "longest"
    """A labeller that compares with the start's answers."""

    def asks(self, of: Subject) -> Mapping[str, Asked]:
        return {
            "answers": of.answers(), "before": of.start().answers(), "plain": of.base().answers(),
            "other": of.baseline().answers(), "rows": of.rows(), "rule": of.rule(self.rule),
            "judge": of.labeller(self.judge), "reward_model": of.reward_model(),
            "model": of.model(), "start": of.start().model(), "base": of.base().model(),
            "baseline": of.baseline().model(),
        }  # fmt: skip

    def score_job(self, job: ScoreJob) -> list[dict[str, Any]]:
        answers, rows, others = job.answers(), job.rows(), job.answers("other")
        sides = zip(answers, job.answers("before"), rows, strict=True)
        verdicts = job.labeller("judge")([
            (row["prompt"], message(answer.text), message(before.text))
            for answer, before, row in sides
        ])  # fmt: skip
        logits = {name: read(job.model(name)) for name in ("model", "start", "base", "baseline")}
        moved = {f"from_{n}": float((logits["model"] - logits[n]).abs().max()) for n in logits}
        reward = float(read(job.model("reward_model")))
        return [
            {
                **{name: moved[name] for name in ("from_start", "from_base", "from_baseline")},
                "by_rule": better(job.rule()(row, answer.text, other.text) or 0, 0),
                "by_judge": float(verdict), "reward": reward, "base_length": len(plain.text),
            }
            for answer, other, row, plain, verdict in zip(
                answers, others, rows, job.answers("plain"), verdicts, strict=True
            )
        ]  # fmt: skip


def better(one: int, other: int) -> float:
    return 0.5 + 0.5 * ((one > other) - (one < other))


def message(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def read(loaded: LoadedModel) -> Any:
    import torch

    ids = loaded.tokenizer("a letter", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return loaded.model(ids).logits
