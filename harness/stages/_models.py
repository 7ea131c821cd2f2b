"""The model that a generate or score stage works on: a checkpoint, or the untrained model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from harness.core import component
from harness.core.errors import StageFailed
from harness.methods.base import Method
from harness.models.files import ModelPlace, ModelRef
from harness.models.folder import held
from harness.stages.base import Job, StageKind
from harness.store.stage import SPEC

CHECKPOINT = "checkpoint"
_IDENTITY = ("content", "hub", "revision", "gguf", "converter")


def model_ref(
    config: Mapping[str, Any], device: str, place: ModelPlace | Mapping[str, str]
) -> ModelRef:
    """A stage's model as the methods load it."""
    if not isinstance(place, ModelPlace):
        place = _flat(place)
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


def _flat(locators: Mapping[str, str]) -> ModelPlace:
    """The place of a model in a stage whose kind is no class yet."""
    return ModelPlace(
        source=locators["model"],
        revision=locators.get("revision") or None,
        trust_remote_code=locators.get("trust_remote_code") == "true",
        chat_template=locators.get("chat_template"),
    )


def _of(job: Job, name: str) -> Any:
    """A field of the job's config, whether its kind is a class or not yet."""
    if isinstance(job.config, StageKind):
        return getattr(job.config, name, None)
    return job.locators if name == "place" else job.config.get(name)


def method_of(config: Mapping[str, Any]) -> Method:
    """The method that a training stage's config names."""
    fields = {k: v for k, v in config["method"].items() if k not in ("name", "version")}
    name = config["method"]["name"]
    declared = cast(type[Method], component.find("method", name))
    return component.build_fields(declared, fields, f"method {name}")


@contextlib.contextmanager
def checkpoint_of(job: Job, folder: Path, spec: Mapping[str, Any]) -> Iterator[Path]:
    """The checkpoint's folder, to read inside: in the training stage's, or where it was trained
    elsewhere.

    Raises:
        StageFailed: no weights there, or not those that were planned.
    """
    if spec["kind"] != "checkpoint":
        require_files(folder / CHECKPOINT)
        yield folder / CHECKPOINT
        return
    checkpoint = Path(job.locators["checkpoint"])
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


def load_subject(job: Job, role: str = CHECKPOINT) -> tuple[Any, Any, Mapping[str, Any] | None]:
    """The model, its tokenizer, and the training stage's metrics (None when untrained).

    Args:
        role: of the input that left the checkpoint.
    """
    if not job.has(role):
        ref = model_ref(_of(job, "model"), _of(job, "device"), _of(job, "place"))
        return ref.load("lm"), ref.tokenizer(), None
    folder = job.input(role)
    trained = json.loads((folder / SPEC).read_text(encoding="utf-8"))
    ref = model_ref(trained["config"]["model"], _of(job, "device"), _of(job, "place"))
    method = method_of(trained["config"])
    merged = _of(job, "merged") and role == CHECKPOINT
    load = method.merged if merged else method.load_trained
    elsewhere = trained["kind"] == "checkpoint"
    with checkpoint_of(job, folder, trained) as checkpoint:
        tokenizer = own_tokenizer(ref, checkpoint) if elsewhere else ref.tokenizer()
        model = load(ref, checkpoint).eval()
    return model, tokenizer, job.input_record(role).metrics


def load_base(job: Job, subject: Any) -> Any:
    """What a checkpoint is held against: its start where the stage has one, as that was trained;
    else the untrained model under it; the subject itself where nothing was trained.

    The untrained model is as its folder or hub has it: never quantised, nothing attached.
    """
    if job.has("start"):
        return load_subject(job, "start")[0]
    if not job.has("checkpoint"):
        return subject
    trained = json.loads((job.input("checkpoint") / SPEC).read_text(encoding="utf-8"))
    ref = model_ref(trained["config"]["model"], _of(job, "device"), _of(job, "place"))
    return ref.load("lm")


def model_beside(job: Job, role: str) -> tuple[Method, ModelRef, Path]:
    """The method, the base and the checkpoint of another training stage that the stage reads."""
    folder = job.input(role)
    trained = json.loads((folder / SPEC).read_text(encoding="utf-8"))["config"]
    own = {
        name.removeprefix(f"{role}."): place
        for name, place in job.locators.items()
        if name.startswith(f"{role}.")
    }
    require_files(folder / CHECKPOINT)
    ref = model_ref(trained["model"], _of(job, "device"), own)
    return method_of(trained), ref, folder / CHECKPOINT


def require_files(checkpoint: Path) -> None:
    """Raise StageFailed where a checkpoint's weights are gone."""
    if not any(checkpoint.glob("*.safetensors")):
        raise StageFailed("input missing", f"{checkpoint} holds no weights", fix="run again")
