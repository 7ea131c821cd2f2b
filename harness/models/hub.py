"""Resolves the revision of a model on the Hugging Face hub to a commit, and fetches its files."""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import ModelError, shortened
from harness.core.locate import can_be_on_the_hub

_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
_NO_NETWORK = "check the name; without a network, download it elsewhere and set HF_HOME, or give a"
_NO_NETWORK += " folder"


def commit_of(name: str, revision: str | None, where: str) -> str:
    """The commit of a model's revision: the revision itself if it is a commit, else the commit in
    the cache, else the one that the hub names.

    Raises:
        ModelError: it is not in the cache, and the hub does not answer or has no such model.
    """
    from huggingface_hub import HfApi, constants, errors
    from huggingface_hub.file_download import repo_folder_name

    wanted = revision or "main"
    if not can_be_on_the_hub(name):
        message = f"'{shortened(name)}' is no folder here, and the hub has no such names"
        raise ModelError(message, where=where, fix=_NO_NETWORK)
    cache = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")
    if len(wanted) == 40:
        return wanted
    if (ref := cache / "refs" / wanted).is_file():
        return ref.read_text(encoding="utf-8").strip()
    absent = f"'{name}' is no folder here, is not in the hub's cache ({cache.parent}), and the hub"
    try:
        return str(HfApi().model_info(name, revision=wanted, timeout=15).sha)
    except errors.GatedRepoError:
        raise ModelError(
            f"{absent} gives it only to those whom its authors let in",
            where=where,
            fix="ask for it on its page there, then log in: hf auth login, or set HF_TOKEN",
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(
            f"the hub's '{name}' has no revision '{wanted}'", where=f"{where}.revision",
            fix="name a branch, a tag or a commit of it",
        ) from None  # fmt: skip
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"{absent} has none of this name, or none that you may see",
            where=where,
            fix="check the name; for a private one log in: hf auth login, or set HF_TOKEN",
        ) from None
    # The errors of its client (no network, a proxy, a certificate) are not OSErrors.
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined,unused-ignore]
        raise ModelError(
            f"{absent} did not answer ({type(error).__name__}: {_first_line(error)})",
            where=where,
            fix=_NO_NETWORK,
        ) from None


def hub_snapshot(reference: str, where: str) -> Path:
    """The folder in the cache of a model or an adapter on the hub. It is fetched if it is not
    there; of its files only settings, tokenizer and safetensors.

    Args:
        reference: NAME, or NAME@REVISION.

    Raises:
        ModelError: it is neither in the cache nor to be had from the hub.
    """
    from huggingface_hub import errors, snapshot_download

    name, _, revision = reference.partition("@")
    if not can_be_on_the_hub(name):
        raise ModelError(
            f"'{shortened(reference)}' is no folder, and no name on the hub", where=where,
            fix="give a folder with an adapter or a model, or organisation/name",
        )  # fmt: skip
    commit = commit_of(name, revision or None, where)
    try:
        return Path(snapshot_download(name, revision=commit, allow_patterns=_FILES))
    except (errors.HTTPError, errors.LocalEntryNotFoundError, OSError) as error:  # type: ignore[attr-defined,unused-ignore]
        raise ModelError(
            f"the files of '{name}' at {commit[:12]} cannot be fetched ({type(error).__name__}:"
            f" {_first_line(error)})",
            where=where,
            fix=_NO_NETWORK,
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:200]
