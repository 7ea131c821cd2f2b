"""Each check of a training's audit by itself: what passes, what fails, and what is only told."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.data.render import encoded
from harness.models.files import ModelInfo
from harness.models.precision import MasterWeights
from harness.objectives._trl import movement as _movement
from harness.objectives._trl.movement import Watch, due_by, elements, places, spread
from harness.objectives.base import Evidence
from harness.stages import _audit, _audit_loss, _audit_movement
from harness.stages._audit import declared, gradients, probe, same, switched_off
from harness.stages._audit_answers import answers_fault
from harness.stages._audit_loss import RowIndex, audit_loss, audit_prompts
from harness.stages._audit_movement import changed, excused, moved, unmoved
from tests.families import byte_tokenizer

IGNORED = torch.nn.CrossEntropyLoss().ignore_index
CHAT = {
    "id": "row-1",
    "messages": [
        {"role": "user", "content": "a1?"},
        {"role": "assistant", "content": "aaa"},
        {"role": "user", "content": "b2?"},
        {"role": "assistant", "content": "bb"},
    ],
}
PAIR = {"id": "row-2", "prompt": "Say it: ", "completion": "so be it"}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer()


# --- the loss -------------------------------------------------------------------------------------


def batch(tokenizer: Any, *rows: dict[str, Any], pads: int = 0) -> dict[str, list[list[int]]]:
    """What enters the model of these rows, each padded."""
    found: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for row in rows:
        own = encoded(tokenizer, row)
        learnt = own.trained if "text" not in row else [True] * len(own.ids)
        labels = [i if yes else IGNORED for i, yes in zip(own.ids, learnt, strict=True)]
        found["input_ids"].append([*own.ids, *[tokenizer.pad_token_id] * pads])
        found["attention_mask"].append([1] * len(own.ids) + [0] * pads)
        found["labels"].append([*labels, *[IGNORED] * pads])
    return found


def judged(tokenizer: Any, entered: dict[str, Any], only: bool | None = True) -> list[str]:
    """Status of the padding's check and of the tokens' check, with the latter's detail."""
    index = RowIndex()
    for row in (CHAT, PAIR, {"id": "row-3", "text": "a text"}):
        index.add(row, encoded(tokenizer, row).ids)
    padding, tokens = audit_loss(tokenizer, index, Evidence(batches=(entered,)), only)
    return [padding["status"], tokens["status"], tokens["detail"]]


def test_answers_alone_are_in_the_loss(tokenizer: Any) -> None:
    entered = batch(tokenizer, CHAT, PAIR, pads=2)
    assert judged(tokenizer, entered) == ["passed", "passed", "the answers alone"]
    del entered["attention_mask"]
    assert judged(tokenizer, batch(tokenizer, CHAT) | {"attention_mask": None})[:2] == [
        "passed", "passed",
    ]  # fmt: skip
    texts = batch(tokenizer, {"text": "a text"})
    assert judged(tokenizer, texts, only=False) == ["passed", "passed", "every token"]


def test_a_padded_token_with_a_label_is_found(tokenizer: Any) -> None:
    entered = batch(tokenizer, CHAT, pads=2)
    entered["labels"][0][-1] = 1
    assert judged(tokenizer, entered)[0] == "failed"


@pytest.mark.parametrize("row", [CHAT, PAIR], ids=["chat", "pair"])
def test_a_token_too_many_or_too_few_is_found(tokenizer: Any, row: dict[str, Any]) -> None:
    own = encoded(tokenizer, row)
    learnt = [i for i, yes in enumerate(own.trained) if yes]
    first, last = learnt[0], learnt[-1]
    for place, label in ((first - 1, own.ids[first - 1]), (last, IGNORED)):
        entered = batch(tokenizer, row)
        entered["labels"][0][place] = label
        _, status, detail = judged(tokenizer, entered)
        assert status == "failed"
        assert detail.startswith(f"1 of 1 rows: row {row['id']}: ")
    entered = batch(tokenizer, row, row)
    entered["labels"][1][first] = own.ids[first] + 1
    _, status, detail = judged(tokenizer, entered)
    assert (status, detail) == (
        "failed", f"1 of 2 rows: row {row['id']}: a label that is not its own token",
    )  # fmt: skip


def test_first_of_several_faults_is_told(tokenizer: Any) -> None:
    entered = batch(tokenizer, CHAT, PAIR)
    for row in (0, 1):
        entered["labels"][row][0] = entered["input_ids"][row][0]
    assert judged(tokenizer, entered)[2].startswith("2 of 2 rows: row row-1: ")


def test_a_text_is_in_the_loss_as_a_whole(tokenizer: Any) -> None:
    entered = batch(tokenizer, {"text": "a text"})
    entered["labels"][0][2] = IGNORED
    assert judged(tokenizer, entered, only=False)[1:] == [
        "failed", "1 of 1 rows: row row-3: 1 tokens out of the loss",
    ]  # fmt: skip


def test_tokens_of_no_row_are_found(tokenizer: Any) -> None:
    _, status, detail = judged(tokenizer, batch(tokenizer, {"text": "another"}), only=False)
    assert status == "failed"
    assert "a sequence of 8 tokens that no training row renders to" in detail


def test_what_cannot_be_told_is_skipped(tokenizer: Any) -> None:
    assert judged(tokenizer, batch(tokenizer, CHAT), None)[:2] == ["passed", "skipped"]
    for evidence in (None, Evidence(), Evidence(batches=({"input_ids": [[1]]},))):
        found = audit_loss(tokenizer, RowIndex(), evidence, True)
        assert [check["status"] for check in found] == ["skipped", "skipped"]


def test_cut_rows_are_judged_by_what_is_left(tokenizer: Any) -> None:
    own = encoded(tokenizer, CHAT)
    learnt = {i for i, yes in enumerate(own.trained) if yes}
    for length in range(own.trained.index(True) + 1, len(own.ids)):
        ids, trained = own.ids[:length], {i for i in learnt if i < length}
        assert answers_fault(tokenizer, CHAT, ids, trained, cut=True) is None
    short = own.ids[: len(own.ids) - 2]
    entered = batch(tokenizer, CHAT)
    cut = {name: [row[0][: len(short)]] for name, row in entered.items()}
    assert judged(tokenizer, cut)[1] == "passed"


def test_a_row_whose_beginning_is_cut_is_judged_by_its_end(tokenizer: Any) -> None:
    own = encoded(tokenizer, CHAT)
    index = RowIndex(cut=slice(own.trained.index(True) - 2, None))
    index.add(CHAT, own.ids)
    whole = batch(tokenizer, CHAT)
    cut = {name: [row[0][index.cut]] for name, row in whole.items()}
    assert audit_loss(tokenizer, index, Evidence(batches=(cut,)), True)[1]["status"] == "passed"
    cut["labels"][0][0] = cut["input_ids"][0][0]
    found = audit_loss(tokenizer, index, Evidence(batches=(cut,)), True)[1]
    assert found["status"] == "failed"
    assert found["detail"].startswith(f"1 of 1 rows: row {CHAT['id']}: ")


def test_faults_of_a_completion_are_counted(tokenizer: Any) -> None:
    own = encoded(tokenizer, PAIR)
    right = set(range(own.prompt, len(own.ids)))
    assert answers_fault(tokenizer, PAIR, own.ids, right, cut=False) is None
    for wrong, said in (
        (right | {2, 3}, "2 tokens of the prompt in the loss, the first at 2"),
        (right - {own.prompt + 1, own.prompt + 2},
         f"2 tokens of the answer out of the loss, the first at {own.prompt + 1}"),
    ):  # fmt: skip
        assert answers_fault(tokenizer, PAIR, own.ids, wrong, cut=False) == said


def test_faults_of_a_chat_are_named(tokenizer: Any) -> None:
    own = encoded(tokenizer, CHAT)
    right = {i for i, yes in enumerate(own.trained) if yes}
    first = min(right)
    last_turn = {i for i in right if i > first + 6}
    for wrong, said in (
        (right - last_turn, "1 answers in the loss, of 2"),
        (right | {first - 1}, f"1 tokens of the prompt in the loss, the first at {first - 1}"),
        ((right - {max(right)}), "turn 4: its end is not in the loss"),
        (right - {first, first + 1, first + 2}, "turn 2: the loss is not on what it says"),
        (right - {max(right) - 1, max(right) - 2}, "turn 4: the loss is not on what it says"),
    ):
        assert answers_fault(tokenizer, CHAT, own.ids, wrong, cut=False) == said
    silent = {**CHAT["messages"][1], "weight": 0}
    weighted = {**CHAT, "messages": [CHAT["messages"][0], silent, *CHAT["messages"][2:]]}
    assert answers_fault(tokenizer, weighted, own.ids, last_turn, cut=False) is None
    assert answers_fault(tokenizer, weighted, own.ids, right, cut=False) == (
        "2 answers in the loss, of 1"
    )


def test_of_a_template_that_marks_fewer_turns_the_marked_ones_are_in_the_loss() -> None:
    found = byte_tokenizer()
    found.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' and loop.last %}<|assistant|>"
        "{% generation %}{{ m['content'] }}<|end|>{% endgeneration %}"
        "{% elif m['role'] == 'assistant' %}<|assistant|>{{ m['content'] }}<|end|>"
        "{% else %}<|user|>{{ m['content'] }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    ids = found.apply_chat_template(CHAT["messages"], tokenize=True, return_dict=False)
    end = len(ids)
    right = {end - 3, end - 2, end - 1}  # bb and its end
    for learnt, said in (
        (right, None),
        (right | {end - 4}, f"tokens of the prompt in the loss, one at {end - 4}"),
        (right - {end - 1}, "the end of an answer is not in the loss"),
        ({5, 6, 7, 8}, "the loss is on tokens that the template does not mark"),
        (set(), "no token in the loss"),
    ):
        assert answers_fault(found, CHAT, ids, learnt, cut=False) == said


def test_each_of_the_two_findings_on_the_loss_has_its_name(tokenizer: Any) -> None:
    padding, tokens = "no padding in the loss", "the loss is on the tokens it should be on"
    index = RowIndex()
    index.add(CHAT, encoded(tokenizer, CHAT).ids)
    entered = batch(tokenizer, CHAT, pads=2)
    faulty = batch(tokenizer, CHAT, pads=2)
    faulty["labels"][0][-1] = 5
    for evidence, only, details in (
        (None, True, ["no labels entered the model"] * 2),
        (entered, None, ["no padded tokens in the first batches' loss",
                         "rows are packed, and cannot be told apart"]),
        (entered, True, ["no padded tokens in the first batches' loss", "the answers alone"]),
        (faulty, True, ["1 padded tokens in the first batches' loss", "the answers alone"]),
    ):  # fmt: skip
        shown = None if evidence is None else Evidence(batches=(evidence,))
        found = audit_loss(tokenizer, index, shown, only)
        assert [check["check"] for check in found] == [padding, tokens]
        assert [check["detail"] for check in found] == details
        assert found[0]["status"] == ("failed" if evidence is faulty else found[0]["status"])


def test_batches_without_labels_hide_no_others(tokenizer: Any) -> None:
    index = RowIndex()
    entered = batch(tokenizer, CHAT, pads=1)
    entered["labels"][0][-1] = 5
    shown = Evidence(batches=({"input_ids": [[1]]}, {"labels": [[1]]}, entered))
    assert audit_loss(tokenizer, index, shown, None)[0]["status"] == "failed"


def test_rows_are_known_by_their_first_2_8_32_tokens_and_so_on() -> None:
    assert _audit_loss._heads(1) == []
    assert _audit_loss._heads(8) == [2, 8]
    assert _audit_loss._heads(130) == _audit_loss._heads(128) == [2, 8, 32, 128]
    assert _audit_loss._heads(10**6)[-1] == 2 * 4**9


def test_rows_are_found_by_their_beginning_cut_or_not(tokenizer: Any) -> None:
    index, texts = RowIndex(), [{"text": "x" * 40 + end} for end in ("a", "b")]
    for row in texts:
        index.add(row, encoded(tokenizer, row).ids)
    for row in texts:
        ids = encoded(tokenizer, row).ids
        assert ids[-1] == tokenizer.eos_token_id
        assert index.find(tokenizer, ids) == row
        assert index.find(tokenizer, ids[:-1]) == row
        for further in (7, tokenizer.eos_token_id):
            assert index.find(tokenizer, [*ids, further]) is None
    assert index.find(tokenizer, encoded(tokenizer, texts[0]).ids[:35]) in texts


def test_prompts_are_asked_as_they_were_trained(tokenizer: Any) -> None:
    rows = [CHAT, PAIR, {"text": "a"}]
    assert audit_prompts(tokenizer, rows)["status"] == "passed"
    assert audit_prompts(tokenizer, rows)["detail"] == "2 rows"
    assert audit_prompts(tokenizer, [{"text": "a"}])["status"] == "skipped"
    assert audit_prompts(tokenizer, [CHAT] * 12)["detail"] == "8 rows"


def test_a_prompt_that_is_asked_otherwise_fails(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _audit_loss.asked_ids
    monkeypatch.setattr(_audit_loss, "asked_ids", lambda t, row: [*asked(t, row)[:-1], 9])
    found = audit_prompts(tokenizer, [CHAT, PAIR])
    assert (found["status"], found["detail"]) == ("failed", "2 rows; not row row-1")
    # Asked and trained on alike, but not as the template has it.
    monkeypatch.setattr(_audit_loss, "asked_ids", asked)
    monkeypatch.setattr(_audit_loss, "render", lambda *_, **__: "otherwise")
    assert audit_prompts(tokenizer, [PAIR])["status"] == "passed"
    assert audit_prompts(tokenizer, [CHAT])["status"] == "failed"
    # Not what the row says.
    monkeypatch.setattr(_audit_loss, "bare_ids", lambda tokenizer, text: [70, 71, 72])
    assert audit_prompts(tokenizer, [PAIR])["status"] == "failed"


@pytest.mark.parametrize(
    "changed", [lambda ids: [9, *ids[1:]], lambda ids: ids[:-1]], ids=["another", "fewer"]
)
def test_each_token_of_a_prompt_is_asked(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, changed: Any
) -> None:
    asked = _audit_loss.asked_ids
    monkeypatch.setattr(_audit_loss, "asked_ids", lambda t, row: changed(asked(t, row)))
    assert audit_prompts(tokenizer, [PAIR])["status"] == "failed"


def test_first_of_the_rows_that_a_template_writes_otherwise_is_named(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        _audit_loss, "encoded", lambda t, row: replace(encoded(t, row), rejoined=row is not PAIR)
    )
    rows = [PAIR, CHAT, {**CHAT, "id": "row-9"}, {**CHAT, "id": "row-8"}]
    assert "; 3 of them (first: row-1) " in audit_prompts(tokenizer, rows)["detail"]


# --- what trained ---------------------------------------------------------------------------------


def test_as_many_parameters_train_as_declared() -> None:
    state = {"a": torch.zeros(2, 3), "b": torch.zeros(4)}
    assert declared(state, 10)["status"] == "passed"
    assert declared(state, 9) == {
        "check": "trainable parameters as declared", "status": "failed",
        "detail": "10, declared 9",
    }  # fmt: skip
    assert declared(state, None) == {
        "check": "trainable parameters as declared", "status": "skipped",
        "detail": "10; no formula for it",
    }  # fmt: skip
    assert declared({}, 0)["status"] == "failed"
    assert declared({"a": torch.zeros(1)}, 1)["status"] == "passed"


def test_gradients_reach_all_or_it_is_said_where_not() -> None:
    assert gradients(Evidence(signal=True), False)["status"] == "passed"
    for evidence in (None, Evidence(signal=True), Evidence(without_gradient=("a",))):
        assert gradients(evidence, True)["check"] == "gradients reached every trainable tensor"
    unseen = gradients(None, False)
    assert (unseen["status"], unseen["detail"]) == ("skipped", "the objective shows no gradients")
    missing = Evidence(signal=True, without_gradient=("a", "b"), behind_gates=("c",))
    found = gradients(missing, True)
    assert found["status"] == "failed"
    assert found["detail"].startswith("none at a and 1 others; 1 can have none before")
    silent = Evidence(without_gradient=("a",))
    assert [gradients(silent, may)["status"] for may in (True, False)] == ["skipped", "failed"]
    assert gradients(silent, True)["detail"] == "no step carried a signal"


@pytest.mark.parametrize(("share", "status"), [(0.0, "passed"), (0.0099, "passed"),
                                               (0.0101, "failed"), (1.0, "failed")])  # fmt: skip
def test_logits_are_the_same_within_a_share_of_the_largest(share: float, status: str) -> None:
    wanted = torch.tensor([[1.0, -50.0]])
    found = wanted + torch.tensor([[share * 50, 0.0]])
    told = same("reloads", found, wanted, 0.01)
    assert (told["check"], told["status"]) == ("reloads", status)
    assert told["detail"].endswith("allowed 0.01")
    assert same("zeros", torch.zeros(1, 1), torch.zeros(1, 1), 0.01)["status"] == "passed"
    assert same("on it", torch.tensor([0.5]), torch.tensor([1.0]), 0.5)["status"] == "passed"


@pytest.mark.parametrize(("share", "status"), [(0.0, "passed"), (0.9, "passed"), (1.1, "failed"),
                                               (900.0, "failed")])  # fmt: skip
def test_checkpoint_reloads_within_its_methods_tolerance(share: float, status: str) -> None:
    model, ids = Answers().eval(), torch.arange(8)[None]
    after = _audit.logits(model, ids)
    loaded = Answers().eval()
    loaded.table.weight.data = model.table.weight.data * (1 + share * 1e-3)
    method: Any = SimpleNamespace(load_trained=lambda ref, folder: loaded, reload_tolerance=1e-3)
    ref: Any = None
    assert _audit.reloads(method, ref, Path(), ids, after)["status"] == status


def test_a_loss_that_is_no_number_names_its_step(tmp_path: Path) -> None:
    log = tmp_path / "steps.jsonl"
    assert _audit._finite(log) == {
        "check": "every loss is finite", "status": "skipped",
        "detail": "the objective wrote no step log",
    }  # fmt: skip
    steps: list[dict[str, Any]] = [{"step": 1, "loss": 0.5}, {"step": 2}, {"step": 3, "loss": 0.1}]
    log.write_text("\n".join(map(json.dumps, steps)))
    assert _audit._finite(log)["status"] == "passed"
    log.write_text("\n".join(map(json.dumps, [*steps, {"step": 4, "loss": math.nan}])))
    assert _audit._finite(log)["detail"] == "4 steps; not step 4"
    lost = [{"step": number, "loss": math.inf} for number in (4, 5)]
    log.write_text("\n".join(map(json.dumps, [*steps, *lost])))
    assert _audit._finite(log)["detail"] == "5 steps; not step 4"


def test_probe_is_of_the_first_rows_cut_to_one_length(tokenizer: Any) -> None:
    rows = [{"text": "abc" * n} for n in (30, 4, 5, 40, 1)]
    found = probe(tokenizer, rows, "cpu")
    assert found.shape == (4, 12)
    assert tokenizer.decode(found[0]) == "abc" * 4
    assert probe(tokenizer, rows[:1], "cpu").shape == (1, 64)
    assert probe(tokenizer, [rows[0], rows[3]], "cpu").shape == (2, 64)


class Answers(torch.nn.Module):
    """A model whose logits are a table of its tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(8, 8)

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, input_ids: Any, use_cache: bool) -> Any:
        return SimpleNamespace(logits=self.table(input_ids).double() + float(self.training))


def test_logits_are_of_a_model_that_is_not_training_and_leave_it_as_it_was() -> None:
    model, ids = Answers().train(), torch.arange(4)[None]
    found = _audit.logits(model, ids)
    assert torch.equal(found, model.table.weight[:4].float()[None])
    assert (found.dtype, model.training, found.requires_grad) == (torch.float32, True, False)
    assert not _audit.logits(model.eval(), ids).requires_grad
    assert not model.training


class Switch:
    name = "switch"

    def __init__(self, model: Answers, off: bool, excused: bool = False) -> None:
        self.model, self.off, self.excused = model, off, excused

    def exceptions(self) -> dict[str, str]:
        return {"switched_off": "it cannot be told"} if self.excused else {}

    def switched_off(self, model: Any) -> Any:
        import contextlib

        return contextlib.nullcontext() if self.off else None


def test_switched_off_means_the_very_same_logits() -> None:
    model, ids = Answers().eval(), torch.arange(4)[None]
    before = _audit.logits(model, ids)

    def status(method: Any, before: Any = before) -> str:
        return switched_off(method, model, ids, before)["status"]

    assert status(Switch(model, True)) == "passed"
    assert status(Switch(model, True), before + 1e-6) == "failed"
    assert status(Switch(model, True), before[..., :5]) == "passed"
    assert status(Switch(model, True, excused=True)) == "skipped"
    told = switched_off(Switch(model, False), model, ids, before)  # type: ignore[arg-type]
    assert told == {
        "check": "switched off, it is its base", "status": "skipped",
        "detail": "switch has no off switch",
    }  # fmt: skip
    wider = torch.cat([before, before[..., :1] + 1], dim=-1)
    assert status(Switch(model, True), wider) == "passed"
    for token in range(8):
        other = before.clone()
        other[..., token] += 0.5
        assert status(Switch(model, True), other) == "failed", token
    excuse: Any = Switch(model, True, excused=True)
    assert switched_off(excuse, model, ids, before)["detail"] == "it cannot be told"


class Linear(torch.nn.Module):
    """One matrix that trains beside one that does not; its logits are of the sum of both."""

    def __init__(self) -> None:
        super().__init__()
        self.base = torch.nn.Linear(4, 4, bias=False).requires_grad_(False)
        self.own = torch.nn.Linear(4, 4, bias=False)

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, input_ids: Any, use_cache: bool) -> Any:
        entered = torch.eye(4)[input_ids]
        return SimpleNamespace(logits=self.base(entered) + self.own(entered))


def whole_audit(learnt: float, begun: bool = False) -> dict[str, dict[str, str]]:
    """Check -> finding, of a training that adds a number to every trained weight."""
    model, ids = Linear().eval(), torch.arange(4)[None]
    before = _audit.logits(model, ids)
    method: Any = SimpleNamespace(
        name="linear", trainable_state=lambda model: {"own": model.own.weight},
        keeps_float32=lambda: True, exceptions=lambda: {"switched_off": "it is one matrix"},
        proofs=lambda model: {"a proof": (True, "shown")},
    )  # fmt: skip
    start = _audit.fingerprint(method.trainable_state(model))
    held = places(method.trainable_state(model))
    model.own.weight.data += learnt
    seen = [(1, torch.ones(16, dtype=torch.bool))]
    evidence = Evidence(signal=True, dues={"own": seen}, reached={"own": 1})
    checks, after = _audit.audit(
        method, model, ids, before, start, 16, Path("no step log"), before if begun else None,
        places=held, masters=MasterWeights(()), evidence=evidence,
    )  # fmt: skip
    assert torch.equal(after, _audit.logits(model, ids))
    return {finding["check"]: finding for finding in checks}


def test_audit_asks_each_thing_once_and_of_a_start_where_there_is_one() -> None:
    plain, from_start = whole_audit(0.5), whole_audit(0.5, begun=True)
    assert {name: found["status"] for name, found in from_start.items()} == {
        "trainable parameters as declared": "passed",
        "training moved every trainable tensor": "passed",
        _movement.ELEMENTS: "passed",
        "the trained model differs from its base": "passed",
        _audit_movement.FROM_START: "passed",
        "switched off, it is its base": "skipped",
        "every loss is finite": "skipped",
        "a proof": "passed",
    }
    assert from_start.keys() - plain.keys() == {_audit_movement.FROM_START}


def test_audit_of_a_training_that_changed_nothing_says_so_in_each_way() -> None:
    found = whole_audit(0.0, begun=True)
    assert {name for name, finding in found.items() if finding["status"] == "failed"} == {
        "training moved every trainable tensor", _movement.ELEMENTS,
        "the trained model differs from its base", _audit_movement.FROM_START,
    }  # fmt: skip


def test_parameters_that_a_suite_trains_in_full_are_declared_beside_the_methods_own() -> None:
    shapes = {"a.weight": (2, 3), "a.head.weight": (5,), "b.head.bias": (7, 2)}
    info = ModelInfo("", None, {}, {}, shapes, modules={})
    counts: dict[tuple[str, ...], int | None] = {}

    def count_trainable(info: ModelInfo) -> int:
        counts[tuple(info.shapes)] = 100
        return 100

    method: Any = SimpleNamespace(describe=lambda base: info, count_trainable=count_trainable)
    assert _audit.expected_trainable(method, None, ()) == 100
    assert _audit.expected_trainable(method, None, ("head",)) == 100 + 5 + 14
    assert _audit.expected_trainable(method, None, ("b.head",)) == 100 + 14
    assert list(counts) == [tuple(shapes), ("a.weight",), ("a.weight", "a.head.weight")]
    method.count_trainable = lambda info: None
    assert _audit.expected_trainable(method, None, ("head",)) is None


def test_what_is_frozen_is_what_takes_no_gradient() -> None:
    assert {*_audit.frozen_state(Linear())} == {"base.weight"}


def test_logits_of_a_language_model_are_of_every_eighth_token_from_the_last(
    tiny_model: Path,
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    ids = torch.arange(40).reshape(2, 20)
    with torch.no_grad():
        whole = model(input_ids=ids).logits
    found = _audit.logits(model, ids)
    wanted = whole[:, [3, 11, 19]].reshape(-1, whole.shape[-1])
    torch.testing.assert_close(found.reshape(wanted.shape), wanted)


def test_logits_that_changed_are_finite_and_others() -> None:
    ones = torch.ones(1, 3)
    assert changed(ones, ones * 2)["status"] == "passed"
    assert changed(ones, ones)["status"] == "failed"
    assert changed(ones, ones, fault="too small a step")["detail"].endswith("; too small a step")
    assert changed(ones, ones * 2, fault="too small a step")["detail"] == "largest logit change 1"
    broken = changed(ones, ones * math.inf, fault="too small a step")
    assert (broken["status"], broken["detail"]) == ("failed", "largest logit change inf")
    wider_alone = changed(ones, torch.ones(1, 4), fault="too small a step")
    assert wider_alone["detail"] == "largest logit change 0", "it passes, as it has another shape"
    assert changed(ones, torch.ones(1, 4))["status"] == "passed"
    assert changed(ones, ones, "named")["check"] == "named"
    assert changed(ones, ones)["check"] == "the trained model differs from its base"
    before, wider = torch.zeros(1, 2, 3), torch.zeros(1, 2, 4)
    wider[0, 0, 2] = 5.0
    for one, other in ((before, wider), (wider, before)):
        assert changed(one, other)["detail"] == "largest logit change 5"


def test_what_is_frozen_stays() -> None:
    start = {"a": "1", "b": "2"}
    assert unmoved(start, dict(start))["status"] == "passed"
    assert unmoved({}, {}) == {
        "check": "nothing frozen moved", "status": "skipped", "detail": "nothing is frozen",
    }  # fmt: skip
    for end in ({"a": "1", "b": "3"}, {"a": "1"}, {**start, "c": "4"}):
        assert unmoved(start, end)["status"] == "failed"
    assert unmoved(start, {"a": "9", "b": "9"})["detail"] == "2 frozen tensors; changed: a"


def test_only_failures_to_move_are_excused() -> None:
    names = ("training moved every trainable tensor", "no padding in the loss")
    found = [_audit_movement.check(name, good, "why") for name in names for good in (True, False)]
    told = excused(found)
    assert [check["status"] for check in told] == ["passed", "skipped", "passed", "failed"]
    assert told[1]["detail"] == "no step carried a signal; why"


def test_tensors_that_stood_still_are_named_or_excused() -> None:
    start, end = {"a": "1", "b": "2", "c": "3"}, {"a": "9", "b": "2", "c": "3"}
    found = moved(start, end)
    assert (found["status"], found["detail"]) == ("failed", "1 of 3 trainable tensors moved; not b")
    assert found["check"] == "training moved every trainable tensor"
    assert moved(start, {"a": "9", "b": "8", "c": "7"})["status"] == "passed"
    assert moved({}, {"a": "1"})["status"] == "passed"
    assert moved(start, end, rounded=True)["status"] == "skipped"
    assert moved(start, start, rounded=True)["status"] == "failed"
    early = Evidence(behind_gates=("b",), reached={"c": 1})
    found = moved(start, end, early)
    assert found["status"] == "passed"
    assert "1 could not: no gradient had come to them" in found["detail"]
    assert "1 could not: every step was smaller" in found["detail"]
    assert "learning_rate" not in found["detail"]
    untold = Evidence(behind_gates=("b",), reached={"c": 1}, untold=frozenset("c"))
    assert moved(start, end, untold)["status"] == "skipped"
    due = Evidence(reached={"b": 1, "c": 1}, dues={"b": [(1, None)]})
    assert moved(start, end, due)["detail"].endswith("; not b")
    assert moved(start, end, Evidence(reached={"c": 1}))["status"] == "failed"


# --- elements -------------------------------------------------------------------------------------


def test_places_are_spread_over_all_columns() -> None:
    assert torch.equal(spread(torch.arange(9)), torch.arange(9))
    wide = torch.arange(512 * 512).reshape(512, 512)
    found = spread(wide)
    assert 65_536 / 2 < len(found) <= 65_536
    assert len(torch.unique(found % 512)) == 512
    assert len(spread(torch.zeros(65_536))) == 65_536
    assert len(spread(torch.zeros(65_537))) == 65_536 // 2 + 1
    for shape in ((50_000, 2), (16_384, 6), (8_192, 4, 6), (6, 32, 512)):
        found = spread(torch.arange(math.prod(shape)).reshape(shape))
        assert len(torch.unique(found % shape[-1])) == shape[-1], shape
        assert len(found) >= math.prod(shape) // 5
    assert spread(torch.tensor(3.0)).tolist() == [3.0]
    own = torch.zeros(4)
    kept = places({"w": own})["w"]
    own += 1
    assert kept.tolist() == [0.0] * 4


def test_steps_that_move_are_joined() -> None:
    first, second = torch.tensor([True, False]), torch.tensor([False, False])
    found = due_by({"a": [(1, first), (2, second)], "b": [(1, second)], "c": []})
    assert {name: own.tolist() for name, own in found.items()} == {
        "a": [True, False], "b": [False, False],
    }  # fmt: skip


def shares(
    right: int, asked: int, total: int = 200, dtype: Any = torch.float32, **told: Any
) -> Any:
    """A tensor of which so many elements are due, and so many of these moved."""
    state = (torch.arange(total) < right).to(dtype)
    due = torch.arange(total) < asked
    return elements({"w": torch.zeros(total, dtype=dtype)}, {"w": state}, {"w": due}, **told)


def test_nine_in_ten_of_what_is_due_has_moved() -> None:
    assert shares(90, 100)["status"] == "passed"
    assert shares(89, 100)["status"] == "failed"
    assert shares(90, 100)["detail"] == (
        "45.0% of 200 elements moved; 90.0% of those that a float32 step moves (least: 90.0% of w)"
    )
    assert shares(89, 100)["detail"].endswith(
        "the weights are float32: raise the learning rate, or look at which step was kept"
    )
    assert shares(0, 100, dtype=torch.bfloat16)["detail"].endswith(
        "the weights are bfloat16: train float32 weights, or raise the learning rate"
    )
    assert shares(0, 100, rounded=True)["status"] == "skipped"
    assert shares(0, 0)["status"] == "skipped"
    for found in (shares(90, 100), shares(89, 100), shares(0, 100, rounded=True), shares(0, 0)):
        assert found["check"] == "no step was lost to rounding"
    assert shares(0, 31)["detail"].endswith("which step was kept")
    assert "least" not in shares(31, 31)["detail"]
    assert "least" in shares(32, 32)["detail"]
    assert elements({}, {}, {})["status"] == "skipped"
    assert shares(1, 1, total=1)["detail"].startswith("100.0% of 1 elements moved")


def test_one_tensor_that_stood_still_is_enough_to_fail() -> None:
    before = {"large": torch.zeros(2000), "small": torch.zeros(40)}
    state = {"large": torch.ones(2000), "small": (torch.arange(40) < 30).float()}
    due = {name: torch.ones(len(own), dtype=torch.bool) for name, own in before.items()}
    found = elements(before, {**state, "small": state["small"].bfloat16()}, due)
    assert found["status"] == "failed"
    assert "; the weights are bfloat16: " in found["detail"]
    assert "(least: 75.0% of small)" in found["detail"]
    assert elements(before, state, {"large": due["large"]})["status"] == "passed"


# --- gradients ------------------------------------------------------------------------------------


def parameter(value: float = 1.0, grad: float | None = None) -> torch.nn.Parameter:
    made = torch.nn.Parameter(torch.full((8,), value))
    made.grad = None if grad is None else torch.full((8,), grad)
    return made


def test_before_any_step_what_stands_behind_a_gate_is_told_apart() -> None:
    watch = Watch({"gate": parameter(), "gated": parameter()}, {"gated": "gate"})
    assert (watch.without_gradient, watch.behind_gates) == (("gate",), ("gated",))


def test_what_no_gradient_reaches_is_told_once_its_gate_is_open() -> None:
    gate, gated, free = parameter(0.0), parameter(), parameter(grad=1.0)
    watch = Watch({"gate": gate, "gated": gated, "free": free}, {"gated": "gate"})
    optimizer = torch.optim.SGD([gate, gated, free], lr=0.1)
    watch.look(optimizer)
    assert watch.signal
    assert (watch.without_gradient, watch.behind_gates) == (("gate",), ("gated",))
    gate.grad = torch.ones(8)
    watch.look(optimizer)
    assert (watch.without_gradient, watch.behind_gates) == ((), ("gated",))
    gate.data[3] = 1.0
    gated.grad = torch.zeros(8)
    watch.look(optimizer)
    assert (watch.without_gradient, watch.behind_gates) == (("gated",), ())
    gated.grad = torch.zeros(8)
    gated.grad[5] = 1.0
    watch.look(optimizer)
    assert (watch.without_gradient, watch.behind_gates) == ((), ())
    assert watch.reached == {"free": 1, "gate": 2, "gated": 4}


def test_watching_ends_after_twenty_steps_or_when_all_is_seen() -> None:
    never, optimizer = parameter(), torch.optim.SGD([parameter()], lr=0.1)
    watch = Watch({"w": never}, {})
    for _ in range(20):
        watch.look(optimizer)
    never.grad = torch.ones(8)
    watch.look(optimizer)
    assert (watch.without_gradient, watch.signal) == (("w",), False)
    late = Watch({"w": never}, {})
    for _ in range(19):
        never.grad = None
        late.look(optimizer)
    never.grad = torch.ones(8)
    late.look(optimizer)
    assert late.signal


def test_a_step_is_due_where_sixteen_spacings_of_float32_are_passed() -> None:
    spacing = 2.0**-23
    for optimizer in (torch.optim.SGD, torch.optim.AdamW):
        for times, due in ((15.5, False), (16.5, True)):
            own = parameter(1.0, 1.0)
            made = optimizer([own], lr=times * spacing)
            watch = Watch({"w": own}, {})
            watch.look(made, 7)
            assert bool(watch.dues) is due
            if due:
                ((number, found),) = watch.dues["w"]
                assert number == 7
                assert found.all()


@pytest.mark.parametrize("value", [1 / 64, 64.0])
def test_spacings_are_those_of_the_number_that_a_step_moves(value: float) -> None:
    for times, due in ((15.5, False), (16.5, True)):
        own = parameter(value, 1.0)
        watch = Watch({"w": own}, {})
        watch.look(torch.optim.SGD([own], lr=times * 2.0**-23 * value))
        assert bool(watch.dues) is due


def test_elements_without_a_gradient_are_never_due_and_never_waited_for() -> None:
    """Such as the embeddings of tokens that no row has."""
    own = parameter()
    optimizer, watch = torch.optim.SGD([own], lr=1.0), Watch({"w": own}, {})
    for large in (1, 2, 4):
        own.grad = torch.zeros(8)
        own.grad[:4] = 1e-12
        own.grad[:large] = 1.0
        watch.look(optimizer)
    assert [int(due.sum()) for _, due in watch.dues["w"]] == [1, 2]
    forgotten = Watch({"w": own}, {})
    forgotten.look(torch.optim.SGD([parameter()], lr=1.0))
    ((_, due),) = forgotten.dues["w"]
    assert due.tolist() == [True] * 4 + [False] * 4


def test_adams_step_is_half_where_the_gradient_is_as_small_as_its_epsilon() -> None:
    for spacings, due in ((30, False), (34, True)):
        own = parameter(1.0, 1e-4)
        watch = Watch({"w": own}, {})
        watch.look(torch.optim.AdamW([own], lr=spacings * 2.0**-23, eps=1e-4))
        assert bool(watch.dues) is due


def test_a_tensor_is_watched_until_half_of_it_is_due() -> None:
    own = parameter(1.0)
    made, watch = torch.optim.SGD([own], lr=1.0), Watch({"w": own}, {})
    for large in (3, 4, 8):
        own.grad = torch.full((8,), 1e-12)
        own.grad[:large] = 1.0
        watch.look(made)
    assert [(number, int(due.sum())) for number, due in watch.dues["w"]] == [(1, 3), (2, 4)]


def test_watch_that_goes_on_from_its_state_sees_what_one_without_a_break_sees() -> None:
    gate, gated, late = parameter(0.0), parameter(), parameter()
    parameters = {"gate": gate, "gated": gated, "late": late, "free": parameter(grad=1.0)}
    groups = [{"params": [gate, gated, late], "lr": 1.0}]
    optimizer, gates = torch.optim.SGD(groups), {"gated": "gate"}
    whole, broken = Watch(parameters, gates), Watch(parameters, gates)

    def look(step: int) -> None:
        for watch in (whole, broken):
            watch.look(optimizer, step)

    look(1)
    gate.data[0] = 1.0
    gate.grad = torch.full((8,), 1e-12)
    look(2)
    broken.untold.add("told of")
    told, tensors = broken.state()
    broken = Watch(parameters, gates)
    broken.restore(json.loads(json.dumps(told)), tensors)
    assert broken.untold == {"told of"}
    broken.untold.clear()
    gate.data.zero_()
    gate.grad, late.grad = torch.ones(8), torch.ones(8)
    look(3)
    gate.data[0] = 1.0
    look(4)
    one, other = whole.evidence(), broken.evidence()
    assert (one.without_gradient, one.behind_gates) == (("gated",), ())
    for name in ("without_gradient", "behind_gates", "signal", "reached", "untold"):
        assert getattr(one, name) == getattr(other, name), name
    assert {n: [step for step, _ in own] for n, own in one.dues.items()} == {
        n: [step for step, _ in own] for n, own in other.dues.items()
    }
    assert {"free", "gate", "late"} <= one.dues.keys()
    for _ in range(16):
        look(9)
    (spent, _), (also, _) = whole.state(), broken.state()
    assert spent["steps"] == also["steps"] == 20
