"""What a store keeps beside its stages is made once, and is never read when it is damaged."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.sealed import SEAL, damaged, sealed, seals_in

CONTENT = bytes(range(256)) * 40


def make(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "numbers.bin").write_bytes(CONTENT)
    (folder / "names.json").write_text("[1, 2]")


def numbers(folder: Path) -> bytes:
    return (folder / "deep" / "numbers.bin").read_bytes()


def flipped(path: Path) -> None:
    found = bytearray(path.read_bytes())
    found[len(found) // 2] ^= 1
    path.write_bytes(found)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda folder: (folder / "deep" / "numbers.bin").write_bytes(CONTENT[:-1]),
    "emptied": lambda folder: (folder / "names.json").write_bytes(b""),
    "a bit flipped": lambda folder: flipped(folder / "deep" / "numbers.bin"),
    "removed": lambda folder: (folder / "names.json").unlink(),
    "no seal": lambda folder: (folder / SEAL).unlink(),
    "a seal of nothing": lambda folder: (folder / SEAL).write_text("{}"),
    "a seal of no file": lambda folder: (folder / SEAL).write_text('{"files": {}, "sha256": ""}'),
    "a seal that is a list": lambda folder: (folder / SEAL).write_text("[]"),
    "a seal that is cut": lambda folder: (folder / SEAL).write_text('{"files": {"na'),
    "a seal with a bit flipped": lambda folder: flipped(folder / SEAL),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_seen_told_and_made_good(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sealed(tmp_path / "store" / "kept", make)
    assert damaged(folder) == ""
    DAMAGES[name](folder)
    assert damaged(folder)
    assert numbers(sealed(folder, make)) == CONTENT
    assert f"{folder}: " in capsys.readouterr().err
    assert damaged(folder) == ""
    assert list(seals_in(tmp_path / "store")) == [folder]


def test_a_file_where_the_folder_should_be_gives_way(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("of an earlier version")
    assert numbers(sealed(tmp_path / "kept", make)) == CONTENT


def test_it_is_made_once_however_many_want_it(tmp_path: Path) -> None:
    made: list[int] = []

    def counted(folder: Path) -> None:
        made.append(1)
        make(folder)

    threads = [threading.Thread(target=sealed, args=(tmp_path / "kept", counted)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert numbers(tmp_path / "kept") == CONTENT


def test_what_fails_half_way_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        make(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        sealed(tmp_path / "kept", fails)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.lock"]
    assert numbers(sealed(tmp_path / "kept", make)) == CONTENT
    assert json.loads((tmp_path / "kept" / SEAL).read_text())["files"].keys() == {
        "deep/numbers.bin", "names.json"
    }  # fmt: skip
