"""Converts a GGUF file into a safetensors folder: `python -m harness.models.convert_gguf FILE
FOLDER`.

It runs in its own process, since the process that starts it must not import torch.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from pathlib import Path


def convert(file: Path, folder: Path) -> None:
    """Write the model, its tokenizer and its chat template into a folder, as `save_pretrained`
    does.

    The weights are dequantised to float32. In bfloat16 they would be rounded again (by 0.2% of the
    largest weight, for Q4_1).

    Raises:
        ValueError: transformers does not read this architecture from GGUF, or the file lacks a
            tensor, which would otherwise be initialised at random.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # In an empty folder, since transformers would read a tokenizer.json beside the file.
    with tempfile.TemporaryDirectory() as alone:
        (Path(alone) / file.name).symlink_to(file.resolve())
        tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=file.name)
        read, info = AutoModelForCausalLM.from_pretrained(
            alone, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
        )
    if info["missing_keys"]:
        raise ValueError(f"the file lacks {sorted(info['missing_keys'])[0]}")
    # A model that was read from GGUF cannot be saved, so its weights go into a plain model.
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
