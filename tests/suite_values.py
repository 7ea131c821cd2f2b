"""What a mistaken suite may hold: odd values, odd YAML, odd bytes, and what other tools write."""

from __future__ import annotations

from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 0.5, -0.0, 1e308, float("nan"), float("inf"), 10**30, -(10**30),
    "", " ", "off", "x", "1.0e-3", "1e-3", "../..", "/", ".", "~", "~nobody/x", "a/b", "${HOME}",
    "${NO_SUCH_VARIABLE}", "a\nb", "a\0b", "\ud7ff\ue000\U0001f600", "\x1b[31mred", "x" * 5000,
    "a" * 300 + "/b", "rouge", "lora", "sft", "dpo", "ppo", "rlaif", "reward", "base", "tiny", [],
    {}, [[]], [None], [{}], {"": None}, {"x": {}}, {1: 2}, {None: 1}, {True: 1}, {1.5: "x"},
    [1, "a"], ["x", "x"], [0] * 2000, list(range(300)), {f"k{i}": i for i in range(300)},
    {"path": "/dev/null"}, {"low": 1, "high": 2}, {"lora": {"r": 1}}, {"sft": None}, [True, False],
)  # fmt: skip
TEXTS = (
    "1,0e-3", "{a: 1,0e-3}", "{a, b: 1}", "{a: 1,, b: 2}", "[a, b", "{a: b", "- a", "a: b: c", "\t",
    "\tx: 1", "&a x", "*nobody", "&a [*a]", "&a {b: *a}", "{<<: [1]}", "{<<: x}", "{<<: {x: 1}}",
    "{<<: [{x: 1}, {y: 2}]}", "!!python/object/apply:os.system [ls]", "!!python/name:os.system",
    "!unknown x", "!!binary aGk=", "!!binary '%'", "!!timestamp 2026-01-01", "2026-01-01",
    "2026-13-45", "2026-01-01 25:61:61", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]",
    "!!int x", "!!float x", "!!bool x", "!!null x", "!!str 1", "!!seq x", "!!map x", "!!map [a]",
    "!!seq {a: 1}", "!!merge x", "=", "<<", "? a", "? [a, b]\n: c", "{[a]: b}", "{{a: b}: c}",
    "0o17", "017", "08", "0x1f", "0b11", "1_000", "1:30", "1:30.5", "190:20:30", "+1", "1e400",
    ".inf", "-.inf", ".nan", "no", "on", "y", "Off", "1.10", "9" * 5000, "1e" + "9" * 5000,
    "0." + "1" * 5000, "0x" + "f" * 5000, "[" * 400 + "]" * 400, "{a: " * 400 + "}" * 400,
    "[" * 3000 + "]" * 3000, "'\\0'", '"\\0"', '"\\x7f"', '"\\uD800"', '"\\ud83d\\ude00"', '"\\q"',
    "%YAML 1.1", "--- x", "...", "x # y", "#", "@x", "`x`", "|\n x", ">\n x", "'x", '"x',
    "&a [x, x, x]\nz: [*a, *a]", "\ufeff", "\u2028x", "\x85", "{}}", "[]]", "x\r\ny: 1", "\r",
)  # fmt: skip
"""YAML that no dumper writes: flow commas, anchors, merge keys, tags, tabs, odd numbers."""
BYTES = (b"\xff\xfe", b"\x80", b"\xc3", b"\xed\xa0\x80", b"\0", b"\x1b", b"\xef\xbb\xbf")
"""Bytes of no UTF-8 text, or of none that YAML has."""
UNITS = (
    "2h", "30m", "1h30", "90 s", "16GB", "16 GiB", "8g", "1k", "2K", "1M", "10_000k", "50%", "5 %",
    "0,001", "1 000", "1.000,5", "3 epochs", "100 steps", "2x", "~4", "<= 8", "1e-4 to 1e-3",
    "auto", "max", "all", "none", "cosine", "fp16", "1/8", "½", "\uff11\uff12", "1e-4;2e-4",
    "[1e-4, 2e-4]",
    "1e-4, 2e-4", "range(3)", "0..3", "nan", "-inf", "true", "null", "0x10", "1.", ".5", "1e",
)  # fmt: skip
"""Numbers as people write them elsewhere."""
PATHS = (
    "/tmp/my data/train.jsonl", "C:\\Users\\me\\train.jsonl", "\\\\server\\share\\x.csv",
    "file:///tmp/x.jsonl", "https://example.org/x.jsonl", "hf://datasets/a/b/x.parquet",
    "s3://bucket/x", "my data/äö 数据 🙂.jsonl", "./a b/../c", "~/x y", "a\\ b", "'quoted path'",
    " leading", "trailing ", "a//b", "dir/", "x.jsonl#1", "x?y=1", "*.jsonl", "data/{train,test}",
    "/proc/self/mem", "/dev/zero", "/dev/stdin", "/etc/shadow", "/root", "$HOME/x", "%USERPROFILE%",
    "org/name@main", "org/name:train", "org/name/extra/parts", "name with space/x", "ünïcode/模型",
    "a" * 5000 + ".jsonl", "-x.jsonl", "--help", "\u202egnp.exe", "x\u0301.jsonl", "a:b", "@file",
)  # fmt: skip
"""Paths of other machines, other tools and other scripts; and names that are no paths."""
FOREIGN: dict[str, Any] = {
    "bf16": True, "fp16": True, "tf32": True, "output_dir": "./out", "lora_alpha": 16, "lora_r": 8,
    "lora_dropout": 0.05, "lora_target_modules": ["q_proj", "v_proj"], "target_modules": "all",
    "num_epochs": 3, "num_train_epochs": 3.0, "epochs": 3, "gradient_checkpointing": True,
    "gradient_accumulation_steps": 4, "micro_batch_size": 2, "per_device_train_batch_size": 1,
    "lr": 2e-4, "learning_rate": 2e-4, "lr_scheduler": "cosine", "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.03, "warmup_steps": 10, "optimizer": "adamw_bnb_8bit", "optim": "adamw_torch",
    "weight_decay": 0.0, "max_grad_norm": 1.0, "max_seq_length": 2048, "sequence_len": 4096,
    "cutoff_len": 1024, "max_length": 512, "max_prompt_length": 256, "packing": True,
    "sample_packing": True, "pad_to_sequence_len": True, "load_in_8bit": True, "load_in_4bit": True,
    "base_model": "meta-llama/Llama-3.2-1B", "model_name_or_path": "gpt2", "model_type": "llama",
    "tokenizer_type": "AutoTokenizer", "adapter": "lora", "finetuning_type": "lora", "stage": "sft",
    "template": "llama3", "chat_template": "chatml", "dataset": "alpaca_en_demo", "datasets":
    [{"path": "tatsu-lab/alpaca", "type": "alpaca"}], "dataset_dir": "data", "val_set_size": 0.1,
    "eval_strategy": "steps", "evals_per_epoch": 4, "save_steps": 500, "logging_steps": 1,
    "report_to": "none", "wandb_project": None, "push_to_hub": False, "hub_token": "hf_x",
    "deepspeed": "ds_z3_config.json", "fsdp": ["full_shard"], "flash_attention": True,
    "attn_implementation": "flash_attention_2", "torch_dtype": "bfloat16", "device": "cuda",
    "device_map": "auto", "beta": 0.1, "pref_beta": 0.1, "pref_loss": "sigmoid", "rl": "dpo",
    "loss_type": "sigmoid", "rank": 8, "alpha": 16, "r": 8, "dropout": 0.1, "use_rslora": True,
    "bias": "none", "task_type": "CAUSAL_LM", "modules_to_save": ["lm_head"], "seed": 42,
    "data_seed": 42, "do_train": True, "overwrite_output_dir": True, "resume_from_checkpoint": True,
    "special_tokens": {"pad_token": "<|end|>"}, "temperature": 0.7, "top_p": 0.9, "batch_size": 8,
    "num_fewshot": 5, "tasks": ["mmlu"], "limit": 0.5, "model_args": "pretrained=gpt2,dtype=float",
    "quantization_config": {"load_in_4bit": True}, "peft_config": {"r": 8}, "training_args": {},
    "trust_remote_code": True, "unsloth": True, "method": "lora", "name": "run", "version": 2,
}  # fmt: skip
"""Keys of transformers, PEFT, TRL, axolotl, LLaMA-Factory and lm-eval, as their users know them."""
NAMES = (
    "suite.yaml", "suite.yml", "my suite.yaml", "süite 数据 🙂.yaml", "it's.yaml", "a: b.yaml",
    "[x] (1).yaml", "-x.yaml", "suite", "x" * 200 + ".yaml", "100%.yaml", "a#b.yaml", "{}.yaml",
)  # fmt: skip
"""Names of a suite's file."""
