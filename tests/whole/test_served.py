"""Served models beside trained ones: asked, scored, compared and paid for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.commands.plan import describe_plan
from harness.commands.session import warn_of_mistakes
from harness.comparison.compare import compare
from harness.core.errors import ModelError, SuiteError
from tests.conftest import REWARD, SFT, Workspace, preferences, write_jsonl
from tests.served import Answer, Serve, Server, as_json, says


def repeats(body: dict[str, Any], _: int) -> Answer:
    """Repeats the letter of the question three times; refuses what asks for the letter c."""
    if "prompt" in body:
        return as_json({"choices": [{"text": " plain", "finish_reason": "length"}]})
    asked = body["messages"][-1]["content"]
    if asked.startswith("c"):
        return 400, {}, b"not that one"
    return says(asked[0] * 3, 30, completion_tokens=4)


@pytest.fixture
def served(workspace: Workspace, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The tiny suite with a served model beside the tiny one; nothing is trained."""
    monkeypatch.setenv("BIG_KEY", "sk-secret-1")
    server = serve(repeats)
    endpoint = {
        "base_url": server.url, "model": "big-1", "api_key_env": "BIG_KEY",
        "prices": {"prompt": 2.5, "completion": 10},
    }  # fmt: skip
    workspace.write(models={**workspace.tree["models"], "big": {"endpoint": endpoint}}, matrix={})
    workspace.write(scorers=["exact_match", {"perplexity": {"data": "general", "label": "ppl"}}])
    workspace.write(evaluate=["letters"])
    return server


def test_a_served_model_is_asked_scored_and_compared(served: Server, workspace: Workspace) -> None:
    few = {
        "num_fewshot": 2, "system_instruction": "Repeat the letter.", "until": ["\n"],
        "max_new_tokens": 4,
    }  # fmt: skip
    workspace.write(base={**workspace.tree["base"], "few-shot": few})
    outcome = workspace.run()
    assert not outcome.failed
    records = {r.label: r for r in outcome.records.values() if r.kind == "generate"}
    zero = records["zero-shot@big on letters"]
    assert zero.metrics["refused_rate"] == pytest.approx(1 / 12)
    assert zero.cost["calls"] == 12
    assert zero.cost["money"] == pytest.approx((11 * 30 * 2.5 + 11 * 4 * 10) / 1e6)
    assert "parameters" not in zero.cost
    # What it was asked: the rows' turns, and behind a system turn two worked examples.
    bodies = {len(body["messages"]): body for body in served.asked}
    assert [turn["role"] for turn in bodies[6]["messages"]] == [
        "system", "user", "assistant", "user", "assistant", "user",
    ]  # fmt: skip
    assert bodies[6]["messages"][0]["content"] == "Repeat the letter."
    assert bodies[6]["stop"] == ["\n"]
    assert bodies[1] == {
        "model": "big-1", "messages": bodies[1]["messages"], "temperature": 0, "max_tokens": 4,
    }  # fmt: skip
    assert set(served.keys) == {"Bearer sk-secret-1"}

    opened = workspace.open()
    comparison = compare(opened.plan, outcome.records, opened.store)
    variants = {variant.group: variant for variant in comparison.variants}
    assert variants["zero-shot@big"].served
    assert variants["zero-shot@big"].cost["service_prompt_tokens"] == 330
    assert variants["zero-shot@tiny"].cost["service_prompt_tokens"] is None
    scored = {(row.group, row.metric) for row in comparison.rows}
    assert ("zero-shot@big", "exact_match") in scored
    assert ("zero-shot@big", "ppl") not in scored
    notes = "\n".join(comparison.notes)
    assert "does not score zero-shot@big, few-shot@big: it reads the model itself" in notes
    assert "zero-shot@big refused 8.3% of letters" in notes
    for file in workspace.folder.rglob("*"):
        assert not file.is_file() or b"sk-secret" not in file.read_bytes()


def test_a_key_that_is_not_set_is_told_before_anything_runs(
    served: Server,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of models, and of judges in a panel too: a run would find it after its trainings."""
    judge = {"endpoint": {"base_url": served.url, "model": "j", "api_key_env": "JUDGE_KEY"}}
    panel = {"panel": {"members": [judge, "longest"]}}
    workspace.tree["scorers"].append({"pairwise": {"labeller": panel, "against": "reference"}})
    monkeypatch.setenv("JUDGE_KEY", " \n")
    warn_of_mistakes(workspace.open().plan)
    told = capsys.readouterr().err
    assert "warning: the environment variable JUDGE_KEY is not set here" in told
    assert "BIG_KEY" not in told
    monkeypatch.delenv("BIG_KEY")
    monkeypatch.setenv("JUDGE_KEY", "sk-secret-2")
    warn_of_mistakes(workspace.open().plan)
    told = capsys.readouterr().err
    assert "BIG_KEY is not set here" in told
    assert "JUDGE_KEY" not in told


@pytest.mark.parametrize(
    ("address", "name", "told"),
    [
        ("", "big-1", "the judge big-1 is zero-shot@big, with which it compares zero-shot@tiny"),
        (
            "gateway.",
            "maker/Big-1",
            "has the name, at another address, of the base of zero-shot@big",
        ),
        ("", "big-2", ""),
    ],
)
def test_a_judge_that_compares_with_its_own_answers_is_told(
    served: Server, workspace: Workspace, address: str, name: str, told: str
) -> None:
    """The question that teams bring, "is our model as good as the big one?", put to the big one."""
    judge = {"base_url": served.url.replace("127", f"{address}127", 1), "model": name}
    workspace.tree["scorers"].append({"pairwise": {"labeller": {"endpoint": judge}}})
    workspace.write(baseline="zero-shot@big")
    warnings = [w for w in workspace.open().plan.warnings if w.startswith("pairwise: the judge")]
    assert any(told in warning for warning in warnings) if told else not warnings


def test_what_was_answered_is_not_paid_again(served: Server, workspace: Workspace) -> None:
    workspace.run()
    asked = len(served.asked)
    workspace.run()
    assert len(served.asked) == asked
    for folder in (workspace.store / "generate").iterdir():
        (folder / "record.json").unlink()
    workspace.run()
    assert len(served.asked) == asked + 1  # the refused one
    workspace.tree["base"]["zero-shot"]["max_new_tokens"] = 5
    workspace.run()
    assert len(served.asked) == 2 * asked + 1


def test_plan_tells_calls_tokens_and_money(served: Server, workspace: Workspace) -> None:
    opened = workspace.open()
    assert "requests to" in describe_plan(opened, why=False)
    workspace.run(only="zero-shot@tiny")
    told = describe_plan(workspace.open(), why=False)
    assert "12 calls of other servers; about" in told
    assert "with the key in BIG_KEY: prompts are sent there" in told
    assert served.asked == []


def test_a_budget_fails_its_cell_alone(served: Server, workspace: Workspace) -> None:
    workspace.tree["models"]["big"]["endpoint"]["budget"] = {"calls": 5}
    outcome = workspace.run()
    assert [record.label for record in outcome.failed if record.kind == "generate"] == [
        "zero-shot@big on letters"
    ]
    assert len(served.asked) == 5
    workspace.tree["models"]["big"]["endpoint"]["budget"] = {"calls": 20}
    assert not workspace.run().failed
    assert len(served.asked) <= 13


def test_prompts_without_a_chat_template_are_plain_completions(
    served: Server, workspace: Workspace
) -> None:
    workspace.tree["base"] = {"plain": {"apply_chat_template": False, "max_new_tokens": 4}}
    outcome = workspace.run()
    assert not outcome.failed
    assert set(served.paths) == {"/v1/completions"}
    assert all(body["prompt"].endswith("?\n") for body in served.asked)


def test_samples_have_a_seed_each(served: Server, workspace: Workspace) -> None:
    workspace.tree["base"]["zero-shot"] |= {"samples": 3, "temperature": 0.7, "top_p": 0.9}
    workspace.write(scorers=["distinct"])
    assert not workspace.run().failed
    drawn = [body for body in served.asked if "seed" in body]
    assert len({body["seed"] for body in drawn}) == len(drawn) == 36
    assert {(body["temperature"], body["top_p"]) for body in drawn} == {(0.7, 0.9)}


def test_claim_tells_the_noise_of_drawn_answers_from_that_of_examples(
    served: Server, workspace: Workspace
) -> None:
    """Every other answer of the served model is right, where one can be."""

    def drawn(body: dict[str, Any], number: int) -> Answer:
        return says(body["messages"][-1]["content"][0] * (3 if body.get("seed", 0) % 2 else 9))

    served.reply = drawn
    workspace.write(
        scorers=[{"exact_match": {"drawn": True}}],
        claims=["zero-shot@big equals zero-shot@tiny on exact_match within 0.01"],
    )
    with pytest.raises(SuiteError, match=r"it reads 2 or more samples(.|\n)*add `samples: 4` to"):
        workspace.open()
    workspace.tree["base"]["zero-shot"] |= {"samples": 4, "temperature": 1.0}
    opened = workspace.open()
    (verdict,) = compare(opened.plan, workspace.run().records, opened.store).claims
    assert verdict.noise is not None, verdict.reason
    assert 0 < verdict.noise.answers < 1
    assert sum(verdict.noise.known.values()) == pytest.approx(1)
    assert 0 < verdict.estimate < 0.5


def test_thinking_that_a_server_leaves_in_is_not_scored(
    served: Server, workspace: Workspace
) -> None:
    served.reply = lambda body, _: says(f"<think>Hm.</think> {body['messages'][-1]['content'][0]}")
    outcome = workspace.run()
    (record,) = [r for r in outcome.records.values() if r.label == "zero-shot@big on letters" and
                 r.kind == "generate"]  # fmt: skip
    assert record.metrics["thinking_rate"] == 1.0
    path = workspace.store / "generate" / record.key[:24] / "predictions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(len(line["text"]) == 1 for line in lines)
    assert all(line["generated"].startswith("<think>") for line in lines)


def test_fields_of_the_request_can_be_named_added_and_left_out(
    served: Server, workspace: Workspace
) -> None:
    workspace.tree["models"]["big"]["endpoint"] |= {
        "max_tokens_field": "max_completion_tokens",
        "args": {"temperature": None, "reasoning_effort": "low"},
    }
    assert not workspace.run().failed
    fields = {name: value for name, value in served.asked[0].items() if name != "messages"}
    assert fields == {"model": "big-1", "max_completion_tokens": 4, "reasoning_effort": "low"}


def test_a_model_that_is_served_is_compared_and_never_trained(
    served: Server, workspace: Workspace
) -> None:
    workspace.write(matrix={"method": ["lora"], "objective": [{"sft": SFT}]})
    groups = [path.variant.group for path in workspace.open().plan.paths]
    assert groups == ["zero-shot@tiny", "zero-shot@big", "lora-sft"]
    workspace.tree["matrix"]["model"] = ["tiny", "big"]
    assert [path.variant.group for path in workspace.open().plan.paths] == groups


def test_how_a_model_is_reached_is_no_part_of_its_answers(
    served: Server, workspace: Workspace
) -> None:
    def key() -> str:
        (stage,) = [s for s in workspace.open().plan.stages()
                    if s.kind == "generate" and s.label == "zero-shot@big on letters"]  # fmt: skip
        return stage.key

    before, endpoint = key(), workspace.tree["models"]["big"]["endpoint"]
    endpoint |= {"concurrency": 9, "budget": {"calls": 9}, "timeout": 5, "api_key_env": "OTHER"}
    assert key() == before
    endpoint["args"] = {"top_k": 1}
    assert key() != before


WITH_MATRIX = {"method": ["lora"], "objective": [{"sft": SFT}]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"matrix": {**WITH_MATRIX, "model": ["big"]}}, "nothing can be trained"),
        ({"checkpoints": {"mine": {"path": ".", "model": "big"}}}, "unknown model 'big'"),
        ({"scorers": [{"perplexity": {"data": "general"}}], "models": None},
         "scores no variant: it reads the model itself, and it is served at http"),
    ],
)  # fmt: skip
def test_what_reads_weights_is_refused_with_the_reason(
    served: Server, workspace: Workspace, changes: dict[str, Any], said: str
) -> None:
    if changes.get("models", ...) is None:
        changes["models"] = {"big": workspace.tree["models"]["big"]}
    workspace.write(**changes)
    with pytest.raises((SuiteError, ModelError), match=said):
        workspace.open()


def test_a_served_reward_model_is_refused(served: Server, workspace: Workspace) -> None:
    write_jsonl(workspace.folder / "preferences.jsonl", preferences(8))
    workspace.write(
        matrix={"data": ["letters"], "method": ["lora"], "objective": ["ppo"]},
        reward_model={**REWARD, "model": "big"},
    )
    workspace.tree["data"]["preferences"] = {"train": "preferences.jsonl"}
    with pytest.raises(ModelError, match="'big' cannot be used by the method 'lora': it is served"):
        workspace.open()


AT = {"base_url": "http://localhost:1/v1", "model": "m"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"endpoint": {"model": "m"}}, "models.big.endpoint.base_url: missing"),
        ({"endpoint": AT, "path": "x"}, "`path` is of a model whose files are here"),
        ({"endpoint": AT, "dtype": "float32"}, "`dtype` is of a model whose files are here"),
        ({"endpoint": {**AT, "api_key": "sk-1"}}, "unknown key 'api_key'"),
        ({"endpoint": {**AT, "budget": {"money": 1}}}, "needs prices"),
        ({}, "give one of `path`, `gguf`, `package` and `endpoint`"),
    ],
)
def test_mistakes_in_an_endpoint_name_their_place(
    workspace: Workspace, spec: dict[str, Any], said: str
) -> None:
    workspace.write(models={**workspace.tree["models"], "big": spec})
    with pytest.raises(SuiteError, match=said) as caught:
        workspace.open()
    assert "sk-1" not in str(caught.value)
