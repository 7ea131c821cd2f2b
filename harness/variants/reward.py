"""The reward model that scores answers: the policies' own, whichever variant is scored."""

from __future__ import annotations

from harness.core.errors import SuiteError
from harness.suite.suite import Suite
from harness.variants.axes import trained_models, trained_on
from harness.variants.names import written
from harness.variants.recipe import REWARD, cell_beside
from harness.variants.spec import Spec
from harness.variants.variant import Cell, Variant


def scoring_reward(suite: Suite, variant: Variant, where: str) -> Cell | None:
    """The reward model of a variant's model and data entry, as its policies have it; None for a
    variant that was trained on no entry, where the suite has several and so several reward models.

    Args:
        where: the scorer's place in the suite, for messages.

    Raises:
        SuiteError: the suite trains nothing, or an axis makes several reward models of one.
    """
    if not suite.matrix:
        raise SuiteError(
            "the suite trains no reward model, as there is no `matrix:`",
            where=where,
            fix="leave the scorer out",
        )
    axes = [axis for axis in suite.matrix if axis.split(".")[0] == REWARD]
    if axes:
        raise SuiteError(
            f"`{axes[0]}` is an axis, so that the suite has several reward models; rewards by one"
            " are not compared with rewards by another",
            where=where,
            fix=f"set the field in `{REWARD}_model:`, or leave the scorer out",
        )
    entries = trained_on(suite)
    cell = variant.cell
    data = cell.data if cell is not None else (entries[0] if len(entries) == 1 else None)
    if data is None:
        return None
    # Nothing else of the variant: a rule on its method or its hyper-parameters is not about this.
    labels = {"model": variant.model, "data": data}
    several = [axis for axis in ("model", "data") if len(_values(suite, axis)) > 1]
    return cell_beside(suite, Spec(labels, {}, written(suite), {}), REWARD, several)


def _values(suite: Suite, axis: str) -> list[str]:
    return trained_on(suite) if axis == "data" else trained_models(suite)
