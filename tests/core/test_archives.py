"""What is read of a tar from a stranger."""

from __future__ import annotations

import errno
import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.archives import extract
from harness.core.errors import StageFailed

WANTED = ("adapter_config.json", "adapter_model.safetensors")
GOOD = {f"run/{name}": name.encode() for name in WANTED}
Change = Callable[[tarfile.TarFile], None]


def plain(tar: tarfile.TarFile, name: str, content: bytes = b"") -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def special(name: str, kind: bytes, target: str = "") -> Change:
    def add(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        tar.addfile(member)

    return add


def packed(path: Path, change: Change | None = None, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        if change is not None:
            change(tar)
        for name, content in GOOD.items():
            plain(tar, name, content)
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_two_files_are_taken_wherever_they_lie_and_others_are_passed_over(
    tmp_path: Path, mode: str
) -> None:
    def others(tar: tarfile.TarFile) -> None:
        special("run", tarfile.DIRTYPE)(tar)
        plain(tar, "run/optimizer.pt", b"a pickle")

    folder = tmp_path / "out"
    folder.mkdir()
    extract(packed(tmp_path / "a.tar", others, mode), folder, WANTED, 10_000)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {n: n.encode() for n in WANTED}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (special("adapter_model.safetensors", tarfile.SYMTYPE, "/etc/passwd"), "a link"),
        (special("run/x", tarfile.LNKTYPE, "run/adapter_config.json"), "a link"),
        (special("run/pipe", tarfile.FIFOTYPE), "no plain file"),
        (special("run/null", tarfile.CHRTYPE), "no plain file"),
        (lambda tar: plain(tar, "/adapter_config.json"), "leads out of it"),
        (lambda tar: plain(tar, "../adapter_config.json"), "leads out of it"),
        (lambda tar: plain(tar, "run/../../x"), "leads out of it"),
        (lambda tar: plain(tar, "..\\adapter_config.json"), "leads out of it"),
        (lambda tar: plain(tar, "adapter_config.json", b"{}"), "adapter_config.json twice"),
        (lambda tar: plain(tar, "zeros", bytes(20_000)), "more than 10000 bytes"),
        (lambda tar: [plain(tar, f"{i}") for i in range(1000)], "1000 files"),
    ],
)  # fmt: skip
def test_what_could_leave_the_folder_or_fill_the_disk_is_refused(
    tmp_path: Path, change: Change, said: str
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(StageFailed, match=said):
        extract(packed(tmp_path / "a.tar", change), folder, WANTED, 10_000)
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"out", "a.tar"}


@pytest.mark.parametrize("content", [b"", b"<html>Sign in</html>", b"\x1f\x8b\x08 half a gzip"])
def test_what_is_no_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(StageFailed, match=r"cannot be read|holds no adapter_config"):
        extract(tmp_path / "a.tar", tmp_path, WANTED, 10_000)


def test_a_name_that_unpacks_to_much_memory_is_refused(tmp_path: Path) -> None:
    """A name longer than some 100 bytes stands in a header of any size, which is no file."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**33
    with gzip.open(tmp_path / "a.tar", "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(16):
            file.write(bytes(2**20))
    with pytest.raises(StageFailed, match=r"unpacks to more than 4106000 bytes"):
        extract(tmp_path / "a.tar", tmp_path, WANTED, 10_000)


def test_a_name_of_a_name_without_end_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1
    block = header.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(block * 3000)
    with pytest.raises(StageFailed, match="cannot be read: RecursionError"):
        extract(tmp_path / "a.tar", tmp_path, WANTED, 10_000)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_packed_archive_with_wrong_bytes_is_refused(tmp_path: Path, mode: str) -> None:
    archive = packed(tmp_path / "a.tar", mode=mode)
    content = bytearray(archive.read_bytes())
    for place in range(30, len(content) - 12, 7):
        content[place] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(StageFailed, match="cannot be read"):
        extract(archive, tmp_path, WANTED, 10_000)


def test_a_broken_off_archive_is_refused(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.tar")
    archive.write_bytes(archive.read_bytes()[:60])
    with pytest.raises(StageFailed, match="cannot be read"):
        extract(archive, tmp_path, WANTED, 10_000)


def test_an_archive_without_a_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"holds no tokenizer\.json"):
        extract(packed(tmp_path / "a.tar"), tmp_path, ("tokenizer.json",), 10_000)


def test_a_full_disk_is_not_blamed_on_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = packed(tmp_path / "good.tar.gz")
    opened = Path.open

    def full(path: Path, mode: str = "r", *args: Any) -> Any:
        if "w" in mode:
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, *args)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left"):
        extract(archive, tmp_path, WANTED, 10_000)
