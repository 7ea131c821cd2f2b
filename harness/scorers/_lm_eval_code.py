"""Tasks of lm-evaluation-harness that run what a model writes: by a sandbox, or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

from harness.core.errors import StageFailed
from harness.scorers._sandbox import pass_at_k, refusal, run_programs


@contextlib.contextmanager
def without_code(allowed: bool) -> Iterator[None]:
    """Tasks of code load evaluate's `code_eval` from the hub and try it as they are imported. In
    its place stands our own, which runs programs in a sandbox, or refuses to."""
    import evaluate

    load = evaluate.load

    def loaded(path: str, *arguments: Any, **options: Any) -> Any:
        return CodeEval(allowed) if path == "code_eval" else load(path, *arguments, **options)

    with mock.patch.object(evaluate, "load", loaded):
        yield


class CodeEval:
    """evaluate's `code_eval`, its programs run in a sandbox.

    Args:
        allowed: whether anything is run.

    Attributes:
        imported: whether the task is loaded; what it tries as it is imported is not run.
    """

    def __init__(self, allowed: bool) -> None:
        self.allowed, self.imported = allowed, False

    def compute(
        self,
        references: Sequence[str],
        predictions: Sequence[Sequence[str]],
        k: Sequence[int] = (1, 10, 100),
        **_: Any,
    ) -> tuple[dict[str, float], dict[int, list[tuple[int, dict[str, Any]]]]]:
        """pass@k, the mean over problems, and each program's outcome.

        Args:
            references: a test for each problem. predictions: programs for each problem.

        Raises:
            StageFailed: code execution is off, or there is no sandbox on this machine.
        """
        if not self.imported and not self.allowed:
            return {f"pass@{number}": 0.0 for number in k}, {}
        if not self.allowed:
            raise StageFailed(
                "code execution is off",
                "the task runs the programs that a model writes",
                fix="set allow_code_execution: true; they then run inside bubblewrap",
            )
        reason = refusal()
        if reason is not None:
            raise StageFailed("no sandbox", reason)
        programs = [
            f"{program}\n{test}"
            for test, candidates in zip(references, predictions, strict=True)
            for program in candidates
        ]
        outcomes = iter(run_programs(programs))
        counts: list[tuple[int, int]] = []
        details: dict[int, list[tuple[int, dict[str, Any]]]] = {}
        for problem, candidates in enumerate(predictions):
            results = [next(outcomes) for _ in candidates]
            counts.append((len(results), sum(result.passed for result in results)))
            details[problem] = [
                (number, {"task_id": problem, "completion_id": number, "passed": result.passed,
                          "result": result.reason or "passed"})
                for number, result in enumerate(results)
            ]  # fmt: skip
        shares = {
            f"pass@{number}": sum(pass_at_k(n, c, number) for n, c in counts) / len(counts)
            for number in k
            if all(n >= number for n, _ in counts)
        }
        return shares, details


def code_evals(task: Any) -> Iterator[CodeEval]:
    """What stands in the place of code_eval in the modules of a task's own functions."""
    functions = [*getattr(task, "_metric_fn_list", {}).values(), task.config.process_results]
    for function in functions:
        # lm-eval keeps the call of a function, and evaluate's metrics as a method.
        for layer in (
            function,
            getattr(function, "func", None),
            getattr(function, "__self__", None),
        ):
            if isinstance(layer, CodeEval):
                yield layer
            for value in getattr(layer, "__globals__", {}).values():
                if isinstance(value, CodeEval):
                    yield value
