"""A check as JUnit XML: a claim is a test; refuted is a failure, incomparable an error."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from harness.comparison.claims import ClaimVerdict
from harness.comparison.gate import Checked
from harness.core.text import visible
from harness.report.check import words

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(checked: Checked) -> str:
    """The XML that CI services read. An allowed inconclusive claim is a test that was skipped."""
    cases = [_case(verdict, checked) for verdict in checked.verdicts]
    if not cases:
        empty = ElementTree.Element("testcase", classname="harness.check", name="the check")
        reason = checked.error or "the two sides share no metric"
        ElementTree.SubElement(empty, "error", message=_safe(reason), type="not judged")
        cases = [empty]
    counts = {
        name: str(sum(case.find(tag) is not None for case in cases))
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
    }
    suite = ElementTree.Element("testsuite", {"name": "harness check", "tests": str(len(cases)),
                                              "time": "0", **counts})  # fmt: skip
    properties = ElementTree.SubElement(suite, "properties")
    for name, side in (("candidate", checked.candidate), ("baseline", checked.baseline)):
        ElementTree.SubElement(properties, "property", name=name, value=_safe(side.name))
    ElementTree.SubElement(properties, "property", name="outcome", value=checked.outcome)
    suite.extend(cases)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root, " ")
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _case(verdict: ClaimVerdict, checked: Checked) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase", classname="harness.check", name=_safe(words.title(verdict)), time="0"
    )
    said = _safe(f"{words.difference(verdict)}; {words.reason(verdict)}".strip("; "))
    if verdict.verdict == "refuted":
        ElementTree.SubElement(case, "failure", message=said, type="regressed")
    elif verdict.verdict in ("incomparable", "failed"):
        ElementTree.SubElement(case, "error", message=said, type=verdict.verdict)
    elif verdict.verdict == "inconclusive":
        if "inconclusive" in checked.allow:
            ElementTree.SubElement(case, "skipped", message=said)
        else:
            ElementTree.SubElement(case, "failure", message=said, type="inconclusive")
    out = ElementTree.SubElement(case, "system-out")
    out.text = said
    return case


def _safe(text: str) -> str:
    """The text without characters that XML 1.0 cannot hold."""
    return _NO_XML.sub("?", visible(text))
