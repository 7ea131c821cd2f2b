"""What the scores say of a claim."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from harness.comparison.estimates import Estimate, Noise
from harness.suite.claims import Claim

Outcome = Literal["supported", "refuted", "inconclusive", "incomparable", "failed"]


@dataclass(frozen=True)
class ClaimVerdict:
    """What the scores say of one claim about one variant.

    Attributes:
        estimate, reference: the two values that are compared.
        difference: variant minus the other (times the claim's `ratio`), with its interval of the
            claim's confidence.
        p: the level at which the interval reaches the limit. p_adjusted: over all claims.
        n, clusters, seeds: how many examples, clusters of them, and training runs of the variant.
        level: `checkpoint` if each side is one training run, `method` if seeds are a level too,
            `cost` for a cost.
        detectable: how far beyond the limit (of `equal`, inside both limits) the truth must be so
            that 80% of such experiments show it, at the claim's confidence and before the
            adjustment.
        needed: how many more examples would decide it 80% of the time, if the difference and its
            spread stay as they are; None if it is decided, or if no number of examples would.
        reason: what limits the verdict, or why there is none.
        noise: where the doubt comes from; None if only one source of it is known.
    """

    claim: Claim
    variant: str
    against: str
    metric: str
    evaluation: str
    verdict: Outcome
    estimate: float | None = None
    reference: float | None = None
    difference: Estimate | None = None
    p: float | None = None
    p_adjusted: float | None = None
    n: int = 0
    clusters: int = 0
    seeds: int = 0
    level: str = ""
    detectable: float | None = None
    needed: int | None = None
    reason: str = ""
    unit: str = ""
    higher_is_better: bool = True
    noise: Noise | None = None

    @property
    def title(self) -> str:
        """The claim about this variant in words."""
        if self.claim.name:
            return f"{self.claim.name} ({self.variant} against {self.against})"
        return self.claim.sentence(self.variant, self.against)

    def noted(self, reason: str) -> ClaimVerdict:
        """The verdict with one more reason."""
        parts = [part for part in (self.reason, reason) if part]
        return replace(self, reason="; ".join(dict.fromkeys(parts)))
