"""Which metrics tell of forgetting: as scorers declare, whatever they are called."""

from __future__ import annotations

from harness import comparison as compare
from harness.planning.graph import learnt, learnt_by
from harness.report.tables.columns import columns, forgetting
from harness.scorers.perplexity import Perplexity
from tests.conftest import Workspace, write_jsonl


def test_forgetting_goes_by_what_is_measured_and_not_by_its_name(workspace: Workspace) -> None:
    workspace.write(
        scorers=[
            "rouge",
            {"exact_match": {"label": "trivia", "forgetting": True}},
            {"perplexity": {"data": "general", "label": "prose"}},
            {"perplexity": {"label": "general"}},
            {"kl": {"data": "general", "label": "drift"}},
        ]
    )
    outcome = workspace.run()
    opened = workspace.open()
    found = compare.compare(opened.plan, outcome.records, opened.store)
    assert {column.metric for column in forgetting(found)} == {"trivia", "prose", "drift"}
    assert "general" in {column.metric for column in columns(found) if column.quality}


def test_text_that_a_variant_is_trained_on_is_not_what_it_forgets(aligned: Workspace) -> None:
    """Rows that only serve beside a training's own, as in PPO-ptx, are still what came before."""
    plan = aligned.open().plan
    assert learnt(plan) == {"letters", "preferences"}
    assert any(learnt_by(plan, path) == {"letters", "preferences"} for path in plan.paths)
    aligned.tree["matrix"]["objective"] = [{"cpt": {"data": "general"}}]
    aligned.tree["reward_model"] = {}
    assert learnt(aligned.open().plan) == {"general"}
    write_jsonl(aligned.folder / "prose.jsonl", [{"text": f"line {i}"} for i in range(6)])
    mixed = {"train": {"mixture": {"general": 1, "prose": 1}}}
    aligned.tree["data"] |= {"prose": {"train": "prose.jsonl"}, "mixed": mixed}
    aligned.tree["matrix"]["objective"] = [{"cpt": {"data": "mixed"}}]
    assert learnt(aligned.open().plan) == {"mixed", "general", "prose"}


def test_what_a_score_tells_of_does_not_change_it() -> None:
    assert Perplexity(forgetting=True).identity() == Perplexity().identity()
