"""How long does bertscore take over 8 variants, against 8 calls of bert-score?

    python tests/benchmarks/bertscore_speed.py [--variants 8] [--examples 300] [--encoder FOLDER]

Every variant has outputs of its own for the same prompts and two references each, from the pocket
suite. Both sides load the encoder for each variant, as separate stages do, on the same threads.
Without an encoder folder and without the packaged encoder, one of its shape (6 layers of 384) with
random weights takes its place. The ratio is void, and the exit status 1, where a figure differs by
more than 1e-5.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.scorers.base import Prediction, ScoreJob
from harness.scorers.bertscore import PACKAGED_LAYER, Bertscore, packaged

INSTRUCT = Path(__file__).parents[2] / "suites" / "pocket" / "instruct"
PARTS = ("precision", "recall", "f1")


def make_encoder(folder: Path) -> Path:
    """A random BERT of MiniLM's shape over the words of the pocket suite."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=2000, special_tokens=special)
    backend.train([str(path) for path in INSTRUCT.glob("*.jsonl")], trainer)
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=backend.get_vocab_size(), hidden_size=384, num_hidden_layers=6,
        num_attention_heads=12, intermediate_size=1536, initializer_range=0.1,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=512,
        **dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True)),
    ).save_pretrained(folder)  # fmt: skip
    return folder


def make_outputs(variants: int, examples: int) -> list[list[Prediction]]:
    """For each variant, each answer with other words dropped."""
    rows = [json.loads(line) for line in (INSTRUCT / "train.jsonl").read_text().splitlines()]
    rows = [row for row in rows if len(row["references"]) > 1][:examples]
    made = []
    for variant in range(variants):
        rng, own = random.Random(variant), []
        for row in rows:
            words = row["references"][0].split(" ")
            text = " ".join(w for w in words if rng.random() > 0.15) or words[0]
            own.append(Prediction(row["id"], "", "", "", text, tuple(row["references"])))
        made.append(own)
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=int, default=8)
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--encoder", type=Path, default=packaged())
    options = parser.parse_args()
    try:
        import bert_score
    except ImportError:
        print("bert-score is not installed: pip install bert-score==0.3.13")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        encoder = options.encoder or make_encoder(Path(folder) / "encoder")
        outputs = make_outputs(options.variants, options.examples)
        cache, fast, slow, most = Path(folder) / "cache", 0.0, 0.0, 0.0
        for predictions in outputs:
            start = time.perf_counter()
            scorer = Bertscore(model_type=str(encoder), num_layers=PACKAGED_LAYER)
            ours = scorer.score_job(ScoreJob({"answers": predictions}, cache=cache))
            fast += time.perf_counter() - start
            start = time.perf_counter()
            theirs: Any = bert_score.score(
                [p.text for p in predictions], [list(p.references) for p in predictions],
                model_type=str(encoder), num_layers=PACKAGED_LAYER, device="cpu",
            )  # fmt: skip
            slow += time.perf_counter() - start
            for name, column in zip(PARTS, theirs, strict=True):
                for row, value in zip(ours, column.tolist(), strict=True):
                    most = max(most, abs(row[f"bertscore_{name}"] - value))
    print(
        f"{len(outputs)} variants x {len(outputs[0])}: bert-score {slow:.1f} s, ours {fast:.1f} s"
    )
    if most > 1e-5:
        print(f"void: figures differ by up to {most:.2g}")
        return 1
    print(f"ratio {slow / fast:.2f}; figures differ by at most {most:.1g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
