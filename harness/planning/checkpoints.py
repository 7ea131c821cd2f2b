"""Checkpoints that were trained elsewhere: finds their files, checks them, plans their stage."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from harness.core import from_yaml, registry
from harness.core.errors import SuiteError
from harness.core.locate import locate
from harness.methods.base import Method
from harness.models.checkpoint import CheckpointInfo, resolve_checkpoint
from harness.models.files import ModelPlace
from harness.planning.sources import Sources
from harness.stages.checkpoint import Checkpoint
from harness.store.stage import Stage
from harness.variants.variant import Cell, Elsewhere, Merged, Variant


class Checkpoints:
    """The checkpoints that a suite names, each resolved once."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._found: dict[str, CheckpointInfo] = {}

    def described(self, variant: Variant) -> Variant:
        """The variant, its labels with the method that a checkpoint's files tell.

        Raises:
            SuiteError, ModelError: files that are missing, unsafe, of another method or base.
        """
        if variant.elsewhere is None:
            return variant
        labels = {**variant.labels, "method": self.method(variant.elsewhere).name}
        return replace(variant, labels=labels)

    def method(self, variant: Cell | Elsewhere) -> Method:
        """A variant's method; of one trained elsewhere, with its options, as its files tell it.

        Raises:
            SuiteError, ModelError: files that are missing, unsafe, of another method or base.
        """
        if isinstance(variant, Cell):
            return variant.method
        info = self._resolved(variant)
        where = f"{self.sources.file}: checkpoints.{variant.group}.method"
        declared = registry.find("method", info.method, where)
        fields = from_yaml.build_fields(declared, info.fields, f"{where} {info.method}")
        return cast(Method, fields)

    def stage(self, variant: Elsewhere) -> Stage:
        """The stage that checks the checkpoint. Other stages read it in the place of a training."""
        info, sources = self._resolved(variant), self.sources
        checkpoint = Checkpoint(
            model=sources.model_config(variant.model),
            device=sources.executor.device(),
            method=self.method(variant),
            content=info.identity["content"],
            place=self.place(variant),
        )
        return checkpoint.stage(resources=sources.suite.resources, label=variant.id)

    def own_tokenizer(self, variant: Elsewhere) -> bool:
        """True if the checkpoint's folder has a tokenizer; if not, the base's is used."""
        return (self._resolved(variant).folder / "tokenizer_config.json").is_file()

    def place(self, variant: Variant) -> ModelPlace:
        """Where a worker finds the model and, if the variant has one, the checkpoint."""
        place = self.sources.place(variant.model)
        if variant.elsewhere is None:
            return place
        folder = str(self._resolved(variant.elsewhere).folder)
        return place.model_copy(update={"checkpoint": folder})

    def refuse_merge(self, variant: Variant) -> None:
        """Refuse to merge an adapter of a method that cannot be merged.

        Raises:
            SuiteError: `evaluate_merged` asks for what cannot be.
        """
        if not isinstance(variant, Merged):
            return
        method = self.method(variant.of)
        reason = method.refusal("merge")
        if not method.adapts:
            reason = "it has no adapter, so there is nothing to merge"
        if reason is not None:
            raise SuiteError(
                f"{variant.of.group} cannot be merged: {reason}",
                where="evaluate_merged",
                fix="leave it out of the patterns",
            )

    def warnings(self) -> tuple[str, ...]:
        """Possible mistakes in the checkpoints that cannot be checked."""
        return tuple(text for info in self._found.values() for text in info.warnings)

    def _resolved(self, variant: Elsewhere) -> CheckpointInfo:
        name = variant.group
        if name not in self._found:
            spec, where = self.sources.suite.checkpoints[name], f"checkpoints.{name}"
            place = f"{self.sources.file}: {where}"
            folder = locate(spec.path, self.sources.file, f"{place}.path")
            if folder is None or not folder.is_dir():
                raise SuiteError(
                    f"there is no folder '{spec.path}'",
                    where=f"{place}.path",
                    fix="a checkpoint is a folder on this machine; download it first",
                )
            method = (
                from_yaml.split_spec(spec.method, "method", f"{place}.method")
                if spec.method is not None
                else None
            )
            base, digest = self.sources.model(variant.model), self.sources.store.file_digest
            self._found[name] = resolve_checkpoint(folder, base, method, digest, place)
        return self._found[name]
