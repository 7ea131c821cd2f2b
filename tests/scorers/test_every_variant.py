"""Judges that compare every variant with every other one: in pairs, and as a list of all."""

from __future__ import annotations

import copy
import itertools
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import special

from harness.cli import main
from harness.commands.report import compared, stored
from harness.commands.run import run_beside
from harness.comparison.kept_credentials import known_credentials
from harness.comparison.rankings import Verdict, ranking
from harness.core.errors import SuiteError
from harness.data.contests import TIE, Compared, Ranks, Standing
from harness.data.verdict_lines import read_lines
from harness.labellers.base import ranks_of
from harness.planning.duels import duels
from harness.planning.judging import judge_called
from harness.scorers.listwise import LETTERS, Listwise
from harness.stages._predictions import read_predictions
from harness.store.stage import Record
from tests.conftest import Workspace, chat_rows, write_jsonl
from tests.served import Answer, Server, says, serving

EVERYONE = {"pairwise": {"labeller": "longest", "against": "variants"}}
SFT = {"learning_rate": 1e-2, "max_steps": 4, "max_length": 64}


def listed(url: str, **fields: Any) -> dict[str, Any]:
    return {"listwise": {"labeller": {"endpoint": {"base_url": url, "model": "m", **fields}}}}


@dataclass
class Judged:
    """A suite that was run, with the server that ranked its answers."""

    workspace: Workspace
    server: Server
    opened: Any
    records: Mapping[str, Record]

    @property
    def texts(self) -> dict[str, list[str]]:
        """Variant -> its answers."""
        root = self.opened.store.root
        return {
            path.variant.id: [
                one.text for one in read_predictions(path.generate["letters"].path(root))
            ]
            for path in self.opened.plan.paths
        }

    def expected(self, one: str) -> float:
        """How often the answers of a variant are longer than those of the others."""
        return float(np.mean([self.rate(one, other) for other in self.texts if other != one]))

    def rate(self, one: str, other: str) -> float:
        return float(np.mean([won(*texts) for texts in zip(self.texts[one], self.texts[other],
                                                            strict=True)]))  # fmt: skip


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Judged]:
    """Three variants with answers of different lengths, and judges that prefer the longer one."""
    folder = tmp_path_factory.mktemp("everyone")
    write_jsonl(folder / "train.jsonl", chat_rows(0, 12))
    write_jsonl(folder / "test.jsonl", chat_rows(100, 12))
    (folder / "rules.py").write_text(
        "def longer(row, one, other):\n    return len(one) - len(other)\n"
    )
    with pytest.MonkeyPatch.context() as patch, serving() as serve:
        patch.setenv("no_proxy", "*")
        server = serve(by_length)
        workspace = Workspace(folder, {
            "name": "everyone", "models": {"tiny": str(tiny_model)},
            "data": {"letters": {"train": "train.jsonl", "test": "test.jsonl"}},
            "matrix": {"method": ["full", {"lora": {"r": 4}}], "objective": [{"sft": SFT}]},
            "base": {"zero-shot": {"max_new_tokens": 6}}, "generate": {"max_new_tokens": 9},
            "scorers": ["length", EVERYONE, {"pairwise": {"labeller": "longest", "label": "b"}},
                        listed(server.url)],
            "executor": "inline",
        })  # fmt: skip
        outcome = workspace.run()
        assert not outcome.failed, [record.error for record in outcome.failed]
        yield Judged(workspace, server, workspace.open(), outcome.records)


@pytest.fixture
def three(judged: Judged, tmp_path: Path) -> Workspace:
    """The same suite, to change, over an empty store."""
    shutil.copytree(judged.workspace.folder, tmp_path / "copy",
                    ignore=shutil.ignore_patterns("store"))  # fmt: skip
    return Workspace(tmp_path / "copy", copy.deepcopy(judged.workspace.tree))


def won(one: str, other: str) -> float:
    return TIE + 0.5 * ((len(one) > len(other)) - (len(one) < len(other)))


def test_every_two_variants_are_compared_once_and_the_means_are_those_of_all_pairs(
    judged: Judged,
) -> None:
    stages = {s.key: s for path in judged.opened.plan.paths for s in path.stages()}
    asking = [s for s in stages.values() if s.kind == "score" and s.unhashed.get("labellers")]
    assert len(asking) == 3, "three pairs, of which those with the baseline are what `b` scores"
    for path in judged.opened.plan.paths:
        (stage,) = (s.stage for s in path.scores if s.scorer == "pairwise" and s.label is None)
        value = judged.records[stage.key].metrics["metrics"]["judge_win_rate"]["value"]
        assert value == pytest.approx(judged.expected(path.variant.id))
    fought = duels(judged.opened.plan, judge_called(judged.opened.plan, "longest"))
    assert {frozenset((d.one, d.other)) for d in fought} == {
        frozenset(pair) for pair in itertools.combinations(judged.texts, 2)
    }
    assert {d.other for d in fought if "zero-shot" in (d.one, d.other)} == {"zero-shot"}


def pairs_of(opened: Any) -> set[str]:
    stages = {s.key: s for path in opened.plan.paths for s in path.stages()}
    return {key for key, s in stages.items() if s.kind == "score" and "other" in s.inputs}


def test_one_more_variant_judges_its_own_pairs_alone_whatever_its_place(
    judged: Judged, three: Workspace
) -> None:
    methods = [{"bottleneck": {"reduction_factor": 4}}, {"lora": {"r": 4}}, "full"]
    three.write(matrix={**three.tree["matrix"], "method": methods})
    before, after = pairs_of(judged.opened), pairs_of(three.open())
    assert before < after
    assert len(after - before) == 3


def test_the_report_ranks_all_variants_and_shows_who_beats_whom(
    judged: Judged, tmp_path: Path
) -> None:
    told = compared(judged.opened, stored(judged.opened)).judged_ranks
    assert {rank.judge for rank in told} == {"longest", "endpoint"}
    for judge in ("longest", "endpoint"):
        ranks = {rank.variant: rank for rank in told if rank.judge == judge}
        assert set(ranks) == set(judged.texts)
        for one, other in itertools.permutations(ranks, 2):
            assert ranks[one].won[other] == (pytest.approx(judged.rate(one, other)), 12)
        best = max(ranks.values(), key=lambda rank: rank.strength.value).variant
        assert judged.expected(best) == max(map(judged.expected, ranks))
    arguments = ["report", str(judged.workspace.path), "--store", str(judged.workspace.store)]
    shown = CliRunner().invoke(main, [*arguments, "--report-dir", str(tmp_path / "r")])
    assert shown.exit_code == 0, shown.output
    text = (tmp_path / "r/report.md").read_text(encoding="utf-8")
    assert "Rankings by judges" in text
    assert "against zero-shot" in text


def test_a_suite_of_one_variant_has_nobody_to_compare_it_with(three: Workspace) -> None:
    three.write(
        base={}, matrix={"method": ["full"], "objective": [{"sft": SFT}]}, scorers=[EVERYONE]
    )
    with pytest.raises(SuiteError, match="no other variant answers the same rows"):
        three.open()


def test_variants_of_several_seeds_meet_those_of_their_own_seed(three: Workspace) -> None:
    three.write(seeds=[0, 1], scorers=[EVERYONE])
    opened = three.open()
    seeds = {
        stage.label
        for path in opened.plan.paths
        for stage in path.stages()
        if stage.kind == "score" and " against " in stage.label
    }
    trained = {label for label in seeds if "zero-shot" not in label}
    assert len(trained) == 2
    assert len(seeds) == 2 + 2 * 2
    assert len(duels(opened.plan, judge_called(opened.plan, None))) == 3, "the first seed of each"


# listwise


def by_length(body: dict[str, Any], _: int) -> Answer:
    """A judge that ranks the longer answer first, and equally long ones alike."""
    parts = re.findall(r"\[Answer (\w)\]\n(.*?)\n\n(?=\[)", body["messages"][0]["content"], re.S)
    groups = itertools.groupby(
        sorted(parts, key=lambda part: (-length(part[1]), part[0])), key=lambda p: length(p[1])
    )
    return says(" > ".join(" = ".join(letter for letter, _ in group) for _, group in groups))


def length(quoted: str) -> int:
    return 0 if quoted.startswith("(") else len(quoted) - 2


def test_all_variants_are_ranked_in_one_stage_by_a_judge_behind_a_server(judged: Judged) -> None:
    several = sum(len(set(of)) > 1 for of in zip(*judged.texts.values(), strict=True))
    assert several
    assert len(judged.server.asked) == 2 * several, "one list in two orders"
    for path in judged.opened.plan.paths:
        (stage,) = (s.stage for s in path.scores if s.scorer == "listwise")
        metric = judged.records[stage.key].metrics["metrics"]["judge_rank"]
        assert metric["value"] == pytest.approx(judged.expected(path.variant.id))
        assert metric["judged"]
        lines = read_lines(stage.path(judged.opened.store.root))
        assert len(lines) == 24
        assert {line["form"] for line in lines} == {"listwise"}


def test_a_judge_that_ranks_is_calibrated_by_lists_of_two(judged: Judged) -> None:
    suite = [str(judged.workspace.path), "--store", str(judged.workspace.store)]
    options = ["--judge", "endpoint", "--rule", "rules.py:longer", "--pairs", "24"]
    told = CliRunner().invoke(main, ["judge", "calibrate", *suite, *options])
    assert told.exit_code == 0, told.output
    assert "judge 'endpoint' on" in told.stdout
    known = judge_called(judged.opened.plan, "endpoint")
    (made,) = known_credentials(judged.workspace.store, known.identity)
    assert made.whole is not None
    assert made.whole.agreement.value == 1.0


def test_the_plan_counts_the_calls_and_tokens_of_both_forms(three: Workspace) -> None:
    served = {"base_url": "http://127.0.0.1:9/v1", "model": "m",
              "prices": {"prompt": 1, "completion": 1}}  # fmt: skip
    pairs = {"pairwise": {"labeller": {"endpoint": served}, "against": "variants"}}
    lists = {"listwise": {"labeller": {"endpoint": served}, "orders": 4}}
    three.write(scorers=["length", pairs, lists])
    opened = three.open()
    run_beside(opened, list(opened.plan.data.values()))
    stages = {s.key: s for path in three.open().plan.paths for s in path.stages()}
    costs = [s.predicted for s in stages.values() if s.predicted.get("calls")]
    by_kind = sorted(cost["calls"] for cost in costs)
    assert by_kind == [12 * 2] * 3 + [12 * 4], "three pairs in both orders; one list in four"
    assert all(cost["money"] * 1e6 == pytest.approx(cost["tokens"]) for cost in costs)


@pytest.mark.parametrize(
    ("scorer", "told"),
    [
        ({"listwise": {"labeller": "longest"}}, "rates none by a rubric"),
        ({"listwise": {"labeller": "judge", "orders": 0}}, "orders"),
        ({"listwise": {"labeller": "judge", "prompt": "{{ answer }}"}}, "answer is no field"),
        ({"listwise": {"labeller": "judge", "prompt": "rank them"}}, r"needs \{\{ answers \}\}"),
        ({"listwise": {"labeler": "judge"}}, "labeler"),
        ({"pairwise": {"labeller": "longest", "against": "variant"}}, "variants"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(
    three: Workspace, scorer: Any, told: str
) -> None:
    three.write(scorers=["length", scorer])
    with pytest.raises(SuiteError, match=told):
        three.open()


def ranked(scorer: Listwise, texts: list[str], rank: Callable[[Any], Ranks]) -> list[Standing]:
    distinct = list(dict.fromkeys(texts))
    questions = list(scorer.questions_of("row", "Why?", distinct))
    return scorer.standings("row", distinct, [rank(q) for q in questions], texts)


def test_over_an_order_and_its_reverse_a_judge_of_places_alone_sees_no_difference() -> None:
    scorer = Listwise(labeller="judge", orders=4)
    first = ranked(
        scorer, list("pqrst"), lambda q: ranks_of(dict(zip(q.choices, range(5), strict=True)))
    )
    assert [standing.mean for standing in first] == pytest.approx([0.5] * 5)
    assert all(one.beside(other).decided == TIE for one, other in itertools.combinations(first, 2))
    for number in range(4):
        assert sorted(standing.places[number] for standing in first) == list(range(5))


def test_equal_answers_stand_once_in_the_list_and_share_their_rank() -> None:
    scorer = Listwise(labeller="judge")

    def longest_first(question: Any) -> Ranks:
        assert len(question.choices) == 3
        return ranks_of({a["letter"]: -len(a["text"]) for a in question.fields["answers"]})

    standings = ranked(scorer, ["aaa", "b", "aaa", "cc"], longest_first)
    assert [standing.mean for standing in standings] == pytest.approx([2.5 / 3, 0, 2.5 / 3, 1 / 3])
    same = standings[0].beside(standings[2])
    assert (same.decided, same.asked) == (TIE, False)
    alike = ranked(scorer, ["x", "x"], longest_first)
    assert [one.mean for one in alike] == [0.5, 0.5]
    assert not alike[0].asked


def test_a_ranking_that_is_missing_in_one_order_is_missing_and_no_loss() -> None:
    replies = iter([ranks_of({"A": 0, "B": 1}), "no ranking"])
    standings = ranked(Listwise(labeller="judge"), ["x", "y"], lambda _: next(replies))
    assert [standing.mean for standing in standings] == [None, None]
    assert standings[0].reason == "no ranking"
    assert standings[0].beside(standings[1]).decided is None


def test_the_judge_sees_letters_and_quoted_answers_and_no_names() -> None:
    question, other = Listwise(labeller="judge").questions_of("row", "Why?", ["one", "two"])
    assert question.choices == tuple(LETTERS[:2])
    shown = [[a["text"] for a in q.fields["answers"]] for q in (question, other)]
    assert shown[0] == shown[1][::-1]


@pytest.mark.parametrize("form", ["pairs", "lists"])
def test_planted_strengths_are_recovered_from_either_form(form: str) -> None:
    """A judge that draws its verdicts by Bradley and Terry's model, or its rankings by Plackett and
    Luce's, which is the same in every pair."""
    random = np.random.default_rng(0)
    planted = {"a": 1.2, "b": 0.4, "c": -0.3, "d": -1.3}
    scorer, names = Listwise(labeller="judge", orders=1), list(planted)
    verdicts = []
    for row in range(500):
        if form == "pairs":
            for one, other in itertools.combinations(names, 2):
                beats = random.random() < special.expit(planted[one] - planted[other])
                verdicts.append(Verdict(str(row), one, other, float(beats)))
            continue
        drawn = {n: -planted[n] - random.gumbel() for n in names}
        standings = ranked(
            scorer, names,
            lambda q, drawn=drawn: ranks_of(
                {a["letter"]: drawn[a["text"]] for a in q.fields["answers"]}
            ),
        )  # fmt: skip
        for (one, at), (other, there) in itertools.combinations(
            zip(names, standings, strict=True), 2
        ):
            verdicts.append(Verdict(str(row), one, other, at.beside(there).decided or 0.0))
    found = {model.name: model.strength for model in ranking(verdicts, rounds=200)}
    for name, strength in planted.items():
        estimate = found[name]
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low - 0.1 < strength < estimate.high + 0.1
        assert estimate.high - estimate.low < 0.6


def test_a_verdict_turned_twice_is_itself() -> None:
    said = Compared((0.9, "no letter"), {"0 judge": (0.2, 0.4)})
    assert said.turned.orders == ("no letter", pytest.approx(0.1))
    assert said.turned.turned.orders == (pytest.approx(0.9), "no letter")
    assert said.turned.members == {"0 judge": (0.6, 0.8)}
