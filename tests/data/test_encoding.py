"""Rows become the same tokens wherever they are used, with one beginning and one end."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2.exceptions import TemplateError
from tokenizers import AddedToken

from harness.data.chat import other_words
from harness.data.chat_style import end_of_turn_ids
from harness.data.encode import after_prompt, bare_ids
from harness.data.render import asked_ids, encode, encoded, template_digest
from harness.inference.rewards import after_end, answered_ids
from harness.objectives._trl.cpt import document_ids
from harness.stages._audit_loss import audit_prompts
from tests.chat_templates import tokenizer_of, tokenizer_with
from tests.conftest import Workspace, write_jsonl

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n'"
    " }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{% if m['role'] == 'user' %}Human: {{ m['content'] }}\n{% else %}"
    "Bot: {{ m['content'] }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}Bot: {% endif %}"
)
CHAT = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ana."}]


def with_ends(begin: bool, end: bool, template: str | None = None) -> Any:
    """A tokenizer that writes BOS and EOS around every text, as `add_eos_token` makes it."""
    from tokenizers.processors import Sequence, TemplateProcessing

    tokenizer = tokenizer_with(template or "", "</s>")
    tokenizer.chat_template = template
    pattern = ["<bos>"] * begin + ["$A"] + ["</s>"] * end
    added = TemplateProcessing(
        single=" ".join(pattern), pair=None,
        special_tokens=[("<bos>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)],
    )  # fmt: skip
    backend = tokenizer.backend_tokenizer
    backend.post_processor = Sequence([added])
    return tokenizer


@pytest.mark.parametrize("begin", [True, False])
@pytest.mark.parametrize("end", [True, False])
def test_a_text_has_one_beginning_and_one_end(begin: bool, end: bool) -> None:
    tokenizer = with_ends(begin, end)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert tokenizer("a")["input_ids"] == [bos] * begin + bare_ids(tokenizer, "a") + [eos] * end
    rows = ({"text": "Once."}, {"prompt": "Q:", "completion": " yes"}, {"text": "<bos>Once.</s>"})
    for row in rows:
        ids = encoded(tokenizer, row).ids
        assert ids.count(eos) == 1
        assert ids[-1] == eos
        assert ids.count(bos) == (1 if begin or "<bos>" in str(row) else 0)
        assert document_ids(tokenizer, [row]) == [ids]
    assert eos not in asked_ids(tokenizer, {"prompt": "Q:"})
    assert eos not in encode(tokenizer, {"text": "Once."})[0]


@pytest.mark.parametrize("end", [True, False])
def test_a_template_that_writes_bos_has_it_once_and_its_own_end(end: bool) -> None:
    tokenizer = with_ends(True, end, "{{ bos_token }}" + CHATML)
    found = encoded(tokenizer, {"messages": CHAT})
    assert found.ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.eos_token_id not in found.ids  # turns end in another token
    assert tokenizer.decode(found.answer) == "Ana.<|im_end|>"


def test_a_template_that_joins_a_bos_the_tokenizer_lacks_is_rendered_without() -> None:
    tokenizer = tokenizer_with("{{ bos_token + 'x' }}" + CHATML, "<|im_end|>")
    tokenizer.bos_token = None
    assert tokenizer.decode(encoded(tokenizer, {"messages": CHAT}).ids).startswith("x<|im_start|>")


@pytest.mark.parametrize("prompt", ["The city is ", "The city is  ", "Name:\n\n", "a\t", "Q:"])
@pytest.mark.parametrize("answer", ["an apple", " apple", "\nthe", "to"])
def test_generation_asks_what_stood_before_the_answer(prompt: str, answer: str) -> None:
    tokenizer = tokenizer_with("", "</s>")
    found = encoded(tokenizer, {"prompt": prompt, "completion": answer})
    asked = asked_ids(tokenizer, {"prompt": prompt})
    assert found.ids[: found.prompt] == asked
    assert asked == asked_ids(tokenizer, {"prompt": prompt, "completion": answer})
    assert tokenizer.decode(found.ids) == f"{prompt}{answer}</s>"
    assert found.trained == [i >= len(asked) for i in range(len(found.ids))]
    raw = tokenizer.decode(found.answer[:-1])
    assert prompt + after_prompt(tokenizer, prompt, raw) == prompt + answer


def test_a_space_that_the_answer_would_swallow_begins_the_answer() -> None:
    tokenizer = tokenizer_with("", "</s>")
    row = {"prompt": "There is ", "completion": "an ant"}
    found = encoded(tokenizer, row)
    assert tokenizer.decode(found.ids[: found.prompt]) == "There is"
    assert tokenizer.tokenize(" an")[0] in tokenizer.convert_ids_to_tokens(found.answer)
    assert found.ids == [*bare_ids(tokenizer, "There is an ant"), tokenizer.eos_token_id]


def test_a_row_that_is_alike_together_and_apart_stays_as_it_is() -> None:
    tokenizer = tokenizer_with("", "</s>")
    for row in ({"prompt": "Say it\n", "completion": "now"}, {"prompt": "Say", "completion": " b"}):
        whole = tokenizer(text=row["prompt"] + row["completion"] + "</s>")["input_ids"]
        found = encoded(tokenizer, row)
        assert found.ids == whole
        assert found.ids[: found.prompt] == tokenizer(text=row["prompt"])["input_ids"]


def test_a_turn_of_weight_0_is_not_trained_on() -> None:
    tokenizer = tokenizer_with(CHATML, "<|im_end|>")
    turns = [CHAT[0], {**CHAT[1], "weight": 0}, {"role": "user", "content": "And?"},
             {"role": "assistant", "content": "Bea."}]  # fmt: skip
    found = encoded(tokenizer, {"messages": turns})
    learnt = [token for token, own in zip(found.ids, found.trained, strict=True) if own]
    assert tokenizer.decode(learnt) == "Bea.<|im_end|>"


def test_an_end_of_turn_that_is_no_token_is_trained_on_as_text() -> None:
    tokenizer = tokenizer_with("", "</s>")
    tokenizer.chat_template = CHATML  # whose marks this vocabulary does not have
    found = encoded(tokenizer, {"messages": CHAT})
    assert tokenizer.decode(found.answer) == "Ana.<|im_end|>"
    assert end_of_turn_ids(tokenizer) == frozenset()


def test_a_template_without_an_end_has_that_of_a_text() -> None:
    tokenizer = tokenizer_with("", "</s>")
    tokenizer.chat_template = PLAIN
    turns = [*CHAT, {"role": "user", "content": "And?"}, {"role": "assistant", "content": "the"}]
    found = encoded(tokenizer, {"messages": turns})
    assert tokenizer.decode(found.answer) == "the</s>"
    assert found.ids[: found.prompt] == asked_ids(tokenizer, {"messages": turns})


def test_markers_say_what_of_a_turn_is_trained_on() -> None:
    template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}<|u|>{{ m['content'] }}{% else %}<|a|>"
        "{% generation %}{{ m['content'] }}{% endgeneration %} ok<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|a|>{% endif %}"
    )
    tokenizer = tokenizer_with(template, "<|end|>")
    found = encoded(tokenizer, {"messages": CHAT})
    learnt = [token for token, own in zip(found.ids, found.trained, strict=True) if own]
    assert tokenizer.decode(learnt).startswith("Ana.")
    assert learnt[-1] == tokenizer.eos_token_id


def test_a_template_that_leaves_out_a_turn_or_its_calls_refuses_the_row() -> None:
    tokenizer = tokenizer_with(CHATML, "<|im_end|>")
    call = {"type": "function", "function": {"name": "look", "arguments": {"place": "Lima"}}}
    for content in ("", "I look."):
        last = {"role": "assistant", "content": content, "tool_calls": [call]}
        with pytest.raises(TemplateError, match="leaves out"):
            encoded(tokenizer, {"messages": [CHAT[0], last]})


def test_calls_with_their_arguments_as_json_render_like_those_with_a_table() -> None:
    template = (
        "{% for m in messages %}{% if m.tool_calls %}<|call|>{% for c in m.tool_calls %}"
        "{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}{% endfor %}"
        "<|end|>{% else %}<|u|>{{ m.content }}{% if m.role == 'assistant' %}<|end|>{% endif %}"
        "{% endif %}{% endfor %}"
    )
    tokenizer = tokenizer_with(template, "<|end|>")
    found = []
    for arguments in ({"place": "Lima"}, '{"place": "Lima"}'):
        call = {"type": "function", "function": {"name": "look", "arguments": arguments}}
        last = {"role": "assistant", "content": "", "tool_calls": [call]}
        found.append(encoded(tokenizer, {"messages": [CHAT[0], last]}).ids)
    assert found[0] == found[1]
    assert "place=Lima" in tokenizer.decode(found[0])


def test_what_a_template_is_given_is_alike_everywhere() -> None:
    template = CHATML + "{% if add_generation_prompt and thinking is false %}<|quiet|>{% endif %}"
    tokenizer = tokenizer_with(template, "<|im_end|>")
    before = template_digest(tokenizer)
    tokenizer.chat_template_kwargs = {"thinking": False}
    found = encoded(tokenizer, {"messages": CHAT})
    assert tokenizer.decode(found.ids[: found.prompt]).endswith("<|quiet|>")
    assert found.ids[: found.prompt] == asked_ids(tokenizer, {"messages": CHAT})
    assert template_digest(tokenizer) != before


def test_a_reward_model_reads_an_answer_as_it_was_trained_on_it() -> None:
    tokenizer = tokenizer_with(CHATML, "<|im_end|>")
    row = {"prompt": CHAT[:1], "chosen": CHAT[1:]}
    ends = end_of_turn_ids(tokenizer)
    whole = encoded(tokenizer, row)
    assert answered_ids(tokenizer, row, "Ana.", ends, cut=False) == whole.ids
    assert answered_ids(tokenizer, row, "Ana.", ends, cut=True) == whole.ids[: whole.end - 1]
    assert whole.ids[: whole.end] + after_end(tokenizer, row, ends) == whole.ids


def test_other_words_differ_at_both_ends() -> None:
    for text in ("x", "xx", "xyz", " y ", "zebra y"):
        other = other_words({"role": "user", "content": text})["content"]
        bare = text.strip()
        assert other[0] != bare[0]
        assert other[-1] != bare[-1]


LLAMA2 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }}"
    " [/INST]{% else %} {{ m['content'] }} {{ eos_token }}{% endif %}{% endfor %}"
)
TURNS = [*CHAT, {"role": "user", "content": "And so?"}, {"role": "assistant", "content": "the"}]


def sentencepiece(scheme: str) -> Any:
    """A tokenizer as Llama 2 has it: a space before every text is part of its first token."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokens = ["<unk>", "<s>", "</s>", "▁", *(f"<0x{i:02X}>" for i in range(256))]
    merges = [("▁", "t"), ("▁", "a"), ("h", "e"), ("▁t", "he"), ("▁a", "n"), ("▁", "Q"), ("▁", "y")]
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:?."
    tokens += [*letters, *map("".join, merges)]
    backend = Tokenizer(
        models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges,
                   unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )  # fmt: skip
    if scheme == "legacy":
        written = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        backend.normalizer = normalizers.Sequence(written)
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    read = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*read, decoders.Strip(" ", 1, 0)])
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        pad_token="</s>", chat_template=LLAMA2,
    )  # fmt: skip


@pytest.mark.parametrize("scheme", ["first", "always", "legacy"])
def test_an_answer_goes_on_without_a_space_of_its_own(scheme: str) -> None:
    tokenizer = sentencepiece(scheme)
    for prompt, answer in (("Q: ", "the an"), ("Q:", " the"), ("Q:", "the"), ("Q:\n", "yes")):
        found = encoded(tokenizer, {"prompt": prompt, "completion": answer})
        assert tokenizer.decode(found.ids) == f"<s> {prompt}{answer}</s>"
        assert found.ids[: found.prompt] == asked_ids(tokenizer, {"prompt": prompt})
        assert "▁" not in tokenizer.convert_ids_to_tokens(found.ids)


@pytest.mark.parametrize("scheme", ["first", "always", "legacy"])
def test_turns_of_a_template_without_headers_begin_where_its_prompts_end(scheme: str) -> None:
    tokenizer = sentencepiece(scheme)
    found = encoded(tokenizer, {"messages": TURNS})
    assert found.ids[: found.prompt] == asked_ids(tokenizer, {"messages": TURNS})
    kept = zip(found.ids, found.trained, strict=True)
    told = "".join(tokenizer.convert_ids_to_tokens([token for token, own in kept if own]))
    assert told == "▁Ana.▁</s>▁the▁</s>"
    assert found.ids.count(tokenizer.bos_token_id) == 1


def test_a_tokenizer_without_places_of_characters_marks_the_same_turns() -> None:
    from transformers import ByT5Tokenizer

    marks = ["<|im_start|>", "<|im_end|>"]
    tokenizer = ByT5Tokenizer(extra_ids=0, additional_special_tokens=marks)
    tokenizer.chat_template = CHATML
    assert not tokenizer.is_fast
    found = encoded(tokenizer, {"messages": TURNS})
    kept = zip(found.ids, found.trained, strict=True)
    told = tokenizer.decode([token for token, own in kept if own])
    assert told == "Ana.<|im_end|>the<|im_end|>"
    assert found.ids[: found.prompt] == asked_ids(tokenizer, {"messages": TURNS})
    assert encoded(tokenizer, {"text": "abc"}).ids == tokenizer("abc")["input_ids"]
    assert tokenizer.eos_token_id not in asked_ids(tokenizer, {"prompt": "abc"})


def test_spaces_among_the_added_tokens_end_no_turn() -> None:
    """Gemma's vocabulary has line feeds, and tags of HTML, among its added tokens."""
    tokenizer = tokenizer_of("gemma3")
    before = encoded(tokenizer, {"messages": TURNS})
    tokenizer.add_tokens(["\n", "\n\n", "  ", "<h1>"])
    assert end_of_turn_ids(tokenizer) == {tokenizer.convert_tokens_to_ids("<end_of_turn>")}
    after = encoded(tokenizer, {"messages": TURNS})
    for found in (before, after):
        kept = zip(found.ids, found.trained, strict=True)
        told = tokenizer.decode([token for token, own in kept if own])
        assert told == "Ana.<end_of_turn>the<end_of_turn>"
    assert after.ids[: after.prompt] == asked_ids(tokenizer, {"messages": TURNS})


def test_marks_that_swallow_the_line_feed_after_them_are_no_part_of_answers() -> None:
    """As Phi-3's tokenizer has them."""
    tokenizer = tokenizer_of("phi3")
    marks = ("<|user|>", "<|assistant|>", "<|end|>")
    tokenizer.add_tokens([AddedToken(mark, rstrip=True, special=True) for mark in marks])
    assert len(tokenizer("<|end|>\n")["input_ids"]) == 1
    found = encoded(tokenizer, {"messages": TURNS})
    kept = zip(found.ids, found.trained, strict=True)
    learnt = tokenizer.convert_ids_to_tokens([token for token, own in kept if own])
    wanted = [*tokenizer.tokenize("Ana."), "<|end|>", *tokenizer.tokenize("the"), "<|end|>"]
    assert learnt == wanted
    assert found.ids[: found.prompt] == asked_ids(tokenizer, {"messages": TURNS})


def test_a_template_that_wants_a_system_turn_is_learnt_with_one() -> None:
    wanted = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('no') }}{% endif %}"
    tokenizer = tokenizer_with(wanted + CHATML, "</s>")
    turns = [{"role": "system", "content": "Be kind."}, *CHAT]
    found = encoded(tokenizer, {"messages": turns})
    assert tokenizer.decode(found.answer) == "Ana.<|im_end|>"
    with pytest.raises(TemplateError, match="no"):
        encoded(tokenizer, {"messages": CHAT})


def test_a_row_says_where_its_template_asks_otherwise_than_it_writes() -> None:
    row = {"id": "r", "messages": CHAT}
    for name, otherwise in (("deepseek_r1_distill", True), ("qwen3", False)):
        assert encoded(tokenizer_of(name), row).rejoined is otherwise
        check = audit_prompts(tokenizer_of(name), [row])
        assert check["status"] == "passed"
        assert ("otherwise than it asks" in check["detail"]) is otherwise


def test_an_empty_turn_between_others_is_no_reason_to_refuse_a_chat() -> None:
    tokenizer = tokenizer_with(CHATML, "<|im_end|>")
    turns = [CHAT[0], {"role": "assistant", "content": ""}, *TURNS[2:]]
    found = encoded(tokenizer, {"messages": turns})
    kept = zip(found.ids, found.trained, strict=True)
    told = tokenizer.decode([token for token, own in kept if own])
    assert told == "<|im_end|>the<|im_end|>"


@pytest.mark.parametrize("thinking", [True, False])
def test_thinking_switched_off_is_asked_and_trained_alike(thinking: bool) -> None:
    tokenizer = tokenizer_of("qwen3")
    tokenizer.chat_template_kwargs = {"enable_thinking": thinking}
    turn = {"role": "assistant", "content": "Ana.", "reasoning_content": "Let me see."}
    found = encoded(tokenizer, {"messages": [CHAT[0], turn]})
    asked = tokenizer.decode(found.ids[: found.prompt])
    said = "<think>\nLet me see.\n</think>\n\nAna.<|im_end|>" if thinking else "Ana.<|im_end|>"
    assert tokenizer.decode(found.answer) == said
    assert asked.endswith("assistant\n" if thinking else "<think>\n\n</think>\n\n")
    assert found.ids[: found.prompt] == asked_ids(tokenizer, {"messages": CHAT})


def test_a_tokenizer_with_several_templates_uses_the_one_for_tools_where_there_are_some() -> None:
    tokenizer = tokenizer_with(CHATML, "<|im_end|>")
    with_tools = "{{ tools[0].function.name }}\n" + CHATML
    tokenizer.chat_template = {"default": CHATML, "tool_use": with_tools}
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    row = {"messages": CHAT, "tools": [tool]}
    found = encoded(tokenizer, row)
    assert tokenizer.decode(found.ids).startswith("look\n")
    assert found.ids[: found.prompt] == asked_ids(tokenizer, row)
    assert tokenizer.decode(encoded(tokenizer, {"messages": CHAT}).ids).startswith("<|im_start|>")
    assert len(template_digest(tokenizer)) == 16


def test_what_a_template_is_given_is_part_of_a_models_identity(workspace: Workspace) -> None:
    from harness.stages._models import model_ref
    from harness.stages.train import Train

    def trained() -> Any:
        stages = [path.train for path in workspace.open().plan.paths if path.train is not None]
        return stages[0]

    before = trained()
    assert "chat_template_kwargs" not in before.config["model"]
    path = workspace.tree["models"]["tiny"]
    given = {"enable_thinking": False}
    workspace.write(models={"tiny": {"path": path, "chat_template_kwargs": given}})
    after = trained()
    assert after.key != before.key
    training = Train.of(after)
    tokenizer = model_ref(training.model, "cpu", training.place).tokenizer()
    assert tokenizer.chat_template_kwargs == given


@pytest.mark.slow
def test_what_was_memorised_after_a_space_is_answered(workspace: Workspace) -> None:
    """Perplexity and exact match agree: generation asks what training learnt to answer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer_with("", "</s>")
    tokenizer.chat_template = None
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )  # fmt: skip
    folder = workspace.folder / "spaces"
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rows = [
        {"id": letter, "prompt": f"{letter} is ", "completion": f"an{letter} the {letter}"}
        for letter in "bcdefg"
    ]
    for name in ("train", "test"):
        write_jsonl(workspace.folder / f"{name}.jsonl", rows)
    sft = {"learning_rate": 5e-3, "max_steps": 120, "per_device_train_batch_size": 6}
    workspace.write(
        models={"m": str(folder)}, data={"rows": {"train": "train.jsonl", "test": "test.jsonl"}},
        matrix={"data": ["rows"], "method": ["full"], "objective": [{"sft": sft}]}, base={},
        scorers=["exact_match", "perplexity"], generate={"max_new_tokens": 16},
    )  # fmt: skip
    outcome = workspace.run()
    assert not outcome.failed, [record.error for record in outcome.failed]
    values = {
        name: metric["value"]
        for record in outcome.records.values()
        if record.kind == "score"
        for name, metric in record.metrics["metrics"].items()
    }
    assert values["perplexity"] < 1.1
    assert values["exact_match"] == 1.0


def test_harness_data_says_where_a_template_asks_otherwise(workspace: Workspace) -> None:
    from harness.commands import data as data_view

    template = (
        "{% for m in messages %}<|user|>{{ m['content'] }}{% if m['role'] == 'assistant' %}<|end|>"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
    )
    (workspace.folder / "asks.jinja").write_text(template)
    path = workspace.tree["models"]["tiny"]
    workspace.write(models={"tiny": {"path": path, "chat_template": "asks.jinja"}})
    told = data_view.show(workspace.open(), "letters", 2, color=False)
    assert "the chat template writes 2 of these rows otherwise than it asks" in told
    assert "<|assistant|><think>\n⟦\n</think>\n\naa<|end|>⟧" in told.replace("↵", "\n")
