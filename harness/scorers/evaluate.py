"""Any metric of the evaluate library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from harness.core.component import AddedLater
from harness.core.errors import StageFailed, why
from harness.scorers._folder import folder_as_planned, folder_digest
from harness.scorers.base import Metric, Prediction, Scorer

_KINDS = (".py",)


class Evaluate(Scorer):
    """A metric module of Hugging Face evaluate, by its name on the hub or its folder: METEOR
    (`{metric: meteor, values: [meteor]}`) and other word metrics that have no scorer of their own.

    If the module returns a list with a value for each example, these are the scores. If it returns
    one value for a whole set, it is called once for each example, and the report shows the mean.
    For most metrics that is not the value of the whole set; the record has both, and says so.
    """

    VERSION = 1
    needs_references = True
    requires = ("evaluate",)

    metric: str
    """Name on the hub, or a folder with the module."""
    values: list[str] = Field(min_length=1)
    """Keys of the module's result that become metrics."""
    higher_is_better: bool = True
    """Whether higher values are better."""
    bounds: Annotated[tuple[float | None, float | None] | None, AddedLater] = None
    """The least and the greatest value that an example can have, such as `[0, 1]`: intervals end
    there. `null` for no end, as in `[0, null]`; default: not known."""
    config_name: str | None = None
    """Configuration of the module, such as a task of glue."""
    options: dict[str, Any] = {}
    """Arguments of the module's compute(), such as `{lang: en}`."""
    references: Literal["all", "first"] = "all"
    """`all` passes a list of references for each example, `first` one text."""
    one_by_one: bool = True
    """Call the module once for each example if it returns one value for a whole set; false: fail
    instead."""
    revision: str | None = None
    """Commit of a module on the hub. Give it, since a branch may change."""
    trust_remote_code: bool = False
    """A metric module is Python code that runs on this machine; it is only loaded if this is
    true."""
    digest: str | None = None
    """sha256 of the module's files where it is a folder. The harness fills it in, and refuses other
    files later."""

    _record: dict[str, Any] = PrivateAttr(default_factory=dict)

    @field_validator("bounds")
    @classmethod
    def _in_order(cls, value: tuple[float | None, float | None] | None) -> Any:
        if value is not None and None not in value and not value[0] < value[1]:  # type: ignore[operator]
            raise ValueError(f"the first of {list(value)} must be less than the second")
        return value

    @model_validator(mode="after")
    def _trusted(self) -> Evaluate:
        if not self.trust_remote_code:
            raise ValueError(
                f"the metric {self.metric!r} is Python code that would run on this machine;"
                " read it, then set trust_remote_code: true"
            )
        return self

    @property
    def _folder(self) -> Path | None:
        named = Path(self.metric).expanduser()
        return named if named.is_dir() else None

    def _content(self) -> str | None:
        return None if self._folder is None else folder_digest(self._folder, _KINDS)

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "digest": self._content() or self.digest}

    def runs(self) -> tuple[str, ...]:
        place = "a folder" if self._folder else f"the hub, {self.revision or 'as it stands'}"
        return (f"the metric module {self.metric} ({place}), Python that scores",)

    def declared(self) -> Mapping[str, Metric]:
        bounds = None
        if self.bounds is not None:
            least, most = self.bounds
            bounds = -math.inf if least is None else least, math.inf if most is None else most
        return {
            name: Metric(higher_is_better=self.higher_is_better, bounds=bounds)
            for name in self.values
        }

    def score_all(self, predictions: Iterable[Prediction]) -> list[dict[str, float]]:
        predictions = list(predictions)
        module = self._load()
        whole = self._ask(module, predictions)
        each = {name: whole[name] for name in self.values if isinstance(whole[name], list)}
        for name, values in each.items():
            if len(values) != len(predictions):
                raise StageFailed(
                    "metric",
                    f"{self.metric} gave {len(values)} values of {name} for {len(predictions)}"
                    " examples",
                )
        single = [name for name in self.values if name not in each]
        if single:
            if not self.one_by_one:
                raise StageFailed(
                    "metric",
                    f"{self.metric} gives one {single[0]} for a whole set, and one_by_one is false",
                    fix="set one_by_one: true for the mean over examples, or use another metric",
                )
            rows = [self._ask(module, [prediction]) for prediction in predictions]
            each |= {name: [row[name] for row in rows] for name in single}
            self._record["whole_set"] = {name: float(whole[name]) for name in single}
            self._record["note"] = (
                f"{', '.join(single)}: the module gives one value for a whole set; the metric is"
                " the mean of its values for each example alone"
            )
        return [
            {name: float(each[name][i]) for name in self.values} for i in range(len(predictions))
        ]

    def _ask(self, module: Any, predictions: list[Prediction]) -> Mapping[str, Any]:
        references: list[Any] = [list(p.references) for p in predictions]
        if self.references == "first":
            references = [texts[0] for texts in references]
        result: Mapping[str, Any] = module.compute(
            predictions=[p.text for p in predictions], references=references, **self.options
        )
        missing = [name for name in self.values if name not in result]
        if missing:
            raise StageFailed(
                "metric", f"{self.metric} gives no {missing[0]}; it gives {', '.join(result)}"
            )
        # Arrays and numbers of numpy, and tuples, are lists and numbers too.
        plain = {n: v.tolist() if hasattr(v, "tolist") else v for n, v in result.items()}
        return {n: list(v) if isinstance(v, tuple) else v for n, v in plain.items()}

    def _load(self) -> Any:
        import evaluate

        try:
            with folder_as_planned(self._folder, _KINDS, self.digest):
                return evaluate.load(
                    self.metric, config_name=self.config_name, revision=self.revision,
                    keep_in_memory=True,
                )  # fmt: skip
        except (OSError, ConnectionError) as error:
            raise StageFailed(
                "metric",
                f"the metric '{self.metric}' is no folder here, and the hub has none of that name"
                f" or cannot be reached: {why(error)}",
                fix="give the folder of the module, or fetch it once with a network",
            ) from error
        except ImportError as error:
            raise StageFailed("metric", f"{self.metric} needs more packages: {error}") from error

    def provenance(self) -> dict[str, Any]:
        return {"metric": self.metric, "revision": self.revision, **self._record}
