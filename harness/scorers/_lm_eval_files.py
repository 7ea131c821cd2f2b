"""Results and samples as lm-eval's own command writes them, for its own tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.files import write_atomic

if TYPE_CHECKING:
    from harness.scorers.lm_eval import LmEval

_NO_TIME = "1970-01-01T00-00-00.000000"
"""Where lm-eval's names have the time of the run, by which its tools tell a task's name from the
rest. The files of a stage are the same whenever it runs, and so are their names."""
_RESULTS, _SAMPLES = f"results_{{}}_{_NO_TIME}.json", f"samples_{{}}_{_NO_TIME}.jsonl"


def write(folder: Path, scorer: LmEval, results: Mapping[str, Any], engine: Any) -> None:
    """Write `results_*.json` of the scorer's one task, group or tag, and `samples_*.jsonl` of each
    task behind it.

    Args:
        results: what `lm_eval.evaluate` returned.
        engine: what answered.
    """
    (name,) = scorer.tasks
    samples = results["samples"]
    aggregated = {key: value for key, value in results.items() if key != "samples"}
    whole = {**aggregated, **_circumstances(scorer, samples, engine)}
    write_atomic(folder / _RESULTS.format(_safe(name)), _text(whole, indent=2) + "\n")
    for task, logged in samples.items():
        lines = "".join(f"{_text(_flat(sample))}\n" for sample in logged)
        write_atomic(folder / _SAMPLES.format(_safe(task)), lines)


def _circumstances(
    scorer: LmEval, samples: Mapping[str, Sequence[Mapping[str, Any]]], engine: Any
) -> dict[str, Any]:
    """What `lm_eval.simple_evaluate` and its EvaluationTracker add to results; no times."""
    import lm_eval
    import transformers
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
    from lm_eval.loggers.utils import add_tokenizer_info
    from lm_eval.utils import hash_string, sanitize_model_name

    model, system = type(engine).__name__, scorer.system_instruction
    template = engine.tokenizer.chat_template if scorer.apply_chat_template else None
    told: dict[str, Any] = {
        "config": {
            "model": model, "model_args": {}, **getattr(engine, "get_model_info", dict)(),
            "batch_size": None, "batch_sizes": [], "device": None, "use_cache": None,
            "limit": scorer.limit, "gen_kwargs": scorer.gen_kwargs or None,
            "random_seed": DEFAULT_RANDOM_SEED, "numpy_seed": DEFAULT_OTHER_SEED,
            "torch_seed": DEFAULT_OTHER_SEED, "fewshot_seed": scorer.fewshot_seed,
        },
        "transformers_version": transformers.__version__,
        "lm_eval_version": lm_eval.__version__,
        "task_hashes": {task: hash_string("".join(map(_hashes, each)))
                        for task, each in samples.items()},
        "model_source": "CUSTOM", "model_name": model,
        "model_name_sanitized": sanitize_model_name(model),
        "system_instruction": system,
        "system_instruction_sha": hash_string(system) if system else None,
        "fewshot_as_multiturn": scorer.multiturn,
        "chat_template": template,
        "chat_template_sha": hash_string(template) if isinstance(template, str) else None,
    }  # fmt: skip
    add_tokenizer_info(told, engine)
    return told


def _hashes(sample: Mapping[str, Any]) -> str:
    return "".join(sample[f"{part}_hash"] for part in ("doc", "prompt", "target"))


def _flat(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A sample as lm-eval writes it: answers are texts, so that all lines have the same types."""
    from lm_eval.utils import sanitize_list

    return {
        **sample,
        "resps": sanitize_list(sample["resps"]),
        "filtered_resps": sanitize_list(sample["filtered_resps"]),
        "arguments": {
            f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(parts)}
            for i, parts in enumerate(sample["arguments"])
        },
        "target": str(sample["target"]),
    }


def _text(value: Any, indent: int | None = None) -> str:
    from lm_eval.utils import handle_non_serializable

    return json.dumps(value, default=handle_non_serializable, ensure_ascii=False, indent=indent)


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
