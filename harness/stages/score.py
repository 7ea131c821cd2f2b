"""The score stage: per-example statistics of one scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, assert_never

from harness.core.component import AddedLater, NotHashed
from harness.core.errors import StageFailed
from harness.inference.service import Service
from harness.labellers.base import Labeller
from harness.models.endpoint import EndpointSettings
from harness.models.files import ModelPlace
from harness.scorers._asks import (
    AnswersOf,
    Asked,
    ModelOf,
    NamedFile,
    NamedFolder,
    NamedFunction,
    NamedLabeller,
    NamedPrompt,
    NamedRule,
    PairsOf,
    Prepared,
    RankingOf,
    RewardModel,
    ScoredRows,
    Subject,
    Whose,
)
from harness.scorers._draws import noise_column
from harness.scorers.base import LoadedModel, Prediction, ScoreJob, Scorer, scorer_of
from harness.stages._cost import BYTES_A_TOKEN, service_cost
from harness.stages._fitting import usable
from harness.stages._judging import Judging, compared_with, standings_of
from harness.stages._metrics import aggregate, require_figures, require_finite
from harness.stages._models import CHECKPOINT, REWARD, load_base, load_beside, load_model
from harness.stages._outside import read_outside
from harness.stages._predictions import read_predictions
from harness.stages.base import Job, Known, StageKind, member_of
from harness.stages.data import read_rows
from harness.stages.generate import asked_rows
from harness.store.kind import RowCounts
from harness.store.score_table import write_scores
from harness.store.stage import Record, Stage

CACHE = "cache"
"""Folder of the store for what scorers share between stages; it may be removed at any time."""
_SHOWN = 4
"""Metrics in a line about the stage."""
DATA, PREDICTIONS = "data", "predictions"
"""Roles of the rows that are scored, of the variant's answers to them, and of the reward model."""


def role_of(name: str, asked: Asked) -> str:
    """The role of the input that a scorer asks for by this name. What most scorers ask for has a
    role of its own, so that the key of a stage does not depend on a scorer's choice of names."""
    match asked:
        case AnswersOf("variant"):
            return PREDICTIONS
        case ModelOf("variant"):
            return CHECKPOINT
        case ScoredRows():
            return DATA
        case RewardModel():
            return REWARD
        case _:
            return name


def judging_stages(stage: Stage) -> list[Stage]:
    """The stages that asked a judge for a score: those whose verdicts it reads, or itself."""
    return [s for s in stage.inputs.values() if s.kind in ("score", "ranking")] or [stage]


def rows_of_stage(stage: Stage) -> Stage | None:
    """The data stage whose rows were scored; None where the scorer brings its examples itself."""
    return (stage.inputs.get(PREDICTIONS) or stage).inputs.get(DATA)


def reward_models(stage: Stage) -> list[Stage]:
    """The training stages of the reward models that a score stage reads, a labeller's included."""
    models = {
        source.key: source
        for each in judging_stages(stage)
        for role, source in each.inputs.items()
        if role.rpartition(".")[2] == REWARD
    }
    return list(models.values())


class Score(StageKind):
    """Statistics of each example by one scorer, and the metrics made of them."""

    VERSION = 1
    purpose = "evaluation"
    reads = {DATA: "data", PREDICTIONS: "generate", CHECKPOINT: "train", "*": "*"}

    device: Annotated[str | None, AddedLater] = None
    """`cpu` or `cuda`, where a model is read."""
    scorer: dict[str, Any]
    """The scorer's identity, with the contents of rules and the identities of labellers."""
    model: Annotated[dict[str, Any] | None, AddedLater] = None
    """The identity of an untrained model, where the variant's model is read and is one."""
    merged: Annotated[bool, AddedLater] = False
    """Whether the adapter of the variant's model is merged."""
    left_out: Annotated[list[int], AddedLater] = []
    """Numbers of the rows that are not scored, where no answers are read."""
    others: Annotated[dict[str, dict[str, Any]], AddedLater] = {}
    """Role -> `model` and `merged` of a model that is read beside the variant's, as far as they are
    set."""
    settings: Annotated[dict[str, Any], NotHashed]
    """Every field of the scorer."""
    places: Annotated[dict[str, ModelPlace], NotHashed] = {}
    """Role of a model -> where it, or the base of its checkpoint, lies."""
    rules: Annotated[dict[str, str], NotHashed] = {}
    """Name of a rule, function or folder that is asked for -> where it lies."""
    prompts: Annotated[dict[str, str], NotHashed] = {}
    """Name of a prompt that is asked for -> its text."""
    labellers: Annotated[dict[str, dict[str, Any]], NotHashed] = {}
    """Name of a labeller that is asked for -> its own name, and every field of it."""

    def built(self) -> Scorer:
        """The scorer.

        Raises:
            SuiteError: a name or field that no scorer has.
        """
        return scorer_of(self.scorer["name"], self.settings)

    def expected(self, known: Known, inputs: Mapping[str, Stage]) -> dict[str, float]:
        """Calls of judges behind endpoints, with their tokens and money, if every row is asked
        about and every answer is as long as those of the rows."""
        cost: dict[str, float] = {}
        rows, questions = known.rows.get("rows", 0), self.built().questions()
        if not rows or not questions:
            return {}
        for fields in self.labellers.values():
            for judge in member_of("labeller", fields).judges():
                if isinstance(judge, EndpointSettings):
                    calls = rows * questions
                    frame = max(map(len, [*self.prompts.values(), getattr(judge, "prompt", "")]))
                    asked = calls * (frame + 1.5 * known.rows["mean_bytes"]) / BYTES_A_TOKEN
                    for name, amount in service_cost(judge, calls, asked, calls).items():
                        cost[name] = cost.get(name, 0.0) + amount
        return cost

    @classmethod
    def headline(cls, record: Record) -> str:
        metrics = list(record.metrics["metrics"].items())[:_SHOWN]
        return ", ".join(f"{name} {metric['value']:.3f}" for name, metric in metrics)

    @classmethod
    def row_counts(cls, metrics: Mapping[str, Any]) -> RowCounts | None:
        if "unusable" not in metrics:
            return None
        return RowCounts(metrics["rows"], dict(metrics["unusable"]))

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Score, write one row an example, and aggregate; metrics carry their own declaration."""
        scorer = self.built()
        asks = scorer.asks(Subject())
        with job.ledger.phase("load"):
            reader = _Reader(job, self, asks)
            asked = {name: reader.read(name, thing) for name, thing in asks.items()}
            _require_same_examples(asks, asked)
        answers = next((asked[n] for n, a in asks.items() if a == Subject().answers()), None)
        if answers is not None and scorer.needs_references:
            _require_references(answers, scorer)
        with job.ledger.phase("score"):
            cache = job.folder.parents[1] / CACHE / scorer.name
            scores = scorer.score_job(
                ScoreJob(asked, job.progress, cache, job.folder, self.device or "cpu")
            )
        job.cost.update(reader.services())
        rows = scores if answers is None else _with_keys(answers, scores)
        with job.ledger.phase("write"):
            import pyarrow as pa

            require_finite(rows, scorer)
            write_scores(job.folder, pa.Table.from_pylist(rows))
        figures = {name: judge.figures for name, judge in reader.judging.items() if judge.figures}
        if about := {**scorer.provenance(), **figures}:
            job.provenance["scorer"] = about
        declared = {name: metric.declare(name) for name, metric in scorer.declared().items()}
        if scorer.drawn:
            for metric in declared.values():
                metric["drawn"] = noise_column(metric["columns"]["value"])
        values = {name: aggregate(metric, rows) for name, metric in declared.items()}
        require_figures(values, scorer)
        return {
            "rows": len(rows),
            **({"unusable": reader.unusable} if reader.unusable else {}),
            "metrics": {name: {**m, "value": values[name]} for name, m in declared.items()},
        }


def planned_scorer(stage: Stage) -> Scorer:
    """The scorer of a score stage in a plan."""
    return Score.of(stage).built()


class _Reader:
    """Reads what a scorer asks for from the stage's inputs.

    Attributes:
        unusable: reason -> rows that the model's chat template cannot write.
        judging: the labellers that are asked, by name.
    """

    def __init__(self, job: Job, config: Score, asks: Mapping[str, Asked]) -> None:
        self.job, self.config, self.asks = job, config, asks
        self.unusable: dict[str, int] = {}
        self.judging: dict[str, Judging] = {}
        self._subject: LoadedModel | None = None

    def read(self, name: str, asked: Asked) -> Any:
        """One thing as `ScoreJob` hands it out.

        Raises:
            StageFailed: answers that are not to the same rows, a file that has changed.
        """
        role, job = role_of(name, asked), self.job
        match asked:
            case AnswersOf():
                return read_predictions(job.input(role))
            case ModelOf(whose):
                return self._model(role, whose)
            case ScoredRows():
                return self._rows()
            case NamedRule() | NamedFunction() | NamedFolder() | NamedFile():
                place = Path(self.config.rules[name])
                return read_outside(asked, place, self.config.scorer[name])
            case Prepared():
                job.input_record(role)
                return job.input(role)
            case RewardModel():
                return LoadedModel(*load_beside(job, role, self.config.places[role]))
            case NamedLabeller():
                return self._labeller(name)
            case NamedPrompt():
                return self.config.prompts[name]
            case PairsOf():
                roles = [each for each in job.spec["inputs"] if each.startswith(f"{role}.")]
                return [compared_with(job.input(each), self._answers) for each in sorted(roles)]
            case RankingOf():
                return standings_of(job.input(role), self._answers)
            case _:
                assert_never(asked)

    @property
    def _answers(self) -> str:
        """The key of the variant's answers."""
        return str(self.job.spec["inputs"][PREDICTIONS]["key"])

    def services(self) -> dict[str, Any]:
        """What the variant's own model cost, where a service answers for it."""
        model = None if self._subject is None else self._subject.model
        return model.cost() if isinstance(model, Service) else {}

    def _model(self, role: str, whose: Whose) -> LoadedModel:
        """A model; the variant's is loaded once, and is its own base where nothing was trained."""
        if whose == "variant" or (whose == "base" and self._asks_model()):
            if self._subject is None:
                which = {"model": self.config.model, "merged": self.config.merged}
                self._subject = self._loaded(CHECKPOINT, which)
            if whose == "variant" or not self.job.has(CHECKPOINT):
                return self._subject
            return LoadedModel(*load_base(self.job, self.config.places[CHECKPOINT]))
        return self._loaded(role, self.config.others.get(role, {}))

    def _loaded(self, role: str, which: Mapping[str, Any]) -> LoadedModel:
        return LoadedModel(*load_model(self.job, role, which, self.config.places[role])[:2])

    def _asks_model(self) -> bool:
        return Subject().model() in self.asks.values()

    def _rows(self) -> list[dict[str, Any]]:
        """The rows that are scored: those that were answered, else those that the variant's chat
        template can write."""
        rows = read_rows(self.job.input(DATA))
        for name, asked in self.asks.items():
            if isinstance(asked, AnswersOf):
                answers = self.job.input_record(role_of(name, asked))
                return asked_rows(rows, answers.config)
        rows = asked_rows(rows, {"left_out": self.config.left_out})
        if self._asks_model():
            rows, self.unusable = usable(rows, self._model(CHECKPOINT, "variant").tokenizer)
        return rows

    def _labeller(self, name: str) -> Judging:
        labeller: Labeller = member_of("labeller", self.config.labellers[name])
        judging = Judging(self.job, labeller, name, self.config.others, self.config.places)
        self.judging[name] = judging
        return judging


def _with_keys(
    answers: Sequence[Prediction], scores: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Scores with the example that each is of."""
    return [
        {"example_id": a.example_id, "cluster": a.cluster, "group": a.group, **score}
        for a, score in zip(answers, scores, strict=True)
    ]


def _require_same_examples(asks: Mapping[str, Asked], asked: Mapping[str, Any]) -> None:
    """Raise StageFailed where answers and rows are not of the same examples in one order."""
    examples = {
        name: [row["id"] if isinstance(row, Mapping) else row.example_id for row in asked[name]]
        for name, thing in asks.items()
        if isinstance(thing, AnswersOf | ScoredRows)
    }
    first = next(iter(examples), "")
    for name, ids in examples.items():
        if ids != examples[first]:
            raise StageFailed("input changed", f"{name} and {first} are not of the same examples")


def _require_references(predictions: Sequence[Prediction], scorer: Scorer) -> None:
    bare = [prediction.example_id for prediction in predictions if not prediction.references]
    if bare:
        raise StageFailed(
            "no reference",
            f"{len(bare)} of {len(predictions)} rows, such as {bare[0]}, have no reference, which"
            f" {scorer.name} holds answers against",
            fix="map `completion` or `references`, or leave these rows out with `where:`",
        )
