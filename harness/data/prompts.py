"""Prompts for judges: Jinja templates of a suite, filled with texts that are nothing but data.

What a judge reads of an answer may try to be something else: the end of the answer, another turn of
the chat, an order to the judge. So a template gets no text as it is: names of special tokens are
broken up in all of them (`plain`), and `quoted` marks every line of a text, so that none of them
can pass for a line of the template.
"""

from __future__ import annotations

import functools
import itertools
import re
import string
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta

from harness.core.errors import StageFailed, SuiteError, shortened
from harness.core.locate import locate
from harness.data.cells import said
from harness.data.prompt_sandbox import FAULTS, REMOVED_GLOBALS, Sandbox
from harness.data.render import question

ENDING = ".jinja"
MARK = "| "
"""What `quoted` writes before each line of a text."""
_EMPTY = "(nothing: the text is empty)"
_SPECIAL = re.compile(
    r"<[|\uff5c][^<>\n]{1,60}[|\uff5c]>|<[|\uff5c][^<>\s]{1,60}>|<[^<>\s|\uff5c]{1,60}[|\uff5c]>"
    r"|</?(?:s|bos|eos|pad|unk|mask|sep|cls|sop|eop|eod|eom|eot|endoftext|im_start|im_end"
    r"|(?:begin|start|end)_of_\w{1,30}|extra_id_\d+|reserved_\w{1,30}|unused_?\d+"
    r"|_?(?:human|user|assistant|bot|ai|system)_?)>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|THINK|g?MASK"
    r"|sMASK|CLS|SEP|PAD|UNK|BOS|EOS|unused\w{0,20})\]|<</?SYS>>",
    re.IGNORECASE,
)
"""Marks of turns in the chat templates of well-known models, for judges behind a server, whose
tokens are not known."""
_ROUNDS = 4
"""What is left of a name may be another name: so often is it looked for again."""
_BREAKS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
"""Whatever ends a line somewhere."""


def plain(text: str, special: Collection[str] = ()) -> str:
    """The text with a space after the first character of each name of a special token, so that no
    tokenizer reads it as that token.

    Args:
        special: the special tokens of the judge's tokenizer, besides those of well-known models.
    """
    names = [re.escape(name) for name in sorted(special, key=len, reverse=True)
             if len(name) > 1 and name.strip()]  # fmt: skip
    pattern = re.compile("|".join([*names, _SPECIAL.pattern])) if names else _SPECIAL
    for _ in range(_ROUNDS):
        text, broken = pattern.subn(lambda match: f"{match[0][0]} {match[0][1:]}", text)
        if not broken:
            break
    return text


def quoted(text: str) -> str:
    """The text with a mark before each of its lines; an empty one is called so without a mark."""
    if not text.strip():
        return _EMPTY
    return "\n".join(f"{MARK}{line}" for line in _BREAKS.split(text))


def filled(template: str, fields: Mapping[str, Any], special: Collection[str] = ()) -> str:
    """A template filled with texts, each of them `plain`.

    Args:
        fields: name -> a text, a number, a truth value, or a list of turns.

    Raises:
        StageFailed: the template cannot be filled.
    """
    try:
        return _filled(template, {name: _plain(value, special) for name, value in fields.items()})
    except FAULTS as error:
        raise StageFailed(
            "prompt", f"the prompt cannot be filled: {error}", fix="correct the template"
        ) from None


def _filled(template: str, fields: Mapping[str, Any]) -> str:
    return str(_environment().fill(_compiled(template), fields)).strip("\n")


def _plain(value: Any, special: Collection[str]) -> Any:
    if isinstance(value, str):
        return plain(value, special)
    if isinstance(value, Mapping):
        return {name: _plain(part, special) for name, part in value.items()}
    if isinstance(value, Sequence):
        return [_plain(part, special) for part in value]
    return value


def prompt_fields(prompt: Any) -> dict[str, Any]:
    """A row's prompt as fields of a template: `question`, its text, and `turns`, its messages."""
    if isinstance(prompt, str):
        turns = [{"role": "user", "content": prompt}]
    else:
        turns = [
            {"role": re.sub(r"\W", "", str(turn["role"])), "content": said(turn)} for turn in prompt
        ]
    return {"question": question({"prompt": prompt}), "turns": turns}


def require_fields(template: str, needed: Collection[str], known: Collection[str]) -> str:
    """Check that a template can be filled, and shows the fields that it must; return it. It is
    filled with examples for that.

    Raises:
        ValueError: it is no Jinja template, it uses a field that it does not get or another file,
            it does not show one of those that it needs, or it cannot be filled.
    """
    try:
        tree = _environment().parse(template)
        used = meta.find_undeclared_variables(tree)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"no Jinja template: line {error.lineno}: {error.message}") from None
    except RecursionError:
        raise ValueError("no Jinja template that can be read: it is nested too deep") from None
    if removed := sorted(used & set(REMOVED_GLOBALS)):
        raise ValueError(
            f"Jinja's `{removed[0]}` is not for prompts, whose time and memory are bounded; filters"
            " such as `selectattr` and `length` tell and count what is there"
        )
    if strange := sorted(used - set(known)):
        raise ValueError(f"{strange[0]} is no field of this prompt; it has {', '.join(known)}")
    if any(True for _ in meta.find_referenced_templates(tree)):
        raise ValueError("a prompt is one file: it can include, import and extend no other")
    missing = [name for name in needed if name not in used] or _unseen(template, needed, known)
    if missing:
        fields = " and ".join(f"{{{{ {name} }}}}" for name in missing)
        raise ValueError(f"the prompt needs {fields}, or the judge would not see it")
    return template


def _unseen(template: str, needed: Collection[str], known: Collection[str]) -> list[str]:
    """The fields that make no difference to the filled template, in one of its cases.

    Raises:
        ValueError: it cannot be filled.
    """
    unseen: list[str] = []
    for ties, chat in itertools.product((True, False), repeat=2):
        fields = {**{name: _EXAMPLES.get(name, "text") for name in known},
                  "ties": ties, "chat": chat}  # fmt: skip
        try:
            shown = _filled(template, fields)
            unseen += [
                name
                for name in needed
                if _filled(template, {**fields, name: _others(name)}) == shown
            ]
        except FAULTS as error:
            raise ValueError(f"the prompt cannot be filled: {error}") from None
    return list(dict.fromkeys(unseen))


def _others(name: str) -> Any:
    """Another example of a field."""
    if name == "answers":
        return [{**answer, "text": f"another {answer['letter']}"} for answer in _ANSWERS]
    return f"another {name}"


_ANSWERS = [{"letter": letter, "text": f"answer {letter}"} for letter in string.ascii_uppercase]
_TURNS = [
    {"role": role, "content": f"what the {role} says"}
    for role in ("system", "user", "assistant", "user")
]
_EXAMPLES: Mapping[str, Any] = {
    "turns": _TURNS, "answers": _ANSWERS, "example": "B > A", "lowest": 1, "highest": 5,
}  # fmt: skip
"""Fields of a prompt to try it with; others are texts."""


def prompt_text(named: str, suite_file: Path, where: str) -> str:
    """The text of a prompt that a suite names: that of the file, if it is the name of one.

    Raises:
        SuiteError: there is no such file, or it is no UTF-8 text.
    """
    if not is_file_name(named):
        return named
    path = locate(named, suite_file, where)
    if path is None or not path.is_file():
        raise SuiteError(
            f"'{shortened(named)}' is no file",
            where=where,
            fix="name a Jinja file beside the suite, in the working folder or of the package's"
            " suites, or write the template here",
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        message = f"{path.name} is not UTF-8 text (byte {error.start})"
        raise SuiteError(message, where=where) from None


def is_file_name(named: str) -> bool:
    """Whether a prompt in a suite is the name of a file, and not the template itself."""
    return named.endswith(ENDING) and "\n" not in named and "{" not in named


@functools.lru_cache(maxsize=64)
def _compiled(template: str) -> Any:
    return _environment().from_string(template)


@functools.cache
def _environment() -> Sandbox:
    return Sandbox({"quoted": quoted})
