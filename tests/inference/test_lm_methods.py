"""A variant of every method is read by the engine as plain transformers and PEFT read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from transformers import AutoTokenizer

from harness.core import registry
from harness.inference import HarnessLM
from harness.inference.continuous import Prompt
from harness.inference.decoding import answer
from harness.models.files import ModelRef
from tests.families import make, method_of

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own, of what tiny models lack

SOFT = {"prompt_tuning", "p_tuning", "prefix_tuning"}
"""Methods whose prompts stand before a row's tokens: their rows are read padded."""
OPTIONS = {"p_tuning": {"num_virtual_tokens": 4, "encoder_hidden_size": 8}}
REQUESTS = [(f"A question that many share, number {n}:", f" {end}")
            for n in (1, 2) for end in ("yes", "no, not at all", "n")]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llama", tmp_path_factory.mktemp("model") / "llama")


def variant(name: str, folder: Path) -> Any:
    """A model under a method, moved away from its base."""
    method = method_of(name, **OPTIONS.get(name, {}))
    model = method.attach(method.load(ModelRef(str(folder), "float32", "cpu")))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def plain(model: Any, tokenizer: Any) -> list[tuple[float, bool]]:
    """Each request alone, in one pass of the whole row."""
    found = []
    for context, continuation in REQUESTS:
        before, whole = (tokenizer(text)["input_ids"] for text in (context, context + continuation))
        count = len(whole) - len(before)
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([whole[:-1]])).logits[0, -count:]
        likely, targets = logits.float().log_softmax(-1), torch.tensor(whole[-count:])
        greedy = bool((likely.argmax(-1) == targets).all())
        found.append((float(likely.gather(1, targets.unsqueeze(1)).sum()), greedy))
    return found


LOCAL = [n for n in registry.names("method") if not registry.find("method", n).at_service]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(LOCAL))
def test_a_variant_is_read_as_transformers_reads_it(name: str, folder: Path) -> None:
    model, tokenizer = variant(name, folder), AutoTokenizer.from_pretrained(folder)
    lm = HarnessLM(model, tokenizer)
    assert lm.sharing.shares is (name not in SOFT), lm.sharing.why
    found = lm.loglikelihood([Instance("loglikelihood", {}, each, 0) for each in REQUESTS])
    expected = plain(model, tokenizer)
    assert [each[0] for each in found] == pytest.approx([each[0] for each in expected], abs=1e-4)
    assert [each[1] for each in found] == [each[1] for each in expected]
    asked = [Instance("generate_until", {}, (context, {"max_gen_toks": 6}), 0)
             for context, _ in REQUESTS[::3]]  # fmt: skip
    for request, text in zip(asked, lm.generate_until(asked), strict=True):
        ids = tokenizer(request.args[0], return_tensors="pt")
        whole = model.generate(**ids, max_new_tokens=6, do_sample=False)
        own = whole[0, ids["input_ids"].shape[1] :] if name not in SOFT else whole[0, -6:]
        assert text == tokenizer.decode(own, skip_special_tokens=True)


@pytest.mark.parametrize("name", sorted(LOCAL))
def test_a_policy_has_the_same_gradients_after_its_rollouts(name: str, folder: Path) -> None:
    model, ids = variant(name, folder), torch.arange(10, 30).unsqueeze(0)

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    before = gradients()
    answers = answer(model, [Prompt([5, 6, 7 + i], 4) for i in range(3)], 4096, (), 1)
    assert [len(tokens) for tokens in answers] == [4, 4, 4]
    assert all(map(torch.equal, gradients(), before))
    assert any(gradient.any() for gradient in before)
