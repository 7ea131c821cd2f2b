"""Figures that are not about the same thing are called incomparable, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness import comparison as compare
from harness.comparison.rows import rows_of
from harness.comparison.scores import Keys, Scores
from harness.comparison.statistics import Sample
from tests.conftest import Workspace

KEYS = Keys(("a", "b", "c"), ("a", "b", "c"), ("", "", ""))
NLL = Sample("perplexity", {"nll": np.array([3.0, 6.0, 9.0]), "tokens": np.array([2.0, 5.0, 5.0])})
SCORES = Scores(KEYS, NLL, False, "", "scorer 1", "rows", "")
CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "another scorer version": ({"version": "scorer 2"}, "not the same scorer, or its version"),
    "other rows": ({"rows": "others"}, "not the same examples"),
    "other ids": (
        {"keys": Keys(("a", "b", "d"), ("a", "b", "d"), ("", "", ""))}, "not the same examples",
    ),
    "another chat template": ({"template": "other"}, "not the same chat template"),
    "another judge": ({"judge": "judge"}, "not by the same reward model"),
    "another tokenizer": (
        {"sample": Sample("perplexity", {**NLL.columns, "tokens": np.array([2.0, 5.0, 6.0])})},
        "not the same tokens: another tokenizer (bits_per_byte compares these)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_about_the_same_is_incomparable(change: str) -> None:
    fields, note = CHANGES[change]
    column = ("perplexity", "general")
    made = {
        "base": {0: {column: SCORES}},
        "same": {0: {column: replace(SCORES)}},
        "other": {0: {column: replace(SCORES, **fields)}},
    }
    found = {row.group: row for row in rows_of(made, "base")}
    assert found["same"].difference is not None
    assert (found["other"].verdict, found["other"].difference) == ("incomparable", None)
    assert found["other"].note == note


def test_one_model_asked_by_two_chat_templates_is_incomparable(workspace: Workspace) -> None:
    """Figures of texts, which no template writes, are compared; those of chats are not."""
    template = "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}"
    (workspace.folder / "other.jinja").write_text(template)
    own = workspace.tree["models"]["tiny"]
    workspace.write(
        models={"tiny": own, "again": {"path": own, "chat_template": "other.jinja"}},
        matrix={}, base={"zero-shot": {"max_new_tokens": 2}}, baseline="zero-shot@tiny",
        evaluate=["letters"],
        scorers=["exact_match", {"perplexity": {"data": "letters", "label": "answers"}},
                 {"perplexity": {"data": "general", "label": "texts"}}],
    )  # fmt: skip
    outcome = workspace.run()
    assert not outcome.failed
    opened = workspace.open()
    found = compare.compare(opened.plan, outcome.records, opened.store)
    other = next(v.group for v in found.variants if v.group != found.baseline)
    for metric in ("exact_match", "answers"):
        row = found.row(other, metric)
        assert row.verdict == "incomparable"
        assert "not the same chat template" in row.note
    assert found.row(other, "texts").verdict != "incomparable"


def test_an_encoder_that_has_moved_on_its_hub_is_another_scorer(workspace: Workspace) -> None:
    workspace.write(
        matrix={}, base={"one": {"max_new_tokens": 2}, "two": {"max_new_tokens": 3}},
        evaluate=["letters"], scorers=["exact_match"],
    )  # fmt: skip
    outcome = workspace.run()
    opened = workspace.open()
    moved = opened.plan.paths[-1].scores[0].stage.key
    made = outcome.records[moved]
    told = {**made.provenance, "scorer": {"encoder_digest": "another commit"}}
    records = {**outcome.records, moved: made.model_copy(update={"provenance": told})}
    for own, verdict in ((outcome.records, False), (records, True)):
        found = compare.compare(opened.plan, own, opened.store)
        other = next(v.group for v in found.variants if v.group != found.baseline)
        assert (found.row(other, "exact_match").verdict == "incomparable") is verdict
