"""Checks whether a checkpoint can have been trained from the model that it is put on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.core.errors import ModelError
from harness.models.checks import text_config
from harness.models.files import ModelInfo
from harness.models.layers import vocabulary_rows
from harness.models.resolve import tensor_shapes

_OTHER_HEADS = (
    "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM",
)  # fmt: skip


def read_object(path: Path, where: str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelError: the file does not hold a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}", where=where) from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} is no JSON object", where=where)
    return content


def require_fitting_layers(folder: Path, base: ModelInfo, where: str) -> None:
    """Check that an adapter fits its base: low-rank matrices show the sizes of their layers.

    Raises:
        ModelError: the base has other layers.
    """
    layers = {name.removesuffix(".weight"): shape for name, shape in base.shapes.items()}
    if not layers:
        return  # the base is not fetched yet
    fitting, missing, rows = 0, "", resized_to(folder, base, where)
    for name, shape in tensor_shapes(folder, where).items():
        layer, _, part = name.removeprefix("base_model.model.").partition(".lora_")
        if part not in ("A.weight", "B.weight") or len(shape) != 2:
            continue
        # The base's files may leave out the name of the outermost module.
        sides = layers.get(layer) or next(
            (sides for known, sides in layers.items() if layer.endswith(f".{known}")), None
        )
        if sides is None:
            missing = missing or layer
            continue
        fitting += 1
        size = shape[1] if part.startswith("A") else shape[0]
        if size not in (*sides, rows):
            raise ModelError(
                f"it was trained on another base: its {layer} has {size} numbers where the model's"
                f" is {' x '.join(map(str, sides))}",
                where=where,
                fix="name the model it was trained from in `model:`",
            )
    if missing and not fitting:
        raise ModelError(
            f"it was trained on another base: the model has no layer {missing}",
            where=where,
            fix="name the model it was trained from in `model:`",
        )


def resized_to(folder: Path, base: ModelInfo, where: str) -> int | None:
    """The number of vocabulary rows of a checkpoint, if it differs from its base's; else None."""
    embedding = [layer.d_in for layer in base.layers().values() if layer.kind == "embedding"]
    vocabulary = text_config(base.config).get("vocab_size")
    if vocabulary not in embedding:
        return None
    rows = vocabulary_rows(tensor_shapes(folder, where), base.layers(), vocabulary)
    return rows if rows != vocabulary else None


def require_language_model(folder: Path, where: str) -> None:
    """Check that a folder holds a language model, and not a classifier or reward model, whose
    layers are the same.

    Raises:
        ModelError: its config.json names another kind of model.
    """
    named = read_object(folder / "config.json", where).get("architectures") or []
    other = [name for name in named if str(name).endswith(_OTHER_HEADS)]
    if other:
        raise ModelError(
            f"{folder} holds a {other[0]}, which generates no answers",
            where=where,
            fix="name the checkpoint of a language model (...ForCausalLM)",
        )


def require_same_architecture(folder: Path, base: ModelInfo, where: str) -> None:
    """Check that a whole model has the layers of its base. Its vocabulary may be larger.

    Raises:
        ModelError: a tensor's shape differs from the base's, or no tensor has the same name.
    """
    shapes = tensor_shapes(folder, where)
    if not base.shapes:
        return
    common = shapes.keys() & base.shapes.keys()
    words = base.config.get("vocab_size")
    other = [
        n
        for n in sorted(common)
        if shapes[n] != base.shapes[n]
        and (base.shapes[n][:1] != (words,) or shapes[n][1:] != base.shapes[n][1:])
    ]
    if not common or other:
        difference = f"its {other[0]} has another shape" if other else "no tensor has the same name"
        raise ModelError(
            f"it was not trained from this model: {difference}",
            where=where,
            fix="name the model it was trained from in `model:`, or list it under `models:`",
        )
