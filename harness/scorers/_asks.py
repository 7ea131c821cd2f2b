"""What a scorer can ask for. The plan makes each thing asked for an input of the score stage, and
the stage hands it to the scorer (`ScoreJob`) under the name that the scorer gave it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Whose = Literal["variant", "start", "base", "baseline"]
"""The variant that is scored; the checkpoint that its last training stage starts from; the
untrained model under it; the variant that the suite compares it with."""


@dataclass(frozen=True)
class AnswersOf:
    """The answers to the rows that are scored, in the rows' order: `ScoreJob.answers`."""

    whose: Whose


@dataclass(frozen=True)
class ModelOf:
    """A model with its tokenizer, loaded for reading: `ScoreJob.model`.

    Attributes:
        or_service: the scorer can do with a model that another server answers for: a
            `harness.inference.service.Service`.
    """

    whose: Whose
    or_service: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class ScoredRows:
    """The rows that are scored, as the data stage wrote them: `ScoreJob.rows`."""


@dataclass(frozen=True)
class NamedRule:
    """A preference rule, `FILE.py:FUNCTION`: `ScoreJob.rule`.

    Where the scorer asks for it under the name of one of its fields, the identity has the content
    of the rule's file in the place of that field.

    Attributes:
        option: as of NamedFunction.
    """

    named: str
    option: str = ""


@dataclass(frozen=True)
class NamedFunction:
    """A function, `FILE.py:FUNCTION`, found as a rule is: `ScoreJob.function`. The identity has the
    content of its file under the name that it is asked for by.

    Attributes:
        option: the scorer's option that names it, for messages; empty: the name it is asked by.
    """

    named: str
    option: str = ""


@dataclass(frozen=True)
class NamedFolder:
    """A folder of files that the suite names, such as task files: `ScoreJob.path`. The identity has
    the content of its files under the name that it is asked for by.

    Attributes:
        named: beside the suite, in the working folder or among the package's suites.
    """

    named: str


@dataclass(frozen=True)
class NamedFile:
    """A file that the suite names, with others that it leads to: `ScoreJob.path`. The identity has
    the content of all of them under the name that it is asked for by.

    Attributes:
        named: found as a folder is.
        files: the file's path -> the files that are meant, itself among them.
        option: as of NamedFunction.
    """

    named: str
    files: Callable[[Path], Iterable[Path]] = field(compare=False)
    option: str = ""


@dataclass(frozen=True)
class RewardModel:
    """The suite's reward model, a sequence classifier of one label: `ScoreJob.model`."""


@dataclass(frozen=True)
class NamedLabeller:
    """An AI labeller, which says which of two answers is better: `ScoreJob.labeller`.

    Attributes:
        spec: its YAML, a name or `{name: {option: value}}`.
        questions: whether it must answer questions in words (`Judge.ask`).

    Where the scorer asks for it under the name of one of its fields, the identity has the
    labeller's in the place of that field.
    """

    spec: str | Mapping[str, Any]
    questions: bool = False


@dataclass(frozen=True)
class NamedPrompt:
    """A prompt for a judge, a Jinja template: `ScoreJob.prompt`. The identity has the digest of its
    text under the name that it is asked for by.

    Attributes:
        named: the template, or the name of a `.jinja` file (harness.data.prompts).
        needed: fields that it must use.
        known: the fields that it is filled with.
        option: the scorer's option that names it, for messages; empty: the name it is asked by.
    """

    named: str
    needed: tuple[str, ...]
    known: tuple[str, ...]
    option: str = ""


@dataclass(frozen=True)
class PairsOf:
    """What a judge says of the variant's answers beside those of each other variant:
    `ScoreJob.pairs`. Every two variants are compared once, in a stage that both of them read.

    Attributes:
        by: the scorer of such a stage, which compares a variant with its baseline: the one variant
            stands in the place of the baseline of the other.
    """

    by: Any


@dataclass(frozen=True)
class RankingOf:
    """A judge's rankings of the answers of all variants to each prompt: `ScoreJob.ranking`. They
    are made once, in a stage that all variants read.

    Attributes:
        labeller, prompt: what that stage asks for, under these names.
    """

    labeller: NamedLabeller
    prompt: NamedPrompt


Outside = NamedRule | NamedFunction | NamedFolder | NamedFile
"""What lies outside the store, and is hashed by its content."""


@dataclass(frozen=True)
class Prepared:
    """The folder of what the scorer prepares once for all variants of one tokenizer and chat
    template, such as the requests of a benchmark: `ScoreJob.path`. `Scorer.prepare` writes it, in a
    stage of its own, before anything is trained.

    Attributes:
        reads: what `prepare` reads, under the names that it uses.
    """

    reads: Mapping[str, Outside]


Asked = (
    AnswersOf
    | ModelOf
    | ScoredRows
    | Outside
    | RewardModel
    | NamedLabeller
    | NamedPrompt
    | Prepared
    | PairsOf
    | RankingOf
)
"""A further kind of thing is a class here, a method of
`Subject`, a case in `harness.planning.scoring` (which input is it?) and one in
`harness.stages.score` (how is it read?)."""


@dataclass(frozen=True)
class Policy:
    """A model that answers: the variant itself, or one that it can be compared with."""

    whose: Whose

    def answers(self) -> AnswersOf:
        """Its answers to the rows that are scored."""
        return AnswersOf(self.whose)

    def model(self, *, or_service: bool = False) -> ModelOf:
        """The model itself. A variant without weights here has none, unless a service will do."""
        return ModelOf(self.whose, or_service)


@dataclass(frozen=True)
class Subject(Policy):
    """What is scored: a variant, on the rows of one data entry."""

    whose: Whose = "variant"

    def start(self) -> Policy:
        """The checkpoint that the variant's last training stage starts from. A variant that starts
        from the base, or was trained elsewhere, has none and is not scored."""
        return Policy("start")

    def base(self) -> Policy:
        """The untrained model under the variant, never quantised; the variant itself where nothing
        was trained. Its answers are generated with the variant's settings."""
        return Policy("base")

    def baseline(self) -> Policy:
        """The variant that the suite compares this one with: of the same seed where it has that,
        else its first. The baseline itself is not scored then."""
        return Policy("baseline")

    def rows(self) -> ScoredRows:
        """The rows that are scored."""
        return ScoredRows()

    def rule(self, named: str) -> NamedRule:
        """A preference rule, `FILE.py:FUNCTION`, as `harness.data.preference_rule` finds it."""
        return NamedRule(named)

    def function(self, named: str, option: str = "") -> NamedFunction:
        """A function, `FILE.py:FUNCTION`, that is found and hashed as a rule is.

        Args:
            option: the scorer's option that names it, for messages, such as `datasets.squad`.
        """
        return NamedFunction(named, option)

    def folder(self, named: str) -> NamedFolder:
        """A folder of files, whose content is hashed."""
        return NamedFolder(named)

    def file(
        self, named: str, files: Callable[[Path], Iterable[Path]], option: str = ""
    ) -> NamedFile:
        """A file with those that it leads to, whose contents are hashed.

        Args:
            files: the file's path -> the files that are meant, itself among them.
            option: the scorer's option that names it, for messages.
        """
        return NamedFile(named, files, option)

    def reward_model(self) -> RewardModel:
        """The reward model of the variant's model and data, which the suite's policies share. The
        suite trains it for the scorer where no objective needs it."""
        return RewardModel()

    def prepared(self, reads: Mapping[str, Outside]) -> Prepared:
        """What `Scorer.prepare` writes with the variant's tokenizer and no model.

        Args:
            reads: what it reads besides, under the names that it uses.
        """
        return Prepared(reads)

    def labeller(self, spec: str | Mapping[str, Any], *, questions: bool = False) -> NamedLabeller:
        """An AI labeller by its YAML. A model that it reads is one of the suite.

        Args:
            questions: refuse one that only compares two answers, as a reward model does.
        """
        return NamedLabeller(spec, questions)

    def pairs(self, by: Any) -> PairsOf:
        """What a judge says of every two variants.

        Args:
            by: the scorer that asks it, one that compares with the baseline.
        """
        return PairsOf(by)

    def ranking(self, labeller: NamedLabeller, prompt: NamedPrompt) -> RankingOf:
        """A judge's rankings of the answers of all variants."""
        return RankingOf(labeller, prompt)

    def prompt(
        self, named: str, needed: tuple[str, ...], known: tuple[str, ...], option: str = ""
    ) -> NamedPrompt:
        """A prompt for a judge: a Jinja template, or the name of a `.jinja` file."""
        return NamedPrompt(named, needed, known, option)
