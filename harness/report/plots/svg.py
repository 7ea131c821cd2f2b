"""Turns matplotlib's SVG into one that can be part of a page.

Matplotlib writes style attributes and a style element, which the page's content security policy
forbids, ids that are the same in every drawing, and metadata.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b85c92", "#b87a00", "#2a8fc7", "#6b6b6b")
"""After Okabe & Ito (2008), darkened to a contrast of 3:1 on white; the page's style sheet has
another set for dark mode."""
_INK = "#000000"
_DROPPED = {"metadata", "style", "title", "desc"}
_HREF = "{http://www.w3.org/1999/xlink}href"


def inline(drawing: bytes, prefix: str) -> str:
    """The plot with attributes in place of styles, the page's text colour for black, and ids that
    begin with `prefix`."""
    root = ElementTree.fromstring(drawing)
    _clean(root, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("aria-hidden", "true")
    return ElementTree.tostring(root, encoding="unicode")


def _clean(element: ElementTree.Element, prefix: str) -> None:
    element.tag = _local(element.tag)
    for child in list(element):
        if _local(child.tag) in _DROPPED:
            element.remove(child)
        else:
            _clean(child, prefix)
    attributes = dict(element.attrib)
    element.attrib.clear()
    for name, value in attributes.items():
        for key, text in _attribute(element.tag, name, value, prefix):
            element.set(key, text)


def _attribute(tag: str, name: str, value: str, prefix: str) -> list[tuple[str, str]]:
    if name == "style":
        parts = (part.partition(":") for part in value.split(";") if part.strip())
        return [_style(key.strip(), text.strip()) for key, _, text in parts]
    if name == "id":
        # Nothing refers to the id of a group; references use those of markers and clips.
        return [] if tag == "g" else [("id", f"{prefix}-{value}")]
    if name == _HREF:
        return [("href", f"#{prefix}-{value.removeprefix('#')}")]
    return [(_local(name), re.sub(r"url\(#(.+?)\)", rf"url(#{prefix}-\1)", value))]


def _style(key: str, value: str) -> tuple[str, str]:
    if key == "font":
        # SVG has no attribute for this shorthand, and the font family is the page's.
        size = re.search(r"[\d.]+(?=px)", value)
        return "font-size", size.group() if size else "9"
    return key, "currentColor" if value == _INK else value


def _local(name: str) -> str:
    return name.rpartition("}")[2]
