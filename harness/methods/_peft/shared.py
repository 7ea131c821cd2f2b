"""What the methods that PEFT implements share: configs, checkpoints, the off switch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import ModelError
from harness.methods._layers import loaded_layers
from harness.methods.base import Method
from harness.models.files import ModelRef, tensor_shapes
from harness.models.layers import names_of, vocabulary_rows

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


class PeftMethod(Method):
    """An adapter of PEFT's inside a frozen base; checkpoints are in PEFT's own format."""

    def config(self, base: PreTrainedModel, also_train: tuple[str, ...]) -> PeftConfig:
        """PEFT's config of a fresh adapter on `base`."""
        raise NotImplementedError

    def attach(self, base: PreTrainedModel, also_train: tuple[str, ...] = ()) -> Any:
        from peft import get_peft_model

        require_bare(base, self.name)
        require_targets(self, base)
        return get_peft_model(base, self.config(base, also_train))

    def resume(
        self, base: PreTrainedModel, checkpoint: Path, also_train: tuple[str, ...] = ()
    ) -> Any:
        from peft import PeftModel

        require_bare(base, self.name)
        if also_train:
            return load_adapter(self.attach(base, also_train), checkpoint, also_train)
        return PeftModel.from_pretrained(base, checkpoint, is_trainable=True)

    def refill(self, model: Any, checkpoint: Path, also_train: tuple[str, ...] = ()) -> None:
        from peft import get_peft_model_state_dict, load_peft_weights

        saved = load_peft_weights(str(checkpoint))
        # The model's own tensors, under the names that PEFT saves them by.
        for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items():
            if name in saved:
                tensor.copy_(saved[name])

    def load_trained(self, ref: ModelRef, checkpoint: Path) -> Any:
        return self.put_on(self.load(ref, head_of(checkpoint)), checkpoint)

    def put_on(self, model: Any, checkpoint: Path, name: str = "default") -> Any:
        """A trained adapter, for inference: on a bare base, or beside others of PEFT's same type.

        Of several the first one stays active until `set_adapter`.
        """
        from peft import PeftModel

        if isinstance(model, PeftModel):
            if _other_rows(model.get_base_model(), checkpoint) is not None:
                raise ModelError(
                    f"{checkpoint} brings another vocabulary, and cannot share a base",
                    fix="load it apart from the others",
                )
            model.load_adapter(str(checkpoint), name, torch_device=str(model.device))
            return model.eval()
        _resize(model, checkpoint)
        return PeftModel.from_pretrained(model, checkpoint, adapter_name=name).eval()

    def brought(self, model: Any, checkpoint: Path) -> list[str]:
        return sorted(_names(checkpoint) & set(model.state_dict()))

    def unmatched(self, model: Any, ref: ModelRef, checkpoint: Path) -> tuple[list[str], list[str]]:
        from peft import get_peft_model_state_dict

        # PEFT may save the embeddings' own weights beside the adapter.
        given = _names(checkpoint) - set(self.brought(model, checkpoint))
        # PEFT's own names of what it would save: those that the files should have.
        wanted = set(get_peft_model_state_dict(model, save_embedding_layers=False))
        return sorted(wanted - given), sorted(given - wanted)

    def merged(self, ref: ModelRef, checkpoint: Path) -> PreTrainedModel:
        if self.refusal("merge") is not None:
            return super().merged(ref, checkpoint)
        from peft import PeftModel

        # ref.load, not self.load: an adapter of a 4-bit base is merged into the whole weights.
        base = ref.load(head_of(checkpoint))
        _resize(base, checkpoint)
        model = PeftModel.from_pretrained(base, checkpoint)
        merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)
        return merged.eval()

    def save(self, model: Any, folder: Path) -> None:
        # No method here touches the embeddings; without this PEFT asks the hub whether the
        # vocabulary grew.
        model.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=False)
        in_order(folder / CONFIG)

    def switched_off(self, model: Any) -> Any:
        if "switched_off" in self.exceptions():
            return None
        return model.disable_adapter()


def _names(checkpoint: Path) -> set[str]:
    """The tensors in a checkpoint's file."""
    from safetensors import safe_open

    with safe_open(checkpoint / WEIGHTS, framework="pt") as file:
        return set(file.keys())


def _other_rows(base: Any, checkpoint: Path) -> int | None:
    """Rows of the vocabulary that a checkpoint brings, where the base has another number."""
    rows = int(base.get_input_embeddings().weight.shape[0])
    files = tensor_shapes(checkpoint, str(checkpoint))
    found = vocabulary_rows(files, loaded_layers(base), rows)
    return found if found != rows else None


def _resize(base: Any, checkpoint: Path) -> None:
    """Give the base as many rows of embeddings as the checkpoint brings."""
    rows = _other_rows(base, checkpoint)
    if rows is not None:
        base.resize_token_embeddings(rows, mean_resizing=False)


def require_bare(base: Any, name: str) -> None:
    """Refuse a base that carries an adapter already.

    Raises:
        ModelError: stacked adapters would train and count together, and PiSSA or OLoRA would
            decompose weights that are a residual already.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    carries = isinstance(base, PeftModel) or any(
        isinstance(module, BaseTunerLayer) for module in base.modules()
    )
    if carries:
        raise ModelError(
            f"the base that '{name}' is to be attached to carries an adapter already",
            fix="load the base again, or merge the first adapter into it",
        )


def load_adapter(model: Any, checkpoint: Path, also_train: tuple[str, ...]) -> Any:
    """The checkpoint's adapter into a model that has a fresh one, and modules trained beside it.

    Raises:
        ModelError: it does not fill the adapter, or holds what has no place there.
    """
    from peft import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    found = load_peft_weights(str(checkpoint))
    beside = {n: tensor for n, tensor in own.items() if set(n.split(".")) & set(also_train)}
    missing = sorted(own.keys() - found.keys() - beside.keys())
    if missing or found.keys() - own.keys():
        what = f"has no {missing[0]}" if missing else f"holds {min(found.keys() - own.keys())}"
        raise ModelError(
            f"the checkpoint is of another adapter: it {what}",
            where=str(checkpoint),
            fix="resume with the options that it was trained with",
        )
    set_peft_model_state_dict(model, {**found, **beside})
    return model


def task_of(base: Any) -> str:
    """PEFT's name of the task, from the class of the base."""
    scores = "SequenceClassification" in type(base).__name__
    return "SEQ_CLS" if scores else "CAUSAL_LM"


def head_of(checkpoint: Path) -> Any:
    """The head a PEFT checkpoint was trained with: `lm` or `score`.

    Raises:
        ModelError: no PEFT checkpoint there.
    """
    path = checkpoint / CONFIG
    if not path.is_file():
        raise ModelError(
            f"{checkpoint} holds no {CONFIG}",
            fix="name a folder that PEFT's save_pretrained() wrote",
        )
    task = json.loads(path.read_text(encoding="utf-8")).get("task_type")
    return "score" if task == "SEQ_CLS" else "lm"


def unmatched_targets(option: str, given: str | Sequence[str], layers: Iterable[str]) -> str:
    """What to say of names that match nothing."""
    told = given if isinstance(given, str) else ", ".join(given)
    return f"{option} '{told}' matches no layer of this model; it has {names_of(layers)}"


def require_targets(method: Method, base: PreTrainedModel) -> None:
    """What `plan` could not tell from the files, as those of a hub's model.

    Raises:
        ModelError: the model is none that the method can train.
    """
    reason = method.refuse_model(method.describe(base))
    if reason is not None:
        raise ModelError(f"method '{method.name}' cannot train this model: {reason}")


def in_order(config: Path) -> None:
    """PEFT writes sets of names in an order that differs from process to process."""
    fields = json.loads(config.read_text(encoding="utf-8"))
    for name, value in fields.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            fields[name] = sorted(value)
    config.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
