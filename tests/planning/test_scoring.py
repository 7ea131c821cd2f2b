"""What score stages are called."""

from __future__ import annotations

import pytest

from tests.conftest import Workspace


@pytest.mark.parametrize(
    ("label", "said"),
    [("newsletters", "tiny newsletters on letters"), ("letters-2", "tiny letters-2 on letters"),
     ("loss (letters)", "tiny loss (letters)"), ("letters", "tiny letters")],
)  # fmt: skip
def test_rows_are_named_once_and_a_longer_word_does_not_name_them(
    workspace: Workspace, label: str, said: str
) -> None:
    workspace.write(scorers=[{"perplexity": {"data": "letters", "label": label}}])
    stages = workspace.open().plan.stages()
    assert said in {each.label for each in stages if each.kind == "score"}
