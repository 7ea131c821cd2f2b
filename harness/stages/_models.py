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
def checkpoint_of(folder: Path, spec: Mapping[str, Any], elsewhere: str) -> Iterator[Path]:
    """The checkpoint's folder, to read inside: in the training stage's, or where it was trained
    elsewhere.

    Args:
        folder: of the stage that left the checkpoint, or checks it. spec: that stage's.
        elsewhere: the folder of a checkpoint that was trained elsewhere.

    Raises:
        StageFailed: no weights there, or not those that were planned.
    """
    if spec["kind"] != "checkpoint":
        require_files(folder / CHECKPOINT)
        yield folder / CHECKPOINT
        return
    checkpoint = Path(elsewhere)
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


def load_subject(job: Job) -> tuple[Any, Any, Mapping[str, Any] | None]:
    """The model that a stage works on, its tokenizer, and the training stage's metrics (None when
    untrained)."""
    which = {name: _of(job, name) for name in ("model", "merged")}
    return load_model(job, CHECKPOINT, which, _of(job, "place"), job.locators.get("checkpoint", ""))


def load_model(
    job: Job,
    role: str,
    which: Mapping[str, Any],
    place: ModelPlace | Mapping[str, str],
    elsewhere: str = "",
) -> tuple[Any, Any, Mapping[str, Any] | None]:
    """A model in evaluation mode, its tokenizer, and the training stage's metrics (None when
    untrained).

    Args:
        role: of the input that left the checkpoint; without such an input the model is untrained.
        which: `model`, the identity of an untrained one; `merged`, whether an adapter is merged.
        place: of the untrained model. elsewhere: folder of a checkpoint that was trained elsewhere.
    """
    device = _of(job, "device")
    if not job.has(role):
        ref = model_ref(which["model"], device, place)
        return ref.load("lm"), ref.tokenizer(), None
    folder, trained = job.input(role), _spec(job, role)
    ref = model_ref(trained["config"]["model"], device, place)
    method = method_of(trained["config"])
    load = method.merged if which.get("merged") else method.load_trained
    own = trained["kind"] == "checkpoint"
    with checkpoint_of(folder, trained, elsewhere) as checkpoint:
        tokenizer = own_tokenizer(ref, checkpoint) if own else ref.tokenizer()
        model = load(ref, checkpoint).eval()
    return model, tokenizer, job.input_record(role).metrics


def load_base(job: Job, place: ModelPlace) -> tuple[Any, Any]:
    """The untrained model under the variant's checkpoint, and its tokenizer: as its folder or hub
    has it, never quantised, nothing attached."""
    ref = model_ref(_spec(job, CHECKPOINT)["config"]["model"], _of(job, "device"), place)
    return ref.load("lm"), ref.tokenizer()


def model_beside(
    job: Job, role: str, place: ModelPlace | None = None
) -> tuple[Method, ModelRef, Path]:
    """The method, the base and the checkpoint of another training stage that the stage reads."""
    trained, checkpoint = _spec(job, role)["config"], job.input(role) / CHECKPOINT
    flat = {
        name.removeprefix(f"{role}."): where
        for name, where in job.locators.items()
        if name.startswith(f"{role}.")
    }
    require_files(checkpoint)
    ref = model_ref(trained["model"], _of(job, "device"), place or flat)
    return method_of(trained), ref, checkpoint


def load_beside(job: Job, role: str, place: ModelPlace | None = None) -> tuple[Any, Any]:
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
