"""Base class of the methods that PEFT implements: configs, checkpoints, the off switch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import ModelError
from harness.methods._layers import loaded_layers
from harness.methods.base import Method
from harness.models.files import ModelInfo, ModelRef
from harness.models.layers import names_of, targeted, vocabulary_rows
from harness.models.resolve import tensor_shapes

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


class PeftMethod(Method):
    """A method with a PEFT adapter inside a frozen base; checkpoints are in PEFT's format."""

    def config(self, base: PreTrainedModel, also_train: tuple[str, ...]) -> PeftConfig:
        """PEFT's config for a new adapter on `base`."""
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
        # The model's tensors themselves, under the names that PEFT saves them by.
        for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items():
            if name in saved:
                tensor.copy_(saved[name])

    def load_trained(self, ref: ModelRef, checkpoint: Path) -> Any:
        return self.put_on(self.load(ref, head_of(checkpoint)), checkpoint)

    def put_on(self, model: Any, checkpoint: Path, name: str = "default") -> Any:
        """Load a trained adapter for inference.

        The first adapter stays active until `set_adapter` is called.

        Args:
            model: a bare base, or a PEFT model that has adapters of the same PEFT type.

        Raises:
            ModelError: the checkpoint needs another vocabulary than the adapters that are there.
        """
        from peft import PeftModel

        if isinstance(model, PeftModel):
            if _other_rows(model.get_base_model(), checkpoint) is not None:
                raise ModelError(
                    f"{checkpoint} brings another vocabulary, and cannot share a base",
                    fix="load it separately",
                )
            model.load_adapter(str(checkpoint), name, torch_device=str(model.device))
            return model.eval()
        _resize(model, checkpoint)
        return PeftModel.from_pretrained(model, checkpoint, adapter_name=name).eval()

    def brought(self, model: Any, checkpoint: Path) -> list[str]:
        return sorted(_names(checkpoint) & set(model.state_dict()))

    def unmatched(self, model: Any, ref: ModelRef, checkpoint: Path) -> tuple[list[str], list[str]]:
        from peft import get_peft_model_state_dict

        # PEFT may save the base's embeddings with the adapter.
        saved = _names(checkpoint) - set(self.brought(model, checkpoint))
        # The files should have the names under which PEFT would save this model.
        wanted = set(get_peft_model_state_dict(model, save_embedding_layers=False))
        return sorted(wanted - saved), sorted(saved - wanted)

    def merged(self, ref: ModelRef, checkpoint: Path) -> PreTrainedModel:
        if self.refusal("merge") is not None:
            return super().merged(ref, checkpoint)
        from peft import PeftModel

        # ref.load, not self.load: an adapter of a 4-bit base is merged into unquantised weights.
        base = ref.load(head_of(checkpoint))
        _resize(base, checkpoint)
        model = PeftModel.from_pretrained(base, checkpoint)
        merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)
        return merged.eval()

    def save(self, model: Any, folder: Path) -> None:
        # No method here changes the embeddings; by default PEFT would ask the hub whether the
        # vocabulary grew.
        model.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=False)
        in_order(folder / CONFIG)

    def switched_off(self, model: Any) -> Any:
        if "switched_off" in self.exceptions():
            return None
        return model.disable_adapter()


def _names(checkpoint: Path) -> set[str]:
    """Names of the tensors in a checkpoint's file."""
    from safetensors import safe_open

    with safe_open(checkpoint / WEIGHTS, framework="pt") as file:
        return set(file.keys())


def _other_rows(base: Any, checkpoint: Path) -> int | None:
    """Size of a checkpoint's vocabulary if the base has another size; else None."""
    rows = int(base.get_input_embeddings().weight.shape[0])
    files = tensor_shapes(checkpoint, str(checkpoint))
    saved_rows = vocabulary_rows(files, loaded_layers(base), rows)
    return saved_rows if saved_rows != rows else None


def _resize(base: Any, checkpoint: Path) -> None:
    """Give the base as many embeddings as the checkpoint has."""
    rows = _other_rows(base, checkpoint)
    if rows is not None:
        base.resize_token_embeddings(rows, mean_resizing=False)


def require_bare(base: Any, name: str) -> None:
    """Check that the base carries no adapter.

    Stacked adapters would train and count together, and PiSSA or OLoRA would decompose weights that
    are a residual already.

    Raises:
        ModelError: the base carries an adapter.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    carries = isinstance(base, PeftModel) or any(
        isinstance(module, BaseTunerLayer) for module in base.modules()
    )
    if carries:
        raise ModelError(
            f"the base for method '{name}' already carries an adapter",
            fix="load the base again, or merge the first adapter into it",
        )


def load_adapter(model: Any, checkpoint: Path, also_train: tuple[str, ...]) -> Any:
    """Load a checkpoint's adapter into a model that has a new adapter.

    Args:
        also_train: modules that the model trains in full and that the checkpoint lacks.

    Raises:
        ModelError: the checkpoint lacks tensors of the adapter, or has others.
    """
    from peft import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

    fresh = get_peft_model_state_dict(model, save_embedding_layers=False)
    saved = load_peft_weights(str(checkpoint))
    beside = {n: tensor for n, tensor in fresh.items() if set(n.split(".")) & set(also_train)}
    missing = sorted(fresh.keys() - saved.keys() - beside.keys())
    if missing or saved.keys() - fresh.keys():
        what = f"has no {missing[0]}" if missing else f"holds {min(saved.keys() - fresh.keys())}"
        raise ModelError(
            f"the checkpoint is of another adapter: it {what}",
            where=str(checkpoint),
            fix="resume with the options that it was trained with",
        )
    set_peft_model_state_dict(model, {**saved, **beside})
    return model


def task_of(base: Any) -> str:
    """PEFT's name of the task, derived from the class of the base."""
    scores = "SequenceClassification" in type(base).__name__
    return "SEQ_CLS" if scores else "CAUSAL_LM"


def head_of(checkpoint: Path) -> Any:
    """The head that a PEFT checkpoint was trained with: `lm` or `score`.

    Raises:
        ModelError: the folder holds no PEFT checkpoint.
    """
    path = checkpoint / CONFIG
    if not path.is_file():
        raise ModelError(
            f"{checkpoint} holds no {CONFIG}",
            fix="name a folder that PEFT's save_pretrained() wrote",
        )
    task = json.loads(path.read_text(encoding="utf-8")).get("task_type")
    return "score" if task == "SEQ_CLS" else "lm"


def unmatched_targets(option: str, names: str | Sequence[str], layers: Iterable[str]) -> str:
    """The error message for names that match no layer."""
    wanted = names if isinstance(names, str) else ", ".join(names)
    told = f"{option} '{wanted}' matches no layer of this model; it has {names_of(layers)}"
    if isinstance(names, str):
        told += f"; a text is a pattern of whole names, and a list has ends of them: `[{names}]`"
    return told


def idle_targets(names: str | Sequence[str] | None, info: ModelInfo) -> tuple[str, ...]:
    """A remark on each name of `target_modules` that no part of the model is called, as PEFT trains
    the other ones without a word; a list that serves several families may have such names."""
    layers = info.layers()
    if not layers or names is None or isinstance(names, str):
        return ()
    parts = [*layers, *(tensor.rpartition(".")[0] for tensor in info.shapes), *info.shapes]
    idle = [name for name in names if not any(targeted(part, [name]) for part in parts)]
    return tuple(unmatched_targets("target_modules", [name], layers) for name in idle)


def require_targets(method: Method, base: PreTrainedModel) -> None:
    """Check a loaded base; the plan cannot always check a model by its files, as on a hub.

    Raises:
        ModelError: the method cannot train this model.
    """
    reason = method.refuse_model(method.describe(base))
    if reason is not None:
        raise ModelError(f"method '{method.name}' cannot train this model: {reason}")


def in_order(config: Path) -> None:
    """Sort the lists of names in a config; PEFT writes sets in an order that varies by process."""
    fields = json.loads(config.read_text(encoding="utf-8"))
    for name, value in fields.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            fields[name] = sorted(value)
    config.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
