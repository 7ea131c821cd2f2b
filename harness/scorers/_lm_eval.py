"""The work of lm_eval: one task, group or tag on one model, and lm-eval's own result files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import StageFailed
from harness.core.files import digest_json
from harness.inference.lm_text import Encoder, prefix_of, render_chat
from harness.inference.service import Service
from harness.scorers import _lm_eval_requests as requests
from harness.scorers._lm_eval_faults import file_of
from harness.scorers._lm_eval_files import write
from harness.scorers._lm_eval_index import Index
from harness.scorers._lm_eval_rows import Scores, scores_of
from harness.scorers._lm_eval_tasks import DataFunction, build_requests, load_tasks, run_tasks
from harness.scorers._sandbox import refusal
from harness.scorers.base import ScoreJob

if TYPE_CHECKING:
    from harness.scorers.lm_eval import LmEval


def prepare(
    scorer: LmEval,
    job: ScoreJob,
    tokenizer: Any,
    index: Index,
    local_data: Mapping[str, DataFunction],
) -> dict[str, Any]:
    """Write the requests of the scorer's one task into the stage's folder.

    Raises:
        StageFailed: the task cannot be loaded, or asks for a chat template that is not there.
    """
    _refuse_template(scorer, tokenizer)
    with _quiet():
        loaded = _load(scorer, index, local_data)
        tasks = loaded["tasks"]
        _require_sandbox(tasks)
        _set(scorer, tasks)
        build_requests(
            tasks,
            job.progress,
            limit=scorer.limit,
            system_instruction=scorer.system_instruction,
            fewshot_as_multiturn=scorer.multiturn,
            chat_template=_template(tokenizer) if scorer.apply_chat_template else None,
        )
        encoder = Encoder(tokenizer, prefix_of(tokenizer), None)
        figures = requests.write(job.folder, tasks, encoder)
    template = digest_json(tokenizer.chat_template) if scorer.apply_chat_template else None
    return {**figures, "chat_template_sha256": template}


def _load(scorer: LmEval, index: Index, local_data: Mapping[str, DataFunction]) -> dict[str, Any]:
    return load_tasks(
        scorer.tasks, index, local_data,
        allow_code=scorer.allow_code_execution, metadata=scorer.metadata,
    )  # fmt: skip


def _require_sandbox(tasks: Mapping[str, Any]) -> None:
    """Raise StageFailed where programs of a model would be run, and cannot be on this machine."""
    unsafe = any(getattr(task, "UNSAFE_CODE", False) for task in tasks.values())
    if unsafe and (reason := refusal()) is not None:
        raise StageFailed("no sandbox", reason)


def _template(tokenizer: Any) -> Callable[..., str]:
    """Renders messages by the tokenizer's chat template, with what the suite gives it."""
    options = getattr(tokenizer, "chat_template_kwargs", {})

    def render(messages: Any, add_generation_prompt: bool = True) -> str:
        return render_chat(
            tokenizer, messages, add_generation_prompt=add_generation_prompt, options=options
        )

    return render


def evaluate(
    scorer: LmEval, job: ScoreJob, prepared: Path, index: Index
) -> tuple[Scores, dict[str, Any]]:
    """The scores of the scorer's one task, and what the record should say of them.

    Writes `results_*.json` and `samples_*.jsonl` into the stage's folder, as lm-eval does.

    Args:
        prepared: the folder of the requests.

    Raises:
        StageFailed: nothing of the task can be compared.
    """
    (name,) = scorer.tasks
    with _quiet():
        stored, encoder = requests.read(prepared)
        with requests.without_data(stored):
            loaded = _load(scorer, index, {})
            _set(scorer, loaded["tasks"])
            requests.restore(loaded["tasks"], stored)
            engine = _engine(scorer, job, encoder)
            results = run_tasks(
                engine,
                loaded,
                name,
                apply_chat_template=scorer.apply_chat_template,
                fewshot_as_multiturn=scorer.multiturn,
                confirm_run_unsafe_code=scorer.allow_code_execution,
            )
    for task, kept in stored.items():
        results["n-samples"][task]["original"] = kept.total
    samples = results["samples"]
    by_task = _by_task(loaded["groups"].get(name))
    scores = scores_of(samples, loaded["tasks"], results["results"], name, by_task=by_task)
    require_metrics(scores, name, loaded["tasks"])
    write(job.folder, scorer, results, engine)
    return scores, _about(scorer, scores, samples, results, engine)


def require_metrics(scores: Scores, name: str, tasks: Mapping[str, Any]) -> None:
    """Raise StageFailed where nothing of a task can be compared."""
    if not scores.metrics:
        reasons = "; ".join(f"{metric}: {reason}" for metric, reason in scores.left_out.items())
        files = ", ".join(dict.fromkeys(file_of(task) for task in tasks.values()))
        raise StageFailed(
            "no metric",
            f"the task {name} ({files}) has no metric of single examples"
            f"{f' ({reasons})' if reasons else ''}; look at metric_list",
            fix="name a metric of the task's output_type",
        )


def _engine(scorer: LmEval, job: ScoreJob, encoder: Callable[[Any], Encoder]) -> Any:
    """What answers the requests: our inference engine over the variant's model, or the server that
    answers for it."""
    from harness.inference import HarnessLM
    from harness.inference.lm_service import ServiceLM

    loaded = job.model()
    if isinstance(loaded.model, Service):
        return ServiceLM(loaded.model, progress=job.progress)
    return HarnessLM(
        loaded.model, loaded.tokenizer, batch_tokens=scorer.batch_tokens,
        encoder=encoder(loaded.tokenizer), progress=job.progress,
    )  # fmt: skip


def _set(scorer: LmEval, tasks: Mapping[str, Any]) -> None:
    """Shots, seed and generation settings, as `lm_eval.simple_evaluate` sets them."""
    for task in tasks.values():
        default = task.get_config("num_fewshot")
        if scorer.num_fewshot is not None and default != 0:
            task.set_config(key="num_fewshot", value=scorer.num_fewshot)
        elif default is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=scorer.fewshot_seed)
        if scorer.gen_kwargs and task.get_config("output_type") == "generate_until":
            task.set_config(key="generation_kwargs", value=scorer.gen_kwargs, update=True)


def _refuse_template(scorer: LmEval, tokenizer: Any) -> None:
    if scorer.apply_chat_template and not getattr(tokenizer, "chat_template", None):
        raise StageFailed(
            "no chat template",
            "apply_chat_template is on, and the model's tokenizer has no chat template",
            fix="set apply_chat_template: false, or give the model a `chat_template:`",
        )


def _by_task(group: Any) -> list[str]:
    """Metrics of a group that are means over tasks, and not over examples (lm-eval's default)."""
    metrics = getattr(group, "aggregate_metric_list", None) or []
    return [each.metric for each in metrics if not each.weight_by_size]


def _about(
    scorer: LmEval,
    scores: Scores,
    samples: Mapping[str, Sequence[Mapping[str, Any]]],
    results: Mapping[str, Any],
    engine: Any,
) -> dict[str, Any]:
    import lm_eval

    template = getattr(engine.tokenizer, "chat_template", None)
    about: dict[str, Any] = {
        "lm_eval": lm_eval.__version__,
        "tasks": {name: results["versions"].get(name) for name in sorted(samples)},
        "num_fewshot": {name: results["n-shot"].get(name) for name in sorted(samples)},
        "requests_sha256": digest_json(
            [[sample["prompt_hash"] for sample in samples[name]] for name in sorted(samples)]
        ),
        "chance": scores.chance,
    }
    if scorer.apply_chat_template:
        about["chat_template_sha256"] = digest_json(template)
    if scores.left_out:
        about["without_interval"] = dict(scores.left_out)
        about["notes"] = [
            f"{scorer.tasks[0]}: {metric} stands in lm-eval's results alone: {reason}"
            for metric, reason in scores.left_out.items()
        ]
    notes = []
    if engine.truncated:
        about["truncated"] = engine.truncated
        notes.append(
            f"{engine.truncated} request{'s were' if engine.truncated > 1 else ' was'} longer than"
            f" the model's context of {engine.max_length} tokens, with room for the answer, and"
            " lost the beginning, as in lm-eval"
        )
    if spaced := wrong_by_spaces(samples):
        about["wrong_by_spaces"] = spaced  # the note is one for all variants
        notes.append(
            "some answers differ from the target in the spaces around them alone; the task's"
            " exact_match, which is lm-eval's, counts them as wrong"
        )
    return {**about, "answer_notes": notes} if notes else about


def wrong_by_spaces(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> int:
    """Answers that exact_match counts as wrong for the spaces around them alone.

    A tokenizer that writes the space before a word as a part of the word begins every answer with
    one, and some of lm-eval's tasks (bbh_fewshot) do not strip it: every answer is then wrong.
    """
    return sum(
        sample.get("exact_match") == 0
        and all(
            isinstance(answer, str)
            and answer != str(sample["target"])
            and answer.strip() == str(sample["target"]).strip()
            for answer in sample["filtered_resps"]
        )
        for logged in samples.values()
        for sample in logged
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval's warnings about what the suite asks for are no news; its errors are. The stage tells
    its progress in the place of bars."""
    import datasets

    logger = logging.getLogger("lm_eval")
    level, bars = logger.level, datasets.are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
