"""Two repairs of PEFT's soft-prompt models, as mixins for the model's class.

With them every trainer and generator can use the model without knowing its method.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.core.errors import ModelError

STATE = Path("resume") / "trainable_state.safetensors"
"""Path within a checkpoint's folder; a folder of its own, as only PEFT's export is published."""


def mix(model: Any, *repairs: type) -> Any:
    """Add mixins to the class of this model, in place."""
    kind = type(model)
    if repairs and not issubclass(kind, repairs):
        model.__class__ = type(kind.__name__, (*repairs, kind), {})
    return model


class KeepsPositions:
    """Keeps the caller's `position_ids`, shifted by the length of the prompt.

    PEFT drops them when the prompt is put before the embeddings. In a batch padded on the left, the
    padding between prompt and text then counts, and a row's answer depends on the other rows.
    """

    def _adjust_prompt_learning_kwargs(
        self, peft_config: Any, *, kwargs: dict[str, Any], **options: Any
    ) -> None:
        import torch

        positions = kwargs.pop("position_ids", None)
        adjust = super()._adjust_prompt_learning_kwargs  # type: ignore[misc]
        adjust(peft_config, kwargs=kwargs, **options)
        if positions is None:
            return
        length = peft_config.num_virtual_tokens
        cache = kwargs.get("past_key_values")
        if cache is not None and cache.get_seq_length():  # the prompt is in the cache already
            kwargs["position_ids"] = positions[:, -kwargs["input_ids"].shape[1] :] + length
            return
        prompt = torch.arange(length, device=positions.device).expand(positions.shape[0], -1)
        kwargs["position_ids"] = torch.cat((prompt, positions + length), dim=1)


class KeepsEncoder:
    """Saves the trainable tensors beside PEFT's export, and restores them from a checkpoint.

    PEFT exports the prompt that the encoder computed. When a trainer resumes, PEFT loads it into
    the encoder's input embedding and silently continues from another prompt.
    """

    def save_pretrained(self, save_directory: str, *args: Any, **options: Any) -> None:
        """Write PEFT's export, and `STATE` beside it."""
        import safetensors.torch
        import torch

        # A trainer saves in training mode, where dropout would change the exported prompt.
        encoder = self.prompt_encoder  # type: ignore[attr-defined]
        training = encoder.training
        encoder.eval()
        with torch.no_grad():
            super().save_pretrained(save_directory, *args, **options)  # type: ignore[misc]
        encoder.train(training)
        path = Path(save_directory) / STATE
        path.parent.mkdir(exist_ok=True)
        state = {name: tensor.contiguous() for name, tensor in _trained(self).items()}
        safetensors.torch.save_file(state, path)

    def load_adapter(self, model_id: str, adapter_name: str, *args: Any, **options: Any) -> Any:
        """Load `STATE` into an existing adapter; otherwise load as PEFT does.

        Raises:
            ModelError: the checkpoint was trained with other options.
        """
        import safetensors.torch
        import torch

        path = Path(model_id) / STATE
        trained = _trained(self)
        if adapter_name not in self.peft_config or not path.is_file() or not trained:  # type: ignore[attr-defined]
            return super().load_adapter(model_id, adapter_name, *args, **options)  # type: ignore[misc]
        saved = safetensors.torch.load_file(path)
        shapes = {name: tuple(tensor.shape) for name, tensor in trained.items()}
        if {name: tuple(tensor.shape) for name, tensor in saved.items()} != shapes:
            raise ModelError(
                f"{path} holds other tensors than the model trains",
                fix="give the method the options that the checkpoint was trained with",
            )
        with torch.no_grad():
            for name, tensor in trained.items():
                tensor.copy_(saved[name])
        return None


def _trained(model: Any) -> dict[str, Any]:
    return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
