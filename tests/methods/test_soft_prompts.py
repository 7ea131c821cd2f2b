"""Soft prompts: where they start, what a batch gives, and how training on goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import ModelError, StageFailed, SuiteError
from harness.models.files import ModelRef
from tests.conftest import Workspace
from tests.methods.test_methods import make

KINDS: dict[str, dict[str, Any]] = {
    "prompt_tuning": {},
    "p_tuning": {"encoder_hidden_size": 16},
    "prefix_tuning": {"projection": True, "encoder_hidden_size": 16},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def ref(tiny_model: Path) -> ModelRef:
    return ModelRef(str(tiny_model), "float32", "cpu")


def lively(ref: ModelRef, kind: str, **options: Any) -> Any:
    """A model whose positions matter, with a prompt that matters."""
    import torch

    torch.manual_seed(0)
    base = ref.load()
    with torch.no_grad():
        for parameter in base.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.3)
    model = make(kind, num_virtual_tokens=5, **options).attach(base)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@every_kind
def test_answers_in_a_padded_batch_are_those_given_one_by_one(ref: ModelRef, kind: str) -> None:
    import torch

    model = lively(ref, kind, **KINDS[kind])
    prompts = [[5, 6, 7], [9, 10, 11, 12, 13, 14, 15, 16, 17], [30, 31, 32, 33]]
    longest = max(map(len, prompts))
    ids = torch.tensor([[1] * (longest - len(p)) + p for p in prompts])
    together = generate(model, ids, ids != 1)
    for row, prompt in enumerate(prompts):
        one = torch.tensor([prompt])
        alone = generate(model, one, torch.ones_like(one))
        assert torch.allclose(together[:, row], alone[:, 0], atol=1e-4)
        # and those of whole forward passes, without a cache
        for step in range(alone.shape[0]):
            whole = model(input_ids=one, attention_mask=torch.ones_like(one)).logits[:, -1]
            assert torch.allclose(alone[step], whole, atol=1e-4)
            one = torch.cat((one, whole.argmax(-1, keepdim=True)), dim=1)


@every_kind
def test_reference_of_a_row_padded_on_the_left_is_the_rows_own(ref: ModelRef, kind: str) -> None:
    import torch

    model = lively(ref, kind, **KINDS[kind])
    reference = make(kind).add_reference(model)
    ids = torch.tensor([[1, 1, 1, 5, 6, 7]])
    mask = (ids != 1).long()
    padded = reference.logits(ids, mask, (mask.cumsum(1) - 1).clamp(min=0))
    alone = reference.logits(ids[:, 3:], mask[:, 3:])
    assert torch.allclose(padded[:, 3:], alone, atol=1e-4)


def generate(model: Any, ids: Any, mask: Any) -> Any:
    """Logits of four greedy tokens, (steps, rows, vocabulary)."""
    import torch

    found = model.generate(
        input_ids=ids, attention_mask=mask.long(), max_new_tokens=4, do_sample=False,
        return_dict_in_generate=True, output_logits=True, eos_token_id=[], pad_token_id=1,
    )  # fmt: skip
    return torch.stack(found.logits)


def test_vocabulary_start_is_tokens_drawn_from_the_seed(ref: ModelRef) -> None:
    import torch

    def prompt(seed: int) -> Any:
        torch.manual_seed(seed)
        model = make("prompt_tuning", num_virtual_tokens=6).attach(base)
        (tensor,) = make("prompt_tuning").trainable_state(model).values()
        return tensor

    base = ref.load()
    words = base.get_input_embeddings().weight
    first = prompt(0)
    assert all(any(torch.equal(row, word) for word in words) for row in first)
    assert torch.equal(first, prompt(0))
    assert not torch.equal(first, prompt(1))


def test_text_start_is_the_text_repeated(ref: ModelRef) -> None:
    import torch

    base = ref.load()
    method = make("prompt_tuning", num_virtual_tokens=5, init="text", init_text="ab")
    (tensor,) = method.trainable_state(method.attach(base)).values()
    ids = ref.tokenizer()("ababa")["input_ids"]
    assert torch.equal(tensor, base.get_input_embeddings().weight[torch.tensor(ids)])


@pytest.mark.parametrize("kind", ["p_tuning", "prefix_tuning"])
def test_export_without_its_encoder_is_scored_but_not_trained_on(
    ref: ModelRef, tmp_path: Path, kind: str
) -> None:
    method = make(kind, num_virtual_tokens=5, **KINDS[kind])
    method.save(method.attach(ref.load()), tmp_path)
    shutil.rmtree(tmp_path / "resume")  # as another program would have written it
    method.load_trained(ref, tmp_path)
    with pytest.raises(ModelError, match="not the encoder"):
        method.resume(ref.load(), tmp_path)


def test_a_checkpoint_of_another_encoder_is_refused(ref: ModelRef, tmp_path: Path) -> None:
    method = make("p_tuning", num_virtual_tokens=5, encoder_hidden_size=16)
    method.save(method.attach(ref.load()), tmp_path)
    other = make("p_tuning", num_virtual_tokens=5, encoder_hidden_size=8).attach(ref.load())
    with pytest.raises(ModelError, match="other tensors"):
        other.load_adapter(str(tmp_path), "default", is_trainable=True)


def test_exported_prompt_has_no_dropout_in_it(ref: ModelRef, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    options = {"encoder": "lstm", "encoder_dropout": 0.5, "encoder_hidden_size": 16}
    method = make("p_tuning", num_virtual_tokens=5, **options)
    model = method.attach(ref.load()).train()
    saved = []
    for _ in range(2):
        method.save(model, tmp_path)
        saved.append(load_file(tmp_path / "adapter_model.safetensors")["prompt_embeddings"])
    assert saved[0].equal(saved[1])
    assert model.prompt_encoder.training


@every_kind
def test_killed_stage_goes_on_to_the_same_prompt(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from safetensors.torch import load_file

    class Killed(Exception):
        pass

    def run(store: str) -> dict[str, Any]:
        outcome = workspace.run(store=workspace.folder / store)
        assert not outcome.failed, [r.error for r in outcome.failed]
        (path,) = (workspace.folder / store).glob("train/*/checkpoint/adapter_model.safetensors")
        return load_file(path)

    objective = dict(workspace.tree["matrix"]["objective"][0]["sft"], max_steps=4)
    method = {kind: {"num_virtual_tokens": 5, **KINDS[kind]}}
    workspace.write(
        matrix={"method": [method], "objective": [{"sft": objective}]},
        scorers=["exact_match"],
        resources={"checkpoint_seconds": 0},
    )
    whole = run("whole")

    from harness.objectives._trl import trainer as _trainer

    saved = _trainer.StepLog.on_save

    def save_and_die(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        saved(self, args, state, control, **rest)
        if state.global_step == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(_trainer.StepLog, "on_save", save_and_die)
        assert workspace.run(store=workspace.folder / "killed").failed
    again = run("killed")
    assert again.keys() == whole.keys()
    assert all(again[name].equal(whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("kind", "option", "words"),
    [
        ("prompt_tuning", "packing", "share one prompt"),
        ("p_tuning", "packing", "share one prompt"),
        ("prefix_tuning", "packing", "share one prompt"),
        ("prefix_tuning", "gradient_checkpointing", "discards"),
    ],
)
def test_plan_refuses_what_cannot_work_with_the_reason(
    workspace: Workspace, kind: str, option: str, words: str
) -> None:
    workspace.write(matrix={"method": [kind], "objective": [{"sft": {option: True}}]})
    with pytest.raises(SuiteError, match=words):
        workspace.open()


def test_perplexity_of_a_soft_prompt_is_the_texts_own(ref: ModelRef) -> None:
    import torch

    from harness.inference.likelihood import log_likelihoods

    model, tokenizer = lively(ref, "prompt_tuning"), ref.tokenizer()
    rows = [
        {"id": str(i), "cluster": str(i), "group": "", "text": text}
        for i, text in enumerate(["a longer text", "short"])
    ]
    found = log_likelihoods(model, tokenizer, rows, 64, 32, 4096, lambda *_: None)
    for row, score in zip(rows, found, strict=True):
        ids = torch.tensor([tokenizer(row["text"])["input_ids"]])
        with torch.no_grad():
            own = model(input_ids=ids).logits[0, 5:-1].log_softmax(-1)
        expected = -own.gather(1, ids[0, 1:, None]).sum()
        assert score["tokens"] == ids.shape[1] - 1
        assert score["nll"] == pytest.approx(float(expected), rel=1e-5)


@every_kind
def test_a_learned_prompt_takes_its_places_in_the_context(ref: ModelRef, kind: str) -> None:
    from harness.inference.generate import generate as answers
    from harness.inference.likelihood import log_likelihoods

    model, tokenizer = lively(ref, kind, **KINDS[kind]), ref.tokenizer()
    places = model.config.max_position_embeddings
    options = {"max_new_tokens": 4, "until": [], "batch_tokens": 1 << 14}
    fits = [9] * (places - 4 - 5)
    assert len(answers(model, tokenizer, [fits], options, lambda *_: None)) == 1
    with pytest.raises(StageFailed, match=f"has room for {places - 5}"):
        answers(model, tokenizer, [[*fits, 9]], options, lambda *_: None)
    row = {"id": "0", "cluster": "0", "group": "", "text": "word " * places}
    seen: list[int] = []
    model.register_forward_hook(
        lambda _, args, kwargs, out: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    log_likelihoods(model, tokenizer, [row], 1 << 20, 64, 1 << 20, lambda *_: None)
    assert max(seen) == places - 5 - 1  # nothing is predicted from a window's last token


@every_kind
def test_ppo_leaves_room_for_the_learned_prompt(ref: ModelRef, kind: str) -> None:
    from types import SimpleNamespace

    from harness.objectives._ppo.trainer import _prompts
    from harness.objectives.ppo import Ppo

    model, tokenizer = lively(ref, kind, **KINDS[kind]), ref.tokenizer()
    fits = model.config.max_position_embeddings - 4 - 5
    rows = [{"prompt": "a" * length} for length in (fits, fits + 1)]
    job: Any = SimpleNamespace(model=model, tokenizer=tokenizer, rows=rows, reward_model=None)
    kept, dropped = _prompts(Ppo(max_length=1 << 20, max_new_tokens=4), job)
    assert (len(kept[0]), dropped) == (fits, 1)
