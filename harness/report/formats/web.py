"""Shared by the pages: templates that escape, and a policy under which only our own script runs."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from harness.core.text import code_parts


def template(name: str) -> Template:
    """A template of the report, which escapes whatever it is filled with."""
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["prose"] = _prose
    return environment.get_template(name)


def _prose(sentence: object) -> Markup:
    """A sentence with its code as code, and all else escaped."""
    parts = code_parts(sentence)
    return Markup("").join(Markup("<code>{}</code>").format(part) if code else escape(part)
                           for part, code in parts)  # fmt: skip


def asset(name: str) -> str:
    """The text of a style sheet or a script of the pages."""
    return files("harness.report").joinpath("templates", name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """The content security policy: only this style and this script, by their digests; the page may
    fetch and send nothing."""
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}';"
        " base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
