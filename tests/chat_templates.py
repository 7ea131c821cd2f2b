"""The published chat templates that TRL ships, each with a tokenizer of its marks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import trl

FOLDER = Path(trl.__file__).parent / "chat_templates"
WITHOUT_TEXT = {
    "idefics3": "its content is a list of parts, of pictures too",
    "llava_next": "its content is a list of parts, of pictures too",
    "smolvlm": "its content is a list of parts, of pictures too",
}
"""Templates that take no content that is a string, and why."""
_END = "<\uff5cend▁of▁sentence\uff5c>"
END = {
    "cohere": "<|END_OF_TURN_TOKEN|>", "deepseek": _END, "diffusion": "<turn|>",
    "gemma4": "<turn|>", "gemma": "<end_of_turn>", "glm4moe": "<|user|>", "gptoss": "<|return|>",
    "lfm2": "<|im_end|>", "llama3": "<|eot_id|>", "muse": "<|eot|>", "nemotron": "<|im_end|>",
    "phi3": "<|end|>", "qwen": "<|im_end|>",
}  # fmt: skip
"""Family (the first that a name begins with) -> the token that ends an answer in it."""
EOS = {"gemma": "<eos>", "phi3": "<|endoftext|>", "glm4moe": "<|endoftext|>"}
"""Families whose end of a text is another token than that of a turn."""
_MARKS = re.compile(
    r"<\|[^|<>\s{}']+\|>|<\uff5c[^<>\uff5c\s]+\uff5c>|<(?:start|end)_of_turn>|<(?:bos|eos)>|\[gMASK\]|<sop>"
    r"|</?(?:think|tool_call|tool_response|arg_key|arg_value)>"
    r"|<\|(?:turn|channel|tool_call|tool_response|tool|think)>"
    r"|<(?:turn|channel|tool_call|tool_response|tool)\|>"
)
_MERGES = [
    ("Ċ", "Ċ"), ("Ġ", "Ġ"), ("h", "e"), ("Ġ", "a"), ("Ġ", "t"), ("Ġt", "h"), ("a", "n"),
    ("a", "i"), ("?", "Ċ"),
]  # fmt: skip
"""A few, among them those that join the end of a header to an answer, as real vocabularies do."""


def names() -> list[str]:
    """Every template that takes text, its training versions included."""
    found = sorted(path.stem for path in FOLDER.glob("*.jinja"))
    return [name for name in found if name.removesuffix("_training") not in WITHOUT_TEXT]


def of_family(name: str, table: dict[str, str], default: str = "") -> str:
    """What a table says of the family of a template."""
    return next((value for family, value in table.items() if name.startswith(family)), default)


def tokenizer_of(name: str) -> Any:
    """A byte-level tokenizer with a template's marks as single tokens, and its family's eos."""
    template = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    return tokenizer_with(template, of_family(name, EOS, of_family(name, END, "<eos>")))


def tokenizer_with(template: str, eos: str, **options: Any) -> Any:
    """A byte-level tokenizer with a template, and the marks that it writes as single tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate(symbols)}
    for pair in _MERGES:
        vocabulary["".join(pair)] = len(vocabulary)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=_MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    marks = sorted(set(_MARKS.findall(template)) - {eos, "<pad>", "<bos>"})
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token=eos, pad_token="<pad>",
        extra_special_tokens=marks, chat_template=template, **options,
    )  # fmt: skip
