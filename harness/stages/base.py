"""The contract of a kind of stage, and what its code sees while it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, cast

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema
from typing_extensions import TypeVar

from harness.core import component, from_yaml, registry
from harness.core.component import AddedLater, Component, NotHashed
from harness.core.errors import StageFailed
from harness.core.measure import Ledger
from harness.models.files import ModelInfo
from harness.stages._cost import Rates
from harness.store.kind import RowCounts
from harness.store.stage import FOLDER_NAME, SPEC, Record, Resources, Stage, read_record

__all__ = ["WORK", "AddedLater", "Job", "Known", "Member", "NotHashed", "StageKind", "folder_of"]

WORK = "work"
"""Folder for intermediate checkpoints of a stage; it is removed when the stage is done."""
REPLIES = "replies"
"""Folder of a store for the replies of endpoints, which its stages share: none is paid for twice,
and `harness gc` keeps them."""
_PROGRESS_SECONDS = 0.5
K = TypeVar("K", bound="StageKind", covariant=True, default=Any)


@dataclass(frozen=True)
class Known:
    """What is known about a stage when its cost is estimated.

    Attributes:
        rates: measured rates of stages that have finished in the store.
        model: the model that the stage loads; None where it loads none.
        dtype: the format of the model's weights.
        rows: metrics of the rows that it reads; empty until their data stage has run.
        lengths: tokens of each row that it trains on; empty until they are measured.
    """

    rates: Rates
    model: ModelInfo | None = None
    dtype: str = ""
    rows: Mapping[str, Any] = field(default_factory=dict)
    lengths: Sequence[int] = ()


@dataclass(frozen=True)
class Member:
    """Marks a field that is a member of an axis: `Annotated[Method, Member("method")]`.

    In a stage's config it stands as its identity. A worker builds it again from that, and from
    those of its fields that the identity does not tell, which are among the unhashed ones.
    """

    axis: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(
            self._built,
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda member: member.identity()
            ),
        )

    def _built(self, value: Any) -> Any:
        return member_of(self.axis, value) if isinstance(value, Mapping) else value


def member_of(axis: str, identity: Mapping[str, Any]) -> Any:
    """A member of an axis from its identity, or from its name and fields.

    Raises:
        SuiteError: nothing is called so, or it has no such field.
    """
    name = identity["name"]
    fields = {field: v for field, v in identity.items() if field not in ("name", "version")}
    return from_yaml.build_fields(registry.find(axis, name), fields, f"{axis} {name}")


def member_in(spec: Mapping[str, Any], axis: str) -> Any:
    """A member of an axis as a stage.json has it, under the name of the axis."""
    # The stage.json of an earlier version has no `unhashed`.
    return member_of(axis, {**spec["config"][axis], **spec.get("unhashed", {}).get(axis, {})})


class StageKind(Component):
    """A kind of stage: its config, its expected cost, and its work.

    A subclass lives in `harness/stages/<name>.py`, or anywhere behind an entry point of the group
    `harness.stages`. Its fields are a stage's config, which is hashed into the key; those marked
    NotHashed are not, such as where a file lies on this machine. The module imports nothing heavy:
    plans read it, and `run` alone may load torch.
    """

    axis = "stage"
    reads: ClassVar[Mapping[str, str]] = {}
    """Role of an input (or a pattern such as `trial-*`) -> the kinds of stage that can fill it."""
    long: ClassVar[bool] = False
    """True if such stages can take long. Their time is estimated from stages of this kind that were
    measured before; while there are none it is unknown, and the stages start early."""
    tolerant: ClassVar[bool] = False
    """True if it runs although inputs failed. The reasons are then in its field `failed`."""
    purpose: ClassVar[str] = ""
    """What such stages use rows for: `read`, `training`, `sampling` or `evaluation`."""

    def identity(self) -> dict[str, Any]:
        """The stage's config: its VERSION and hashed fields. The key has the kind's name beside."""
        return {field: value for field, value in super().identity().items() if field != "name"}

    def unhashed(self) -> dict[str, Any]:
        """The fields that are not hashed, as JSON, but for those that have their default; under the
        name of a member of an axis, those of its fields that its identity does not tell."""
        fields = component.unhashed(self)
        members = {name: _untold(getattr(self, name)) for name in self._members()}
        return {
            **self.model_dump(mode="json", include=fields, exclude_defaults=True),
            **{name: values for name, values in members.items() if values},
        }

    @classmethod
    def _members(cls) -> list[str]:
        """The fields that are members of an axis."""
        fields = cls.model_fields.items()
        return [n for n, field in fields if any(isinstance(m, Member) for m in field.metadata)]

    @classmethod
    def from_spec(cls, config: Mapping[str, Any], unhashed: Mapping[str, Any]) -> Self:
        """The stage as it was planned, from its stage.json."""
        fields = {name: value for name, value in {**config, **unhashed}.items()
                  if name != "version"}  # fmt: skip
        members = {n: {**config[n], **unhashed[n]} for n in cls._members() if n in unhashed}
        return cls(**{**fields, **members})

    @classmethod
    def of(cls, stage: Stage) -> Self:
        """The typed fields of a stage in a plan."""
        return cls.from_spec(stage.config, stage.unhashed)

    def stage(
        self,
        inputs: Mapping[str, Stage] | None = None,
        *,
        label: str,
        resources: Resources | None = None,
        known: Known | None = None,
    ) -> Stage:
        """This stage in a plan.

        Args:
            inputs: role -> the stage that is read.
            label: its name for people.
            resources: what the suite asks for; `resources()` may reduce it.
            known: what its cost is estimated from; None: the cost is unknown.
        """
        kind, inputs = registry.name_of(type(self)), dict(inputs or {})
        for role in inputs:
            if not any(fnmatchcase(role, pattern) for pattern in self.reads):
                raise AssertionError(f"a stage of kind {kind} has no input '{role}'")
        return Stage(
            kind,
            self.identity(),
            inputs=inputs,
            unhashed=self.unhashed(),
            resources=self.resources(resources or Resources()),
            label=label,
            predicted=self.expected(known, inputs) if known is not None else {},
        )

    def expected(self, known: Known, inputs: Mapping[str, Stage]) -> dict[str, float]:
        """The expected cost: `seconds` of the work, `beside` (seconds of loading and saving),
        `tokens`, `flops`, `state_bytes` and others. Unknown figures are left out.

        Args:
            inputs: role -> the stage that is read.
        """
        return {}

    def resources(self, asked: Resources) -> Resources:
        """What the stage needs of the resources that a suite asks for."""
        return asked

    @classmethod
    def headline(cls, record: Record) -> str:
        """The most important numbers of a finished stage, for a progress line; may be empty."""
        return ""

    @classmethod
    def row_counts(cls, metrics: Mapping[str, Any]) -> RowCounts | None:
        """How many rows a finished stage used, left out or cut; None if it always uses all of
        them."""
        return None

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Do the work: write outputs into `job.folder`, return the record's metrics.

        Raises:
            HarnessError: the stage failed; its reason goes into the record.
        """
        raise NotImplementedError


def _untold(member: Component) -> dict[str, Any]:
    """The fields of a member that its identity does not tell as they are, as JSON: those that are
    not hashed, unless they have their default, and those that stand for something in its place."""
    identity, changed = member.identity(), member.model_dump(mode="json", exclude_defaults=True)
    hashed = {n: value for n, value in member.model_dump(mode="json").items() if n in identity}
    return {
        **{name: value for name, value in changed.items() if name not in identity},
        **{name: value for name, value in hashed.items() if value != identity[name]},
    }


class Job(Generic[K]):
    """What a stage's code works with: its config, its inputs' folders, a folder for outputs.

    Attributes:
        folder: outputs are written here; everything but `work/` and the log is digested at the end.
        ledger: phases of the stage and the seconds each took.
    """

    def __init__(self, folder: Path, emit: Any) -> None:
        spec = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        self.folder, self.spec, self._emit = folder, spec, emit
        self.resources = Resources(**spec["resources"])
        self.ledger = Ledger()
        self.cost: dict[str, Any] = {}
        self.provenance: dict[str, Any] = {}
        self._last = 0.0

    @cached_property
    def config(self) -> K:
        """The stage as it was planned: its fields."""
        declared = cast(type[StageKind], registry.find("stage", self.spec["kind"]))
        return cast(K, declared.from_spec(self.spec["config"], self.spec["unhashed"]))

    @property
    def work(self) -> Path:
        """A folder that outlives a kill and is removed when the stage is done."""
        path = self.folder / WORK
        path.mkdir(exist_ok=True)
        return path

    @property
    def replies(self) -> Path:
        """A folder that all stages of the store share, for replies that cost money."""
        return self.folder.parents[1] / REPLIES

    def has(self, role: str) -> bool:
        """Whether the stage has an input of this role."""
        return role in self.spec["inputs"]

    def input(self, role: str) -> Path:
        """The folder of a finished input stage."""
        source = self.spec["inputs"][role]
        return folder_of(self.folder.parents[1], source["kind"], source["key"])

    def input_record(self, role: str) -> Record:
        """The record of an input stage."""
        record = read_record(self.input(role))
        if record is None or not record.ok:
            raise StageFailed("input missing", f"input '{role}' is not there or is damaged")
        return record

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Tell how far the stage is; calls that come too fast are dropped."""
        now = time.monotonic()
        if done >= total or now - self._last > _PROGRESS_SECONDS:
            self._last = now
            self._emit({"event": "progress", "done": done, "total": total, "note": note})

    def note(self, text: str) -> None:
        """Tell a person something of the stage at once."""
        self._emit({"event": "note", "text": text})


def folder_of(root: Path, kind: str, key: str) -> Path:
    """The folder of a stage below a store's root."""
    return root / kind / key[:FOLDER_NAME]
