"""Small result files in the format of every tool, as the tools' own sources write them.

Built after: lm_eval/evaluator.py and loggers/evaluation_tracker.py (0.4.13); inspect_ai/log/_log.py
and _recorders/eval.py; HELM's per_instance_stats.json and run_spec.json; eval.schema.json 0.3 of
Every Eval Ever; PEFT's method_comparison/*/run.py; and, as their repositories have them at these
commits: LightEval's logging/info_loggers.py and evaluation_tracker.py (huggingface/lighteval
02932a2, 010dc62, c7c7805); promptfoo's src/types/index.ts (promptfoo/promptfoo 0011eb0); deepeval's
test_run/api.py and test_run.py (confident-ai/deepeval 004b651, ed59312, 08080fc); EVALSIG's
io/json_runframe.py and io/parquet.py (vtensor/evalsig 504c35f). Means over all tests, which
the tools write too, are left empty: the importers do not read them.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.core.files import digest_json

RIGHT = (1, 0, 1, 1, 0, 1, 0, 1)
"""The scores of eight examples: five right."""


def lm_eval_samples(path: Path, right: Sequence[int] = RIGHT, prompt: str = "Q") -> Path:
    rows = [
        {
            "doc_id": i, "doc": {"question": f"q{i}"}, "target": "4",
            "arguments": {"gen_args_0": {"arg_0": f"{prompt}{i}", "arg_1": {"until": []}}},
            "resps": [["4"]], "filtered_resps": ["4"], "filter": "none",
            "metrics": ["exact_match"], "doc_hash": digest_json(f"d{i}"),
            "prompt_hash": digest_json(f"{prompt}{i}"), "target_hash": digest_json("4"),
            "exact_match": float(value),
        }
        for i, value in enumerate(right)
    ]  # fmt: skip
    return lines(path / "samples_gsm8k_2026-01-21T03-44-18.458309.jsonl", rows)


def lm_eval_results(path: Path, value: float = 0.625, n: int = 8) -> Path:
    stderr = (value * (1 - value) / (n - 1)) ** 0.5
    return document(
        path / "results_2026-01-21T03-44-18.458309.json",
        {
            "results": {"gsm8k": {"alias": "gsm8k", "exact_match,none": value,
                                  "exact_match_stderr,none": stderr}},
            "group_subtasks": {"gsm8k": []},
            "configs": {"gsm8k": {"task": "gsm8k", "dataset_path": "gsm8k", "num_fewshot": 5}},
            "versions": {"gsm8k": 3.0}, "n-shot": {"gsm8k": 5},
            "higher_is_better": {"gsm8k": {"exact_match": True}},
            "n-samples": {"gsm8k": {"original": n, "effective": n}},
            "config": {"model": "hf", "model_args": "pretrained=some/model", "limit": None},
            "git_hash": "1f84a09f", "lm_eval_version": "0.4.13", "model_name": "some/model",
            "chat_template_sha": None, "system_instruction_sha": None,
        },
    )  # fmt: skip


def lm_eval_old(path: Path, value: float = 0.7818280739934712) -> Path:
    """The layout of 2023: no number of documents, no samples."""
    stderr = (value * (1 - value) / 1837) ** 0.5
    return document(
        path / "old.json",
        {"results": {"piqa": {"acc": value, "acc_stderr": stderr}}, "versions": {"piqa": 0},
         "config": {"model": "hf-causal", "model_args": "pretrained=/models/7B", "num_fewshot": 0}},
    )  # fmt: skip


def inspect_log(right: Sequence[int] = RIGHT) -> dict[str, Any]:
    return {
        "version": 2, "status": "success",
        "eval": {
            "run_id": "r", "created": "2026-01-01", "task": "popularity", "task_id": "t",
            "task_version": 0, "task_args": {}, "dataset": {"name": "popularity"},
            "model": "openai/some-model", "config": {}, "packages": {"inspect_ai": "0.3.200"},
            "scorers": [{"name": "match", "options": {}}],
        },
        "plan": {"name": "plan", "steps": [{"solver": "generate", "params": {}}], "config": {}},
        "results": {"total_samples": len(right), "completed_samples": len(right), "scores": []},
        "samples": [
            {"id": i + 1, "epoch": 1, "input": f"question {i}", "target": "Yes",
             "scores": {"match": {"value": "C" if value else "I", "answer": "Yes"}}}
            for i, value in enumerate(right)
        ],
    }  # fmt: skip


def inspect_json(path: Path) -> Path:
    return document(path / "log.json", inspect_log())


def inspect_eval(
    path: Path, right: Sequence[int] = RIGHT, method: int = zipfile.ZIP_DEFLATED
) -> Path:
    log = inspect_log(right)
    summaries = log.pop("samples")
    file = path / "log.eval"
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("_journal/start.json", json.dumps({"version": 2, "eval": log["eval"]}))
        for sample in summaries:
            name = f"samples/{sample['id']}_epoch_{sample['epoch']}.json"
            archive.writestr(name, json.dumps(sample))
        archive.writestr("summaries.json", json.dumps(summaries))
        archive.writestr("header.json", json.dumps(log))
    return file


def helm(path: Path, *, more: bool = False) -> Path:
    """A run of HELM. `more`: with statistics that are no scores, and a perturbed row."""
    folder = path / "mmlu:subject=philosophy,model=openai_gpt2"
    folder.mkdir()
    document(
        folder / "run_spec.json",
        {"name": "mmlu:subject=philosophy,model=openai_gpt2",
         "scenario_spec": {"class_name": "MMLUScenario", "args": {"subject": "philosophy"}},
         "adapter_spec": {"method": "multiple_choice_joint", "model": "openai/gpt2",
                          "model_deployment": "huggingface/gpt2", "max_train_instances": 5},
         "metric_specs": [{"class_name": "BasicGenerationMetric", "args": {}}]},
    )  # fmt: skip

    def stat(name: str, value: float) -> dict[str, Any]:
        return {"name": {"name": name, "split": "test"}, "count": 1, "sum": value, "mean": value}

    rows: list[Any] = [
        {"instance_id": f"id{i}", "train_trial_index": 0,
         "stats": [stat("exact_match", value), *([stat("num_references", 4.0)] if more else [])]}
        for i, value in enumerate(RIGHT)
    ]  # fmt: skip
    changed = {**rows[0], "perturbation": {"name": "robustness"}}
    document(folder / "per_instance_stats.json", [*rows, *([changed] if more else [])])
    state = [
        {"instance": {"id": f"id{i}", "input": {"text": f"q{i}"}, "references": []},
         "train_trial_index": 0, "request": {"prompt": f"Question: q{i}"}}
        for i in range(len(RIGHT))
    ]  # fmt: skip
    document(folder / "scenario_state.json", {"request_states": state})
    return folder


def lighteval_details(path: Path) -> Path:
    rows = [
        {"doc": {"query": f"q{i}", "choices": ["A", "B"], "id": str(i)}, "metric": {"acc": value},
         "model_response": {"input": f"Q: q{i}", "text": ["A"]}}
        for i, value in enumerate(RIGHT)
    ]  # fmt: skip
    file = path / "details_arc:challenge|25_2025-11-05T14-43-47.148527.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def lighteval_details_2024(path: Path) -> Path:
    """Older: flat columns. Rows of several shapes were written as text, column by column."""
    rows = [
        {"example": f"q{i}", "instruction": "", "full_prompt": f"Q: q{i}", "choices": ["A", "B"],
         "num_effective_few_shots": 0, "num_asked_few_shots": 0, "predictions": ["A"],
         "gold_index": [0], "truncated": [0], "padded": [0],
         "metrics": {"acc": value, "logits": [0.5]}, "specifics": None}
        for i, value in enumerate(RIGHT)
    ]  # fmt: skip
    file = path / "details_leaderboard|arc:challenge|25_2024-11-05T14-43-47.148527.parquet"
    texts = [{name: str(value) for name, value in sorted(row.items())} for row in rows]
    pq.write_table(pa.Table.from_pylist(texts), file)
    return file


def lighteval_results(path: Path) -> Path:
    task = "arc:challenge|25"
    metric = {
        "metric_name": "acc",
        "higher_is_better": True,
        "category": "LOGPROBS",
        "sample_level_fn": "compute",
        "corpus_level_fn": "mean",
        "batched_compute": False,
    }
    return document(
        path / "results_2025-11-05T14-43-47.148527.json",
        {"config_general": {"lighteval_sha": "abc", "num_fewshot_seeds": 1, "max_samples": 8,
                            "job_id": "0", "model_name": "some/model",
                            "model_config": {"model_name": "some/model", "revision": "main"}},
         "results": {task: {"acc": 0.625, "acc_stderr": 0.183}, "all": {}},
         "versions": {task: 0},
         "config_tasks": {task: {"name": "arc:challenge", "hf_repo": "allenai/ai2_arc",
                                 "metrics": [metric], "original_num_docs": 1172,
                                 "effective_num_docs": 8}},
         "summary_tasks": {task: {"hashes": {"hash_examples": "a"}, "truncated": 0}},
         "summary_general": {"hashes": {"hash_examples": "a"}, "truncated": 0}},
    )  # fmt: skip


def lighteval_results_2024(path: Path) -> Path:
    """Older: the configuration of `suite|task|shots` stands under `suite|task`, and one metric
    may have several names."""
    task = "leaderboard|arc:challenge|25"
    metric = {"metric_name": ["acc", "gap"], "higher_is_better": {"acc": True, "gap": False},
              "category": "MULTICHOICE", "use_case": "ACCURACY"}  # fmt: skip
    results = {"acc": 0.625, "acc_stderr": 0.183, "gap": 0.1, "gap_stderr": 0.01}
    return document(
        path / "results_2024-11-05T14-43-47.148527.json",
        {"config_general": {"lighteval_sha": "abc", "num_fewshot_seeds": 1, "max_samples": 8,
                            "job_id": "", "start_time": 1.5, "end_time": 2.5,
                            "total_evaluation_time_secondes": "1.0", "model_name": "some/model",
                            "model_sha": "", "model_dtype": "torch.float16", "model_size": "1 GB"},
         "results": {task: results, "all": {}},
         "versions": {"leaderboard|arc:challenge": 0},
         "config_tasks": {"leaderboard|arc:challenge": {
             "name": "arc:challenge", "metric": [metric], "original_num_docs": 1172,
             "effective_num_docs": 8}},
         "summary_tasks": {}, "summary_general": {}},
    )  # fmt: skip


def every_eval_ever(path: Path) -> Path:
    return document(
        path / "f3a1c0de-4b2e-4c1a-9f6d-1b7e5a2c8d40.json",
        {"schema_version": "0.3.0", "evaluation_id": "demo/1", "retrieved_timestamp": "1",
         "source_metadata": {}, "eval_library": {"name": "x", "version": "1"},
         "model_info": {"name": "m", "id": "org/m"},
         "evaluation_results": [
             {"evaluation_name": "bench", "source_data": {},
              "metric_config": {"metric_id": "accuracy", "lower_is_better": False},
              "score_details": {"score": 0.625, "uncertainty": {
                  "standard_error": {"value": 0.18, "method": "analytic"}, "num_samples": 8}}}]},
    )  # fmt: skip


def every_eval_ever_samples(path: Path) -> Path:
    rows = [
        {"schema_version": "0.3.0", "evaluation_id": "demo/1", "model_id": "org/m",
         "evaluation_name": "bench", "sample_id": f"s{i}", "interaction_type": "single_turn",
         "input": {"raw": f"q{i}", "reference": ["4"]}, "answer_attribution": [],
         "evaluation": {"score": float(value), "is_correct": bool(value)}}
        for i, value in enumerate(RIGHT)
    ]  # fmt: skip
    return lines(path / "f3a1c0de-4b2e-4c1a-9f6d-1b7e5a2c8d40_samples.jsonl", rows)


def promptfoo(path: Path) -> Path:
    rows = [
        {"id": f"r{i}", "promptIdx": 0, "testIdx": i, "promptId": "4f", "cost": 0.001,
         "provider": {"id": "openai:gpt-x", "label": ""}, "latencyMs": 12, "vars": {"q": f"q{i}"},
         "prompt": {"raw": f"Answer: q{i}", "label": "Answer: {{q}}"},
         "response": {"output": "a", "tokenUsage": {"total": 9}, "cached": False},
         "testCase": {"vars": {"q": f"q{i}"}, "assert": [{"type": "equals", "value": "b"}]},
         "success": bool(value), "score": value, "namedScores": {"tone": 1}, "metadata": {},
         "failureReason": 0 if value else 1, **({} if value else {"error": 'Expected "b"'}),
         "gradingResult": {"pass": bool(value), "score": value, "reason": "so",
                           "componentResults": [{"pass": bool(value), "reason": "so"}]}}
        for i, value in enumerate(RIGHT)
    ]  # fmt: skip
    return document(
        path / "promptfoo.json",
        {"evalId": "eval-1", "results": {"version": 3, "timestamp": "2026-10-04T00:00:00.000Z",
                                         "prompts": [], "results": rows, "stats": {}},
         "config": {"description": "refunds"}, "shareableUrl": None},
    )  # fmt: skip


def promptfoo_2023(path: Path) -> Path:
    """Version 1: rows without indexes, and a failed assertion is an `error` beside the answer."""
    rows = [
        {"prompt": {"raw": f"Answer: q{i}", "display": "Answer: {{q}}"}, "vars": {"q": f"q{i}"},
         "response": {"output": "a", "tokenUsage": {"total": 9, "prompt": 8, "completion": 1}},
         "provider": {"id": "openai:gpt-x"}, "success": bool(value), "latencyMs": 12,
         **({} if value else {"error": 'Expected output "b" but got "a"'})}
        for i, value in enumerate(RIGHT)
    ]  # fmt: skip
    table = {"head": {"prompts": ["Answer: {{q}}"], "vars": ["q"]}, "body": []}
    return document(
        path / "output.json",
        {"results": {"version": 1, "results": rows, "stats": {"successes": sum(RIGHT),
                                                              "failures": 3}, "table": table},
         "config": {"description": "refunds"}, "shareableUrl": None},
    )  # fmt: skip


def deepeval(path: Path) -> Path:
    """What is None is not written."""
    cases = [
        {"name": f"test_case_{i}", "input": f"q{i}", "actualOutput": "a", "flaky": False,
         "success": bool(value), "runDuration": 0.5, "order": i,
         "metricsData": [
             {"name": "Answer Relevancy", "threshold": 0.5, "success": bool(value), "flaky": False,
              "score": 0.9 if value else 0.1, "strictMode": False, "evaluationModel": "gpt-x",
              "evaluationCost": 0.001, "reason": "so", "verboseLogs": "..."},
             {"name": "Bias", "threshold": 0.5, "success": True, "score": 0.0,
              "strictMode": False}]}
        for i, value in enumerate(RIGHT)
    ]  # fmt: skip
    return document(path / ".latest_run_full.json",
                    {"testFile": "test_x.py", "testCases": cases, "conversationalTestCases": [],
                     "metricsScores": [], "identifier": "nightly",
                     "hyperparameters": {"model": "m"}, "testPassed": sum(RIGHT),
                     "testFailed": len(RIGHT) - sum(RIGHT), "runDuration": 4.0})  # fmt: skip


def deepeval_2024(path: Path) -> Path:
    """Older: metrics under another name, which pass at their minimum score. The file of
    DEEPEVAL_RESULTS_FOLDER is named by its time alone."""
    cases = [
        {"name": f"test_case_{i}", "input": f"q{i}", "actualOutput": "a", "expectedOutput": "b",
         "success": bool(value), "runDuration": 0.5, "traceStack": {},
         "metricsMetadata": [{"metric": "Answer Relevancy", "score": 0.9 if value else 0.1,
                              "minimumScore": 0.5, "reason": "so"}]}
        for i, value in enumerate(RIGHT)
    ]  # fmt: skip
    return document(path / "20240105_101112",
                    {"testFile": "test_x.py", "testCases": cases, "configurations": {},
                     "metricScores": []})  # fmt: skip


def evalsig(path: Path) -> Path:
    return document(path / "run.json", evalsig_frame())


def evalsig_frame() -> dict[str, Any]:
    items = [{"item_id": f"i{i}", "score": float(value), "cluster_id": f"c{i // 2}", "epoch": 0,
              "metadata": {}} for i, value in enumerate(RIGHT)]  # fmt: skip
    return {"run_id": "r", "model_id": "org/m", "task_id": "mmlu", "metric_name": "accuracy",
            "config_hash": "", "items": items}  # fmt: skip


def evalsig_parquet(path: Path) -> Path:
    frame = evalsig_frame()
    items = frame.pop("items")
    file = path / "run.parquet"
    rows = [{**frame, **{k: v for k, v in item.items() if k != "metadata"}} for item in items]
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def alpaca_eval(path: Path) -> Path:
    rows = [
        {"instruction": f"q{i}", "output_1": "a", "generator_1": "gpt4", "output_2": "b",
         "generator_2": "m", "annotator": "judge", "preference": 1.0 + value}
        for i, value in enumerate(RIGHT)
    ]  # fmt: skip
    return document(path / "annotations.json", rows)


def peft(path: Path) -> Path:
    return document(path / "lora--a.json", peft_run({"test accuracy": 660 / 1319}))


def peft_images(path: Path) -> Path:
    return document(path / "lora--b.json", peft_run({"test dino_similarity": 0.7, "drift": 0.26}))


def peft_run(tests: dict[str, float]) -> dict[str, Any]:
    dataset = {"sha": "d"} if "drift" in tests else {"gsm8k": {"sha": "g"}}
    return {
        "run_info": {"created_at": "2026-01-01", "total_time": 1.0, "experiment_name": "lora/a",
                     "train_config": {"model_id": "m", "dataset_id": "cat", "seed": 0},
                     "peft_config": {"r": 8}, "error_msg": ""},
        "train_info": {"accelerator_memory_max": 1, "train_time": 1.0, "file_size": 1,
                       "num_trainable_params": 1, "num_total_params": 2, "status": "success",
                       "metrics": [{"step": 1, "train loss": 0.5, **tests}]},
        "meta_info": {"model_info": {"sha": "a"}, "dataset_info": dataset,
                      "package_info": {"torch-version": "2"},
                      "system_info": {"accelerator": "GPU", "system": "Linux", "release": "6"}},
    }  # fmt: skip


def table(path: Path, right: Sequence[float] = RIGHT, name: str = "scores.csv") -> Path:
    file = path / name
    rows = "".join(f"e{i},{value},c{i // 2}\n" for i, value in enumerate(right))
    file.write_text(f"example_id,accuracy,cluster\n{rows}")
    return file


def document(file: Path, content: Any) -> Path:
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def lines(file: Path, rows: Sequence[Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


FILES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "lm-eval samples": ("lm-eval", lm_eval_samples),
    "lm-eval results": ("lm-eval", lm_eval_results),
    "lm-eval 2023": ("lm-eval", lm_eval_old),
    "inspect json": ("inspect", inspect_json),
    "inspect eval": ("inspect", inspect_eval),
    "helm": ("helm", helm),
    "lighteval details": ("lighteval", lighteval_details),
    "lighteval details 2024": ("lighteval", lighteval_details_2024),
    "lighteval results": ("lighteval", lighteval_results),
    "lighteval results 2024": ("lighteval", lighteval_results_2024),
    "every-eval-ever": ("every-eval-ever", every_eval_ever),
    "every-eval-ever samples": ("every-eval-ever", every_eval_ever_samples),
    "promptfoo": ("promptfoo", promptfoo),
    "promptfoo 2023": ("promptfoo", promptfoo_2023),
    "deepeval": ("deepeval", deepeval),
    "deepeval 2024": ("deepeval", deepeval_2024),
    "evalsig": ("evalsig", evalsig),
    "evalsig parquet": ("evalsig", evalsig_parquet),
    "alpaca-eval": ("alpaca-eval", alpaca_eval),
    "peft": ("peft-method-comparison", peft),
    "peft images": ("peft-method-comparison", peft_images),
    "csv": ("csv", table),
}
"""What -> the importer that must recognise it, and how the file is made."""
