"""A blinded sheet as one page: pairs of answers, and keys that label them. It needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from harness.core.text import visible, well_formed
from harness.data.cells import content
from harness.data.label_sheets import Shown
from harness.data.render import question
from harness.report.formats.web import asset, policy, template

QUESTION = "Say which is more helpful, true and harmless."
"""What labellers are asked, after the number of pairs."""


def page(sheet: Sequence[Shown], asked: str = QUESTION) -> str:
    """The page as text. Whatever an answer contains, it is shown as text and does nothing.

    Args:
        asked: what labellers are to decide by.
    """
    style = "\n".join([asset("style.css"), asset("label_sheet.css")])
    script = "\n".join(['"use strict";', asset("label_sheet.js")])
    return template("label_sheet.html.j2").render(
        pairs=[
            {
                "number": shown.number,
                "prompt": _text(prompt_text(shown.pair.prompt)),
                "answers": [_text(content(answer)) for answer in shown.answers],
            }
            for shown in sheet
        ],
        sheet=sheet[0].number.partition("-")[0],
        question=asked,
        style=Markup(style),
        script=Markup(script),
        policy=policy(style, script),
    )


def prompt_text(prompt: Any) -> str:
    """A prompt as plain text; turns of a conversation with their roles."""
    return question({"prompt": prompt})


def _text(text: str) -> str:
    return visible(well_formed(text))
