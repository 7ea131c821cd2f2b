"""The models and rows of a suite: each is found and identified once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import ModelError, SuiteError, refused, shortened, unknown
from harness.core.locate import locate
from harness.executors.base import Executor
from harness.models.files import ModelInfo, ModelPlace
from harness.models.generation_defaults import FILE, described
from harness.models.resolve import resolve_model, resolve_served
from harness.models.spec import ModelSpec
from harness.planning.gguf import resolve_gguf
from harness.stages._cost import Rates
from harness.stages.base import Known
from harness.stages.data import Data
from harness.store.stage import Stage
from harness.store.store import Store
from harness.suite.data import Split
from harness.suite.suite import Suite


class Sources:
    """A suite's models and data stages. `limit`: use only so many rows of every split."""

    def __init__(
        self, suite: Suite, file: Path, store: Store, executor: Executor, limit: int | None
    ) -> None:
        self.suite, self.file, self.store = suite, file, store
        self.executor, self.limit = executor, limit
        self.models: dict[str, ModelInfo] = {}
        self.templates: dict[str, str | None] = {}
        self.data: dict[tuple[str, str], Stage] = {}
        self.rates = Rates(store, executor.device())
        self._counts: dict[str, Mapping[str, Any]] = {}

    def model(self, name: str) -> ModelInfo:
        """The model's shapes and identity."""
        if name not in self.models:
            spec, where = self.suite.models[name], f"{self.file}: models.{name}"
            self.templates[name] = self._template(spec, where)
            if spec.endpoint is not None:
                self.models[name] = resolve_served(spec.endpoint)
            elif spec.from_gguf:
                self.models[name] = resolve_gguf(spec, self.file, self.store, where)
            else:
                folder = locate(spec.path, self.file, where)
                self.models[name] = resolve_model(spec, folder, self._digest(where), where)
        return self.models[name]

    def weights(self, name: str, use: str) -> ModelInfo:
        """The model, for a use that reads its weights.

        Args:
            use: what it is needed for, for the message.

        Raises:
            ModelError: it has none here: it is served elsewhere.
        """
        info = self.model(name)
        if info.endpoint is not None:
            raise ModelError(
                f"model '{name}' cannot be used {use}: {info.endpoint.unreadable}",
                where=f"{self.file}: models.{name}",
                fix="name a model whose files are here",
            )
        return info

    def _digest(self, where: str) -> Callable[[Path], str]:
        """Digests of files that a place in the suite names.

        Raises:
            HarnessError: a file cannot be read.
        """

        def digest(path: Path) -> str:
            try:
                return self.store.file_digest(path)
            except OSError as error:
                raise refused(error, where) or error from None

        return digest

    def _template(self, spec: ModelSpec, where: str) -> str | None:
        if spec.chat_template is None:
            return None
        path = locate(spec.chat_template, self.file, f"{where}.chat_template")
        if path is None or not path.is_file():
            message = f"'{shortened(spec.chat_template)}' is no file"
            raise SuiteError(message, where=f"{where}.chat_template", fix="name a Jinja file")
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            message = f"{path.name} is not UTF-8 text (byte {error.start})"
            raise SuiteError(message, where=f"{where}.chat_template") from None

    def model_config(self, name: str) -> dict[str, Any]:
        """The identity of the model, as it stands in the config of a stage."""
        spec, template = self.suite.models[name], self.templates[name]
        if spec.endpoint is not None:
            return dict(self.models[name].identity)
        return {
            **self.models[name].identity,
            "dtype": spec.dtype or self.executor.dtype(),
            "attn_implementation": spec.attn_implementation,
            "chat_template": template and hashlib.sha256(template.encode()).hexdigest(),
            **({"chat_template_kwargs": kwargs} if (kwargs := spec.chat_template_kwargs) else {}),
        }

    def place(self, name: str) -> ModelPlace:
        """Where a worker finds the model."""
        info, spec = self.models[name], self.suite.models[name]
        return ModelPlace(
            source=info.source,
            revision=info.revision,
            trust_remote_code=spec.trust_remote_code,
            chat_template=self.templates[name],
            endpoint=spec.endpoint,
        )

    def rows(self, entry: str, split: str, needed_by: str = "") -> Stage:
        """The data stage of a split.

        Raises:
            SuiteError: the suite does not have the split; `needed_by` says what needs it.
        """
        if (entry, split) not in self.data:
            spec: Split | None = getattr(self.suite.data[entry], split)
            where = f"{self.file}: data.{entry}.{split}"
            if spec is None:
                reason = f"; {needed_by}" if needed_by else ""
                raise SuiteError(f"this split is needed and not given{reason}", where=where)
            if spec.mixture:
                self.data[entry, split] = self._mixture(entry, split, spec, where)
                return self.data[entry, split]
            path = locate(spec.path, self.file, where)
            if path is not None and not path.is_file():
                what = "a folder" if path.is_dir() else "a device"
                raise SuiteError(f"'{spec.path}' is {what}, not a file of rows", where=where)
            located = spec.model_copy(
                update={"path": str(path or spec.path), **self._limited(spec)}
            )
            data = Data(
                split=located,
                sha256=None if path is None else self._digest(where)(path),
                place=where,
            )
            self.data[entry, split] = data.stage(
                resources=self.suite.resources, label=f"{entry}/{split}"
            )
        return self.data[entry, split]

    def _mixture(self, entry: str, split: str, spec: Split, where: str) -> Stage:
        """A data stage over other entries' data stages; each keeps its own filters and limit."""
        for name in spec.mixture:
            if name not in self.suite.data:
                message = unknown("data", name, self.suite.data, hint="the keys of `data:`")
                raise SuiteError(message, where=f"{where}.mixture")
            part: Split | None = getattr(self.suite.data[name], split)
            if part is not None and part.mixture:
                raise SuiteError(
                    f"'{name}' is a mixture itself", where=f"{where}.mixture", fix="name its parts"
                )
        data = Data(split=spec.model_copy(update=self._limited(spec)), place=where)
        return data.stage(
            {name: self.rows(name, split) for name in spec.mixture},
            resources=self.suite.resources,
            label=f"{entry}/{split}",
        )

    def _limited(self, spec: Split) -> dict[str, int]:
        """The limit to set in a split, if the run has one."""
        if self.limit is None:
            return {}
        return {"limit": min(self.limit, spec.limit or self.limit)}

    def known(self, model: str, rows: Stage, dtype: str = "", lengths: Sequence[int] = ()) -> Known:
        """What is known about a stage, to estimate its cost.

        Args:
            model: the entry of `models:` that the stage loads.
            rows: the stage whose rows it reads.
            dtype: the format of the model's weights; default: as the suite has it.
            lengths: tokens of each row, as far as they are measured.
        """
        info = self.model(model)
        dtype = dtype or self.suite.models[model].dtype or self.executor.dtype()
        return Known(self.rates, info, dtype, self.counts(rows), lengths)

    def warnings(self) -> tuple[str, ...]:
        """Rows that may change between runs, and settings in a model's files that are not used."""
        unpinned = {
            entry: stage.config["hub"]
            for (entry, _), stage in self.data.items()
            if stage.config.get("hub") and not stage.config.get("revision")
        }
        asks = {name: info.asks for name, info in self.models.items() if info.asks}
        left_out = tuple(
            f"models.{name}: its {FILE} asks for {described(asked)}; answers depend on the suite"
            " alone, so nothing of that is used"
            for name, asked in asks.items()
        )
        return left_out + tuple(
            f"data.{entry} is {name} as it stood when it was first read here: add `revision:`, so"
            " that others read the same rows"
            for entry, name in unpinned.items()
        )

    def counts(self, stage: Stage) -> Mapping[str, Any]:
        """The metrics of a data stage; empty until it has run."""
        if stage.key not in self._counts:
            record = self.store.record(stage)
            self._counts[stage.key] = record.metrics if record is not None and record.ok else {}
        return self._counts[stage.key]
