"""Our engine gives lm-eval what lm-eval's own model gives it: the same tokens, scores and texts."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from harness.core.errors import ModelError, StageFailed
from harness.core.locate import package_suites
from harness.inference import HarnessLM, continuous, token_scores
from harness.inference import sharing as sharing_module
from harness.inference.sharing import Sharing, find_sharing, sharing_of, span_of
from harness.inference.token_scores import Asked, score_tokens
from tests import lm_tasks
from tests.families import FAMILIES, LLAMA, make

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own, of what tiny models lack

CLOSE = 1e-4
OWN_WAY = {"falcon", "gptj", "gpt_neo", "mamba"}
"""Families of attention, or of a memory, that no packed pass can read: the plain path serves."""
EVERYDAY = ["llama", "gpt2", "gemma2", "gpt_oss", "deepseek_v3", "falcon", "mamba"]
Loaded = tuple[Any, Any]


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Loaded]:
    root = tmp_path_factory.mktemp("families")

    @cache
    def load(name: str) -> Loaded:
        folder = make(name, root / name)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
        return model, AutoTokenizer.from_pretrained(folder)

    return load


@pytest.fixture(scope="module")
def llama(family: Callable[[str], Loaded]) -> Loaded:
    return family("llama")


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = lm_tasks.write(tmp_path_factory.mktemp("tasks"))
    return TaskManager(include_path=str(folder), include_defaults=False)


def asked_rows(vocabulary: int = 200) -> list[Asked]:
    """Documents with choices after a shared beginning, documents without, a text, a letter."""
    draw = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(4, vocabulary) for _ in range(count)]

    begin, rows = tokens(40), []
    for document in range(4):
        context = begin + tokens(10 + 40 * document)
        rows += [Asked(context + tokens(1 + 3 * choice), 1 + 3 * choice) for choice in range(3)]
    rows += [Asked([*begin[:10], 7, 8], 2), Asked(tokens(101), 100), Asked([5, 6], 1)]
    return rows


def read_alone(model: Any, rows: Sequence[Asked]) -> list[tuple[float, bool]]:
    """What plain transformers says of each row alone."""
    found = []
    for row in rows:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([list(row.ids[:-1])])).logits[0, -row.count :]
        likely = logits.float().log_softmax(-1)
        targets = torch.tensor(list(row.ids[-row.count :]))
        greedy = bool((likely.argmax(-1) == targets).all())
        found.append((float(likely.gather(1, targets.unsqueeze(1)).double().sum()), greedy))
    return found


def request(*arguments: Any) -> Instance:
    return Instance("loglikelihood", {}, arguments, 0)


def families(*everyday: str) -> list[Any]:
    """All families, those slow that are not for every day."""
    slow = pytest.mark.slow
    return [name if name in everyday else pytest.param(name, marks=slow) for name in FAMILIES]


@pytest.mark.parametrize("name", families(*EVERYDAY))
def test_each_family_is_read_as_transformers_reads_it(
    name: str, family: Callable[[str], Loaded]
) -> None:
    model, _ = family(name)
    sharing = find_sharing(model)
    assert sharing.shares is sharing.can_answer(model) is (name not in OWN_WAY), sharing.why
    rows = asked_rows()
    expected = read_alone(model, rows)
    assert sharing.span is None  # a window is masked
    for shares in (True, False):
        chosen = [i for i, row in enumerate(rows) if sharing.allows(len(row.ids)) is shares]
        for budget in (4096, 50):
            scores = score_tokens(
                model, [rows[i] for i in chosen], budget, 1, sharing=Sharing(shares)
            )
            for i, score in zip(chosen, scores, strict=True):
                assert score.log_prob == pytest.approx(expected[i][0], abs=CLOSE)
                assert score.greedy is expected[i][1]


@pytest.mark.parametrize(
    "name", ["mistral", "gemma3_text", *(pytest.param(n, marks=pytest.mark.slow) for n in
                                         ("gemma2", "gpt_oss", "phi3"))]
)  # fmt: skip
def test_a_window_that_is_shorter_than_the_rows_is_masked(name: str, tmp_path: Path) -> None:
    folder = make(name, tmp_path / name, sliding_window=16)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", sliding_window=4096)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lm, rows = HarnessLM(model, tokenizer), asked_rows()
    assert lm.sharing.allows(10_000)
    expected = [score for score, _ in read_alone(model, rows)]
    assert expected != pytest.approx([s for s, _ in read_alone(whole.eval(), rows)], abs=CLOSE)
    for budget in (4096, 50):
        scores = score_tokens(model, rows, budget, 1, sharing=Sharing(True))
        assert [score.log_prob for score in scores] == pytest.approx(expected, abs=CLOSE)
    theirs = HFLM(pretrained=model, tokenizer=tokenizer)
    options = {"until": ["q"], "max_gen_toks": 24}
    assert answered(lm, CONTEXTS, **options) == answered(theirs, CONTEXTS, **options)


HYBRIDS = {
    "lfm2": {"full_attn_idxs": [1, 3]},
    "qwen3_next": {
        "head_dim": 8, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8,
        "shared_expert_intermediate_size": 8, "linear_num_value_heads": 4,
        "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_memory_beside_attention_is_noticed(name: str) -> None:
    torch.manual_seed(0)
    sizes = {**LLAMA, "num_hidden_layers": 4, "vocab_size": 260, "pad_token_id": 1}
    config = AutoConfig.for_model(name, **{**sizes, **HYBRIDS[name]})
    model = AutoModelForCausalLM.from_config(config).float().eval()
    sharing = find_sharing(model)
    assert not sharing.shares
    assert "differ" in sharing.why


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_is_not_taken_for_another_way_to_read(
    dtype: torch.dtype, family: Callable[[str], Loaded]
) -> None:
    for name in ("llama", "mamba"):
        model = copy.deepcopy(family(name)[0]).to(dtype)
        sharing = find_sharing(model)
        assert sharing.shares is sharing.can_answer(model) is (name not in OWN_WAY), sharing.why


def test_trained_models_in_lower_precision_share_too() -> None:
    """In bfloat16 a row alone is 0.2 nats from itself in a batch here."""
    folder = package_suites() / "pocket/models/pocket-1m"
    for dtype in (torch.bfloat16, torch.float32):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        sharing = find_sharing(model)
        assert sharing.shares, sharing.why
        assert sharing.can_answer(model)


@pytest.mark.parametrize(
    "fault",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_memory_or_a_device_that_fails_is_no_way_to_read(
    fault: Exception, llama: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read otherwise the model would fail in the same way, with another message or none."""

    def fail(*_: object, **__: object) -> None:
        raise fault

    for part in ("read_packed", "answer_packed"):
        with monkeypatch.context() as patched:
            patched.setattr(sharing_module, part, fail)
            with pytest.raises(type(fault)):
                find_sharing(llama[0]).can_answer(llama[0])


def test_what_a_model_refuses_is_the_reason_why_it_is_read_otherwise(
    llama: Loaded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise TypeError("no such mask")

    monkeypatch.setattr(sharing_module, "answer_packed", refuse)
    caplog.set_level("INFO")
    model = copy.deepcopy(llama[0])
    found = sharing_of(model)
    assert (found.shares, found.can_answer(model)) == (True, False)
    assert found.why == "TypeError: no such mask"
    assert "answers are not written by continuous batching: TypeError: no such mask" in caplog.text
    monkeypatch.setattr(sharing_module, "read_packed", refuse)
    assert find_sharing(model).why == "TypeError: no such mask"
    assert not find_sharing(model).shares


def test_finding_out_whether_prefixes_may_be_shared_takes_few_passes(llama: Loaded) -> None:
    """It is paid for every model, and each pass reads all weights. Those of answers are paid where
    answers are asked for, once."""
    passes = []
    hook = llama[0].register_forward_pre_hook(lambda *_: passes.append(1))
    sharing = find_sharing(llama[0])
    assert len(passes) <= 6
    assert sharing.can_answer(llama[0])
    before_asked_again = len(passes)
    assert 6 < before_asked_again <= 14
    assert sharing.can_answer(llama[0])
    hook.remove()
    assert len(passes) == before_asked_again


def test_rows_beyond_a_bound_that_attention_is_not_told_are_read_padded(llama: Loaded) -> None:
    assert span_of({"attention_chunk_size": 64, "max_window_layers": 2}) == 64
    assert span_of({"sliding_window": None, "vocab_size": 3}) is None
    long = {"rope_type": "longrope", "original_max_position_embeddings": 32}
    assert span_of({"rope_parameters": {"full_attention": long}, "window_size": 99}) == 32
    lm = HarnessLM(*llama, sharing=Sharing(True, span=20))
    asked = [request("short", "er"), request("a row that is much longer", " than the bound")]
    expected = HarnessLM(*llama).loglikelihood(asked)
    assert [each[0] for each in lm.loglikelihood(asked)] == pytest.approx(
        [each[0] for each in expected], abs=CLOSE
    )


def test_shared_beginnings_are_computed_once(llama: Loaded) -> None:
    lm = HarnessLM(*llama)
    rows = [(None, list(range(10, 60)), [100 + i]) for i in range(30)]
    lm._loglikelihood_tokens(rows, disable_tqdm=True)
    assert (lm.work.rows, lm.work.tokens, lm.work.positions) == (30, 50, 1)


def tables(lm: Any, manager: Any, names: Sequence[str], **options: Any) -> Any:
    return lm_eval.simple_evaluate(
        model=lm, tasks=list(names), task_manager=manager, bootstrap_iters=0, **options
    )


def assert_equal_tables(ours: Any, theirs: Any) -> None:
    """Equal accuracies, equal texts, equal prompts; sums of log-probabilities to rounding."""
    assert ours["results"].keys() == theirs["results"].keys()
    for task, row in theirs["results"].items():
        for metric, value in row.items():
            name = metric.partition(",")[0]
            close = name.endswith(("perplexity", "bits_per_byte"))
            expected = pytest.approx(value, rel=1e-5) if close else value
            assert ours["results"][task][metric] == expected, (task, metric)
    assert ours["samples"].keys() == theirs["samples"].keys()
    for task, samples in theirs["samples"].items():
        for own, other in zip(ours["samples"][task], samples, strict=True):
            assert own["prompt_hash"] == other["prompt_hash"]
            for mine, its in zip(own["resps"], other["resps"], strict=True):
                if isinstance(its[0], str):
                    assert mine == its
                elif isinstance(its[0], tuple):
                    assert mine[0][0] == pytest.approx(its[0][0], abs=CLOSE)
                    assert mine[0][1] == its[0][1]
                else:
                    assert mine[0] == pytest.approx(its[0], abs=CLOSE * 30)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("gpt_oss", "mamba", "opt")]


@pytest.mark.parametrize("name", ["llama", *SLOW])
def test_every_kind_of_task_has_the_table_of_lm_evals_own_model(
    name: str, family: Callable[[str], Loaded], manager: Any
) -> None:
    model, tokenizer = family(name)
    assert len(lm_tasks.TASKS) >= 12
    theirs = tables(HFLM(pretrained=model, tokenizer=tokenizer), manager, lm_tasks.names())
    ours = tables(HarnessLM(model, tokenizer), manager, lm_tasks.names())
    assert_equal_tables(ours, theirs)


def test_chats_of_several_turns_have_the_same_tables(llama: Loaded, manager: Any) -> None:
    model, tokenizer = llama
    options: dict[str, Any] = {
        "apply_chat_template": True, "fewshot_as_multiturn": True, "num_fewshot": 2,
        "system_instruction": None,
    }  # fmt: skip
    names = ["letters", "written_fewshot"]
    theirs = tables(HFLM(pretrained=model, tokenizer=tokenizer), manager, names, **options)
    ours = tables(HarnessLM(model, tokenizer), manager, names, **options)
    assert_equal_tables(ours, theirs)


TEXT = st.text(st.sampled_from("ab \n\té漢<|end>"), max_size=12)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(TEXT, st.one_of(TEXT.filter(len), st.just("<|end|>x"))), max_size=5),
    st.sampled_from([None, True, False]),
    st.booleans(),
)
def test_tokens_are_lm_evals_byte_for_byte(
    llama: Loaded, requests: list[tuple[str, str]], add_bos: bool | None, begins: bool
) -> None:
    tokenizer = beginning(llama[1]) if begins else llama[1]
    theirs = HFLM(pretrained=llama[0], tokenizer=tokenizer, add_bos_token=add_bos)
    ours = HarnessLM(llama[0], tokenizer, add_bos_token=add_bos, sharing=Sharing(False))
    kept: list[Any] = []
    theirs._loglikelihood_tokens = lambda rows, **_: kept.extend(rows) or []
    ours._loglikelihood_tokens = lambda rows, **_: kept.extend(rows) or []  # type: ignore[method-assign]
    asked = [request(*each) for each in requests]
    try:
        theirs.loglikelihood(asked, disable_tqdm=True)
    except IndexError:
        return  # lm-eval's way to say that a request has no token
    split, kept = [tuple(row) for row in kept], []
    if any(not before or not after for _, before, after in split):
        with pytest.raises(ModelError, match="no token is left"):
            ours.loglikelihood(asked, disable_tqdm=True)
        return
    ours.loglikelihood(asked, disable_tqdm=True)
    assert [tuple(row) for row in kept] == split
    contexts = [context for context, _ in requests if context]
    for text, ids in ours._encoder.contexts(contexts).items():
        assert ids == theirs.tok_batch_encode([text])[0][0].tolist()


@cache
def _beginning(path: str) -> Any:
    from tokenizers.processors import TemplateProcessing

    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.add_special_tokens({"bos_token": "<|user|>"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|user|> $A", special_tokens=[("<|user|>", tokenizer.bos_token_id)]
    )
    return tokenizer


def beginning(tokenizer: Any) -> Any:
    """The tokenizer with a token that begins every text."""
    return _beginning(tokenizer.name_or_path)


def test_a_text_that_begins_with_bos_gets_no_second_one(llama: Loaded) -> None:
    tokenizer = beginning(llama[1])
    lm = HarnessLM(llama[0], tokenizer)
    bos = tokenizer.bos_token_id
    assert lm.tok_encode("ab").count(bos) == lm.tok_encode("<|user|>ab").count(bos) == 1


def test_a_tokenizer_without_a_pad_token_serves(llama: Loaded) -> None:
    model, tokenizer = llama[0], copy.deepcopy(llama[1])
    tokenizer.pad_token = None
    asked = [request("abc", "d"), request("ab", " longer"), request("", "x")]
    for sharing in (None, Sharing(False)):
        found = HarnessLM(model, tokenizer, sharing=sharing).loglikelihood(asked)
        expected = HarnessLM(*llama).loglikelihood(asked)
        assert [each[0] for each in found] == pytest.approx([e[0] for e in expected], abs=CLOSE)
    assert tokenizer.pad_token is None


def test_what_does_not_fit_is_cut_as_lm_eval_cuts_it_and_counted(llama: Loaded) -> None:
    asked = [request("a" * 300, "bc"), request("a" * 250 + "é", "b" * 20), request("short", "x")]
    lm = HarnessLM(*llama)
    theirs = HFLM(pretrained=llama[0], tokenizer=llama[1]).loglikelihood(asked)
    ours = lm.loglikelihood(asked)
    assert lm.truncated == 2
    assert [each[0] for each in ours] == pytest.approx([each[0] for each in theirs], abs=CLOSE)
    with pytest.raises(ModelError, match="longer than the model's context of 256"):
        lm.loglikelihood([request("a", "b" * 300)])


def test_logits_that_are_not_numbers_are_no_scores(llama: Loaded) -> None:
    model = copy.deepcopy(llama[0])
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    for sharing in (None, Sharing(False), Sharing(True, answers=True)):
        lm = HarnessLM(model, llama[1], sharing=sharing)
        with pytest.raises(StageFailed, match="not a number"):
            lm.loglikelihood([request("ab", "c")])
        with pytest.raises(StageFailed, match="not numbers"):
            answered(lm, ["ab"], until=["x"], max_gen_toks=4)


def answered(lm: Any, contexts: Sequence[str], **options: Any) -> list[str]:
    return list(lm.generate_until([request(text, options) for text in contexts]))


CONTEXTS = ["a" * n + "?" for n in (1, 5, 30, 2)] + [f"The beginning of all of them {n}" for n in
                                                     range(9)]  # fmt: skip


@pytest.mark.parametrize("name", families("llama", "gemma2", "mamba"))
@pytest.mark.parametrize("cache_bytes", [2**15, 2**30])
def test_greedy_texts_are_lm_evals_whatever_shares_the_batch(
    name: str, cache_bytes: int, family: Callable[[str], Loaded]
) -> None:
    model, tokenizer = family(name)
    lm = HarnessLM(model, tokenizer, cache_bytes=cache_bytes)
    theirs = HFLM(pretrained=model, tokenizer=tokenizer)
    for contexts in (CONTEXTS, CONTEXTS[4:]):
        options = {"until": ["\n", "q", "7"], "max_gen_toks": 24}
        expected = answered(theirs, contexts, **options)
        assert answered(lm, contexts, **options) == expected
        assert len(set(expected)) > 2


def test_a_finished_row_makes_room_at_once(llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = HarnessLM(*llama, cache_bytes=2**15)
    admitted: list[int] = []
    admit = continuous._Engine._admit

    def counted(self: Any, rows: Any) -> None:
        admitted.append(len(rows))
        admit(self, rows)

    monkeypatch.setattr(continuous._Engine, "_admit", counted)
    answered(lm, CONTEXTS[4:], until=["q"], max_gen_toks=12)
    assert sum(admitted) == 9
    assert len(admitted) > 2


def test_requests_of_several_kinds_are_answered_together(llama: Loaded) -> None:
    lm, theirs = HarnessLM(*llama), HFLM(pretrained=llama[0], tokenizer=llama[1])
    options: list[dict[str, Any]] = [
        {"until": ["q"], "max_gen_toks": 5}, {"until": "x", "max_tokens": 9},
        {"until": [], "max_gen_toks": 3, "num_beams": 2}, {"max_gen_toks": 7, "do_sample": False},
        {"until": [""], "max_gen_toks": 7},
    ]  # fmt: skip
    asked = [request(CONTEXTS[i], each) for i, each in enumerate(options)]
    assert lm.generate_until(asked) == theirs.generate_until(asked)
    sampled = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 5}
    assert len(lm.generate_until([request("abc", sampled)] * 2)) == 2


def test_what_a_models_own_config_asks_of_generation_is_kept(llama: Loaded) -> None:
    model = copy.deepcopy(llama[0])
    model.generation_config.repetition_penalty = 1.7
    lm, theirs = HarnessLM(model, llama[1]), HFLM(pretrained=model, tokenizer=llama[1])
    found = answered(lm, CONTEXTS[:4], max_gen_toks=12)
    assert found == answered(theirs, CONTEXTS[:4], max_gen_toks=12)
    assert found != answered(HarnessLM(*llama), CONTEXTS[:4], max_gen_toks=12)


def test_an_answer_without_a_context_or_room_for_it_is_refused(llama: Loaded) -> None:
    with pytest.raises(ModelError, match="leaves no room for its context"):
        answered(HarnessLM(*llama), ["a"], max_gen_toks=256)
    with pytest.raises(ModelError, match="has no context"):
        answered(HarnessLM(*llama), ["a", ""], max_gen_toks=2)


@pytest.mark.parametrize("how", ["token", "text"])
def test_thinking_is_taken_out_as_lm_eval_takes_it_out(how: str, llama: Loaded) -> None:
    model, tokenizer = llama
    options = {"max_gen_toks": 12}
    said = answered(HarnessLM(model, tokenizer), CONTEXTS, **options)
    # A sign that stands in the middle of some answer plays the mark.
    mark = next(text[4] for text in said if len(text) > 8 and text[4].isascii())
    end: Any = tokenizer(mark)["input_ids"][0] if how == "token" else mark
    ours = HarnessLM(model, tokenizer, think_end_token=end)
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, think_end_token=end)
    found = answered(ours, CONTEXTS, **options)
    assert found == answered(theirs, CONTEXTS, **options) != said
    with pytest.raises(ModelError, match="no think_end_token"):
        HarnessLM(model, tokenizer, enable_thinking=True)
    thinking = HarnessLM(model, tokenizer, enable_thinking=True, think_end_token="x")
    with pytest.raises(ModelError, match="thinks before it answers"):
        thinking.loglikelihood([request("a", "b")])


def test_logits_that_are_used_are_held_to_their_room(
    llama: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    use = token_scores._Sums.use

    def counted(self: Any, places: Any, logits: Any) -> None:
        sizes.append(len(logits))
        use(self, places, logits)

    monkeypatch.setattr(token_scores, "LOGITS_BYTES", 4 * 260 * 50)
    monkeypatch.setattr(token_scores._Sums, "use", counted)
    draw = random.Random(0)
    rows = [Asked([draw.randrange(260) for _ in range(41)], 40) for _ in range(9)]
    rows.append(Asked([draw.randrange(260) for _ in range(200)], 2))
    expected = read_alone(llama[0], rows)
    for share in (True, False):
        sizes.clear()
        scores = score_tokens(llama[0], rows, 4096, 1, sharing=Sharing(share))
        assert [s.log_prob for s in scores] == pytest.approx([e for e, _ in expected], abs=CLOSE)
        assert max(sizes) <= 50
        assert sum(sizes) == 9 * 40 + 2


def test_a_model_may_be_named_by_its_folder(llama: Loaded) -> None:
    asked = [request("abc", "d")]
    named = HarnessLM(llama[0].name_or_path)
    assert named.loglikelihood(asked)[0][0] == pytest.approx(
        HarnessLM(*llama).loglikelihood(asked)[0][0], abs=CLOSE
    )
    assert named.get_model_info()["model_num_parameters"] == llama[0].num_parameters()


def test_a_model_with_an_encoder_is_refused(llama: Loaded) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    model = T5ForConditionalGeneration(T5Config(
        vocab_size=260, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2
    ))  # fmt: skip
    with pytest.raises(ModelError, match="only causal models"):
        HarnessLM(model, llama[1])


def test_a_failure_leaves_the_models_attention_as_it_was(llama: Loaded) -> None:
    model = copy.deepcopy(llama[0])
    before = model.config._attn_implementation
    model.model.layers[1].mlp.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score_tokens(model, asked_rows(), 4096, 1, sharing=Sharing(True))
    assert model.config._attn_implementation == before


def test_nothing_asked_is_nothing_answered(llama: Loaded) -> None:
    lm = HarnessLM(*llama)
    assert lm.loglikelihood([]) == lm.loglikelihood_rolling([]) == lm.generate_until([]) == []
    assert lm.loglikelihood_rolling([request("")]) == [0]


def test_the_model_is_left_as_it_was(llama: Loaded) -> None:
    model, tokenizer = llama
    before = model.config._attn_implementation
    lm = HarnessLM(model, tokenizer)
    lm.loglikelihood([request("ab", "c")])
    answered(lm, ["ab"], max_gen_toks=3)
    assert model.config._attn_implementation == before
