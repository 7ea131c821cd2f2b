"""Where an answer ends, and what of it is scored: end tokens, stop strings, thinking."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trl
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from harness.comparison.compare import compare
from harness.inference.generate import generate
from harness.inference.reading import Answer
from harness.models.files import ModelPlace
from harness.stages import sample
from tests.conftest import Workspace, write_jsonl

PLAIN = ["<think>", "</think>"]
SPECIAL = ["<|im_end|>", "<|channel>", "<channel|>"]
ASKED = "?"


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    made = AutoTokenizer.from_pretrained(tiny_model)
    made.add_tokens(PLAIN)
    made.add_tokens(SPECIAL, special_tokens=True)
    return made


def scripted(tokenizer: Any, script: str, asked: str = ASKED) -> Any:
    """A model that answers `?` with a script, whose tokens must differ; then it says `<|end|>`."""
    import torch

    ids = [*tokenizer(asked)["input_ids"], *tokenizer(script)["input_ids"], tokenizer.eos_token_id]
    assert len(set(ids)) == len(ids), "each token leads to one other"
    size = len(tokenizer)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size, hidden_size=size + size % 2, intermediate_size=2, num_hidden_layers=1,
            num_attention_heads=1, max_position_embeddings=64, tie_word_embeddings=False,
            eos_token_id=None, bos_token_id=None, pad_token_id=None,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.model.norm.weight.fill_(1)
        model.model.embed_tokens.weight[:, :size] = torch.eye(size)
        for now, after in itertools.pairwise(ids):
            model.lm_head.weight[after, now] = 1
    return model


def answer(
    tokenizer: Any, script: str, *, until: list[str] | None = None, thinking: str = "strip",
    room: int = 30, chats: bool = False, asked: str = "",
) -> Answer:  # fmt: skip
    options = {
        "max_new_tokens": room, "batch_tokens": 4096, "until": until or [], "thinking": thinking,
    }  # fmt: skip
    prompts = [tokenizer(asked + ASKED)["input_ids"], tokenizer(f"xyz{ASKED}")["input_ids"]]
    model = scripted(tokenizer, script)
    found, beside = generate(model, tokenizer, prompts, options, lambda *_: None, chats=chats)
    assert asked or (beside.text, beside.finish) == (found.text, found.finish)
    return found


def test_a_special_token_stops_an_answer_and_counts_as_stop(tokenizer: Any) -> None:
    found = answer(tokenizer, "abc<|im_end|>def", until=["<|im_end|>"])
    assert (found.text, found.finish) == ("abc", "stop")


@pytest.mark.parametrize(
    ("until", "text"),
    [("c<|im_end|>", "ab"), ("<|im_end|>d", "abc"), ("c<|im_end|>d", "ab"), ("bc", "a")],
)
def test_a_stop_string_may_hold_special_tokens(tokenizer: Any, until: str, text: str) -> None:
    found = answer(tokenizer, "abc<|im_end|>def", until=[until])
    assert (found.text, found.finish) == (text, "stop")


def test_the_first_of_stop_strings_ends_the_answer(tokenizer: Any) -> None:
    found = answer(tokenizer, "abc<|im_end|>def", until=["e", "<|im_end|>", "b<|im_end|>"])
    assert (found.text, found.finish) == ("abc", "stop")


def test_special_tokens_within_an_answer_are_no_text(tokenizer: Any) -> None:
    assert answer(tokenizer, "abc<|im_end|>def").text == "abcdef"


def test_a_templates_end_of_turn_ends_an_answer(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    plain = answer(tokenizer, "abc<|im_end|>def")
    assert (plain.text, plain.finish) == ("abcdef", "eos")
    found = answer(tokenizer, "abc<|im_end|>def", chats=True)
    assert (found.text, found.finish, found.tokens) == ("abc", "eos", 4)


def test_thinking_is_no_part_of_the_scored_text_and_is_kept_beside_it(tokenizer: Any) -> None:
    found = answer(tokenizer, "<think>abc</think>\ndef")
    assert (found.text, found.finish, found.tokens) == ("def", "eos", 10)
    assert found.raw == "\ndef"
    assert found.generated == "<think>abc</think>\ndef"


def test_thinking_is_kept_where_the_suite_keeps_it(tokenizer: Any) -> None:
    found = answer(tokenizer, "<think>abc</think>\ndef", thinking="keep")
    assert found.text == "<think>abc</think>\ndef"
    assert not found.generated


def test_an_answer_cut_while_it_thinks_is_empty_and_cut(tokenizer: Any) -> None:
    found = answer(tokenizer, "<think>abcdefgh</think>i", room=5)
    assert (found.text, found.finish, found.tokens) == ("", "length", 5)


def test_thinking_that_the_prompt_began_is_taken_out(tokenizer: Any) -> None:
    from harness.inference.reading import Reader

    options = {"until": [], "thinking": "strip"}
    reader = Reader(tokenizer, frozenset({0}), 1, options)
    opened = reader.opened(tokenizer("why?<think>\n")["input_ids"])
    assert opened == "<think>"
    cut = reader.read(tokenizer("abc")["input_ids"], opened)
    assert (cut.text, cut.finish) == ("", "length")
    whole = reader.read(tokenizer("abc</think>def<|end|>")["input_ids"], opened)
    assert (whole.text, whole.finish, whole.generated) == ("def", "eos", "abc</think>def")
    assert reader.opened(tokenizer("what is <think>?")["input_ids"]) == ""


def test_stop_strings_in_thinking_stop_nothing(tokenizer: Any) -> None:
    found = answer(tokenizer, "<think>a\nbc</think>defg", until=["b", "f"])
    assert (found.text, found.finish) == ("de", "stop")
    kept = answer(tokenizer, "<think>a\nbc</think>defg", until=["b", "f"], thinking="keep")
    assert (kept.text, kept.finish) == ("<think>a", "stop")


def test_marks_of_other_families_count_where_the_template_has_them(tokenizer: Any) -> None:
    script = "<|channel>abc<channel|>def"
    assert answer(tokenizer, script).text == "abcdef"
    tokenizer.chat_template = "{{ '<|channel>thought' }}" + tokenizer.chat_template
    assert answer(tokenizer, script).text == "def"


def test_channels_of_gpt_oss_leave_the_final_one(tokenizer: Any) -> None:
    tokenizer.add_tokens(["<|channel|>", "<|message|>", "<|start|>"], special_tokens=True)
    tokenizer.chat_template = "{{ '<|channel|>analysis<|message|>' }}"
    from harness.inference.reading import Reader

    reader = Reader(tokenizer, frozenset({0}), 1, {"until": [], "thinking": "strip"})

    def read(text: str) -> str:
        return reader.read(tokenizer(text)["input_ids"]).text

    final = "<|channel|>final<|message|>12<|end|>"
    assert read(final) == "12"
    assert read("<|channel|>analysis<|message|>hm<|start|>assistant" + final) == "12"
    assert read("<|channel|>analysis<|message|>hm") == ""


@pytest.mark.parametrize("text", ["2 < 3", "a <thinking> b", "think", "[THINK] x [/THINK]", " a "])
def test_texts_without_marks_are_left_alone(tokenizer: Any, text: str) -> None:
    from harness.inference.reading import Reader

    ids = tokenizer(text)["input_ids"]
    strip, keep = (
        Reader(tokenizer, frozenset({0}), 1, {"until": [], "thinking": how}).read(ids)
        for how in ("strip", "keep")
    )
    assert strip == keep
    assert strip.raw == text


def test_a_tokenizer_with_neither_pad_nor_eos_answers(tokenizer: Any) -> None:
    wanted = answer(tokenizer, "abc", room=3)
    model = scripted(tokenizer, "abc")
    tokenizer.pad_token = tokenizer.eos_token = None
    prompts = [tokenizer(text)["input_ids"] for text in ("?", "wxyz?")]
    options = {"max_new_tokens": 3, "batch_tokens": 4096, "until": ["c"]}
    found = generate(model, tokenizer, prompts, options, lambda *_: None)
    assert [(a.text, a.finish) for a in found] == [("ab", "stop")] * 2
    options["until"] = []
    found = generate(model, tokenizer, prompts, options, lambda *_: None)
    assert [(a.text, a.finish) for a in found] == [(wanted.text, "length")] * 2


def test_how_thinking_is_read_joins_the_identity_only_where_a_suite_says_it() -> None:
    from harness.suite.suite import Generate

    assert "thinking" not in Generate().identity()
    assert Generate(thinking="strip").identity()["thinking"] == "strip"
    assert Generate(thinking="keep").identity()["thinking"] == "keep"


def test_a_perfect_answer_after_thinking_that_ends_as_the_template_ends_it_scores_1(
    workspace: Workspace, tokenizer: Any
) -> None:
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "<|im_end|>")
    folder = workspace.folder / "model"
    scripted(tokenizer, "<think>abc</think>\ndef<|im_end|>", "<|assistant|>").save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    row = {
        "messages": [{"role": "user", "content": "xyz"}, {"role": "assistant", "content": "def"}]
    }
    write_jsonl(workspace.folder / "test.jsonl", [row, row])
    workspace.tree |= {
        "models": {"tiny": str(folder)}, "matrix": {}, "evaluate": ["letters"],
        "base": {"one": {"max_new_tokens": 30}}, "scorers": ["exact_match"],
    }  # fmt: skip
    outcome = workspace.run()
    assert not outcome.failed
    stages = {stage.kind: stage for stage in workspace.open().plan.stages()}
    made = outcome.records[stages["generate"].key].metrics
    assert (made["eos_rate"], made["truncation_rate"], made["thinking_rate"]) == (1.0, 0.0, 1.0)
    scores = outcome.records[stages["score"].key].metrics["metrics"]
    assert scores["exact_match"]["value"] == 1.0
    line = json.loads(next(workspace.store.rglob("predictions.jsonl")).read_text().split("\n")[0])
    assert line["generated"] == "<think>abc</think>\ndef"


TEMPLATES = sorted(
    path for path in (Path(trl.__file__).parent / "chat_templates").glob("*.jinja")
    if not path.stem.endswith("_training")
    and path.stem not in {"idefics3", "llava_next", "smolvlm"}  # of images: they write no string
)  # fmt: skip
MARKED = re.compile(
    r"</?think>|<\|[a-zA-Z_]+\|?>|<[a-z]+\|>|<\|[a-z]+>|<[a-z_]+_turn>|</s>|<\uff5c[^\uff5c]+\uff5c>"
)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
@pytest.mark.parametrize("thinks", [True, False])
def test_what_a_template_writes_as_an_answer_is_read_as_the_answer(
    path: Path, thinks: bool, tiny_model: Path
) -> None:
    from harness.data.render import encoded
    from harness.inference.batches import end_tokens
    from harness.inference.reading import Reader

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = path.read_text(encoding="utf-8")
    marks = sorted(set(MARKED.findall(tokenizer.chat_template)))
    tokenizer.add_tokens(PLAIN)
    tokenizer.add_tokens([mark for mark in marks if mark not in PLAIN], special_tokens=True)
    tokenizer.eos_token = "<eos>"  # no template's own
    thought = {"reasoning_content": "Hm.", "thinking": "Hm."} if thinks else {}
    answer = {"role": "assistant", "content": "Forty-two.", **thought}
    row = {"messages": [{"role": "user", "content": "Six by seven?"}, answer]}
    found = encoded(tokenizer, row)
    ends = end_tokens(None, tokenizer, chats=True)
    reader = Reader(tokenizer, ends, 1, {"until": [], "thinking": "strip"})
    read = reader.read(found.answer, reader.opened(found.ids[: found.prompt]))
    assert (read.text, read.finish) == ("Forty-two.", "eos")


THOUGHT = "<think>ab</think>cd"


def read_as(tokenizer: Any, thinking: str, prompt: str = "x") -> str:
    """What is scored of an answer that begins with `<think>`."""
    from harness.inference.reading import Reader

    reader = Reader(tokenizer, frozenset({0}), 1, {"until": [], "thinking": thinking})
    opened = reader.opened(tokenizer(prompt)["input_ids"])
    text = THOUGHT.removeprefix(opened) if opened else THOUGHT
    return reader.read(tokenizer(text)["input_ids"], opened).text


def test_a_thought_is_words_to_a_model_that_knows_no_thinking(tiny_model: Path) -> None:
    plain = AutoTokenizer.from_pretrained(tiny_model)
    assert read_as(plain, "auto") == read_as(plain, "keep") == THOUGHT
    assert read_as(plain, "strip") == "cd"
    assert read_as(plain, "auto", prompt="x<think>\n") == "cd"
    known = AutoTokenizer.from_pretrained(tiny_model)
    known.chat_template += "{# </think> #}"
    assert read_as(known, "auto") == "cd"
    assert read_as(known, "keep") == THOUGHT
    marked = AutoTokenizer.from_pretrained(tiny_model)
    marked.add_tokens(["<think>"])
    assert read_as(marked, "auto") == "cd"


def test_thoughts_that_are_scored_as_words_are_told(workspace: Workspace, tiny_model: Path) -> None:
    folder, plain = workspace.folder / "model", AutoTokenizer.from_pretrained(tiny_model)
    scripted(plain, "<think>", "<|assistant|>").save_pretrained(folder)
    plain.save_pretrained(folder)
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    write_jsonl(workspace.folder / "test.jsonl", [row, row])
    workspace.tree |= {
        "models": {"tiny": str(folder)}, "matrix": {}, "evaluate": ["letters"],
        "base": {"one": {"max_new_tokens": 30}}, "scorers": ["exact_match"],
    }  # fmt: skip
    opened, outcome = workspace.open(), workspace.run()
    (made,) = [r.metrics for r in outcome.records.values() if r.kind == "generate"]
    assert made["unread_thinking_rate"] == 1.0
    told = compare(opened.plan, outcome.records, opened.store).notes
    notes = [note for note in told if "<think>" in note]
    assert notes == [
        "100% of one's answers to letters begin with `<think>`, and neither its chat template nor"
        " its tokenizer knows thinking: they are scored with it. `generate: {thinking: strip}`"
        " takes it out."
    ]


def test_answers_that_are_sampled_to_be_compared_are_read_as_generated_ones(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = scripted(tokenizer, "<think>ab</think>cd", "<|assistant|>")
    monkeypatch.setattr(sample, "load_subject", lambda job: (model, tokenizer, None))
    row = {"id": "a", "cluster": "a", "group": "", "prompt": [{"role": "user", "content": "q"}]}
    monkeypatch.setattr(sample, "read_rows", lambda folder: [row])
    options = sample.Sampling(
        samples=2, prompts=None, max_new_tokens=20, temperature=0.01, top_p=1.0,
        batch_tokens=4096, seed=0,
    )  # fmt: skip
    kind = sample.Sample(device="cpu", sample=options, place=ModelPlace(source="nowhere"))
    job: Any = SimpleNamespace(
        folder=tmp_path, cost={}, progress=lambda *_: None,
        ledger=SimpleNamespace(phase=lambda name: contextlib.nullcontext()), input=str,
    )  # fmt: skip
    kind.run(job)
    (found,) = sample.read_samples(tmp_path)
    assert [answer["text"] for answer in found["answers"]] == ["cd", "cd"]
    assert found["answers"][0]["generated"] == "<think>ab</think>cd"
