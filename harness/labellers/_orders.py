"""Shared by the judges that compare two answers in both orders: their liking for a place."""

from __future__ import annotations

from collections.abc import Sequence

from harness.data.contests import TIE
from harness.labellers.base import Compared, LabelJob


def note_bias(job: LabelJob, compared: Sequence[Compared]) -> None:
    """Write to the job's figures how much the place of an answer matters to the judge.

    `first_place_preferred`: the mean probability of the answer in the first place, a half without
    bias. `same_in_both_orders`: the share of contests in which both orders prefer the same answer,
    or tie (Zheng et al., 2023, arXiv:2306.05685, table 2, call it consistency).
    """
    known = [one.known for one in compared if one.asked and len(one.known) == 2]
    if not known:
        return
    first_places = [(first + 1 - exchanged) / 2 for first, exchanged in known]
    same = [
        (first - TIE) * (exchanged - TIE) > 0 or first == exchanged == TIE
        for first, exchanged in known
    ]
    job.figures["first_place_preferred"] = sum(first_places) / len(known)
    job.figures["same_in_both_orders"] = sum(same) / len(known)
