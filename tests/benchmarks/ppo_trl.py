"""Our PPO and TRL 1.12.0's from the same start: reward and KL by step, side by side.

    pip install --target FOLDER --no-deps trl==1.12.0     # the last release with a PPO
    python tests/benchmarks/ppo_trl.py --trl FOLDER --seeds 5

The start is made once: the pocket world's model of a million parameters after a short SFT on its
demonstrations, and a reward model of the same trunk whose head tells polite answers from rude ones;
the value model starts as the reward model. Policy, reward model, value model and hyper-parameters
are equal; the answers are not, as each side draws them in its own way. A third arm, ours at half
the learning rate, shows what these curves can tell apart. That every term and gradient is equal on
the same answers is tests/objectives/test_ppo_oracle.py's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).parents[2]
POCKET = ROOT / "suites" / "pocket"
BATCH, MINIBATCHES, EPOCHS, TOKENS, RATE, KL_COEF = 32, 2, 2, 16, 1e-4, 0.05
LONGEST = 24
"""Tokens of the prompts taken."""
TAIL = 5
"""Steps at the end whose mean is compared."""
ARMS = {"trl": "TRL 1.12.0", "ours": "ours", "half": "ours, half the rate"}


def prepare(folder: Path) -> None:
    """The start of every run: `policy` and `reward`, and `prompts.json`, with their tokens."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )

    from harness.data.render import asked_ids, encode

    torch.manual_seed(0)
    base = POCKET / "models" / "pocket-1m"
    tokens = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    _sft(model, [encode(tokens, row) for row in _rows("demonstrations_train")], tokens.pad_token_id)
    model.save_pretrained(folder / "policy")
    tokens.save_pretrained(folder / "policy")

    judge = AutoModelForSequenceClassification.from_pretrained(
        folder / "policy", num_labels=1, dtype=torch.float32
    )

    def features(split: str, side: str) -> Any:
        rows = [row for row in _rows(split) if row["dimension"] == "polite"]
        found = []
        for row in rows:
            ids, _ = encode(tokens, {"prompt": row["prompt"], "chosen": row[side]})
            last = max(i for i, token in enumerate(ids) if token == tokens.eos_token_id)
            with torch.no_grad():
                found.append(judge.model(torch.tensor([ids[: last + 1]])).last_hidden_state[0, -1])
        return torch.stack(found)

    gaps = {split: features(split, "chosen") - features(split, "rejected")
            for split in ("train", "validation")}  # fmt: skip
    head = torch.zeros(gaps["train"].shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([head], max_iter=100, line_search_fn="strong_wolfe")

    def bradley_terry() -> Any:
        optimizer.zero_grad()
        fit = -torch.nn.functional.logsigmoid(gaps["train"] @ head).mean()
        loss = fit + 1e-2 * head.square().sum()
        loss.backward()
        return loss

    optimizer.step(bradley_terry)
    with torch.no_grad():
        judge.score.weight.copy_(head.unsqueeze(0))
    judge.save_pretrained(folder / "reward")
    right = (gaps["validation"] @ head.detach() > 0).double().mean().item()
    asked = [(row["prompt"], asked_ids(tokens, row)) for row in _rows("train")]
    prompts = [{"prompt": turns, "ids": ids} for turns, ids in asked if len(ids) <= LONGEST]
    (folder / "prompts.json").write_text(json.dumps(prompts))
    print("RESULT " + json.dumps({"accuracy": right, "prompts": len(prompts)}))


def _rows(split: str) -> list[dict[str, Any]]:
    path = POCKET / "preference" / f"{split}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _sft(model: Any, rows: Sequence[tuple[list[int], int]], pad: int) -> None:
    """Two epochs on the answers."""
    import torch

    from harness.inference.batches import padded

    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3)
    for _ in range(2):
        order = torch.randperm(len(rows)).tolist()
        for start in range(0, len(order), 16):
            part = [rows[i] for i in order[start : start + 16]]
            ids, mask = padded([row for row, _ in part], pad)
            labels = ids.masked_fill(mask == 0, -100)
            for row, (_, answer) in enumerate(part):
                labels[row, :answer] = -100
            optimizer.zero_grad()
            model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
            optimizer.step()


def trl(folder: Path, prompts: list[dict[str, Any]], seed: int, steps: int, where: Path) -> Any:
    """Reward and KL of each step of TRL's."""
    from datasets import Dataset
    from ppo_trl_record import import_trl, quiet
    from transformers import set_seed

    ppo = import_trl(where)
    tokens, policy, reference, reward, value = _models(folder)
    set_seed(seed)
    with tempfile.TemporaryDirectory() as output:
        trainer = ppo.PPOTrainer(
            args=ppo.PPOConfig(
                output_dir=output, per_device_train_batch_size=BATCH, num_mini_batches=MINIBATCHES,
                num_ppo_epochs=EPOCHS, total_episodes=BATCH * steps, response_length=TOKENS,
                stop_token="eos", temperature=1.0, kl_coef=KL_COEF, cliprange=0.2,
                cliprange_value=0.2, vf_coef=0.1, gamma=1.0, lam=0.95, learning_rate=RATE,
                adam_beta2=0.999, adam_epsilon=1e-8, seed=seed, logging_steps=1, **quiet(),
            ),
            processing_class=tokens, model=policy, ref_model=reference, reward_model=reward,
            value_model=value,
            train_dataset=Dataset.from_list([{"input_ids": row["ids"]} for row in prompts]),
        )  # fmt: skip
        trainer.train()
    lines = [line for line in trainer.state.log_history if "objective/kl" in line]
    return [(line["objective/scores"], line["objective/kl"]) for line in lines]


def ours(folder: Path, prompts: list[dict[str, Any]], seed: int, steps: int, rate: float) -> Any:
    """Reward and KL of each step of ours."""
    from harness.objectives._ppo import trainer
    from harness.objectives.base import TrainJob
    from harness.objectives.ppo import Ppo

    tokens, policy, reference, reward, value = _models(folder)
    with tempfile.TemporaryDirectory() as work:
        job = TrainJob(
            model=policy, tokenizer=tokens, rows=prompts, validation=[], checkpoints=Path(work),
            step_log=Path(work) / "steps.jsonl", seed=seed, data_seed=seed, dtype="float32",
            device="cpu", checkpoint_seconds=1e9, report_to=[], label="ppo",
            progress=lambda *_: None, reward_model=reward, value_model=lambda: value,
            reference_logits=lambda ids, mask: reference(
                input_ids=ids, attention_mask=mask, use_cache=False).logits,
        )  # fmt: skip
        objective = Ppo(
            learning_rate=rate, max_steps=steps, rollout_batch_size=BATCH,
            minibatch_size=BATCH // MINIBATCHES, ppo_epochs=EPOCHS, max_new_tokens=TOKENS,
            temperature=1.0, kl_coef=KL_COEF, clip_range=0.2, value_clip_range=0.2, value_coef=0.1,
            gamma=1.0, lam=0.95, adam_beta2=0.999, adam_epsilon=1e-8, max_grad_norm=0,
        )  # fmt: skip
        trainer.train(objective, job)
        lines = [json.loads(line) for line in job.step_log.read_text().splitlines()]
    return [(line["reward"], line["kl"]) for line in lines]


def _models(folder: Path) -> tuple[Any, Any, Any, Any, Any]:
    """Tokenizer, policy, reference, reward model and value model."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )

    policies = [AutoModelForCausalLM.from_pretrained(folder / "policy", dtype=torch.float32)
                for _ in range(2)]  # fmt: skip
    judges = [AutoModelForSequenceClassification.from_pretrained(
        folder / "reward", dtype=torch.float32) for _ in range(2)]  # fmt: skip
    tokens = AutoTokenizer.from_pretrained(folder / "policy", padding_side="left")
    return (tokens, *policies, *judges)


def show(curves: dict[str, Any]) -> None:
    """Print the curves, and the differences of their ends."""
    import numpy as np
    from scipy import stats

    found = {arm: np.array(runs) for arm, runs in curves.items()}  # (seeds, steps, 2)
    for kind, what in enumerate(("reward", "KL to the start, nats an answer")):
        print(f"\n{what}: mean over {len(found['trl'])} seeds (lowest to highest)\n")
        print("| step | " + " | ".join(ARMS[arm] for arm in found) + " | ours and TRL overlap |")
        print("|---|" + "---|" * (len(found) + 1))
        low = {arm: runs[:, :, kind].min(0) for arm, runs in found.items()}
        high = {arm: runs[:, :, kind].max(0) for arm, runs in found.items()}
        overlap = {arm: (low[arm] <= high["trl"]) & (low["trl"] <= high[arm]) for arm in found}
        for step in range(found["trl"].shape[1]):
            cells = [
                f"{runs[:, step, kind].mean():z.3f}"
                f" ({low[arm][step]:z.3f} to {high[arm][step]:z.3f})"
                for arm, runs in found.items()
            ]
            print(
                f"| {step + 1} | {' | '.join(cells)} | {'yes' if overlap['ours'][step] else 'no'} |"
            )
        print()
        ends = {arm: runs[:, -TAIL:, kind].mean(1) for arm, runs in found.items()}
        for arm in list(found)[1:]:
            test = stats.ttest_ind(ends[arm], ends["trl"], equal_var=False)
            interval = test.confidence_interval(0.95)
            print(
                f"- {ARMS[arm]} less {ARMS['trl']}, last {TAIL} steps:"
                f" {ends[arm].mean() - ends['trl'].mean():+.3f}"
                f" (95%: {interval.low:+.3f} to {interval.high:+.3f});"
                f" the ranges overlap in {overlap[arm].sum()} of {len(overlap[arm])} steps"
            )
            if arm == "ours":
                unseen = (interval.high - interval.low) / 2
        print(
            f"- that ranges overlap means little: those of another training, at half the rate, do"
            f" in {overlap['half'].sum()} of {len(overlap['half'])} steps; and a difference of the"
            f" ends under about {unseen:.2f} would pass unseen"
        )


def main() -> int:
    """Make the start, run every arm in a process of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trl", type=Path, required=True, help="folder with TRL 1.12.0")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--side", choices=["prepare", *ARMS], help=argparse.SUPPRESS)
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side == "prepare":
        prepare(options.start)
        return 0
    if options.side:
        prompts = json.loads((options.start / "prompts.json").read_text())
        runs = []
        for seed in range(options.seeds):
            given = (options.start, prompts, seed, options.steps)
            if options.side == "trl":
                runs.append(trl(*given, options.trl))
            else:
                runs.append(ours(*given, RATE if options.side == "ours" else RATE / 2))
        print("RESULT " + json.dumps(runs))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        made = _fresh("prepare", folder, options)
        print(f"the reward model is right on {made['accuracy']:.2f} of the polite pairs held out;"
              f" {made['prompts']} prompts of at most {LONGEST} tokens")  # fmt: skip
        show({arm: _fresh(arm, folder, options) for arm in ARMS})
    return 0


def _fresh(side: str, folder: str, options: argparse.Namespace) -> Any:
    command = [sys.executable, "-W", "ignore", __file__, "--side", side, "--start", folder,
               "--trl", str(options.trl), "--seeds", str(options.seeds),
               "--steps", str(options.steps)]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


if __name__ == "__main__":
    sys.exit(main())
