"""Two repairs of PEFT's soft-prompt models, as classes mixed into the model's own.

Both hold for whatever trainer or generator uses the model, which knows nothing of its method.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.core.errors import ModelError

STATE = Path("resume") / "trainable_state.safetensors"
"""Under a checkpoint's folder; in one of its own, as only PEFT's export is shipped."""


def mix(model: Any, *repairs: type) -> Any:
    """The same model, of a class with these repairs."""
    kind = type(model)
    if repairs and not issubclass(kind, repairs):
        model.__class__ = type(kind.__name__, (*repairs, kind), {})
    return model


class KeepsPositions:
    """Positions that are given are kept, moved behind the prompt.

    PEFT drops them where the prompt is a row's first embeddings. In a batch padded on the left, the
    padding then stands between prompt and text, and a row's answer depends on its neighbours.
    """

    def _adjust_prompt_learning_kwargs(
        self, peft_config: Any, *, kwargs: dict[str, Any], **options: Any
    ) -> None:
        import torch

        given = kwargs.pop("position_ids", None)
        adjust = super()._adjust_prompt_learning_kwargs  # type: ignore[misc]
        adjust(peft_config, kwargs=kwargs, **options)
        if given is None:
            return
        length = peft_config.num_virtual_tokens
        cache = kwargs.get("past_key_values")
        if cache is not None and cache.get_seq_length():  # the prompt is in the cache already
            kwargs["position_ids"] = given[:, -kwargs["input_ids"].shape[1] :] + length
            return
        prompt = torch.arange(length, device=given.device).expand(given.shape[0], -1)
        kwargs["position_ids"] = torch.cat((prompt, given + length), dim=1)


class KeepsEncoder:
    """Checkpoints hold what trains beside PEFT's export, and loading one gives it back.

    PEFT exports the prompt that an encoder made. Loading that into the encoder's own embedding, as
    PEFT does when a trainer resumes, goes on from another prompt without a word.
    """

    def save_pretrained(self, save_directory: str, *args: Any, **options: Any) -> None:
        """PEFT's export, and `STATE` beside it."""
        import safetensors.torch
        import torch

        # A trainer saves in training mode, in which dropout would go into the exported prompt.
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
        """`STATE` into an adapter that is there; else as PEFT does.

        Raises:
            ModelError: the checkpoint was trained with other options.
        """
        import safetensors.torch
        import torch

        path = Path(model_id) / STATE
        own = _trained(self)
        if adapter_name not in self.peft_config or not path.is_file() or not own:  # type: ignore[attr-defined]
            return super().load_adapter(model_id, adapter_name, *args, **options)  # type: ignore[misc]
        found = safetensors.torch.load_file(path)
        shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
        if {name: tuple(tensor.shape) for name, tensor in found.items()} != shapes:
            raise ModelError(
                f"{path} holds other tensors than the model trains",
                fix="give the method the options that the checkpoint was trained with",
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(found[name])
        return None


def _trained(model: Any) -> dict[str, Any]:
    return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
