"""Record what TRL 1.12.0's PPO computes, for test_ppo_oracle.py to hold ours against.

    pip install --target FOLDER --no-deps trl==1.12.0     # the last release with a PPO
    python tests/benchmarks/ppo_trl_record.py --trl FOLDER

writes tests/fixtures/ppo_trl.safetensors and ppo_trl.json. Nothing of TRL is copied here: its
PPOTrainer runs one update on tiny random models in float64, and what is recorded are the variables
of its own `train`, read as it calls `accelerator.backward`, the arguments and results of its
`masked_whiten`, and the gradients.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

FIXTURE = Path(__file__).parents[1] / "fixtures" / "ppo_trl"
VERSION, EOS, PAD, WORDS = "1.12.0", 0, 1, 16
PROMPTS = [[2, 3], [4], [5, 6, 7], [8, 9], [10], [11, 12, 13], [14, 15], [3]]

COMMON: dict[str, Any] = {
    "response_length": 4, "num_ppo_epochs": 2, "num_mini_batches": 2, "learning_rate": 0.01,
    "adam_epsilon": 1e-4, "temperature": 0.7, "kl_coef": 0.2, "kl_estimator": "k1",
    "cliprange": 0.1, "cliprange_value": 0.05, "vf_coef": 0.4, "gamma": 1.0, "lam": 0.95,
    "whiten_rewards": False, "missing_eos_penalty": 1.0,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    # Each answer has the full length, so that TRL and we have the same tokens in every term.
    "whole": {},
    "whitened": {"whiten_rewards": True, "kl_estimator": "k3", "gamma": 0.9, "lam": 0.8,
                 "temperature": 1.3, "num_mini_batches": 1, "missing_eos_penalty": None},
    # Some answers end early: TRL gives them one step more than they have tokens.
    "early": {"response_length": 6},
}  # fmt: skip
ROLLOUT = (
    "queries", "responses", "postprocessed_responses", "contain_eos_token", "padding_mask",
    "padding_mask_p1", "logprobs", "ref_logprobs", "values", "scores", "kl", "rewards",
    "advantages", "returns",
)  # fmt: skip
MINIBATCH = ("micro_batch_inds", "new_logprobs", "vpred", "pg_loss", "vf_loss", "loss")
STATS = ("approxkl_stats", "pg_clipfrac_stats", "vf_clipfrac_stats", "entropy_stats")


def import_trl(folder: Path) -> Any:
    """TRL's PPO module, from `folder`.

    Raises:
        SystemExit: another version is there, or none.
    """
    sys.path.insert(0, str(folder.resolve()))
    import trl

    if trl.__version__ != VERSION or not Path(trl.__file__).is_relative_to(folder.resolve()):
        raise SystemExit(
            f"--trl {folder}: TRL {trl.__version__} of {trl.__file__} was found, and {VERSION} is"
            f" wanted; pip install --target {folder} --no-deps trl=={VERSION}"
        )
    from trl.experimental.ppo import ppo_trainer

    return ppo_trainer


def tiny_models() -> dict[str, Any]:
    """Policy, reference, reward and value model, each with weights of its own, in float64."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    torch.manual_seed(0)
    made: dict[str, Any] = {}
    for role in ("policy", "reference", "reward", "value"):
        judges = role in ("reward", "value")
        kind = LlamaForSequenceClassification if judges else LlamaForCausalLM
        model = kind(LlamaConfig(**tiny_config())).double()
        if role == "reference":  # near the policy, but not it: the KL is not 0 from the start
            model.load_state_dict(made["policy"].state_dict())
        size = 0.1 if role == "reference" else 0.4
        with torch.no_grad():  # transformers' first weights are so small that every word is alike
            for name, parameter in model.named_parameters():
                if "norm" not in name:
                    parameter.add_(torch.randn_like(parameter), alpha=size)
        made[role] = model
    return made


def tiny_config() -> dict[str, Any]:
    return {
        "vocab_size": WORDS, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 32,
        "tie_word_embeddings": True, "eos_token_id": EOS, "pad_token_id": PAD,
        "bos_token_id": None, "num_labels": 1,
    }  # fmt: skip


def tokenizer() -> Any:
    """Sixteen words."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(WORDS)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w2")),
        eos_token="w0", pad_token="w1", unk_token="w2", padding_side="left",
    )  # fmt: skip


class Unfit(Exception):
    """The rollout of this seed is not what its case is about."""


def record(
    ppo: Any, name: str, options: dict[str, Any], seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One update of TRL's PPOTrainer: tensors by name, and numbers by name, one a minibatch.

    Raises:
        Unfit: the rollout is not of the case `name`.
    """
    import numpy as np
    from datasets import Dataset

    models, whitened, steps = tiny_models(), [], []
    frame: dict[str, Any] = {}
    original = ppo.masked_whiten

    def whiten(values: Any, mask: Any, shift_mean: bool = True) -> Any:
        result = original(values, mask, shift_mean)
        whitened.append((values.clone(), result.clone()))
        return result

    with tempfile.TemporaryDirectory() as folder:
        trainer = ppo.PPOTrainer(
            args=ppo.PPOConfig(
                output_dir=folder, per_device_train_batch_size=len(PROMPTS), stop_token="eos",
                total_episodes=len(PROMPTS), seed=seed, **quiet(), **options,
            ),
            processing_class=tokenizer(), model=models["policy"], ref_model=models["reference"],
            reward_model=models["reward"], value_model=models["value"],
            train_dataset=Dataset.from_list([{"input_ids": prompt} for prompt in PROMPTS]),
        )  # fmt: skip
        backward = trainer.accelerator.backward

        def recorded(loss: Any) -> None:
            found = sys._getframe(1).f_locals  # the variables of PPOTrainer.train
            if not steps:
                if not fits(name, found):
                    raise Unfit
                frame.update({n: _kept(found[n]) for n in ROLLOUT} | {n: found[n] for n in STATS})
            backward(loss)
            gradients = {n: p.grad.clone() for n, p in trainer.model.named_parameters()}
            steps.append(({n: _kept(found[n]) for n in MINIBATCH}, gradients))

        trainer.accelerator.backward = recorded
        np.random.seed(seed)
        ppo.masked_whiten = whiten
        try:
            trainer.train()
        finally:
            ppo.masked_whiten = original

    tensors = {key: frame[key] for key in ROLLOUT}
    tensors["raw_advantages"] = whitened[-1][0]
    if options["whiten_rewards"]:
        tensors["raw_rewards"] = whitened[0][0]
    numbers: dict[str, Any] = {"pg_loss": [], "vf_loss": [], "loss": []}
    for i, (found, gradients) in enumerate(steps):
        for key in ("micro_batch_inds", "new_logprobs", "vpred"):
            tensors[f"step{i}.{key}"] = found[key]
        tensors |= {f"step{i}.gradient.{key}": value for key, value in gradients.items()}
        for key in numbers:
            numbers[key].append(float(found[key]))
    numbers |= {key: frame[key].flatten().tolist() for key in STATS}
    tensors |= {f"after.{key}": p.detach().clone() for key, p in trainer.model.named_parameters()}
    return tensors, numbers


def quiet() -> dict[str, Any]:
    """Arguments that both scripts give TRL: a plain CPU, nothing saved, a constant rate."""
    return {
        "gradient_accumulation_steps": 1, "num_sample_generations": 0, "bf16": False,
        "gradient_checkpointing": False, "use_cpu": True, "report_to": [], "save_strategy": "no",
        "lr_scheduler_type": "constant", "optim": "adamw_torch", "disable_tqdm": True,
    }  # fmt: skip


def _kept(value: Any) -> Any:
    import torch

    return value.detach().clone() if torch.is_tensor(value) else torch.as_tensor(value)


def fits(case: str, found: dict[str, Any]) -> bool:
    """Whether a rollout is one that the case is about.

    None may hold a sampled padding token, which TRL takes for the end of an answer and we do not.
    """
    answers, lengths = found["postprocessed_responses"], (~found["padding_mask"]).sum(1)
    short = lengths < answers.shape[1]
    last = answers.gather(1, (lengths - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
    if bool(((last != EOS) & short).any()):
        return False
    ended = int(found["contain_eos_token"].sum())
    if case == "early":
        return int(short.sum()) > 2 and ended < len(answers)
    return not short.any() and (ended > 0 or case == "whitened")


def main() -> int:
    """Record every case and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trl", type=Path, required=True, help=f"folder with TRL {VERSION}")
    parser.add_argument("--to", type=Path, default=FIXTURE, help="where, without the endings")
    options = parser.parse_args()
    ppo = import_trl(options.trl)
    import torch
    import transformers
    from safetensors.torch import save_file

    every: dict[str, Any] = {}
    for role, model in tiny_models().items():
        every |= {f"start.{role}.{n}": p.detach() for n, p in model.named_parameters()}
    cases = {}
    for name, changes in CASES.items():
        arguments = {**COMMON, **changes}
        for seed in range(300):
            with contextlib.suppress(Unfit):
                tensors, numbers = record(ppo, name, dict(arguments), seed)
                break
        else:
            raise SystemExit(f"{name}: no seed under 300 gives such a rollout")
        every |= {f"{name}.{key}": value for key, value in tensors.items()}
        cases[name] = {"seed": seed, "arguments": arguments, "numbers": numbers}
        print(f"{name}: seed {seed}, clipped {numbers['pg_clipfrac_stats']}")
    about = {
        "from": f"TRL {VERSION} (Apache-2.0), trl.experimental.ppo, run and not copied",
        "with": {"torch": torch.__version__, "transformers": transformers.__version__},
        "command": "python tests/benchmarks/ppo_trl_record.py --trl FOLDER",
        "model": tiny_config(),
        "cases": cases,
    }
    options.to.parent.mkdir(parents=True, exist_ok=True)
    weights = options.to.with_suffix(".safetensors")
    save_file({key: tensor.contiguous() for key, tensor in every.items()}, weights)
    weights.chmod(0o644)
    options.to.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
