"""A variant over its seeds: what it is, what it cost, and what it answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Conditions:
    """The conditions of a measured time: times are comparable under equal conditions only.

    Attributes:
        device: the name of the GPU, else of the processor, else the platform.
        threads: the number of torch's threads; None if unknown, or on a GPU.
        busy: other programs kept the processors busy for more than a tenth of the time that the
            stage needed one.
    """

    device: str
    threads: int | None = None
    busy: bool = False

    def __str__(self) -> str:
        count = "" if self.threads is None else f", {self.threads} thread"
        count += "s" if self.threads not in (None, 1) else ""
        return f"{self.device}{count}{', beside other work' if self.busy else ''}"


@dataclass(frozen=True)
class VariantResult:
    """A variant over its seeds: what it is, what it cost, how its answers ended.

    Attributes:
        status: `ok`; `failed` if a stage failed and there are no scores; `partial` if a stage
            failed and there are scores all the same.
        reasons: the error message of each failed stage.
        cost: means over seeds, in seconds, bytes and counts; None if not measured.
        predicted: the plan's estimates of the same costs.
        generation: rates and lengths of its answers, by data entry.
        audit: the checks of every training run.
        elsewhere: it was trained outside the harness, so that the cost of its training is unknown.
        imported: its results were read from a file of another tool, which says neither whether it
            was trained nor what it cost.
        served: another server answers for it, so that its size and its memory are unknown.
    """

    group: str
    ids: tuple[str, ...]
    labels: Mapping[str, str]
    trained: bool
    seeds: tuple[int, ...]
    status: str
    reasons: tuple[str, ...]
    cost: Mapping[str, float | None]
    predicted: Mapping[str, float | None]
    generation: Mapping[str, Mapping[str, float]]
    audit: tuple[Mapping[str, str], ...]
    losses: tuple[tuple[tuple[int, float], ...], ...] = ()
    """(step, loss) of each training run."""
    elsewhere: bool = False
    served: bool = False
    imported: bool = False
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """The least and the greatest value of each cost over the seeds."""
    timed: tuple[Conditions, ...] = ()
    """The different conditions that its trainings ran under."""
    answering: tuple[Conditions, ...] = ()
    """The different conditions that its answers were generated under."""
    learnt: frozenset[str] = frozenset()
    """The data entries that it was trained on in any of its stages, with the parts of mixtures."""
    merged_from: str = ""
    """For a merged variant, the unmerged variant that it shares its checkpoints with."""

    @property
    def has_result(self) -> bool:
        """Whether it has at least one score."""
        return self.status != "failed"

    @property
    def untrained(self) -> bool:
        """Whether it is known that nothing was trained for it."""
        return not self.trained and not self.imported

    def trained_on(self, entry: str) -> bool:
        """Whether it was trained on rows of this data entry."""
        return entry in self.learnt or entry == self.labels.get("data")


@dataclass(frozen=True)
class Example:
    """One test row with every variant's answer (of its first seed) and the scores of the answer."""

    id: str
    evaluation: str
    group: str
    prompt: str
    references: tuple[str, ...]
    answers: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float]]
    """Variant -> metric -> the example's value, for metrics that are means over examples."""
    finishes: Mapping[str, str] = field(default_factory=dict)
    """Variant -> how its answer ended: `eos`, `stop`, or `length` if it was cut at the limit."""
