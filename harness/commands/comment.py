"""`harness comment`: one comment on a pull request for each check, updated by every later run.

The text is made from check.json, which a fork's pull request may have forged: it is read by its
schema, and every name in it is escaped. The pull request's number is taken from the event that
GitHub itself wrote, never from the artifact.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import HarnessError, why
from harness.importers.files import Unreadable
from harness.report.check import data, markdown

_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")
_MOST = 60_000
"""GitHub takes comments of at most 65,536 characters."""
_PAGE, _PAGES, _SECONDS = 100, 30, 30
_LARGEST = 2**24


@dataclass(frozen=True)
class Service:
    """The API of GitHub, or of one that is like it.

    Attributes:
        address: such as https://api.github.com.
        repository: OWNER/NAME.
    """

    address: str
    repository: str
    token: str

    @classmethod
    def from_environment(cls) -> Service:
        """As GitHub's runners name it in the environment.

        Raises:
            HarnessError: something is missing.
        """
        repository = os.environ.get("GITHUB_REPOSITORY", "")
        token = os.environ.get("GITHUB_TOKEN", "")
        if not _REPOSITORY.fullmatch(repository) or not token:
            raise HarnessError(
                "the comment has no place: GITHUB_REPOSITORY and GITHUB_TOKEN are not both set",
                fix="run this in a GitHub workflow with `permissions: pull-requests: write`",
            )
        return cls(os.environ.get("GITHUB_API_URL", "https://api.github.com"), repository, token)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer to one request.

        Raises:
            HarnessError: the service refuses it, or cannot be reached.
        """
        address = f"{self.address.rstrip('/')}/repos/{self.repository}{path}"
        if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
            raise HarnessError(f"{self.address} is no address of a web service")
        request = urllib.request.Request(
            address, None if body is None else json.dumps(body).encode(), method=method,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json",
                     "Accept": "application/vnd.github+json", "User-Agent": "finetune-harness"},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                return json.loads(answer.read(_LARGEST) or b"null")
        except urllib.error.HTTPError as error:
            raise HarnessError(
                f"{method} {path} was answered with {error.code} {error.reason}",
                fix="a token of a fork's workflow cannot write: see docs/gate.md, workflow_run"
                if error.code == 403
                else "",
            ) from None
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise HarnessError(f"{method} {path} failed: {why(error)}") from None


def comment(folder: Path, name: str = "") -> str:
    """Write or update the comment of the check in a folder.

    Returns:
        What was done, for the terminal.

    Raises:
        HarnessError: there is no check, no pull request, or the service refuses.
    """
    file = folder / "check.json"
    try:
        if file.stat().st_size > _LARGEST:
            raise Unreadable("is too large", where=str(file))
        checked = data.read(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unreadable(
            f"is no result of `harness check`: {why(error)}", where=str(file),
            fix="name the folder that `harness check --report-dir` wrote",
        ) from None  # fmt: skip
    service = Service.from_environment()
    number = pull_request(service, _event())
    if number is None:
        return "this event belongs to no open pull request; no comment is written"
    body = markdown.summary(checked, name=name)
    if len(body) > _MOST:
        body = markdown.summary(checked, name=name, folded=False)
    mark = body.split("\n", 1)[0]
    for known in _comments(service, number):
        if str(known.get("body", "")).startswith(mark) and _trusted(known):
            service.call("PATCH", f"/issues/comments/{int(known['id'])}", {"body": body})
            return f"updated the comment on pull request {number}"
    service.call("POST", f"/issues/{number}/comments", {"body": body})
    return f"commented on pull request {number}"


def _trusted(known: dict[str, Any]) -> bool:
    """Whether a comment is of a bot or of somebody who may write to the repository. Anybody can
    write the hidden mark, and could edit the verdict that is put into a comment of theirs."""
    if (known.get("user") or {}).get("type") == "Bot":
        return True
    return known.get("author_association", "OWNER") in ("OWNER", "MEMBER", "COLLABORATOR")


def _event() -> dict[str, Any]:
    path = os.environ.get("GITHUB_EVENT_PATH", "")
    if not path:
        return {}
    try:
        event = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HarnessError(f"GITHUB_EVENT_PATH cannot be read: {why(error)}") from None
    return event if isinstance(event, dict) else {}


def pull_request(service: Service, event: dict[str, Any]) -> int | None:
    """The number of the event's open pull request; None if it has none.

    A workflow_run of a fork names no pull request, so that it is looked up by the fork's owner and
    branch, and must have the very commit that was checked.
    """
    if isinstance(event.get("pull_request"), dict):
        return int(event["pull_request"]["number"])
    run = event.get("workflow_run")
    if not isinstance(run, dict):
        return None
    owner = ((run.get("head_repository") or {}).get("owner") or {}).get("login", "")
    query = urllib.parse.urlencode({"state": "open", "head": f"{owner}:{run.get('head_branch')}"})
    for pull in service.call("GET", f"/pulls?{query}") or []:
        if pull.get("head", {}).get("sha") == run.get("head_sha"):
            return int(pull["number"])
    return None


def _comments(service: Service, number: int) -> Iterator[dict[str, Any]]:
    for page in range(1, _PAGES + 1):
        found = service.call("GET", f"/issues/{number}/comments?per_page={_PAGE}&page={page}")
        yield from found or []
        if len(found or []) < _PAGE:
            return
