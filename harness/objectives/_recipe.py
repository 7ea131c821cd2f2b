"""What a recipe is told to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Recipe(Protocol):
    """Takes down what is trained for a cell, one step after the other (`Objective.recipe`).

    Every method returns a step, for the steps after it to name. One recipe takes down names alone
    (for `harness list`, and to check the names in a suite); another makes the steps of a cell with
    what the suite sets for them. So a recipe looks into no step, and depends on the objective's
    fields alone. Where names alone are asked for, a field without a default may be None.
    """

    def start(self, objective: Any, default: str = "base") -> Any:
        """The checkpoint that the objective goes on from: of the objective that its field `start`
        names, which is trained before it by its own recipe. None for `base`, the model as it is.

        Args:
            default: where it starts if the suite does not say.
        """

    def train(
        self,
        objective: Any,
        *,
        start: Any = None,
        rows: Any = None,
        reference: Mapping[str, Any] | None = None,
        **models: Any,
    ) -> Any:
        """A training, and the checkpoint that it leaves.

        Args:
            objective: itself; or the name of another one, which then follows its own recipe but for
                what is given here: the start, the rows and the models.
            start: the checkpoint that it goes on from; None: the model as it is.
            rows: labels to train on; None: training rows of the suite.
            reference: fields that the starting policy's log-probabilities depend on, where they are
                computed once, in a stage that all trainings with such fields from that start on
                these rows share. What computes them is the class's `reference`.
            models: role -> a model that it reads, an input of the stage under this role.
        """

    def model(self, objective: str, rows: Any = None) -> Any:
        """A model beside the cell's own, shared by the cells: what the objective of this name
        trains, by its own recipe. The suite says how (`reward_model:`, for `reward`).

        Args:
            rows: labels to train it on; None: training rows of the suite.
        """

    def sample(self, policy: Any, **options: Any) -> Any:
        """Answers of a checkpoint to the prompts of the cell's training rows.

        Args:
            policy: a start or a training; None: the model as it is.
            options: of the stage, and part of its identity: `samples` a prompt, `max_new_tokens`,
                `temperature`, `top_p`, `prompts` (None: all of them), `batch_tokens`.
        """

    def label(
        self, samples: Any, *, by: Any, check: int = 0, truth: str | None = None, **options: Any
    ) -> Any:
        """Rows to train on: every two answers to a prompt, compared by a labeller.

        Args:
            by: the objective's field `labeller`: a name, or a name with its options.
            check: how many of the preferences that the rows hold are labelled too, by a stage of
                its own, for the labels' agreement with them.
            truth: `FILE.py:FUNCTION` of a rule that the labels are held against, by a stage of its
                own: the objective's field `truth`.
            options: of the stage, and part of its identity: `unfinished`, `tie`.
        """

    def stage(self, kind: str, *, reads: Mapping[str, Any] | None = None, **fields: Any) -> Any:
        """Rows to train on, made by a stage of any other kind, such as one of a plugin.

        Args:
            kind: the name of the kind, under which it is installed.
            reads: role -> the step of this recipe that it reads, but for models beside the cell's
                own; None, the model as it is, is no input. A kind that has an input `data` reads
                the cell's training rows there if the recipe names no other step.
            fields: of the kind, and part of the stage's identity. Fields called `device`, `model`,
                `place` and `seed` are filled in with the cell's.
        """
