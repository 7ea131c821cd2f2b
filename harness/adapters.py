"""Several adapters over one loaded base, which can be swapped in place or mixed in one batch.

    model = load_several(ref, {"summarise": "out/lora-a", "translate": "out/lora-b"})
    model.use("summarise")
    model.generate(["A long text ..."], max_new_tokens=64)
    model.generate(["A long text ...", "Guten Tag"], adapter_names=["summarise", "translate"])

Checkpoints are PEFT folders, trained here or elsewhere. The base's weights are in memory once,
however many adapters are loaded.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from harness.core import from_yaml, registry
from harness.core.errors import ModelError, unknown
from harness.data.encode import prompt_text_ids
from harness.data.render import chat_ids
from harness.inference.batches import pad_token
from harness.inference.generate import generate
from harness.methods._peft.shared import PeftMethod, head_of
from harness.methods._peft.soft_prompt_mixed import MixedPrompts, prompt_of
from harness.models.checkpoint import adapter_method, read_config, require_weights
from harness.models.files import ModelRef

BASE = "__base__"
"""PEFT's name for the base without an adapter."""
_PROMPTS = ("PROMPT_TUNING", "P_TUNING")


class Adapters:
    """Named adapters over one base; created by `load_several`."""

    def __init__(
        self,
        base: Any,
        tokenizer: Any,
        methods: Mapping[str, PeftMethod],
        kinds: Mapping[str, str],
        models: Mapping[str, Any],
    ) -> None:
        self.base, self.tokenizer = base, tokenizer
        self._methods, self._kinds, self._models = methods, kinds, models
        # PEFT accepts no dots in a name, and fails for an adapter that is named like its modules.
        self._keys = {BASE: BASE, **_keys(methods)}
        self.name = BASE

    @property
    def names(self) -> list[str]:
        """The names of the loaded adapters."""
        return list(self._methods)

    @property
    def model(self) -> Any:
        """PEFT's model with the active adapter, or the bare base if no adapter is active."""
        return self.base if self.name == BASE else self._models[self._kinds[self.name]]

    def use(self, name: str) -> None:
        """Make this adapter the active one; `__base__` for none.

        Raises:
            ModelError: there is no adapter of that name.
        """
        self._require(name)
        self.name = name
        if name != BASE:
            self.model.set_adapter(self._keys[name], inference_mode=True)

    def generate(
        self,
        prompts: Sequence[str | Sequence[Mapping[str, str]]],
        adapter_names: Sequence[str] | None = None,
        *,
        max_new_tokens: int = 128,
        until: Sequence[str] = (),
        thinking: Literal["auto", "strip", "keep"] = "auto",
        batch_tokens: int = 16384,
    ) -> list[str]:
        """Greedy answers, optionally with a separate adapter for each prompt.

        Args:
            prompts: plain text, or chats (lists of role and content) for the chat template.
            adapter_names: one for each prompt; default: the active adapter for all of them.
            until: stop strings.
            thinking: remove thinking from the answers or keep it (see
                harness.suite.suite.Generate).
            batch_tokens: tokens in one batch, including the answers.

        Raises:
            ModelError: the adapters cannot share a batch; the message gives the reason.
        """
        options = {
            "max_new_tokens": max_new_tokens, "until": list(until), "batch_tokens": batch_tokens,
            "thinking": thinking,
        }  # fmt: skip
        ids = [self._ids(prompt) for prompt in prompts]
        model, names, before = self._mixed(len(ids), adapter_names)
        try:
            answers = generate(
                model, self.tokenizer, ids, options, lambda *_: None, adapter_names=names,
                chats=any(not isinstance(prompt, str) for prompt in prompts),
            )  # fmt: skip
        finally:
            self.use(before)
        return [answer.text for answer in answers]

    def logits(
        self, prompts: Sequence[str | Sequence[Mapping[str, str]]],
        adapter_names: Sequence[str] | None = None,
    ) -> Any:  # fmt: skip
        """Logits of each prompt's next token in float32, of shape (prompts, vocabulary).

        Raises:
            ModelError: the adapters cannot share a batch; the message gives the reason.
        """
        rows = [torch.tensor(self._ids(prompt)) for prompt in prompts]
        pad = torch.nn.utils.rnn.pad_sequence
        ids = pad(rows, True, pad_token(self.tokenizer), "left").to(self.base.device)
        mask = pad([torch.ones_like(row) for row in rows], True, 0, "left").to(ids.device)
        model, names, before = self._mixed(len(rows), adapter_names)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        mixing = {} if names is None else {"adapter_names": list(names)}
        try:
            with torch.inference_mode():
                logits = model(
                    input_ids=ids, attention_mask=mask, position_ids=positions, **mixing
                ).logits
        finally:
            self.use(before)
        return logits[:, -1].float()

    def _mixed(
        self, rows: int, names: Sequence[str] | None
    ) -> tuple[Any, Sequence[str] | None, str]:
        """The model for these rows, the adapter of each row (None: the active one for all), and the
        adapter that was active before."""
        before = self.name
        if names is None:
            return self.model, None, before
        if len(names) != rows:
            raise ModelError(f"{len(names)} adapter_names for {rows} prompts")
        for name in dict.fromkeys(names):
            self._require(name)
        distinct = [name for name in dict.fromkeys(names) if name != BASE]
        if len(set(names)) == 1:  # all rows have the same adapter
            self.use(names[0])
            return self.model, None, before
        self._require_mixable(distinct)
        kind, keys = self._kinds[distinct[0]], [self._keys[name] for name in names]
        if kind not in (*_PROMPTS, "PREFIX_TUNING"):
            return self._models[kind], keys, before
        prompts = {
            self._keys[name]: prompt_of(self._models[self._kinds[name]], self._keys[name])
            for name in distinct
        }
        return MixedPrompts(self.base, prompts), keys, before

    def _require_mixable(self, names: Sequence[str]) -> None:
        fix = "answer these rows in a call of their own, after use(name)"
        for name in names:
            reason = self._methods[name].refusal("mixed_batch")
            if reason is not None:
                method = self._methods[name].name
                raise ModelError(f"'{name}' ({method}) cannot share a batch: {reason}", fix=fix)
        kinds = {_batch_kind(self._kinds[name]): name for name in names}
        if len(kinds) > 1:
            adapters = " and ".join(f"'{n}' ({self._methods[n].name})" for n in kinds.values())
            raise ModelError(
                f"{adapters} cannot share a batch: they change different parts of the base",
                fix=fix,
            )

    def _require(self, name: str) -> None:
        if name != BASE and name not in self._methods:
            raise ModelError(unknown("adapter", name, [*self._methods, BASE]))

    def _ids(self, prompt: str | Sequence[Mapping[str, str]]) -> list[int]:
        if isinstance(prompt, str):
            return prompt_text_ids(self.tokenizer, prompt)
        return chat_ids(self.tokenizer, prompt, add_generation_prompt=True)


def load_several(
    ref: ModelRef,
    checkpoints: Mapping[str, str | Path],
    methods: Mapping[str, str] | None = None,
) -> Adapters:
    """Load one base and the adapters of several checkpoints.

    Args:
        checkpoints: name -> PEFT folder of an adapter.
        methods: name -> method, needed only where adapter_config.json does not tell it: `qlora`
            for an adapter whose base should be in 4 bits.

    Raises:
        ModelError: a checkpoint cannot share a base, or needs another base than the others.
    """
    if not checkpoints:
        raise ModelError("no checkpoint is named", fix="give name -> folder")
    folders = {name: Path(folder) for name, folder in checkpoints.items()}
    loaded: dict[str, PeftMethod] = {}
    kinds: dict[str, str] = {}
    for name, folder in folders.items():
        if name == BASE:
            raise ModelError(f"'{BASE}' means no adapter", fix="give it another name")
        where = f"adapter '{name}'"
        config = read_config(folder, where)
        require_weights(folder, where)
        override = (methods or {}).get(name)
        method_name, fields = adapter_method(config, (override, {}) if override else None, where)
        method = from_yaml.build_fields(registry.find("method", method_name, where), fields, where)
        if not isinstance(method, PeftMethod) or (reason := method.refusal("swap")):
            reason = reason if isinstance(method, PeftMethod) else "it is not a PEFT adapter"
            raise ModelError(
                f"a {method_name} checkpoint cannot share a base: {reason}", where=where
            )
        loaded[name], kinds[name] = method, str(config["peft_type"]).upper()
    first = next(iter(loaded))
    for name, method in loaded.items():
        if type(method).load is not type(loaded[first]).load:
            raise ModelError(
                f"'{first}' ({loaded[first].name}) and '{name}' ({method.name}) need different"
                " bases: one in 4 bits, one unquantised",
                fix="load them separately, or set both to qlora in `methods`",
            )
        if head_of(folders[name]) != head_of(folders[first]):
            raise ModelError(f"'{first}' and '{name}' were trained with different heads")
    base = loaded[first].load(ref, head_of(folders[first]))
    models: dict[str, Any] = {}
    keys = _keys(loaded)
    for name, method in loaded.items():
        kind = kinds[name]
        model = models.get(kind) or _view(base)
        models[kind] = method.put_on(model, folders[name], keys[name])
    return Adapters(base, ref.tokenizer(), loaded, kinds, models)


def _keys(names: Iterable[str]) -> dict[str, str]:
    """Adapter name -> its name in PEFT."""
    return {name: f"adapter{number}" for number, name in enumerate(names)}


def _view(base: Any) -> Any:
    """A copy of the model with new modules and shared tensors.

    Adapters of different kinds replace modules, so each kind needs modules of its own.
    """
    shared: list[Any] = [*base.parameters(), *base.buffers()]
    shared += [s for m in base.modules() if (s := getattr(m, "quant_state", None)) is not None]
    return copy.deepcopy(base, {id(tensor): tensor for tensor in shared})


def _batch_kind(kind: str) -> str:
    """The group of a PEFT type: adapters of one group can share a batch."""
    return _PROMPTS[0] if kind in _PROMPTS else kind
