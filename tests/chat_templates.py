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


_ASSISTANT = "<\uff5cAssistant\uff5c>"
HEAD = {
    "cohere2": "<|CHATBOT_TOKEN|><|START_RESPONSE|>", "cohere": "<|CHATBOT_TOKEN|>",
    "deepseek": _ASSISTANT, "diffusion": "<|turn>model\n", "gemma4": "<|turn>model\n",
    "gemma": "<start_of_turn>model\n", "glm4moe": "<|assistant|>", "gptoss": "<|start|>assistant",
    "lfm2": "<|im_start|>assistant\n", "nemotron": "<|im_start|>assistant\n",
    "llama3": "<|start_header_id|>assistant<|end_header_id|>\n\n", "muse": "<|start|>assistant",
    "phi3": "<|assistant|>\n", "qwen": "<|im_start|>assistant\n",
}  # fmt: skip
"""Family -> what a template writes before what the assistant says."""
AFTER_TOOL = {
    "deepseek": "<\uff5ctool▁outputs▁end\uff5c>", "gemma4": "<tool_response|>",
    "diffusion": "<tool_response|>",
}  # fmt: skip
"""Families that write no such header after a tool's result."""
OTHER_ENDS = ("<|call|>", "<|observation|>", "<|tool_response>", "<|end|>")
"""Ends of turns that are not the last, or call a tool."""
ASKED = ("", "<think>", "<think>\n", "<think>\n\n", "<think>\n\n</think>\n\n")
"""What a prompt may hold after the header: it is asked, not trained on."""


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


_CALL = {
    "id": "call00001", "type": "function",
    "function": {"name": "lookup", "arguments": {"city": "Lima"}},
}  # fmt: skip
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one turn": [user("Hello there?"), assistant("Apples are red.")],
    "three turns": [
        user("First of all?"), assistant(" Birds sing."), user("Second?\n"),
        assistant("Cats\n\nand dogs"), user("Third?"), assistant("\nDoors.\n"),
    ],
    "system": [
        {"role": "system", "content": "Be very kind."}, user("Hello there?"), assistant("Sure."),
    ],
    "tool call": [
        user("Weather?"), assistant("", tool_calls=[_CALL]),
        {"role": "tool", "name": "lookup", "tool_call_id": "call00001", "content": "sunny"},
        assistant("Blue skies."),
    ],
    "a call as the answer": [user("Weather?"), assistant("", tool_calls=[_CALL])],
    "thinking": [
        user("Hm?"), assistant("Easy one.", reasoning_content="Ponder first."),
        user("And so?"), assistant("Hard one.", reasoning_content="Doubt next."),
    ],
}  # fmt: skip
"""No two of them say the same, so that a test finds what stands where by its words."""


def said(message: dict[str, Any]) -> list[str]:
    """What a message says, in the order in which templates write it."""
    calls = [call["function"] for call in message.get("tool_calls", ())]
    words = [message.get("reasoning_content", ""), message["content"]]
    words += [word for call in calls for word in (call["name"], *call["arguments"].values())]
    return [word.strip() for word in words if word.strip()]


def answer_spans(name: str, messages: list[dict[str, Any]], text: str) -> list[tuple[int, int]]:
    """Where the assistant's turns stand in a text, its end-of-turn tokens included, by its words
    and what the family writes around them."""
    spans, place = [], 0
    for number, message in enumerate(messages):
        words = said(message)
        places = [(at, at + len(w)) for w in words if (at := text.find(w, place)) >= 0]
        first, last = min(places)[0], max(end for _, end in places)
        if message["role"] == "assistant":
            head = of_family(name, HEAD)
            after_tool = of_family(name, AFTER_TOOL)
            if number and messages[number - 1]["role"] == "tool" and after_tool:
                head = head if text.find(head, place, first) >= 0 else after_tool
            start = text.rindex(head, 0, first) + len(head)
            marks = (of_family(name, END), *OTHER_ENDS)
            ends = [at + len(m) for m in marks if (at := text.find(m, last)) >= 0]
            spans.append((start, min(ends)))
            last = min(ends)
        place = last
    return spans
