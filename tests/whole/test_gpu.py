"""What only a GPU can show: `make gpu-check`, or `pytest -m gpu`.

With HARNESS_TEST_DEVICE=cpu they run on a CPU, as far as they can: so they do not rot unseen.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from harness.adapters import BASE, load_several
from harness.core.locate import package_suites
from harness.executors._gpus import gpus
from harness.executors.local import LocalSession
from harness.inference.generate import generate
from harness.models.files import ModelRef
from harness.objectives._trl.movement import ELEMENTS
from harness.store.stage import Resources, read_record
from tests.conftest import SFT, Workspace
from tests.executors.test_processes import end_of, folder_of, kinds_in
from tests.methods.test_methods import make
from tests.whole.test_precision import METHODS, in_bfloat16, one_training

pytestmark = pytest.mark.gpu
DEVICE = os.environ.get("HARNESS_TEST_DEVICE", "cuda")
POCKET = package_suites() / "pocket" / "models" / "pocket-1m"


@pytest.fixture(autouse=True)
def gpu() -> None:
    import torch

    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("this machine shows no GPU")


def ref(dtype: str) -> ModelRef:
    return ModelRef(str(POCKET), dtype, DEVICE)


def stirred(method: Any, base: Any, seed: int = 0) -> Any:
    """The method on the base, its tensors away from where they start."""
    import torch

    model = method.attach(base)
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in method.trainable_state(model).values():
            tensor.add_(torch.randn_like(tensor) * 0.05)
    return model


def gradients(model: Any) -> Any:
    """Of every trainable tensor, in one float32 vector, after an evaluation step."""
    import torch

    ids = torch.arange(4, 68, device=DEVICE).reshape(2, 32)
    with torch.no_grad():
        model.eval()(input_ids=ids, use_cache=False)
    model.train()(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return torch.cat([p.grad.float().flatten() for p in model.parameters() if p.requires_grad])


def test_qlora_has_the_gradient_of_its_dequantised_base_in_bfloat16() -> None:
    import torch
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    if importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed: no qlora here")
    method, plain = make("qlora", r=4), make("lora", r=4)
    base = method.load(ref("bfloat16"))
    packed = {n: p for n, p in base.named_parameters() if type(p).__name__ == "Params4bit"}
    assert packed
    whole = ref("float32").load()
    for name, parameter in packed.items():
        assert parameter.device.type == DEVICE
        whole.get_parameter(name).data = dequantize_bnb_weight(parameter).float()
    model, reference = stirred(method, base), stirred(plain, whole)
    with torch.no_grad():
        state = plain.trainable_state(reference)
        for name, tensor in method.trainable_state(model).items():
            state[name].copy_(tensor)
    found, wanted = gradients(model), gradients(reference)
    assert float(torch.cosine_similarity(found, wanted, dim=0)) >= 0.995  # bfloat16 has 8 bits
    assert all(good for good, _ in method.proofs(model).values()), method.proofs(model)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_passes_its_audits_in_bfloat16_at_usual_rates(
    aligned: Workspace, method: str
) -> None:
    in_bfloat16(aligned, POCKET, method)
    aligned.write(executor={"local": {"device_class": DEVICE}})
    outcome = aligned.run()
    assert not outcome.failed, [r.error for r in outcome.failed]
    for record in (r for r in outcome.records.values() if r.kind == "train"):
        (check,) = [c for c in record.metrics["audit"] if c["check"] == ELEMENTS]
        assert check["status"] == "passed", check
        if DEVICE == "cuda":
            assert record.cost["peak_memory"]["device_bytes"] > record.cost["state"]["weights"]


def test_full_fine_tuning_in_float16_scales_its_loss(workspace: Workspace) -> None:
    if DEVICE == "cpu":
        pytest.skip("float16 is trained on a GPU alone")
    one_training(workspace, POCKET, "full", {**SFT, "learning_rate": 1e-5}, "float16")
    workspace.write(executor={"local": {"device_class": DEVICE}})
    outcome = workspace.run(only="full-sft")
    assert not outcome.failed, [r.error for r in outcome.failed]


def test_deterministic_runs_give_equal_outputs_twice(aligned: Workspace) -> None:
    """Of sampling, of gradients through gathered logits, of attention and of embeddings."""
    in_bfloat16(aligned, POCKET, "lora")
    aligned.write(executor={"local": {"device_class": DEVICE}}, resources={"deterministic": True})
    found = []
    for store in ("first", "second"):
        outcome = aligned.run(store=aligned.folder / store)
        assert not outcome.failed, [r.error for r in outcome.failed]
        found.append({
            (r.label, name): output.sha256
            for r in outcome.records.values() if r.kind in ("train", "generate")
            for name, output in r.outputs.items() if r.kind == "generate" or "safetensors" in name
        })  # fmt: skip
    assert found[0]
    assert found[0] == found[1]


ON_A_CARD = {
    "hungry": """
        import torch
        def run(job):
            torch.cuda.set_per_process_memory_fraction(0.02)
            held = []
            while True:
                held.append(torch.ones(2**24, device="cuda"))
    """,
    "asserts": """
        import torch
        def run(job):
            torch.zeros(2, device="cuda")[torch.tensor([5], device="cuda")].cpu()
    """,
    "circle": """
        import os, torch
        def run(job):
            begin = torch.cuda.memory_reserved()
            held = [torch.ones(2**24, device="cuda")]
            held.append(held)
            return {"begin": begin, "sum": held[0].sum().item(), "pid": os.getpid()}
    """,
}
"""Kinds of stages: one that wants more than the card, one that breaks it, one that leaves waste."""


def test_what_a_stage_does_to_the_card_ends_with_it(tmp_path: Path) -> None:
    """Its memory is free for the next; out of memory, or an error that stays, it fails alone."""
    if DEVICE == "cpu":
        pytest.skip("a CPU has no memory of its own, and no errors that stay")
    env = kinds_in(tmp_path / "kinds", ON_A_CARD)
    # The one that the user shows, as an index or a UUID; without a file in /dev, the first.
    session = LocalSession(1, 1, (gpus() or ["0"])[:1], tmp_path / "log.txt")
    records = []
    try:
        for number, kind in enumerate(
            ["circle", "circle", "hungry", "circle", "asserts", "circle"]
        ):
            folder = folder_of(tmp_path, kind, str(number))
            session.submit(folder, Resources(env=env))
            assert end_of(session).error is None
            records.append(read_record(folder))
    finally:
        session.close()
    assert [r.ok for r in records if r] == [True, True, False, True, False, True]
    assert [r.metrics["begin"] for r in records if r and r.ok] == [0, 0, 0, 0]
    pids = [r.metrics["pid"] for r in records if r and r.ok]
    assert pids[0] == pids[1]
    assert len(set(pids)) == 3
    assert records[2] is not None
    assert "memory" in str(records[2].error)


def test_answers_do_not_depend_on_the_batch() -> None:
    model, tokenizer = ref("float32").load(), ref("float32").tokenizer()
    texts = ["The", "A long sentence about nothing in particular, and", "One day Anna", "It is"]
    prompts = [list(tokenizer(text=text)["input_ids"]) for text in texts * 2]
    found = [
        generate(model, tokenizer, prompts, options, lambda *_: None)
        for options in (
            {"max_new_tokens": 24, "until": [], "batch_tokens": tokens} for tokens in (1, 100, 9999)
        )
    ]
    assert found[0] == found[1] == found[2]
    assert found[0][:4] == found[0][4:]


def test_adapters_swap_and_mix_over_one_base(tmp_path: Path) -> None:
    import torch

    cases = {
        "first": ("lora", {"r": 4}), "second": ("rslora", {"r": 2}),
        "short": ("prompt_tuning", {"num_virtual_tokens": 3}),
        "long": ("prompt_tuning", {"num_virtual_tokens": 6}),
    }  # fmt: skip
    prompts, alone = ["The", "One day Anna went"], {}
    for seed, (name, (kind, options)) in enumerate(cases.items()):
        method = make(kind, **options)
        method.save(stirred(method, method.load(ref("float32")), seed), tmp_path / name)
    model = load_several(ref("float32"), {name: tmp_path / name for name in cases})
    for name in (*cases, BASE):
        model.use(name)
        alone[name] = model.logits(prompts)
    for names in (("first", "second"), ("long", "short"), (BASE, "first")):
        mixed = model.logits(prompts, names)
        for row, name in enumerate(names):
            assert torch.allclose(mixed[row], alone[name][row], atol=1e-3), (names, name)
