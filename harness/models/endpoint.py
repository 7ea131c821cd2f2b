"""The settings of a model that another server answers for (an OpenAI-compatible endpoint)."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.core.component import NotHashed, unhashed

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_SECRET = re.compile(
    r".*(key|authorization|secret|passw(or)?d|credential|bearer|cookie).*|auth"
    r"|(.*(access|api|auth|refresh|session|service|hf|user)[-_]?)?token|(extra_)?headers",
    re.I | re.S,
)
"""Names of request fields that may hold a secret, which must not be written to disk. `max_tokens`
and `eos_token` do not match."""
_PATHS = ("/chat/completions", "/completions", "/models", "/responses")
"""What follows the address of a service in the address of a request."""


class Prices(BaseModel):
    """What a service charges for a million tokens, in any currency."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    prompt: float = Field(ge=0, allow_inf_nan=False)
    """For a million tokens of prompts."""
    completion: float = Field(ge=0, allow_inf_nan=False)
    """For a million tokens of answers."""
    training: float | None = Field(None, ge=0, allow_inf_nan=False)
    """For a million tokens that a fine-tuning job trains on; default: unknown."""

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """The price of so many tokens."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


class CallBudget(BaseModel):
    """The most that may be spent at one endpoint, by all stages of a store together."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    calls: int | None = Field(None, ge=0)
    """Requests that the server answers, or may have answered before the connection broke."""
    tokens: int | None = Field(None, ge=0)
    """Tokens of prompts and answers."""
    money: float | None = Field(None, ge=0, allow_inf_nan=False)
    """In the currency of `prices`."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.calls is None and self.tokens is None and self.money is None:
            raise ValueError("give one of calls, tokens and money")
        return self

    @property
    def counts_tokens(self) -> bool:
        """True if the longest answer must be known before a request is sent."""
        return self.tokens is not None or self.money is not None


def plain_address(value: str) -> str:
    """The address of a service, which is written to disk. One with a slash at its end is the same.

    Raises:
        ValueError: it is none of a server, that of a request, or may hold a secret.
    """
    parts = urllib.parse.urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("base_url is an address such as https://api.example.org/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "base_url holds a user, a password or a query, and is written to disk; name the"
            " variable of a key with api_key_env"
        )
    plain = value.rstrip("/")
    if ends := next((path for path in _PATHS if parts.path.rstrip("/").endswith(path)), None):
        raise ValueError(f"base_url is the address without {ends}: {plain.removesuffix(ends)}")
    return plain


def variable_name(value: Any) -> Any:
    """The name of the environment variable with a key; None for no key.

    Raises:
        ValueError: it is none, and may be the key itself.
    """
    if value is None or (isinstance(value, str) and _VARIABLE.fullmatch(value)):
        return value
    raise ValueError(
        "api_key_env is the name of an environment variable, such as JUDGE_KEY (capitals,"
        " digits and _), and not the key; what it holds is not shown here"
    )


class EndpointSettings(BaseModel):
    """A model behind an OpenAI-compatible endpoint, and how it is asked.

    What changes no answer (the key, limits, prices) is not hashed.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False,
        hide_input_in_errors=True,  # an error may be about a pasted key
    )  # fmt: skip

    base_url: str
    """The address without `/chat/completions`, such as `http://localhost:8000/v1`."""
    model: str = Field(min_length=1)
    """The model's name at the endpoint. Choose a name with a date if there is one, since the model
    behind another name may change."""
    api_key_env: Annotated[str | None, NotHashed] = None
    """Name of the environment variable with the key, in capitals; null sends no key."""
    args: dict[str, Any] = {}
    """Other fields of the request, such as `{seed: 0}`. They are written to disk, so keys and
    headers are refused."""
    concurrency: Annotated[int, NotHashed] = Field(4, gt=0, le=256)
    """Number of concurrent requests, of all stages of the store that ask this model."""
    timeout: Annotated[float, NotHashed] = Field(60.0, gt=0)
    """Seconds for one try."""
    retries: Annotated[int, NotHashed] = Field(5, ge=0)
    """Tries after the first; those that the server answers with 429 (too many requests) do not
    count."""
    longest_wait: Annotated[float, NotHashed] = Field(60.0, gt=0)
    """Longest wait before a try, in seconds; the stage fails if the server asks for more."""
    patience: Annotated[float, NotHashed] = Field(600.0, ge=0)
    """Longest time, in seconds, for which one request waits in all while the server answers 429."""
    prices: Annotated[Prices | None, NotHashed] = None
    """What a million tokens cost: `{prompt: 0.15, completion: 0.6}`. Reports then show the money,
    and `budget` can be given in it."""
    budget: Annotated[CallBudget | None, NotHashed] = None
    """The most that may be spent: `{calls: 1000}`, `{tokens: 1000000}` or `{money: 5}`, for all
    stages of the store that ask this model. No request is sent that could exceed it."""

    _address = field_validator("base_url")(plain_address)
    _variable = field_validator("api_key_env", mode="before")(variable_name)

    @field_validator("args")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in sorted({"model", "messages", "prompt", "stream", "n"} & set(value)):
            raise ValueError(f"{name} is decided by the harness; remove it")
        return without_secrets(value)

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.budget is not None and self.budget.money is not None and self.prices is None:
            raise ValueError("a budget in money needs prices: {prompt: ..., completion: ...}")
        return self

    def told(self) -> str:
        """Where requests go, for people: the address, and the variable of the key."""
        key = f", with the key in {self.api_key_env}" if self.api_key_env else ""
        return f"{self.base_url}{key}"


class ServedModel(EndpointSettings):
    """A model that a service or another server answers for, in place of files."""

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls the most tokens of an answer; some newer models take
    `max_completion_tokens` alone."""

    def identity(self) -> dict[str, Any]:
        """What its answers depend on."""
        return self.model_dump(mode="json", exclude=unhashed(self))

    @property
    def unreadable(self) -> str:
        """Why its weights and the likelihoods of texts are out of reach, for messages."""
        return f"it is served at {self.base_url}, and only what it writes can be read"


def without_secrets(args: dict[str, Any]) -> dict[str, Any]:
    """Further fields of requests, which are written to disk, as they are.

    Raises:
        ValueError: the name of one says that it may hold a secret.
    """
    for name in _names(args):
        if _SECRET.fullmatch(name):
            raise ValueError(
                f"{name} may hold a secret, and args are written to disk; name the variable of"
                " a key with api_key_env"
            )
    return args


def _names(value: Any) -> Iterator[str]:
    """All names in a tree of mappings and lists."""
    if isinstance(value, dict):
        yield from map(str, value)
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _names(inner)
