"""A model that another server answers for, in the place of a loaded one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import StageFailed
from harness.inference.completions import Reply
from harness.inference.endpoint import CHAT, COMPLETIONS, ChatEndpoint
from harness.inference.reading import THINK, Answer, first
from harness.inference.replies import Progress, Replies
from harness.models.endpoint import ServedModel

REFUSED = "refused"
"""How an answer ended that the service or its model refused to give."""
_STOPS = 4
"""Stop strings that the protocol takes; the answer is cut at all of them here."""
_TURN = ("role", "content", "name", "tool_calls", "tool_call_id")
_THINKING = re.compile(f"{THINK[0]}.*?(?:{THINK[1]}|$)", re.DOTALL)
Prompt = str | list[Mapping[str, Any]]
"""A text, or the turns of a chat."""


class Service:
    """Asks a served model. Replies are kept for the whole store, and cost nothing again."""

    def __init__(self, endpoint: ServedModel, folder: Path) -> None:
        """Open the replies of this endpoint.

        Args:
            folder: of the replies of a store (`Job.replies`).

        Raises:
            StageFailed: the environment has no key.
        """
        self.endpoint, self.client = endpoint, ChatEndpoint.of(endpoint)
        self.replies = Replies(folder, endpoint, self.client)
        self._received: list[Reply] = []

    def answers(
        self,
        prompts: Sequence[Prompt],
        options: Mapping[str, Any],
        progress: Progress = lambda *_: None,
        seeds: Sequence[int] | None = None,
        extra: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Answer]:
        """An answer to each prompt.

        Args:
            options: fields of a suite's `generate`. With `apply_chat_template` a text is sent as a
                user's turn, without it as a plain completion.
            seeds: one for each prompt, to sample with the options' temperature and top_p; None: the
                likeliest answer.
            extra: further fields of each request, such as `tools`.

        Raises:
            StageFailed: as Replies.ask, or the service refused every request.
        """
        path = CHAT if options.get("apply_chat_template", True) else COMPLETIONS
        bodies = [
            self._body(prompt, path, options, None if seeds is None else seeds[number])
            | dict(extra[number] if extra else {})
            for number, prompt in enumerate(prompts)
        ]
        replies = self._ask(bodies, progress, path)
        refused = [reply for reply in replies if reply.refused]
        if replies and len(refused) == len(replies):
            raise StageFailed(
                "endpoint",
                f"{self.endpoint.base_url} refused every request; the first: {refused[0].refused}",
                fix="check model, args and max_tokens_field",
            )
        return [_answer(reply, options) for reply in replies]

    def scored(self, prompts: Sequence[tuple[str, str]], progress: Progress) -> list[Reply]:
        """Replies to plain prompts with the log-probabilities of their tokens, as the server tells
        them (harness.inference.service_likelihood says whether they can be trusted).

        Args:
            prompts: each a whole prompt, and the text at its end whose tokens are kept.
        """
        bodies = [self.plain(prompt, echo=True, logprobs=1) for prompt, _ in prompts]
        return self._ask(bodies, progress, COMPLETIONS, [tail for _, tail in prompts])

    def plain(self, prompt: str, **fields: Any) -> dict[str, Any]:
        """The request for one token after a plain prompt."""
        options = {"max_new_tokens": 1}
        return {**self._body(prompt, COMPLETIONS, options, None), **fields}

    def cost(self) -> dict[str, Any]:
        """Calls, tokens and, if there are prices, money of all replies, whenever they were paid."""
        return self.replies.cost(self._received)

    def _ask(
        self,
        bodies: Sequence[Mapping[str, Any]],
        progress: Progress,
        path: str,
        tails: Sequence[str] | None = None,
    ) -> list[Reply]:
        replies = self.replies.ask(bodies, progress, path, tails=tails)
        self._received += replies
        return replies

    def _body(
        self, prompt: Prompt, path: str, options: Mapping[str, Any], seed: int | None
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {"temperature": 0}
        if seed is not None:
            # Some servers take seeds of 31 bits alone.
            fields = {"temperature": options["temperature"], "seed": seed % 2**31}
            fields |= {"top_p": options["top_p"]} if options["top_p"] < 1 else {}
        if stops := list(options.get("until", ()))[:_STOPS]:
            fields["stop"] = stops
        longest = self.endpoint.max_tokens_field if path == CHAT else "max_tokens"
        fields |= {longest: options["max_new_tokens"], **self.endpoint.args}
        fields = {name: value for name, value in fields.items() if value is not None}
        if path == COMPLETIONS:
            return {**fields, "model": self.endpoint.model, "prompt": prompt}
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        said = [{name: turn[name] for name in _TURN if turn.get(name) is not None}
                for turn in turns]  # fmt: skip
        return {**fields, "model": self.endpoint.model, "messages": said}


def _answer(reply: Reply, options: Mapping[str, Any]) -> Answer:
    """A reply as an answer of a loaded model would be. Whether a model ended by itself or at a stop
    string, which the server then leaves out, cannot be told: both are `eos`."""
    if reply.refused:
        return Answer("", REFUSED, reply.completion_tokens)
    said = _without_thinking(reply.text, str(options.get("thinking", "keep")))
    cut = first(said, options.get("until", ()))
    finish = "stop" if cut is not None else "length" if reply.finish == "length" else "eos"
    shown = said[:cut]
    thought = reply.text if said != reply.text else ""
    return Answer(shown.strip(), finish, reply.completion_tokens, shown, thought)


def _without_thinking(text: str, how: str) -> str:
    """The text without its thinking, as far as a server leaves it in: with `auto` at its beginning
    alone, since elsewhere the marks may be words."""
    if how == "strip":
        return _THINKING.sub("", text)
    begins = text.lstrip().startswith(THINK[0])
    return _THINKING.sub("", text, count=1) if how == "auto" and begins else text
