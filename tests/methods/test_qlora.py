"""QLoRA: the base is really in 4 bits, and the gradient through it is right."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from harness.methods.qlora import Qlora, keep_gradients, scale_bytes
from harness.models.files import ModelInfo, ModelRef
from tests.conftest import Workspace
from tests.methods.test_method_oracles import STEPS, losses_of, plain
from tests.methods.test_methods import attach, ids, logits, make, tiny, train

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="bitsandbytes is not installed: nothing of QLoRA is tested here but its formulas",
)


@pytest.fixture
def ref(tiny_model: Path) -> ModelRef:
    return ModelRef(str(tiny_model), "float32", "cpu")


def quantised(base: Any) -> dict[str, Any]:
    return {n: p for n, p in base.named_parameters() if type(p).__name__ == "Params4bit"}


def test_state_is_half_a_byte_a_weight_and_adapters_in_their_dtype() -> None:
    shapes = {"model.embed_tokens.weight": (100, 64), "model.layers.0.q_proj.weight": (64, 128)}
    info = ModelInfo("", None, {}, {}, {**shapes, "model.norm.weight": (64,)})
    adapter = 4 * (64 + 128)
    base = 64 * 128 // 2 + 4 * (100 * 64 + 64)
    for dtype, size in (("float32", 4), ("bfloat16", 2)):
        assert Qlora(r=4, adapter_dtype=dtype).state_bytes(info, "bfloat16") == {
            "weights": base + size * adapter,
            "gradients": size * adapter,
            "optimizer": 2 * size * adapter,
        }
    assert scale_bytes(info) == 64 * 128 // 64 + 4 + 4 * 273
    magnitudes = 64  # stay in float32
    coarse = Qlora(r=4, use_dora=True, adapter_dtype="bfloat16")
    state = coarse.state_bytes(info, "bfloat16")
    assert state is not None
    assert state["gradients"] == 2 * adapter + 4 * magnitudes


def test_repacking_is_switched_off_on_every_layer() -> None:
    import torch

    class Linear4bit(torch.nn.Linear):
        support_avx512bf16_for_cpu = True

    model = torch.nn.Sequential(Linear4bit(2, 2), torch.nn.Sequential(Linear4bit(2, 2)))
    keep_gradients(model)
    assert not any(getattr(m, "support_avx512bf16_for_cpu", False) for m in model.modules())


@pytest.mark.parametrize("init", ["pissa", "olora", "pissa_niter_4"])
def test_starts_that_need_whole_weights_are_refused(init: str) -> None:
    with pytest.raises(ValueError, match="init_lora_weights"):
        Qlora(init_lora_weights=init)  # type: ignore[arg-type]


@needs_bitsandbytes
def test_blocks_are_in_nf4_doubly_quantised_and_the_rest_is_whole(ref: ModelRef) -> None:
    import torch

    method = make("qlora", r=4)
    base = method.load(ref)
    info = make("full").describe(ref.load())
    packed = quantised(base)
    assert packed.keys() == info.linear_shapes().keys()
    for parameter in packed.values():
        assert parameter.quant_state.quant_type == "nf4"
        assert parameter.quant_state.nested
    whole = {p.dtype for n, p in base.named_parameters() if n not in packed}
    assert whole == {torch.float32}
    assert method.describe(base).shapes == info.shapes


@needs_bitsandbytes
def test_gradient_after_an_evaluation_step_is_the_dequantised_references(ref: ModelRef) -> None:
    assert agreement(ref) >= 0.999


@needs_bitsandbytes
def test_that_gradient_is_kept_where_the_cpu_would_drop_it(
    ref: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for what bitsandbytes does on CPUs with AVX-512 bf16, as others cannot run it:
    a layer that saw a forward pass in evaluation passes no gradient from then on."""
    import torch
    from bitsandbytes.nn import Linear4bit, modules

    whole = Linear4bit.forward

    def repacking(self: Any, x: Any) -> Any:
        able = self.support_avx512bf16_for_cpu
        self.repacked = getattr(self, "repacked", False) or (
            able and not self.training and not torch.is_grad_enabled()
        )
        self.support_avx512bf16_for_cpu = False
        found = whole(self, x)
        self.support_avx512bf16_for_cpu = able
        return found.detach() if self.repacked else found

    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)
    monkeypatch.setattr(Linear4bit, "forward", repacking)
    assert agreement(ref) >= 0.999
    monkeypatch.setattr("harness.methods.qlora.keep_gradients", lambda base: None)
    assert agreement(ref) < 0.999


def agreement(ref: ModelRef) -> float:
    """Cosine of the adapter's gradient after an evaluation step, and of the same adapter's on the
    dequantised base in float32."""
    import torch
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    method = make("qlora", r=4)
    model = attach(method, ref)
    with torch.no_grad():  # at LoRA's start no gradient goes through the adapter to the base
        torch.manual_seed(1)
        for tensor in method.trainable_state(model).values():
            tensor.add_(torch.randn_like(tensor) * 0.1)
    logits(model)  # the evaluation step
    found = gradients(model)

    base = ref.load()
    for name, parameter in quantised(method.load(ref)).items():
        base.get_parameter(name).data = dequantize_bnb_weight(parameter).float()
    reference = make("lora", r=4).attach(base)
    with torch.no_grad():
        state = make("lora").trainable_state(reference)
        for name, tensor in method.trainable_state(model).items():
            state[name].copy_(tensor)
    return float(torch.cosine_similarity(found, gradients(reference), dim=0))


def gradients(model: Any) -> Any:
    """Of every trainable tensor, in one float32 vector."""
    import torch

    model.train()
    model.zero_grad()
    model(input_ids=ids(), labels=ids(), use_cache=False).loss.backward()
    found = [p.grad.float().flatten() for p in model.parameters() if p.requires_grad]
    return torch.cat(found)


@needs_bitsandbytes
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("float32", {}),
        ("float32", {"use_dora": True, "adapter_dtype": "bfloat16"}),
        ("float32", {"adapter_dtype": "bfloat16"}),
        ("bfloat16", {}),
    ],
)
def test_contract_holds_on_a_quantised_base(
    tiny_model: Path, tmp_path: Path, dtype: str, options: dict[str, Any]
) -> None:
    import torch
    from peft import PeftModel

    ref = ModelRef(str(tiny_model), dtype, "cpu")
    method = make("qlora", r=4, **options)
    base = method.load(ref)
    info, before = method.describe(base), logits(base)
    model = method.attach(base)
    start = logits(model)  # DoRA computes its norms in bfloat16, and starts that far from the base
    assert (start - before).abs().max() <= (
        5e-3 if "use_dora" in options else 0
    ) * before.abs().max()
    trained = method.trainable_state(model)
    assert method.count_trainable(info) == sum(t.numel() for t in trained.values())
    state = method.state_bytes(info, dtype)
    assert state is not None
    assert state["weights"] == sum(p.numel() * p.element_size() for p in model.parameters())
    assert state["gradients"] == sum(t.numel() * t.element_size() for t in trained.values())

    reference = method.add_reference(model)
    train(model)
    after = logits(model)
    assert torch.equal(reference.logits(ids(), torch.ones_like(ids())), start)
    with method.switched_off(model):
        assert torch.equal(logits(model), before)
    method.save(model, tmp_path)
    assert torch.equal(logits(method.load_trained(ref, tmp_path)), after)
    assert torch.equal(logits(method.resume(method.load(ref), tmp_path)), after)

    merged = logits(method.merged(ref, tmp_path))
    unmerged = logits(PeftModel.from_pretrained(ref.load(), tmp_path))
    allowed = 1e-5 if dtype == "float32" else 0.03  # the sum is rounded to 8 bits of mantissa
    assert (merged - unmerged).abs().max() <= allowed * unmerged.abs().max()


@needs_bitsandbytes
def test_formulas_hold_on_turned_weights_too(tmp_path: Path) -> None:
    tiny("gpt2")().save_pretrained(tmp_path)
    ref = ModelRef(str(tmp_path), "float32", "cpu")
    for options in ({}, {"use_dora": True}):
        method = make("qlora", r=4, **options)
        base = method.load(ref)
        info = method.describe(base)
        assert info.shapes == make("full").describe(ref.load()).shapes
        state = method.trainable_state(method.attach(base))
        assert method.count_trainable(info) == sum(t.numel() for t in state.values())


@needs_bitsandbytes
def test_scales_weigh_what_the_formula_says(ref: ModelRef) -> None:
    method = make("qlora")
    base = method.load(ref)
    measured = 0
    for parameter in quantised(base).values():
        state = parameter.quant_state
        tensors = [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
        measured += sum(t.numel() * t.element_size() for t in tensors)
    assert measured == scale_bytes(method.describe(base))


@needs_bitsandbytes
def test_training_equals_plain_trl_and_peft(workspace: Workspace, tiny_model: Path) -> None:
    import torch
    from transformers import BitsAndBytesConfig

    objective = dict(workspace.tree["matrix"]["objective"][0]["sft"], max_steps=STEPS)
    workspace.write(
        matrix={
            "method": [{"qlora": {"r": 4, "adapter_dtype": "bfloat16"}}],  # as TRL has it
            "objective": [{"sft": objective}],
        },
        scorers=["exact_match"],
    )
    outcome = workspace.run()
    assert not outcome.failed, [r.error for r in outcome.failed]
    (record,) = [r for r in outcome.records.values() if r.kind == "train"]
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    expected = plain(
        tiny_model,
        workspace.folder / "plain",
        "LoraConfig",
        {"r": 4, "lora_alpha": 32},
        quantization_config=quantization,
        device_map={"": "cpu"},
    )
    found = losses_of(workspace.store / "train" / record.key[:24])
    assert found == pytest.approx(expected, abs=0, rel=1e-6)
    info = make("full").describe(make("full").load(ModelRef(str(tiny_model), "float32", "cpu")))
    assert record.cost["parameters"] == (info.parameters or 0) + record.cost["trainable_parameters"]


@needs_bitsandbytes
def test_an_adapter_in_float32_stays_so_through_training(workspace: Workspace) -> None:
    import torch
    from safetensors.torch import load_file

    method = {"qlora": {"r": 4, "adapter_dtype": "float32"}}
    workspace.write(matrix={**workspace.tree["matrix"], "method": [method]})
    outcome = workspace.run()
    assert not outcome.failed, [r.error for r in outcome.failed]
    (saved,) = workspace.store.glob("train/*/checkpoint/adapter_model.safetensors")
    tensors = load_file(saved)
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    coarse = sum(torch.equal(t, t.bfloat16().float()) for t in tensors.values())
    assert coarse == 0  # none of them went through bfloat16
