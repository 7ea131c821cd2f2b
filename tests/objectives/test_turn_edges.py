"""Where an assistant's turns begin and end: in chats whose parts look alike or join one another,
and in answers that hold what others say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jinja2.exceptions import TemplateError

from harness.core.errors import DataError
from harness.data.render import encoded
from harness.objectives._trl import dpo as _dpo
from harness.objectives._trl import kto as _kto
from harness.objectives._trl import orpo as _orpo
from harness.objectives._trl.logps import tokens_digest
from harness.objectives.base import TrainJob
from harness.objectives.dpo import Dpo
from harness.objectives.kto import Kto
from harness.objectives.orpo import Orpo
from harness.stages._audit_answers import answers_fault
from harness.stages._stand_in import stand_in
from tests.chat_templates import assistant, names, tokenizer_of, tokenizer_with, user

RESULT = {"role": "tool", "name": "lookup", "tool_call_id": "call00001", "content": "sunny"}
ARGUMENTS: dict[str, Any] = {
    "none": {}, "none as JSON": "{}", "no column": None, "an empty text": "",
    "a truth value": {"flag": True}, "one as JSON": '{"flag": true}', "null": {"x": None},
    "an empty list": {"x": []}, "a text and a truth value": {"x": "", "flag": True},
}  # fmt: skip


def calls(*named: tuple[str, Any]) -> dict[str, Any]:
    """A turn that is nothing but calls."""
    functions = [
        {"name": name, **({} if arguments is None else {"arguments": arguments})}
        for name, arguments in named
    ]
    made = [{"id": "call00001", "type": "function", "function": told} for told in functions]
    return assistant("", tool_calls=made)


def learnt(tokenizer: Any, row: dict[str, Any]) -> list[str]:
    """What is trained on, in runs."""
    found = encoded(tokenizer, row)
    assert answers_fault(
        tokenizer, row, found.ids, {i for i, own in enumerate(found.trained) if own}, cut=False
    ) is None  # fmt: skip
    runs, before = [""], False
    for token, own in zip(found.ids, found.trained, strict=True):
        if own:
            runs = [*runs, ""] if not before and runs[-1] else runs
            runs[-1] += tokenizer.decode([token])
        before = own
    return runs


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "after another call"])
def test_no_part_of_a_tools_result_is_trained_on_whatever_the_calls_arguments_are(
    arguments: Any, beside: bool
) -> None:
    told = [("find", {"city": "Rome"})] if beside else []
    tested = 0
    for name in names():
        tokenizer = tokenizer_of(name)
        chat = [user("Hm?"), calls(*told, ("lookup", arguments)), RESULT, assistant("Fine.")]
        try:
            first, second = learnt(tokenizer, {"messages": chat})
        except TemplateError:  # takes no calls, or not several
            continue
        tested += 1
        assert "lookup" in first
        assert ("Rome" in first) == beside
        assert "sunny" not in first
        assert "response:" not in first
        assert "Fine." in second
        assert "sunny" not in second
    assert tested > 15


def test_a_template_that_writes_the_first_of_two_calls_alone_refuses_the_row() -> None:
    tokenizer = tokenizer_of("gptoss")
    chat = [user("Hm?"), calls(("find", {}), ("lookup", {})), RESULT, assistant("Fine.")]
    with pytest.raises(TemplateError, match="leaves out tool call 2 of turn 2"):
        encoded(tokenizer, {"messages": chat})


def test_words_beside_a_call_are_trained_on_or_the_row_is_refused() -> None:
    """gpt-oss cuts the words of earlier turns, as it cuts thoughts."""
    call = {**calls(("lookup", {"city": "Lima"})), "content": "Let me see."}
    written, refused = 0, dict[str, set[str]]()
    for name in names():
        row = {"messages": [user("Hm?"), call, RESULT, assistant("Fine.")]}
        try:
            first, _ = learnt(tokenizer_of(name), row)
        except TemplateError as error:
            refused.setdefault(str(error), set()).add(name.removesuffix("_training"))
            continue
        written += "Let me see." in first
        assert "Let me see." in first or name.startswith("gptoss")
        assert "sunny" not in first
    left_out = "the chat template leaves out what turn 2 says beside its tool calls"
    assert refused[left_out] == {"llama3_1", "llama3_2", "muse_glimmer"}
    around = refused["the chat template writes turn 2 partly after what turn 3 says"]
    assert {name.split("_")[0] for name in around} <= {"gemma4", "diffusion"}
    assert written > 15


SPACED = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def test_a_turn_whose_first_word_joins_its_headers_space_is_trained_on_from_that_word() -> None:
    tokenizer = tokenizer_with(SPACED, "<|end|>")
    row = {"messages": [user("Hm?"), assistant("apples"), user("So?"), assistant("then")]}
    assert tokenizer.tokenize("assistant: apples")[-6:][0] == "Ġa"  # its header's space joins it
    assert learnt(tokenizer, row) == [" apples<|end|>", "then<|end|>"]


def job(tokenizer: Any, rows: list[dict[str, Any]], folder: Path) -> TrainJob:
    return TrainJob(
        model=stand_in(), tokenizer=tokenizer, rows=list(rows), validation=[],
        checkpoints=folder, step_log=folder / "steps", seed=0, data_seed=0, dtype="float32",
        device="cpu", checkpoint_seconds=60.0, report_to=[], label="", progress=lambda *_: None,
    )  # fmt: skip


def marked(tokenizer: Any, batch: dict[str, Any]) -> str:
    return str(tokenizer.decode([label for label in batch["labels"] if label != -100]))


CHAT = tokenizer_with(SPACED.replace(": ", ":"), "<|end|>")
LONG = [assistant("one"), user("SECRET"), assistant("two")]
SHORT = [assistant("no")]
HALF = [assistant("SECRET", weight=0), user("more?"), assistant("two")]


@pytest.mark.parametrize(
    ("side", "wanted"),
    [(LONG, "one<|end|>two<|end|>"), (HALF, "two<|end|>")],
    ids=["a user's turn", "a turn of weight 0"],
)
def test_what_is_given_in_an_answer_is_not_learnt_by_dpo_and_kto(
    side: list[dict[str, Any]], wanted: str, tmp_path: Path
) -> None:
    row = {"id": "a", "prompt": [user("Hm?")]}
    pairs = [{**row, "chosen": side, "rejected": SHORT}]
    chosen, rejected = _dpo.batches(Dpo(max_length=512), job(CHAT, pairs, tmp_path))
    assert (marked(CHAT, chosen), marked(CHAT, rejected)) == (wanted, "no<|end|>")
    assert "SECRET" in CHAT.decode(chosen["input_ids"])
    unpaired = [{**row, "completion": side, "label": True}]
    (own,) = _kto.batches(Kto(max_length=512), job(CHAT, unpaired, tmp_path))
    assert marked(CHAT, own) == wanted


def test_orpos_odds_are_of_what_the_assistant_says_and_weights_are_refused(tmp_path: Path) -> None:
    pairs = [{"id": "a", "prompt": [user("Hm?")], "chosen": SHORT, "rejected": LONG}]
    _, rejected = _orpo.batches(Orpo(max_length=512), job(CHAT, pairs, tmp_path))
    assert marked(CHAT, rejected) == "one<|end|>two<|end|>"
    pairs[0]["chosen"] = HALF
    with pytest.raises(DataError, match="row a has a turn of `weight: 0`"):
        _orpo.train(Orpo(max_length=512), job(CHAT, pairs, tmp_path))


def test_a_reference_of_other_places_in_the_loss_is_another() -> None:
    own = {"prompt_ids": [1], "chosen_ids": [2, 3], "rejected_ids": [4]}
    plain = {**own, "chosen_unlearnt": [], "rejected_unlearnt": []}
    assert tokens_digest(plain, 8) == tokens_digest(own, 8)
    assert tokens_digest({**plain, "chosen_unlearnt": [0]}, 8) != tokens_digest(own, 8)
