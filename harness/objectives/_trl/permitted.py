"""The trainer arguments that a suite may set under `args:`, and the reasons against the others.

A permitted argument changes how a model is trained, and nothing else. An argument of a new library
version is refused until it is listed here: it may write outside the store, reach the network or
hold a secret, which would be written to stage.json, the record and the report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.core.other_tools import instead

_NAMES = """
    activation_checkpointing_kwargs activation_offloading assistant_only_loss
    average_tokens_across_devices bf16_full_eval cache_implementation cast_lm_head_to_fp32
    completion_only_loss dataloader_drop_last dataloader_in_order dataloader_num_workers
    dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor
    dataset_num_proc delta entropy_coef entropy_coef_delta entropy_coef_max entropy_coef_min
    entropy_target epsilon_high eval_accumulation_steps eval_packing fp16_full_eval
    full_determinism generation_batch_size generation_kwargs gradient_checkpointing_kwargs
    label_smoothing_factor liger_kernel_config loss_type lr_scheduler_kwargs
    max_tool_calling_iterations min_p multi_objective_aggregation neftune_noise_alpha
    num_generations_eval off_policy_mask_threshold optim_args optim_target_modules
    packing_strategy pad_to_multiple_of padding_free padding_value per_device_eval_batch_size
    precompute_ref_batch_size ref_model_mixup_alpha ref_model_sync_steps repetition_penalty
    reward_weights router_aux_loss_coef sapo_temperature_neg sapo_temperature_pos
    shuffle_dataset sync_ref_model tf32 top_entropy_quantile top_k torch_compile
    torch_compile_backend torch_compile_mode torch_empty_cache_steps
    transformers_continuous_batching_config truncation_mode use_adaptive_entropy
    use_bias_correction_kl use_cache use_liger_kernel use_transformers_continuous_batching
    use_transformers_paged vespo_k_neg vespo_k_pos vespo_lambda_neg vespo_lambda_pos
"""
PERMITTED = frozenset(_NAMES.split())
ELSEWHERE = {
    "warmup_steps": "`warmup_ratio`, beside `args`",
    "activation_checkpointing": "`gradient_checkpointing`, beside `args`",
    "bf16": "the model's `dtype: bfloat16`",
    "fp16": "the model's `dtype: float16`",
    "max_completion_length": "`max_new_tokens`, beside `args`",
    "chat_template_path": "the model's `chat_template`",
    "chat_template_kwargs": "the model's `chat_template_kwargs`",
    "trust_remote_code": "the model's `trust_remote_code`",
    "report_to": "`resources: {report_to: [...]}`",
    "use_cpu": "`executor: {local: {device_class: cpu}}`",
    "seed": "the suite's `seeds`",
    "data_seed": "the suite's `seeds`",
    "auto_find_batch_size": "`per_device_train_batch_size`, beside `args`",
}
"""Argument -> the place where a suite sets it instead."""
_NETWORK = "it would send data to the network or fetch data from there"
_REASONS = {
    r"push_to_hub|hub_.*|.*hub_repo|trackio_.*|project": _NETWORK,
    r"use_vllm|vllm_.*": "it hands the sampling to a server or an engine outside the harness",
    r"output_dir|logging_dir|run_name|.*_dir": "the harness decides where a stage writes",
    r"resume_from_checkpoint|restore_.*|ignore_data_skip|save_.*|enable_jit_checkpoint"
    r"|load_best_model_at_end|metric_for_best_model|greater_is_better":
        "the harness saves the checkpoints, and resumes only from its own",
    r"deepspeed|fsdp.*|ddp_.*|local_rank|parallelism_config|accelerator_config|ds3_.*"
    r"|dataloader_multiprocessing_context":
        "a stage is one process, and such a file or setting would not be part of its identity",
    r"model_init_kwargs": "the harness loads the model",
    r"eval_.*|do_.*|batch_eval_metrics|include_for_metrics|prediction_loss_only"
    r"|generate_during_eval": "the harness decides what is evaluated, and when",
    r"log_.*|logging_.*|num_completions_to_print|disable_tqdm|debug|skip_memory_metrics"
    r"|include_num_input_tokens_seen": "the harness writes the log; answers stay in the store",
    r"dataset_.*|length_column_name|label_names|remove_unused_columns|eos_token|pad_token"
    r"|is_encoder_decoder": "the harness makes the tokens and the columns itself",
}  # fmt: skip
"""Pattern of argument names that no suite may set -> the reason."""
_UNKNOWN = "the harness does not know what it reads, writes or sends"
_INSIDE = frozenset(["custom_generate", "trust_remote_code", "assistant_model", "tokenizer"])
"""Keys inside a permitted argument's value that load or run other code or models."""
_SECRET = re.compile(r".*(api_?key|secret|password|credential|authorization).*|.*token", re.I)


def require_permitted(args: Mapping[str, Any], *, known: bool) -> None:
    """Check that a suite may set these arguments of a trainer.

    Args:
        known: the trainer is one of TRL's. For a trainer from outside, names that are not listed
            here are allowed.

    Raises:
        ValueError: an argument is not permitted; the message names it and the reason, without its
            value.
    """
    for name in sorted(args):
        if name in ELSEWHERE:
            raise ValueError(f"{name} is set elsewhere; remove it, and set {ELSEWHERE[name]}")
        if name not in PERMITTED and (known or reason_of(name) != _UNKNOWN):
            raise ValueError(f"{name} is decided by the harness: {reason_of(name)}; remove it")
        for inner in _names(args[name]):
            if inner in _INSIDE or _SECRET.fullmatch(inner):
                raise ValueError(
                    f"{name}.{inner} may load something else or hold a secret, and args are written"
                    " to disk; remove it"
                )


def about_argument(name: str) -> str:
    """How a suite sets an argument of a trainer that has no field of its own, or why it cannot."""
    if name in PERMITTED:
        return f"it is an argument of the trainer: `args: {{{name}: ...}}`"
    if said := instead(name):
        return said
    if name in ELSEWHERE:
        return f"it is set elsewhere: {ELSEWHERE[name]}".replace(", beside `args`", "")
    reason = reason_of(name)
    return "" if reason == _UNKNOWN else f"it is decided by the harness: {reason}"


def reason_of(name: str) -> str:
    """The reason why an argument is not permitted."""
    for pattern, reason in _REASONS.items():
        if re.fullmatch(pattern, name):
            return reason
    return _UNKNOWN


def _names(value: Any) -> Iterator[str]:
    """All names in a tree of mappings and lists."""
    if isinstance(value, Mapping):
        yield from map(str, value)
    if isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _names(inner)
