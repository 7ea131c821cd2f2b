"""The file of a score stage: which examples it is about is told by its metadata."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.store.score_table import SCORES, ScoreTable, write_scores


def _table(ids: list[str], values: list[float]) -> pa.Table:
    keys = {"example_id": ids, "cluster": ["c"] * len(ids), "group": [""] * len(ids)}
    return pa.table({**keys, "f1": values})


def _written(folder: Path, ids: list[str], values: list[float]) -> ScoreTable:
    folder.mkdir()
    write_scores(folder, _table(ids, values))
    return ScoreTable(folder)


def test_same_examples_have_one_digest_whatever_their_scores(tmp_path: Path) -> None:
    one = _written(tmp_path / "one", ["a", "b"], [0.1, 0.2])
    two = _written(tmp_path / "two", ["a", "b"], [0.3, 0.4])
    assert one.digest == two.digest is not None
    assert two.read(["f1"]).to_pydict() == {"f1": [0.3, 0.4]}


@pytest.mark.parametrize("ids", [["b", "a"], ["a"], ["ab", ""]])
def test_other_examples_have_another(tmp_path: Path, ids: list[str]) -> None:
    one = _written(tmp_path / "one", ["a", "b"], [0.1, 0.2])
    assert one.digest != _written(tmp_path / "two", ids, [0.5] * len(ids)).digest


def test_a_file_of_an_earlier_version_is_read_by_its_content(tmp_path: Path) -> None:
    pq.write_table(_table(["a"], [0.5]), tmp_path / SCORES)
    old = ScoreTable(tmp_path)
    assert old.digest is None
    assert old.read(["example_id"]).to_pydict() == {"example_id": ["a"]}
