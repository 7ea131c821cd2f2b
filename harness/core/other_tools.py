"""The words of other tools (PEFT, TRL, axolotl, LLaMA-Factory, lm-eval ...), and ours for them.

A mistake that is such a word is answered with what it is called here, or with the place where it
stands here. All such words are in this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def _words(meant: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Word -> our names, from our name -> the words for it."""
    names: dict[str, tuple[str, ...]] = {}
    for ours, words in meant.items():
        for word in words.split():
            names[word] = (*names.get(word, ()), ours)
    return names


_OPTIONS = _words({
    # methods
    "r": "rank lora_rank lora_r lora_dim",
    "lora_alpha": "alpha scaling_alpha",
    "lora_dropout": "dropout",
    "target_modules": "lora_target lora_target_modules lora_target_linear target targets modules",
    "modules_to_save": "lora_modules_to_save additional_target",
    "use_dora": "peft_use_dora",
    "use_rslora": "peft_use_rslora",
    # objectives
    "learning_rate": "lr step_size",
    "num_train_epochs": "epochs epoch num_epochs n_epochs max_epochs train_epochs",
    "max_steps": "steps num_steps iters iterations max_iters total_steps",
    "per_device_train_batch_size": "batch_size micro_batch_size train_batch_size bs"
    " per_device_batch_size train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps": "gradient_accumulation grad_accum grad_accumulation"
    " grad_accumulation_steps accumulation_steps accumulate_grad_batches",
    "max_length": "max_seq_length sequence_len seq_len max_seq_len cutoff_len block_size"
    " model_max_length context_length seq_length",
    "lr_scheduler_type": "scheduler lr_scheduler",
    "warmup_ratio": "warmup",
    "optim": "optimizer",
    "adamw_torch": "adam adamw adamw_hf", "adafactor": "ada_factor",
    "adam_beta1": "beta1", "adam_beta2": "beta2", "adam_epsilon": "eps adam_eps",
    "max_grad_norm": "clip grad_clip gradient_clip_val max_norm",
    "packing": "sample_packing pack",
    "completion_only_loss": "train_on_completions_only",
    "assistant_only_loss": "train_on_responses_only roles_to_train",
    "beta": "dpo_beta pref_beta rl_beta kto_beta",
    "loss_type": "pref_loss dpo_loss loss",
    "num_generations": "group_size",
    "kl_coef": "init_kl_coef kl_penalty beta",
    "rollout_batch_size": "batch_size train_batch_size", "minibatch_size": "mini_batch_size",
    # answers
    "max_new_tokens": "max_completion_length max_gen_toks max_tokens max_length new_tokens"
    " response_length",
    "until": "stop stop_sequences stop_strings stop_words eos",
    "batch_tokens": "batch_size per_device_eval_batch_size eval_batch_size",
    "num_fewshot": "fewshot shots n_shot few_shot num_shots",
    "system_instruction": "system_prompt system system_message default_system",
    "samples": "num_return_sequences n num_samples",
    "thinking": "enable_thinking reasoning",
    # data
    "path": "file files data_files data_file file_name model_name_or_path pretrained"
    " model_name model_id base_model dataset name_or_path",
    "validation": "val valid dev eval evaluation eval_dataset",
    "train": "train_dataset training train_file train_path",
    "test": "test_dataset testing test_file test_path held_out heldout",
    "limit": "max_samples max_train_samples num_rows n_rows sample_size",
    "map": "columns field_mapping mapping formatting features",
    "where": "filter filters", "mixture": "mix interleave probs", "layout": "type formatting",
    "dtype": "torch_dtype precision",
    "attn_implementation": "flash_attention flash_attn use_flash_attention_2 flash_attention_2",
    # the suite itself
    "models": "model base_model model_name_or_path model_name model_id pretrained",
    "data": "dataset datasets dataset_name dataset_path train_file",
    "seeds": "seed random_seed data_seed",
    "scorers": "metric metrics scorer evaluators eval_metrics compute_metrics tasks",
    "name": "run_name experiment experiment_name project wandb_run_id subset config config_name",
    "resources": "hardware", "base": "baselines untrained zero_shot",
    "tune": "sweep hpo search hyperparameter_search", "matrix": "grid",
    "report_to": "wandb use_wandb tracker trackers logger",
    "gpus": "num_gpus n_gpu ngpus gpu", "slots": "num_workers workers max_workers jobs",
})  # fmt: skip
_MEMBERS = _words({
    "exact_match": "accuracy acc em exact",
    "classification": "macro_f1 micro_f1 precision recall balanced_accuracy mcc confusion_matrix",
    "token_f1": "f1 f1_score qa_f1",
    "rouge": "rougel rouge_l rouge1 rouge_1 rouge2 rouge_2 rougelsum rouge_score",
    "bleu": "sacrebleu bleu4 bleu_4", "chrf": "chrf++",
    "bertscore": "bert_score bert",
    "perplexity": "ppl loss eval_loss nll cross_entropy",
    "bits_per_byte": "bpb bits_per_character bpc",
    "lm_eval": "lm_eval_harness lm_evaluation_harness lmeval eleuther benchmark benchmarks",
    "pairwise": "alpaca_eval arena llm_judge judge llm_as_judge",
    "pointwise": "mt_bench mtbench g_eval geval",
    "reward": "rm reward_model reward_modeling reward_modelling",
    "squad": "squad_v2", "refusal": "refusals safety", "distinct": "distinct_n diversity",
    "full": "fft full_finetune full_finetuning full_fine_tuning full_ft finetune fine_tune",
    "qlora": "lora_4bit lora4bit 4bit bnb",
    "bottleneck": "adapter adapters houlsby pfeiffer",
    "prefix_tuning": "prefix p_tuning_v2 ptuning_v2", "p_tuning": "ptuning",
    "prompt_tuning": "prompt soft_prompt soft_prompts",
    "ia3": "ia_3 (ia)3",
    "cpt": "pt pretrain pretraining continued_pretraining clm causal_lm completion",
    "sft": "instruct instruction supervised finetune fine_tune chat",
    "dpo": "ipo", "ppo": "rlhf",
    "local": "cpu gpu cuda accelerate",
})  # fmt: skip

_MODELS = "it is said of the model: `models: {NAME: {path: ..., dtype: bfloat16}}`"
_HALF = "it is said of the model: `models: {NAME: {path: ..., dtype: float16}}`"
_FOUR_BITS = "weights in 4 bits are the method `qlora`, under `matrix.method`"
_WRITES = ("the harness decides where stages write: into the store (`--store FOLDER`); the report"
           " goes to reports/NAME (`--report-dir FOLDER`)")  # fmt: skip
_CHECKPOINTS = "the harness keeps the checkpoints in its store, and goes on from them by itself"
_METHODS = "what trains is an axis: `matrix: {method: [lora], objective: [sft]}`"
_LIKE_LM_EVAL = "benchmarks are a scorer: `scorers: [{lm_eval: {tasks: [...], num_fewshot: 5}}]`"
_ONE_DEVICE = "each stage trains in one process on one device; the executor runs several at once"
_DEVICE = "the executor chooses the device: `executor: {local: {device_class: cuda}}`, or `cpu`"
_CPU = "the executor chooses the device: `executor: {local: {device_class: cpu}}`"
_EVALUATED = "every variant is scored on the test rows, once it is trained; `scorers:` says by what"
_TABLE = {
    _MODELS: "bf16 mixed_precision pure_bf16 compute_dtype bfloat16",
    _HALF: "fp16 half float16",
    _FOUR_BITS: "load_in_4bit load_in_8bit quantization_bit quantization quantization_config bits"
    " bnb_4bit_quant_type bnb_4bit_compute_dtype quantization_method",
    _WRITES: "output_dir logging_dir save_dir out_dir output_path log_dir overwrite_output_dir",
    _CHECKPOINTS: "save_steps save_strategy save_total_limit saves_per_epoch save_safetensors"
    " resume_from_checkpoint auto_resume_from_checkpoints load_best_model_at_end save_only_model",
    _METHODS: "method objective methods objectives finetuning_type peft peft_type peft_config"
    " use_peft use_lora adapter stage trainer task_type rl training_type axes variants",
    _LIKE_LM_EVAL: "lm_eval_tasks do_bench_eval mmlu gsm8k hellaswag arc_easy arc_challenge arc"
    " winogrande piqa truthfulqa truthfulqa_mc2 humaneval mbpp boolq ifeval bbh",
    _ONE_DEVICE: "deepspeed fsdp fsdp_config ddp accelerate num_processes world_size"
    " tensor_parallel tensor_parallel_size local_rank",
    _DEVICE: "device device_map cuda",
    _CPU: "use_cpu no_cuda",
    _EVALUATED: "eval_strategy evaluation_strategy do_eval do_train evals_per_epoch"
    " per_device_eval_batch_size predict_with_generate",
    "validation rows are an entry's own: `data: {NAME: {train: {rows: [0, 900]}, validation:"
    " {rows: [900, 1000]}, ...}}`": "val_set_size val_size validation_split test_size split_ratio"
    " train_test_split eval_size",
    "columns are named by `map:` of the data entry: `map: {prompt: COLUMN, completion: COLUMN}`":
    "dataset_text_field text_column text_field prompt_column response_column input output"
    " instruction prompt response question answer label_column input_column target_column",
    "the model's own chat template is used; another one is `models: {NAME: {chat_template:"
    " FILE}}`": "template chat_template prompt_template prompt_style",
    "lines of progress are printed, and losses are in the report; a tracker is `resources:"
    " {report_to: [tensorboard]}`": "logging_steps log_level wandb_project wandb_entity logging",
    "answers are greedy, and equal in every run; sampled ones besides are asked for by `samples: 4`"
    " with its `temperature` and `top_p`": "do_sample num_beams top_k repetition_penalty beam_size",
    "answers alone are learnt; `completion_only_loss: false` trains on prompts too":
    "train_on_inputs train_on_prompt mask_prompt",
    "the warmup is a share of the steps: `warmup_ratio: 0.03`": "warmup_steps num_warmup_steps",
    "rows of like length go together by `train_sampling_strategy: group_by_length`":
    "group_by_length",
    "the order of the rows is `train_sampling_strategy: random`, or `sequential`": "shuffle",
    "a hub data set is read whole, and then `limit:` or `rows:` are taken": "streaming",
    "what was read once is in the store, and is not read again": "cache_dir dataset_prepared_path"
    " overwrite_cache preprocessing_num_workers dataset_num_proc num_proc",
    "nothing is sent to a hub": "push_to_hub hub_model_id hub_token hub_strategy",
    "a token is read from the environment: HF_TOKEN": "token hf_token use_auth_token",
    "the tokenizer is the model's own": "tokenizer tokenizer_name tokenizer_path tokenizer_type"
    " use_fast_tokenizer special_tokens pad_token",
    "rules by which rewards are computed are `reward_functions` of grpo and rloo": "reward_funcs",
}  # fmt: skip
_INSTEAD = {word: said for said, words in _TABLE.items() for word in words.split()}
"""Word -> what there is here in its place, where that is no name of the same list."""


def plain(word: str) -> str:
    """A word in the spelling of our names: small letters and underscores."""
    return word.strip().lower().replace("-", "_").replace(" ", "_")


def same(word: str, known: Iterable[str]) -> str:
    """The known name that is spelt so but for case and hyphens, or that other tools call so; empty
    if there is none."""
    names = {plain(name): name for name in known}
    asked = plain(word)
    meant = (asked, *_OPTIONS.get(asked, ()), *_MEMBERS.get(asked, ()))
    return next((names[plain(name)] for name in meant if plain(name) in names), "")


def ours(word: str) -> tuple[str, ...]:
    """What an option of other tools is called here, wherever it stands."""
    return _OPTIONS.get(plain(word), ())


def instead(word: str) -> str:
    """What there is here in the place of an option of other tools; empty if nothing is known."""
    return _INSTEAD.get(plain(word), "")
