"""Whether the files of a checkpoint can have been trained from the model they are put on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.core.errors import ModelError
from harness.models.checks import text_config
from harness.models.files import ModelInfo, tensor_shapes
from harness.models.layers import vocabulary_rows

_OTHER_HEADS = (
    "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM",
)  # fmt: skip


def read_object(path: Path, where: str) -> dict[str, Any]:
    """A file's JSON object.

    Raises:
        ModelError: it is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}", where=where) from None
    if not isinstance(found, dict):
        raise ModelError(f"{path} is no JSON object", where=where)
    return found


def require_fitting_layers(folder: Path, base: ModelInfo, where: str) -> None:
    """Low-rank matrices tell the sizes of the layers they were trained on.

    Raises:
        ModelError: the base has other layers.
    """
    layers = {name.removesuffix(".weight"): shape for name, shape in base.shapes.items()}
    if not layers:
        return  # not fetched yet
    found, missing, rows = 0, "", resized_to(folder, base, where)
    for name, shape in tensor_shapes(folder, where).items():
        layer, _, part = name.removeprefix("base_model.model.").partition(".lora_")
        if part not in ("A.weight", "B.weight") or len(shape) != 2:
            continue
        # A file of the base may leave out the outermost module's name.
        own = layers.get(layer) or next(
            (sides for known, sides in layers.items() if layer.endswith(f".{known}")), None
        )
        if own is None:
            missing = missing or layer
            continue
        found += 1
        size = shape[1] if part.startswith("A") else shape[0]
        if size not in (*own, rows):
            raise ModelError(
                f"it was trained on another base: its {layer} has {size} numbers where the model's"
                f" is {' x '.join(map(str, own))}",
                where=where,
                fix="name the model it was trained from in `model:`",
            )
    if missing and not found:
        raise ModelError(
            f"it was trained on another base: the model has no layer {missing}",
            where=where,
            fix="name the model it was trained from in `model:`",
        )


def resized_to(folder: Path, base: ModelInfo, where: str) -> int | None:
    """Rows of the vocabulary that a checkpoint brings, where its base has another number."""
    embedding = [layer.d_in for layer in base.layers().values() if layer.kind == "embedding"]
    vocabulary = text_config(base.config).get("vocab_size")
    if vocabulary not in embedding:
        return None
    rows = vocabulary_rows(tensor_shapes(folder, where), base.layers(), vocabulary)
    return rows if rows != vocabulary else None


def require_language_model(folder: Path, where: str) -> None:
    """A classifier's or reward model's folder has the base's layers, and writes no answers.

    Raises:
        ModelError: by its config.json the folder holds such a model.
    """
    named = read_object(folder / "config.json", where).get("architectures") or []
    other = [name for name in named if str(name).endswith(_OTHER_HEADS)]
    if other:
        raise ModelError(
            f"{folder} holds a {other[0]}, which writes no answers",
            where=where,
            fix="name the checkpoint of a language model (...ForCausalLM)",
        )


def require_same_architecture(folder: Path, base: ModelInfo, where: str) -> None:
    """A whole model may have more tokens than its base, but no other layers.

    Raises:
        ModelError: a tensor has another shape than the base's, or none has its name.
    """
    own = tensor_shapes(folder, where)
    if not base.shapes:
        return
    common = own.keys() & base.shapes.keys()
    words = base.config.get("vocab_size")
    other = [
        n
        for n in sorted(common)
        if own[n] != base.shapes[n]
        and (base.shapes[n][:1] != (words,) or own[n][1:] != base.shapes[n][1:])
    ]
    if not common or other:
        told = f"its {other[0]} has another shape" if other else "no tensor has the same name"
        raise ModelError(
            f"it was not trained from this model: {told}",
            where=where,
            fix="name the model it was trained from in `model:`, or list it under `models:`",
        )
