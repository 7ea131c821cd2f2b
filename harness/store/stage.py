"""A stage, one cached unit of work: its identity, its record, and the atomic commit."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from harness.core.errors import StoreError, why
from harness.core.files import canonical, digest_json, write_atomic
from harness.core.memory import amount

SPEC, RECORD = "stage.json", "record.json"
FAILED = "failed"
"""Field of a stage that runs although inputs failed: role -> reason."""
FOLDER_NAME = 24
"""The number of the key's hexadecimal digits in the name of a stage's folder."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Resources(BaseModel):
    """The resources of a stage. They are never part of its identity."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    gpus: int = Field(0, ge=0)
    """GPUs the stage needs; an executor without them refuses the stage."""
    memory: str | None = None
    """Memory that the stage needs, such as `32G`. Stages that together need more than the machine
    has do not run at the same time, and a cluster is asked for this amount."""
    time: str | None = None
    """Wall time to ask a cluster for, such as `2:00:00`."""
    partition: str | None = None
    """Cluster partition."""
    env: dict[str, str] = {}
    """Environment variables set for the worker. Never put a secret here: it is written to disk."""
    deterministic: bool = False
    """Outputs that are equal bit for bit in every run, also on a GPU; slower. On a CPU they are
    always equal."""
    checkpoint_seconds: float = Field(60.0, ge=0)
    """Seconds between checkpoints: a killed training stage loses at most this much work and one
    step."""
    report_to: list[str] = []
    """Trackers of training, as in transformers: `tensorboard`, `wandb`, `mlflow` ..."""

    def without_gpu(self) -> Resources:
        """The same for a stage that computes on the CPU."""
        return self.model_copy(update={"gpus": 0})

    @field_validator("memory")
    @classmethod
    def _an_amount(cls, value: str | None) -> str | None:
        if value is not None:
            amount(value)
        return value

    @property
    def memory_bytes(self) -> int:
        """`memory` in bytes; 0 if it is not set."""
        return 0 if self.memory is None else amount(self.memory)


@dataclass(frozen=True)
class Stage:
    """A node of the plan. Its kind, `config` and `inputs` are its identity; the other fields are
    not."""

    kind: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Stage] = field(default_factory=dict)
    unhashed: Mapping[str, Any] = field(default_factory=dict)
    """The kind's fields that are never hashed: where content named in `config` lies on this
    machine, how a service is reached, why inputs failed."""
    resources: Resources = field(default_factory=Resources)
    label: str = ""
    """The stage's name in progress lines."""
    predicted: Mapping[str, float] = field(default_factory=dict)
    """The expected seconds and bytes; the record holds them beside the measured ones. `seconds` is
    the time of its work, `beside` the time for loading, auditing and saving."""

    @cached_property
    def key(self) -> str:
        """sha256 over kind, config and the inputs' keys, as canonical JSON."""
        return digest_json(
            {
                "kind": self.kind,
                "config": self.config,
                "inputs": {role: stage.key for role, stage in self.inputs.items()},
            }
        )

    @property
    def expected_seconds(self) -> float | None:
        """The expected seconds of the whole stage; None if no similar stage was measured."""
        seconds = self.predicted.get("seconds")
        return None if seconds is None else seconds + self.predicted.get("beside", 0.0)

    def path(self, root: Path) -> Path:
        """The stage's folder below a store's root."""
        return root / self.kind / self.key[:FOLDER_NAME]

    def spec(self) -> dict[str, Any]:
        """The content of stage.json: all that a worker needs to know."""
        return {
            "kind": self.kind,
            "key": self.key,
            "label": self.label,
            "config": canonical(self.config),
            "inputs": {r: {"kind": s.kind, "key": s.key} for r, s in self.inputs.items()},
            "unhashed": canonical(self.unhashed, "unhashed"),
            "resources": self.resources.model_dump(),
            "predicted": dict(self.predicted),
        }

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stage) and other.key == self.key


class Output(BaseModel):
    """A file a stage left: its size in bytes and sha256. Released: removed by `harness gc`."""

    sha256: str
    bytes: int
    released: bool = False


class Record(BaseModel):
    """The record of a finished stage. It is written last, and only `harness gc` changes it
    later."""

    model_config = ConfigDict(extra="forbid")

    key: str
    kind: str
    status: str
    label: str = ""
    config: dict[str, Any]
    inputs: dict[str, str] = {}
    outputs: dict[str, Output] = {}
    metrics: dict[str, Any] = {}
    cost: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    error: dict[str, str] | None = None

    @property
    def ok(self) -> bool:
        """True if the stage finished without failure; else the reason is in `error`."""
        return self.status == "ok"

    @property
    def lost(self) -> bool:
        """True if the worker ended without writing a record, for example because it was killed.
        Another run may finish the stage."""
        return bool(self.provenance.get("lost"))

    @property
    def bytes(self) -> int:
        """The bytes of its outputs on disk."""
        return sum(output.bytes for output in self.outputs.values() if not output.released)


def write_record(folder: Path, record: Record) -> None:
    """Write the record with a digest of itself. This commits the stage: from now on it is
    finished."""
    body = record.model_dump(mode="json")
    sealed = {**body, "sha256": digest_json(body)}
    text = json.dumps(sealed, indent=1, ensure_ascii=False) + "\n"
    # A message may quote a lone surrogate, which a file can only hold as JSON's escape.
    write_atomic(folder / RECORD, _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text))


def read_record(folder: Path) -> Record | None:
    """The record in a folder; None if there is none or it is damaged. The stage then runs again.

    Raises:
        StoreError: the file cannot be read.
    """
    try:
        sealed = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        seal = sealed.pop("sha256", None)
        if seal != digest_json(sealed):
            return None
        return Record.model_validate(sealed)
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError, AttributeError, TypeError):
        return None
    except OSError as error:
        raise StoreError(f"cannot read {folder / RECORD}: {why(error)}") from error
