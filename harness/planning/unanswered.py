"""What a suite will not answer as it stands, said while it can still be changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from harness.core.text import number_of
from harness.planning.graph import Plan, Scored, VariantPath, learnt
from harness.variants.variant import Untrained

_NAMED = 8
"""The most tasks of a benchmark that are named."""


def unanswered(planned: Plan) -> Iterator[str]:
    """Questions that the comparison will leave open, each with what would answer it."""
    trained = [path for path in planned.paths if path.variant.cell is not None]
    if len({path.variant.group for path in planned.paths}) == 1:
        yield "how it compares: there is one variant alone; name `base:`, or another method"
    if not trained:
        return
    if not any(isinstance(path.variant, Untrained) for path in planned.paths):
        yield "whether training helps: no untrained model is asked; add `base: {zero-shot: {}}`"
    if len(planned.suite.seeds) == 1:
        yield "whether another seed gives the same: there is one; set `seeds: [0, 1, 2]`"
    if not _shows_forgetting(planned, trained):
        yield (
            "what training forgets: nothing else than what is trained for is scored; add rows of"
            " another kind to `data:`, and `- perplexity: {data: NAME, label: forgetting}`"
        )


def _shows_forgetting(planned: Plan, trained: list[VariantPath]) -> bool:
    """Whether some score tells what is still known of before."""
    known = learnt(planned)
    return any(
        _tells(scored, planned, known) for path in trained for scored in (path.draft or path).scores
    )


def _tells(scored: Scored, planned: Plan, known: Collection[str]) -> bool:
    if scored.forgetting is not None:
        return scored.forgetting
    brought = scored.evaluation not in planned.suite.data  # by a benchmark
    other = scored.shows == "language" and scored.evaluation not in known
    return brought or other or scored.shows == "from_base"


def benchmarks(planned: Plan) -> Iterator[str]:
    """How many tasks each benchmark of the suite means, and which, if they are few."""
    for index, scorer in enumerate(planned.scorers):
        if names := list(scorer.sets()):
            more = ", ..." if len(names) > _NAMED else ""
            tasks = number_of(len(names), "task")
            listed = ", ".join(names[:_NAMED])
            yield f"scorers[{index}].{scorer.name} scores {tasks}: {listed}{more}"
