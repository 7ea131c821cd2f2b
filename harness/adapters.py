"""Several adapters of different tasks over one loaded base: swapped in place, mixed in one batch.

    model = load_several(ref, {"summarise": "out/lora-a", "translate": "out/lora-b"})
    model.use("summarise")
    model.generate(["A long text ..."], max_new_tokens=64)
    model.generate(["A long text ...", "Guten Tag"], adapter_names=["summarise", "translate"])

Checkpoints are PEFT's own folders, trained here or elsewhere. The base's weights are in memory
once, whatever is loaded over them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from harness.core import component
from harness.core.errors import ModelError, unknown
from harness.data.encode import prompt_text_ids
from harness.data.render import chat_ids
from harness.inference.batches import pad_token
from harness.inference.generate import generate
from harness.methods._peft.shared import PeftMethod, head_of
from harness.methods._peft.soft_prompt_mixed import MixedPrompts, prompt_of
from harness.models.checkpoint import read_config, require_weights, told_by
from harness.models.files import ModelRef

BASE = "__base__"
"""The name of no adapter: the base itself. PEFT's own."""
_PROMPTS = ("PROMPT_TUNING", "P_TUNING")


class Adapters:
    """Adapters by name over one base; made by `load_several`."""

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
        # PEFT takes no dots in a name, and loads nothing into an adapter called like its own parts.
        self._keys = {BASE: BASE, **_keys(methods)}
        self.name = BASE

    @property
    def names(self) -> list[str]:
        """The adapters that are loaded."""
        return list(self._methods)

    @property
    def model(self) -> Any:
        """PEFT's model with the adapter in use; the bare base where none is."""
        return self.base if self.name == BASE else self._models[self._kinds[self.name]]

    def use(self, name: str) -> None:
        """Answer with this adapter from now on; `__base__` for none.

        Raises:
            ModelError: no adapter of that name.
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
        """Greedy answers, each row's with its own adapter where they are named.

        Args:
            prompts: plain text, or chats (lists of role and content) for the chat template.
            adapter_names: one for each prompt; default: the adapter in use for all of them.
            until: stop strings. batch_tokens: of a batch, answers included.
            thinking: take it out of the answers, or keep it (see harness.suite.suite.Generate).

        Raises:
            ModelError: adapters that cannot share a batch, with the reason.
        """
        options = {
            "max_new_tokens": max_new_tokens, "until": list(until), "batch_tokens": batch_tokens,
            "thinking": thinking,
        }  # fmt: skip
        ids = [self._ids(prompt) for prompt in prompts]
        model, names, before = self._mixed(len(ids), adapter_names)
        try:
            found = generate(
                model, self.tokenizer, ids, options, lambda *_: None, adapter_names=names,
                chats=any(not isinstance(prompt, str) for prompt in prompts),
            )  # fmt: skip
        finally:
            self.use(before)
        return [answer.text for answer in found]

    def logits(
        self, prompts: Sequence[str | Sequence[Mapping[str, str]]],
        adapter_names: Sequence[str] | None = None,
    ) -> Any:  # fmt: skip
        """Logits of each prompt's next token, float32; shape (prompts, vocabulary).

        Raises:
            ModelError: adapters that cannot share a batch, with the reason.
        """
        rows = [torch.tensor(self._ids(prompt)) for prompt in prompts]
        pad = torch.nn.utils.rnn.pad_sequence
        ids = pad(rows, True, pad_token(self.tokenizer), "left").to(self.base.device)
        mask = pad([torch.ones_like(row) for row in rows], True, 0, "left").to(ids.device)
        model, names, before = self._mixed(len(rows), adapter_names)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        given = {} if names is None else {"adapter_names": list(names)}
        try:
            with torch.inference_mode():
                found = model(
                    input_ids=ids, attention_mask=mask, position_ids=positions, **given
                ).logits
        finally:
            self.use(before)
        return found[:, -1].float()

    def _mixed(
        self, rows: int, names: Sequence[str] | None
    ) -> tuple[Any, Sequence[str] | None, str]:
        """The model for these rows, each row's adapter (None: the one active), and the one in use
        until now."""
        before = self.name
        if names is None:
            return self.model, None, before
        if len(names) != rows:
            raise ModelError(f"{len(names)} adapter_names for {rows} prompts")
        for name in dict.fromkeys(names):
            self._require(name)
        distinct = [name for name in dict.fromkeys(names) if name != BASE]
        if len(set(names)) == 1:  # nothing is mixed
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
        fix = "answer these rows apart from the others, after use(name)"
        for name in names:
            reason = self._methods[name].refusal("mixed_batch")
            if reason is not None:
                method = self._methods[name].name
                raise ModelError(f"'{name}' ({method}) cannot share a batch: {reason}", fix=fix)
        kinds = {_batch_kind(self._kinds[name]): name for name in names}
        if len(kinds) > 1:
            told = " and ".join(f"'{n}' ({self._methods[n].name})" for n in kinds.values())
            raise ModelError(
                f"{told} cannot share a batch: they change different places of the base", fix=fix
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
    """Load one base, and every checkpoint's adapter over it.

    Args:
        checkpoints: name -> PEFT's folder of an adapter.
        methods: name -> method, where adapter_config.json does not tell it: `qlora` for adapters
            whose base is to be in 4 bits.

    Raises:
        ModelError: a checkpoint that cannot share a base, or needs another one than the others.
    """
    if not checkpoints:
        raise ModelError("no checkpoint is named", fix="give name -> folder")
    folders = {name: Path(folder) for name, folder in checkpoints.items()}
    found: dict[str, PeftMethod] = {}
    kinds: dict[str, str] = {}
    for name, folder in folders.items():
        if name == BASE:
            raise ModelError(f"'{BASE}' means no adapter", fix="give it another name")
        where = f"adapter '{name}'"
        config = read_config(folder, where)
        require_weights(folder, where)
        given = (methods or {}).get(name)
        told, fields = told_by(config, (given, {}) if given else None, where)
        method = component.build_fields(component.find("method", told, where), fields, where)
        if not isinstance(method, PeftMethod) or (reason := method.refusal("swap")):
            reason = reason if isinstance(method, PeftMethod) else "it is no adapter of PEFT's"
            raise ModelError(f"a {told} checkpoint cannot share a base: {reason}", where=where)
        found[name], kinds[name] = method, str(config["peft_type"]).upper()
    first = next(iter(found))
    for name, method in found.items():
        if type(method).load is not type(found[first]).load:
            raise ModelError(
                f"'{first}' ({found[first].name}) and '{name}' ({method.name}) need other bases:"
                " one in 4 bits, one whole",
                fix="load them apart, or say in `methods` that both are qlora",
            )
        if head_of(folders[name]) != head_of(folders[first]):
            raise ModelError(f"'{first}' and '{name}' were trained with different heads")
    base = found[first].load(ref, head_of(folders[first]))
    models: dict[str, Any] = {}
    keys = _keys(found)
    for name, method in found.items():
        kind = kinds[name]
        model = models.get(kind) or _view(base)
        models[kind] = method.put_on(model, folders[name], keys[name])
    return Adapters(base, ref.tokenizer(), found, kinds, models)


def _keys(names: Iterable[str]) -> dict[str, str]:
    """What PEFT calls each adapter."""
    return {name: f"adapter{number}" for number, name in enumerate(names)}


def _view(base: Any) -> Any:
    """The same model once more, its modules new and its tensors shared, so that adapters of
    different kinds change modules without meeting."""
    shared: list[Any] = [*base.parameters(), *base.buffers()]
    shared += [s for m in base.modules() if (s := getattr(m, "quant_state", None)) is not None]
    return copy.deepcopy(base, {id(tensor): tensor for tensor in shared})


def _batch_kind(kind: str) -> str:
    """Kinds that can share a batch have one name."""
    return _PROMPTS[0] if kind in _PROMPTS else kind
