"""A served model behind lm-evaluation-harness.

It answers generation tasks with any server. Tasks that compare likelihoods need a server that tells
the log-probabilities of prompts, which is checked before the first of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs

from harness.core.errors import StageFailed
from harness.core.files import digest_json
from harness.inference.sampling import seed_of
from harness.inference.scored_text import likelihood
from harness.inference.service import Prompt, Service
from harness.inference.service_likelihood import require_likelihoods
from harness.inference.service_text import ServiceText, turns_in

_SAMPLE_SEED = 1234
"""lm-eval's own default for what is drawn at random."""


class ServiceLM(LM):
    """lm-eval's interface to a served model.

    Args:
        service: the model.
        max_gen_toks: tokens of an answer where the task does not say.
        progress: receives (done, total, text).

    Attributes:
        truncated: 0: what a server cuts it does not tell.
    """

    truncated, max_length = 0, 0
    tokenizer = ServiceText()

    def __init__(
        self,
        service: Service,
        *,
        max_gen_toks: int = 256,
        progress: Callable[[int, int, str], None] = lambda *_: None,
    ) -> None:
        super().__init__()
        self.service, self.max_gen_toks, self.progress = service, max_gen_toks, progress
        self._checked = False

    @property
    def tokenizer_name(self) -> str:
        return self.service.endpoint.model.replace("/", "__")

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """The answer to each context."""
        groups: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(digest_json(dict(request.args[1])), []).append(place)
        answers = [""] * len(requests)
        for places in groups.values():
            contexts = [str(requests[place].args[0]) for place in places]
            texts = self._written(contexts, requests[places[0]].args[1])
            for place, text in zip(places, texts, strict=True):
                answers[place] = text
        return answers

    def _written(self, contexts: Sequence[str], asked: Mapping[str, Any]) -> list[str]:
        """Answers to contexts that ask with the same options."""
        kwargs = dict(normalize_gen_kwargs(dict(asked), self.max_gen_toks))
        until = kwargs.get("until") or []
        chats = [turns_in(context) for context in contexts]
        prompts: list[Prompt] = [
            context if turns is None else turns
            for context, turns in zip(contexts, chats, strict=True)
        ]
        sampled = bool(kwargs.get("do_sample")) and float(kwargs.get("temperature") or 0) > 0
        options = {
            "apply_chat_template": chats[0] is not None,
            "until": [until] if isinstance(until, str) else list(until),
            "max_new_tokens": int(kwargs["max_gen_toks"]),
            "thinking": "auto",
            "temperature": float(kwargs.get("temperature") or 1.0),
            "top_p": float(kwargs.get("top_p") or 1.0),
        }
        seeds = [seed_of(_SAMPLE_SEED, context, 0) for context in contexts] if sampled else None
        answers = self.service.answers(prompts, options, self.progress, seeds)
        return [answer.raw for answer in answers]

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """The log-likelihood of each continuation, and whether it is the greedy one.

        Raises:
            StageFailed: the server does not tell them, or a request has no context.
        """
        pairs = [_split(*request.args) for request in requests]
        if not self._checked:
            require_likelihoods(self.service)
            self._checked = True
        whole = [(context + continuation, continuation) for context, continuation in pairs]
        replies = self.service.scored(whole, self.progress)
        scores = []
        for (_, continuation), reply in zip(pairs, replies, strict=True):
            score = likelihood(reply.scored)
            if score is None:
                why = reply.refused or "its tokens do not make up the text"
                raise StageFailed(
                    "no likelihoods",
                    f"{self.service.endpoint.base_url} tells no log-probability of"
                    f" {json.dumps(continuation[:40])} after its context ({why})",
                    fix="leave the task out for this model",
                )
            scores.append(score)
        return scores

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Refused: a text's first token has no log-probability at a server."""
        raise StageFailed(
            "no likelihoods",
            "the likelihood of whole texts is not told by a server: their first token has none",
            fix="leave the task out for this model",
        )


def _split(context: str, continuation: str) -> tuple[str, str]:
    """Context and continuation, with the spaces at the context's end before the continuation, as in
    lm-eval.

    Raises:
        StageFailed: there is no context, or it is a chat.
    """
    if turns_in(context) is not None:
        raise StageFailed(
            "no likelihoods",
            "likelihoods after a chat cannot be asked of a server: it writes the chat's template"
            " itself",
            fix="set apply_chat_template: false, or use tasks that generate",
        )
    bare = context.rstrip()
    if not bare:
        raise StageFailed(
            "no likelihoods",
            "a request has no context, and a text's first token has no log-probability at a server",
            fix="leave the task out for this model",
        )
    return bare, context[len(bare) :] + continuation
