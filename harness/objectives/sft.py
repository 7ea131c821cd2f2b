"""Supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from harness.objectives._trainer import TrainerObjective


class Sft(TrainerObjective):
    """Supervised fine-tuning by next-token cross-entropy, through TRL's SFTTrainer.

    Rows of prompt and completion train on the completion only; chats train on what every assistant
    turn says and the token that ends it (of a template with `{% generation %}` markers on what they
    enclose of it); rows of text train on every token. Turns of `weight: 0` are not trained on.
    """

    VERSION = 2
    impl = "harness.objectives._trl.sft:train"
    trainer_config = "trl.trainer.sft_config:SFTConfig"
    batches = "harness.objectives._trl.sft:batches"
    schedule = "harness.objectives._trl.sft:schedule"
    paper = "arXiv:2203.02155"
    layouts = ("messages", "prompt_completion", "text")
    keeps = ("last", "best")

    learning_rate: float = Field(2e-5, gt=0)
    """Peak learning rate; an adapter usually wants ten times that of full fine-tuning."""
    completion_only_loss: bool = True
    """Leave the prompt out of the loss (rows of prompt and completion)."""
    assistant_only_loss: bool = True
    """Leave everything but the assistant's turns out of the loss (chats)."""
    packing: bool = False
    """Put several rows into one sequence."""
    packing_strategy: Literal["bfd", "bfd_split", "wrapped"] = "bfd"
    """How rows are packed; `wrapped` cuts rows at the length."""

    token_metrics: bool = False
    """Log the entropy and the accuracy of the tokens trained on, at each step. Takes the logits of
    every position: slow where the vocabulary is large."""

    def needs(self) -> Mapping[str, str]:
        packed = {"packing": "packing is on, and packed documents would see each other"}
        return {**super().needs(), **(packed if self.packing else {})}

    def refuse_elsewhere(self) -> str | None:
        metrics = "token_metrics needs the logits" if self.token_metrics else None
        return super().refuse_elsewhere() or metrics

    def answers_only(self, layout: str) -> bool | None:
        return None if self.packing else self.in_loss(layout)

    def in_loss(self, layout: str) -> bool:
        """Whether the loss is on the answers alone, of rows of this layout."""
        return {
            "messages": self.assistant_only_loss,
            "prompt_completion": self.completion_only_loss,
        }.get(layout, False)

    def cut(self) -> slice:
        whole = self.packing and self.packing_strategy != "bfd"
        return slice(None) if whole else super().cut()
