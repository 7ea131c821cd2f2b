"""Whether a server tells the log-probabilities of prompts, and whether they are right.

Servers differ: vLLM tells them; llama.cpp's server answers with those of generated tokens alone,
and each choice of a question then has the same likelihood; `transformers serve` ignores that they
were asked for. So they are checked on a few texts before anything is scored by them.
"""

from __future__ import annotations

from typing import Any

from harness.core.errors import StageFailed
from harness.inference.completions import Reply
from harness.inference.endpoint import COMPLETIONS
from harness.inference.scored_text import of_prompt
from harness.inference.service import Service

_TEXTS = (
    "The capital of France is Paris. The capital of Italy is",
    "One, two, three, four,",
    "Water boils when it is hot enough, and",
)
_AGREE = 0.2
"""Most by which the log-probability of a token in a prompt may differ from that of the same token
when it was generated: servers compute both in bfloat16, in different batches."""
_GENERATED = 8


def require_likelihoods(service: Service) -> None:
    """Check on a few texts that prompt log-probabilities come back right.

    Raises:
        StageFailed: they do not; the message says what came back.
    """
    compared = [_compared(service, text) for text in _TEXTS]
    if not any(compared):
        raise _refusal(service, "its tokens could not be compared with generated ones")


def _compared(service: Service, text: str) -> bool:
    """Whether the tokens that the model generates after a text have, in a prompt, the same
    log-probabilities. False where they cannot be compared."""
    generated = _one(service, text, max_tokens=_GENERATED)
    written = "".join(token for token, _, _ in generated.scored)
    told = _one(service, text + written, echo=True)
    tokens = of_prompt(told.scored, told.prompt_tokens)
    if not told.scored:
        raise _refusal(service, "it gave none")
    if not "".join(token for token, _, _ in tokens).endswith(text + written):
        raise _refusal(service, f"it gave those of {len(told.scored)} other tokens alone")
    values = [value for _, value, _ in tokens[1:]]
    if any(value is None or value > 1e-6 for value in values) or len(set(values)) == 1:
        raise _refusal(service, "some were missing, above 0, or all the same")
    if not generated.scored:
        raise _refusal(service, "it gave none of generated tokens to compare them with")
    last = tokens[len(tokens) - len(generated.scored) :]
    if [token for token, _, _ in last] != [token for token, _, _ in generated.scored]:
        return False  # the text was cut into other tokens
    for (token, value, _), (_, before, _) in zip(last, generated.scored, strict=True):
        if value is None or before is None or abs(value - before) > _AGREE:
            raise _refusal(
                service,
                f"the token {token!r} has {_written(before)} when it is generated, and"
                f" {_written(value)} in a prompt",
            )
    return True


def _written(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _one(service: Service, text: str, **fields: Any) -> Reply:
    (reply,) = service.replies.ask([service.plain(text, logprobs=1, **fields)], path=COMPLETIONS)
    if reply.refused:
        raise _refusal(service, f"it refused to tell them: {reply.refused}")
    return reply


def _refusal(service: Service, what: str) -> StageFailed:
    return StageFailed(
        "no likelihoods",
        f"{service.endpoint.base_url} does not tell the log-probabilities of prompts, or not"
        f" rightly ({what}), and tasks that compare likelihoods need them",
        fix="use tasks that generate (output_type: generate_until), or a server that tells them,"
        " such as vLLM",
    )
