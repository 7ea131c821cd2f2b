"""Files are found, digested and written as a whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from harness.core import files
from harness.core.errors import HarnessError
from harness.core.files import digest_file, digest_json, files_below, names_below, write_atomic


def test_digest_is_of_the_one_canonical_text_of_a_value() -> None:
    """In ASCII, so that it depends on no encoding; keys in order; no spaces."""
    text = b'{"a":[1,2.5,null,true],"b":"\\u00e9"}'
    for value in ({"b": "é", "a": [1, 2.5, None, True]}, {"a": (1, 2.5, None, True), "b": "é"}):
        assert digest_json(value) == hashlib.sha256(text).hexdigest()


def test_files_in_all_folders_below_are_found_and_no_folders(tmp_path: Path) -> None:
    (tmp_path / "b" / "empty").mkdir(parents=True)
    for name in ("a", "b/c", "b/d"):
        (tmp_path / name).write_text(name)
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "b" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert files_below(tmp_path) == [tmp_path / name for name in ("a", "b/c", "b/d")]
    listed = {Path(name).relative_to(tmp_path).as_posix() for name in names_below(tmp_path)}
    assert listed == {"a", "b/c", "b/d", "nowhere"}


def test_folder_that_nobody_means_is_refused_before_all_of_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_FILES", 3)
    for number in range(3):
        (tmp_path / str(number)).touch()
    assert len(files_below(tmp_path)) == 3
    (tmp_path / "one more").touch()
    with pytest.raises(HarnessError, match="holds more than 3 files"):
        files_below(tmp_path)


def test_file_is_written_as_a_whole_and_digested_as_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for text in ("first, and longer", "é"):
        write_atomic(path, text)
        assert path.read_bytes() == text.encode()
        assert digest_file(path) == hashlib.sha256(text.encode()).hexdigest()
    assert [*tmp_path.iterdir()] == [path]
