"""One GGUF file as a plain safetensors folder: `python -m harness.models.convert_gguf FILE FOLDER`.

A process of its own, started by the half of the harness that imports no torch.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from pathlib import Path


def convert(file: Path, folder: Path) -> None:
    """Write the model, its tokenizer and its chat template as `save_pretrained` lays them out.

    The weights are the file's own numbers, dequantised, in float32: in bfloat16 they would be
    rounded once more (by 0.2% of the largest, for Q4_1).

    Raises:
        ValueError: an architecture that transformers does not read from GGUF, or a tensor that
            the file lacks, which would else be a random one.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # A folder of its own: a tokenizer.json beside the file would be taken for the file's.
    with tempfile.TemporaryDirectory() as alone:
        (Path(alone) / file.name).symlink_to(file.resolve())
        tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=file.name)
        read, found = AutoModelForCausalLM.from_pretrained(
            alone, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
        )
    if found["missing_keys"]:
        raise ValueError(f"the file lacks {sorted(found['missing_keys'])[0]}")
    # A model that came from GGUF refuses to be saved; the same weights in a plain one do not.
    config = copy.deepcopy(read.config)
    del config.quantization_config
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(read.state_dict(), assign=True)
    plain.tie_weights()
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
