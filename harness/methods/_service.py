"""Methods that train at a service: what a stage hands to one, and what it gets back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.core.errors import ModelError
from harness.methods.base import Method
from harness.models.endpoint import ServedModel
from harness.models.files import ModelInfo

Turns = list[Mapping[str, Any]]
Call = Callable[..., Any]
"""(path, JSON or None for a GET, a function from the reply's JSON, once: whether it is sent a
single time, further arguments of the SDK) -> what the function returns."""


@dataclass(frozen=True)
class Work:
    """A training that a service is to do.

    Attributes:
        endpoint: the service, and the model to start from.
        rows, validation: the chats to train on, and those to validate on.
        call: sends a request to the service.
        state: what `keep` has kept, in earlier attempts too.
        keep: keeps fields for a later attempt, at once and on disk.
        progress: receives the job's status as text.
        sleep: waits for a number of seconds.
    """

    endpoint: ServedModel
    rows: Sequence[Turns]
    validation: Sequence[Turns]
    seed: int
    call: Call
    state: Mapping[str, Any]
    keep: Callable[..., None]
    progress: Callable[[str], None]
    sleep: Callable[[float], None]


@dataclass(frozen=True)
class Tuned:
    """The result of a training at a service.

    Attributes:
        model: the tuned model's name at the endpoint.
        tokens: tokens trained on; None: the service does not tell.
        seconds: how long the training took; None: the service does not tell.
        about: further facts for the record, such as the job's id.
    """

    model: str
    tokens: int | None
    seconds: float | None
    about: Mapping[str, Any]


class ServiceMethod(Method):
    """A method that has a service train one of its models. The tuned model is served there too: it
    is asked, and nothing of it is loaded here."""

    at_service: ClassVar[bool] = True
    adapts = False
    traits = frozenset({"packing", "gradient_checkpointing"})
    """How a service computes is its own affair."""
    objectives: ClassVar[frozenset[str]] = frozenset({"sft"})
    """The objectives that the service can train."""

    def most_tokens(self, rows: Sequence[Turns]) -> int | None:
        """The most tokens that the service can train on; None if that is the service's choice.

        Args:
            rows: the chats to train on.
        """
        return None

    def state_of(self, call: Call, job: str) -> str:
        """What the service says of a job, in a word.

        Raises:
            StageFailed: the service does not tell.
        """
        raise NotImplementedError

    def cancel(self, call: Call, job: str) -> str:
        """Ask the service to cancel a job, and return what it says of it then.

        Raises:
            StageFailed: it refuses.
        """
        raise NotImplementedError

    def tune(self, work: Work) -> Tuned:
        """Start the training, or go on with one that an earlier attempt started; wait for its end.

        Raises:
            StageFailed: the service refuses or fails it.
        """
        raise NotImplementedError

    def runs(self) -> tuple[str, ...]:
        return ("training rows are sent to the service, which charges for the job",)

    def refuse_objective(self, objective: str, start: str | None) -> str | None:
        if objective not in self.objectives:
            known = ", ".join(sorted(self.objectives))
            return f"the service decides how it trains, and {self.name} asks it for {known} alone"
        return None if start is None else f"{self.name} goes on from no checkpoint of {start}"

    def refuse_model(self, info: ModelInfo) -> str | None:
        if info.endpoint is None:
            return "its files are here, and the service trains models of its own; give an endpoint"
        return None

    def remarks(self, info: ModelInfo) -> tuple[str, ...]:
        return ("the service trains with its own settings and those of the method; the options of"
                " sft, such as its learning rate, do not reach it",)  # fmt: skip

    def attach(self, base: Any, also_train: tuple[str, ...] = ()) -> Any:
        raise ModelError(f"{self.name} trains at a service, and nothing here")

    def count_trainable(self, info: ModelInfo) -> int | None:
        return None
