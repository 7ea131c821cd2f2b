"""The model that a generate or score stage works on: a checkpoint, or the untrained model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from harness.core.errors import StageFailed
from harness.inference.service import Service
from harness.inference.service_text import ServiceText
from harness.methods.base import Method
from harness.models.files import ModelPlace, ModelRef
from harness.models.folder import held
from harness.stages.base import AddedLater, Job, NotHashed, StageKind, member_in
from harness.stages.fine_tuning import tuned_model
from harness.store.stage import SPEC

CHECKPOINT, START, REWARD = "checkpoint", "start", "reward"
"""Roles of inputs that are models: the one a stage works on, the one a training goes on from, the
reward model."""
_IDENTITY = ("content", "tokenizer", "hub", "revision", "gguf", "converter")


class OnModel(StageKind):
    """A kind whose stages work on one model: a checkpoint, or an untrained model."""

    device: str
    """`cpu` or `cuda`."""
    model: Annotated[dict[str, Any] | None, AddedLater] = None
    """Identity of the untrained model; None where the stage reads a checkpoint."""
    merged: Annotated[bool, AddedLater] = False
    """True if the checkpoint's adapter is merged into its base."""
    place: Annotated[ModelPlace, NotHashed]
    """Where the model lies, or the checkpoint's base."""


def model_ref(config: Mapping[str, Any], device: str, place: ModelPlace) -> ModelRef:
    """A stage's model as the methods load it.

    Args:
        config: the model's identity.
    """
    return ModelRef(
        source=place.source,
        revision=place.revision,
        dtype=config["dtype"],
        device=device,
        attn_implementation=config["attn_implementation"],
        trust_remote_code=place.trust_remote_code,
        chat_template=place.chat_template,
        chat_template_kwargs=config.get("chat_template_kwargs", {}),
        identity={name: config[name] for name in _IDENTITY if name in config},
    )


@contextlib.contextmanager
def checkpoint_of(folder: Path, spec: Mapping[str, Any], place: ModelPlace) -> Iterator[Path]:
    """The checkpoint's folder, to read inside: in the training stage's, or where it was trained
    elsewhere.

    Args:
        folder: of the stage that left the checkpoint, or checks it. spec: that stage's.
        place: of its base, with the folder of a checkpoint that was trained elsewhere.

    Raises:
        StageFailed: no weights there, or not those that were planned.
    """
    if spec["kind"] != "checkpoint":
        require_files(folder / CHECKPOINT)
        yield folder / CHECKPOINT
        return
    checkpoint = Path(place.checkpoint or "")
    require_files(checkpoint)
    with held(str(checkpoint), {"content": spec["config"]["content"]}):
        yield checkpoint


def own_tokenizer(ref: ModelRef, checkpoint: Path) -> Any:
    """The tokenizer a checkpoint came with, and its chat template; what it lacks is its base's."""
    if not (checkpoint / "tokenizer_config.json").is_file():
        return ref.tokenizer()
    tokenizer = ref.at(checkpoint).tokenizer()
    if not tokenizer.chat_template:
        tokenizer.chat_template = ref.tokenizer().chat_template
    return tokenizer


def load_subject(job: Job[OnModel]) -> tuple[Any, Any, Mapping[str, Any] | None]:
    """The model that a stage works on, its tokenizer, and the training stage's metrics (None when
    untrained)."""
    which = {"model": job.config.model, "merged": job.config.merged}
    return load_model(job, CHECKPOINT, which, job.config.place)


def load_model(
    job: Job, role: str, which: Mapping[str, Any], place: ModelPlace
) -> tuple[Any, Any, Mapping[str, Any] | None]:
    """A model in evaluation mode, its tokenizer, and the training stage's metrics (None when
    untrained).

    Args:
        role: of the input that left the checkpoint; without such an input the model is untrained,
            or served elsewhere: then it is a `Service`.
        which: `model`, the identity of an untrained one; `merged`, whether an adapter is merged.
        place: of the untrained model, or of the checkpoint's base.
    """
    device = job.config.device
    if place.endpoint is not None:
        endpoint = place.endpoint
        if job.has(role):
            endpoint = tuned_model(endpoint, job.input(role))
        return Service(endpoint, job.replies), ServiceText(), None
    if not job.has(role):
        ref = model_ref(which["model"], device, place)
        return ref.load("lm"), ref.tokenizer(), None
    folder, trained = job.input(role), _spec(job, role)
    ref = model_ref(trained["config"]["model"], device, place)
    method: Method = member_in(trained, "method")
    load = method.merged if which.get("merged") else method.load_trained
    elsewhere = trained["kind"] == "checkpoint"
    with checkpoint_of(folder, trained, place) as checkpoint:
        tokenizer = own_tokenizer(ref, checkpoint) if elsewhere else ref.tokenizer()
        model = load(ref, checkpoint).eval()
    return model, tokenizer, job.input_record(role).metrics


def load_base(job: Job, place: ModelPlace) -> tuple[Any, Any]:
    """The untrained model under the variant's checkpoint, and its tokenizer: as its folder or hub
    has it, never quantised, nothing attached."""
    ref = model_ref(_spec(job, CHECKPOINT)["config"]["model"], job.config.device, place)
    return ref.load("lm"), ref.tokenizer()


def model_beside(job: Job, role: str, place: ModelPlace) -> tuple[Method, ModelRef, Path]:
    """The method, the base and the checkpoint of another training stage that the stage reads."""
    trained, checkpoint = _spec(job, role), job.input(role) / CHECKPOINT
    require_files(checkpoint)
    ref = model_ref(trained["config"]["model"], job.config.device, place)
    return member_in(trained, "method"), ref, checkpoint


def load_beside(job: Job, role: str, place: ModelPlace) -> tuple[Any, Any]:
    """That training stage's model in evaluation mode, and its base's tokenizer."""
    method, ref, checkpoint = model_beside(job, role, place)
    return method.load_trained(ref, checkpoint).eval(), ref.tokenizer()


def _spec(job: Job, role: str) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((job.input(role) / SPEC).read_text(encoding="utf-8"))
    return spec


def require_files(checkpoint: Path) -> None:
    """Raise StageFailed where a checkpoint's weights are gone."""
    if not any(checkpoint.glob("*.safetensors")):
        raise StageFailed("input missing", f"{checkpoint} holds no weights", fix="run again")
