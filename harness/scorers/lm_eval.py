"""Benchmark tasks of lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, field_validator, model_validator

from harness.core.component import AddedLater, NotHashed
from harness.data.preference_rule import NAMED
from harness.scorers import _lm_eval_checks as checks
from harness.scorers._asks import Outside
from harness.scorers._lm_eval_index import Index, metrics_of
from harness.scorers._lm_eval_names import resolved_tasks, task_files
from harness.scorers._lm_eval_options import options_of
from harness.scorers.base import Asked, Metric, ScoreJob, Scorer, Subject

INCLUDE, FILE, DATA, REQUESTS = "include_path", "task_file", "datasets_path", "requests"

_ELSEWHERE = {
    "model": "name the model under `models:`",
    "model_args": "write the model's options under `models:`",
    "batch_size": "batches hold a number of tokens here: `batch_tokens`",
    "max_batch_size": "batches hold a number of tokens here: `batch_tokens`",
    "device": "the executor chooses it: `executor: {local: {device: cuda}}`",
    "log_samples": "every example's row is kept, and samples_*.jsonl are always written",
    "output_path": "results_*.json and samples_*.jsonl lie in the folder of the stage",
    "confirm_run_unsafe_code": "it is called `allow_code_execution` here",
    "use_cache": "what is finished is kept, and not run again",
    "cache_requests": "requests are kept, and not built again",
    "samples": "use `limit`, or choose rows by `process_docs` in a task file of your own",
    "predict_only": "answers are always kept, in samples_*.jsonl, and scored too",
    "bootstrap_iters": "the report has intervals of every metric that is made of single examples",
    "check_integrity": "`harness plan` checks tasks",
    "write_out": "every prompt is in samples_*.jsonl",
    "trust_remote_code": "name it with the model under `models:`",
    "fewshot_random_seed": "it is called `fewshot_seed` here",
    "seed": "only worked examples are drawn: `fewshot_seed`",
}
"""Options of lm_eval's command line -> what there is in their place."""


class LmEval(Scorer):
    """Benchmark tasks of lm-evaluation-harness (Gao et al., github.com/EleutherAI/
    lm-evaluation-harness): its task code, prompts, filters and metrics over our own inference
    engine, for every variant alike.

    Each task, group or tag is a set of its own beside the suite's data: a stage, and columns such
    as `acc` on `arc_challenge`. A group's examples are clustered by its tasks (MMLU's subjects).
    Metrics have lm-eval's names, with the filter where there are several
    (`exact_match,strict-match`); each example's values are kept, so that intervals, paired
    differences and `forgetting: true` work as on the suite's own data.

    A task's YAML may name Python functions (`!function`), which run here: only those of lm-eval
    itself and of the folder that `include_path` names.
    """

    VERSION = 1

    tasks: list[str] = Field(min_length=1)
    """What `lm_eval --tasks` takes, as a list or one text with commas: names of tasks, groups and
    tags (`harness list tasks`), patterns of names (`mmlu_*`), task files (`my/task.yaml`) and
    folders of them. The functions that a task file names are run."""
    num_fewshot: int | None = Field(None, ge=0)
    """Worked examples before each question; default: the task's own number. As in lm-eval, a task
    that sets 0 itself keeps it."""
    limit: Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0)] | None = None
    """Score the first so many examples of each task; below 1, this share of them."""
    apply_chat_template: bool = False
    """Write each request as a user's turn by the model's chat template."""
    fewshot_as_multiturn: bool | None = None
    """Write worked examples as turns of a chat; default: where `apply_chat_template` is on."""
    system_instruction: str | None = None
    """A system prompt before each request."""
    gen_kwargs: dict[str, Any] = {}
    """Changes to a task's `generation_kwargs`, such as `{max_gen_toks: 64}`, or as text, such as
    `max_gen_toks=64,temperature=0`."""
    fewshot_seed: int = Field(1234, ge=0)
    """Seed by which worked examples are drawn; lm-eval's own default."""
    metadata: Annotated[dict[str, Any], AddedLater] = {}
    """What a task's own function makes its rows by, such as `{max_seq_lengths: [4096]}`, or as
    text; it stands in each task's `metadata` too."""
    include_path: Annotated[str | None, NotHashed] = None
    """A folder of task YAMLs, searched before lm-eval's own; its content is part of the identity,
    and its Python code is run."""
    files: Annotated[dict[str, str], NotHashed] = {}
    """Task or group -> its file, of those that are no names of lm-eval or `include_path`. What
    `tasks` names by a file or folder is put here. The content of the files is part of the
    identity, with what they include and their functions, as far as these lie in their folder, and
    with the files of their rows."""
    datasets: Annotated[dict[str, str], NotHashed] = {}
    """Data set on the hub -> `FILE.py:FUNCTION`, which returns its splits (name -> list of
    rows) in the place of the hub. It takes the folder that `datasets_path` names and the name of a
    configuration (a subject of MMLU). Its code is run."""
    datasets_path: Annotated[str | None, NotHashed] = None
    """A folder of files for these functions; its content is part of the identity."""
    allow_code_execution: bool = False
    """Run the programs that the model writes, for tasks such as humaneval: inside bubblewrap,
    without network, within limits of time and memory."""
    batch_tokens: Annotated[int, NotHashed] = Field(4096, gt=0)
    """Tokens of a batch; more is faster where there is memory for it."""

    _scores: Any = PrivateAttr(None)
    _about: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _refuse_options(cls, fields: Any) -> Any:
        """Options of lm_eval's command line that have another place here."""
        for name in _ELSEWHERE.keys() & fields.keys() if isinstance(fields, Mapping) else ():
            raise ValueError(f"{name}: {_ELSEWHERE[name]}")
        return fields

    @field_validator("tasks", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list):
            return listed
        parts = [each.split(",") if isinstance(each, str) else [each] for each in listed]
        names = [each.strip() if isinstance(each, str) else each for part in parts for each in part]
        return [name for name in names if name != ""]

    @field_validator("limit")
    @classmethod
    def _counted(cls, value: int | float | None) -> int | float | None:
        if value is None or value < 1:
            return value
        if int(value) != value:
            raise ValueError(f"{value} is neither a number of examples nor a share below 1")
        return int(value)

    @field_validator("apply_chat_template", mode="before")
    @classmethod
    def _one_template(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(
                f"'{value}' is no template here: write true, and give the model its"
                " `chat_template: FILE` under `models:`"
            )
        return value

    @field_validator("gen_kwargs", "metadata", mode="before")
    @classmethod
    def _as_mapping(cls, value: Any) -> Any:
        return options_of(value) if isinstance(value, str) else value

    @field_validator("datasets")
    @classmethod
    def _functions(cls, value: dict[str, str]) -> dict[str, str]:
        import re

        for name, function in value.items():
            if not re.fullmatch(NAMED, function):
                raise ValueError(f"{name}: '{function}' is not FILE.py:FUNCTION")
        return value

    @model_validator(mode="after")
    def _goes_together(self) -> LmEval:
        if self.data is not None:
            raise ValueError("data: its tasks bring their own examples; leave `data` out")
        if self.fewshot_as_multiturn and not self.apply_chat_template:
            raise ValueError("fewshot_as_multiturn: true needs apply_chat_template: true")
        return self

    def identity(self) -> dict[str, Any]:
        # What stands in the hub's place is told by its content, under the names it is asked for by.
        local = sorted(self.datasets)
        return {**super().identity(), **({"local_datasets": local} if local else {})}

    def runs(self) -> tuple[str, ...]:
        places = [f"tasks of {self.include_path}"] if self.include_path else []
        places += [f"the task file {file}" for file in self.files.values()]
        places += [f"{function}, rows of {name}" for name, function in self.datasets.items()]
        programs = ["programs that the model writes"] if self.allow_code_execution else []
        return (*places, *programs)

    def sets(self) -> Mapping[str, Scorer]:
        return {task: self.model_copy(update=self._only(task)) for task in self.tasks}

    def _only(self, task: str) -> dict[str, Any]:
        files = {task: self.files[task]} if task in self.files else {}
        return {"tasks": [task], "files": files}

    def limited(self, rows: int) -> Scorer:
        asked = rows if self.limit is None or self.limit < 1 else self.limit
        return self.model_copy(update={"limit": min(rows, asked)})

    def asks(self, of: Subject) -> Mapping[str, Asked]:
        tasks: dict[str, Outside] = {
            f"{FILE}_{number}": of.file(self.files[name], task_files, f"files.{name}")
            for number, name in enumerate(self.files)
        }
        if self.include_path is not None:
            tasks[INCLUDE] = of.folder(self.include_path)
        data: dict[str, Outside] = {
            f"data_{number}": of.function(self.datasets[name], f"datasets.{name}")
            for number, name in enumerate(sorted(self.datasets))
        }
        if self.datasets_path is not None:
            data[DATA] = of.folder(self.datasets_path)
        return {
            "model": of.model(or_service=True),
            REQUESTS: of.prepared({**tasks, **data}),
            **tasks,
        }

    @property
    def multiturn(self) -> bool:
        """Whether worked examples are turns of a chat."""
        chosen = self.fewshot_as_multiturn
        return self.apply_chat_template if chosen is None else chosen

    def shows(self) -> str:
        return ""

    def declared(self) -> Mapping[str, Metric]:
        """Known once the task was scored."""
        return {} if self._scores is None else self._scores.metrics

    def reported(self, evaluation: str, places: Mapping[str, Path]) -> Sequence[str]:
        return metrics_of(self._index(places).tasks(evaluation))

    def _index(self, places: Mapping[str, Path]) -> Index:
        files = {name: places[f"{FILE}_{number}"] for number, name in enumerate(self.files)}
        return Index(places.get(INCLUDE), files)

    def resolved(self, where: str, places: Mapping[str, Path], suite_file: Path) -> Scorer:
        names, files = resolved_tasks(self.tasks, self._index(places), suite_file, where)
        return self.model_copy(update={"tasks": names, "files": {**self.files, **files}})

    def require(self, where: str, places: Mapping[str, Path]) -> None:
        index = self._index(places)
        checks.require_readable(self.tasks, index, where)
        if not self.allow_code_execution:
            checks.require_code_allowed(self.tasks, index, where)

    def require_data(self, where: str, places: Mapping[str, Path]) -> None:
        checks.require_data(self.tasks, self._index(places), self.datasets, where)

    def prepare(self, job: ScoreJob, tokenizer: Any) -> dict[str, Any]:
        from harness.scorers._lm_eval import prepare

        place = job.path(DATA) if self.datasets_path is not None else Path()
        local = {
            name: partial(job.function(f"data_{number}"), place)
            for number, name in enumerate(sorted(self.datasets))
        }
        return prepare(self, job, tokenizer, self._index(job.asked), local)

    def score_job(self, job: ScoreJob) -> list[dict[str, Any]]:
        from harness.scorers._lm_eval import evaluate

        index = self._index(job.asked)
        self._scores, self._about = evaluate(self, job, job.path(REQUESTS), index)
        return list(self._scores.rows)

    def provenance(self) -> dict[str, Any]:
        return self._about
