"""Continued pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.objectives._trainer import TrainerObjective


class Replay(BaseModel):
    """General text among the new, against forgetting."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    data: str
    """Data entry whose training rows are replayed."""
    share: float = Field(0.1, gt=0, lt=1)
    """Its share of all tokens trained on."""


class Cpt(TrainerObjective):
    """Continued pre-training: next-token cross-entropy on every token of every document (Gururangan
    et al., 2020), packed, with a share of general text replayed (Ibrahim et al., 2024,
    arXiv:2403.08763). A document's first token follows nothing, and is in no loss.

    Chats are rendered with the model's chat template, prompts and completions one after the other;
    every document ends in the end-of-sequence token. Documents are packed best fit first, longest
    first (Ding et al., 2024, arXiv:2404.10830), through TRL.
    """

    VERSION = 2
    impl = "harness.objectives._trl.cpt:train"
    trainer_config = "trl.trainer.sft_config:SFTConfig"
    batches = "harness.objectives._trl.cpt:batches"
    paper = "arXiv:2004.10964"
    layouts = ("text", "messages", "prompt_completion")

    overlong: Literal["split", "drop", "truncate", "error"] = "split"  # type: ignore[assignment]
    """What happens to documents over max_length; `split` goes on in another sequence, without the
    tokens before the cut. Counted in the record in each case."""
    packing: bool | None = None
    """Fill sequences up to max_length with several documents; off: one document, padded, a row.
    null: on where the model keeps packed documents apart, which the training tries first, else
    off. Asked for with `true`, it is refused where they would see one another."""
    isolate_documents: bool = True
    """Packed documents do not see one another; off: one stream of documents, cut at max_length."""
    replay: Replay | None = None
    """Data entry and share of tokens, such as `{data: general, share: 0.1}`."""

    token_metrics: bool = False
    """Log the entropy and the accuracy of the tokens trained on, at each step. Takes the logits of
    every position: slow where the vocabulary is large."""

    def needs(self) -> Mapping[str, str]:
        packed = {"packing": "packing is on, and packed documents would see each other"}
        return {**super().needs(), **({} if self.packing is False else packed)}

    def in_loss(self, layout: str) -> bool:
        return False

    def more_data(self) -> Mapping[str, str]:
        return {"replay": self.replay.data} if self.replay else {}

    def refuse_layout(self, layout: str) -> str | None:
        if layout in ("preference", "unpaired"):
            return f"cpt trains on whole documents; {layout} rows hold answers that are not wanted"
        if layout == "prompt":
            return "cpt trains on whole documents; prompt rows hold no answer"
        return super().refuse_layout(layout)

    def identity(self) -> dict[str, Any]:
        """The replayed rows are an input of the stage; the name a suite gives them is no matter."""
        identity = super().identity()
        if self.replay:
            identity["replay"] = {**identity["replay"], "data": "replay"}
        return identity
