"""The contract that every method keeps: formulas, save and reload, resume, reference, merging."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from harness.core import from_yaml, registry
from harness.core.errors import ModelError, SuiteError
from harness.methods.base import Method
from harness.models.files import ModelRef
from harness.models.precision import MasterWeights
from tests.conftest import Workspace

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("full", {}),
    "lora": ("lora", {"r": 4}),
    "lora-olora": ("lora", {"r": 4, "init_lora_weights": "olora"}),
    "dora": ("dora", {"r": 4}),
    "rslora": ("rslora", {"r": 4}),
    "pissa": ("pissa", {"r": 4, "lora_alpha": 4}),
    "ia3": ("ia3", {}),
    "prompt_tuning": ("prompt_tuning", {"num_virtual_tokens": 5}),
    "p_tuning": ("p_tuning", {"num_virtual_tokens": 5, "encoder_hidden_size": 16}),
    "p_tuning-lstm": ("p_tuning", {"num_virtual_tokens": 5, "encoder": "lstm"}),
    "prefix_tuning": ("prefix_tuning", {"num_virtual_tokens": 5}),
    "prefix_tuning-projection": ("prefix_tuning", {"num_virtual_tokens": 5, "projection": True}),
}
every_method = pytest.mark.parametrize("case", CASES)


def make(name: str, **options: Any) -> Method:
    declared = registry.find("method", name)
    return cast(Method, from_yaml.build_fields(declared, options, f"method {name}"))


def of(case: str) -> Method:
    name, options = CASES[case]
    return make(name, **options)


@pytest.fixture
def ref(tiny_model: Path) -> ModelRef:
    return ModelRef(str(tiny_model), "float32", "cpu")


def ids() -> Any:
    import torch

    return torch.arange(4, 36).reshape(2, 16)


def logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(input_ids=ids(), use_cache=False).logits[:, -16:]


def attach(method: Method, ref: ModelRef) -> Any:
    import torch

    base = method.load(ref)
    torch.manual_seed(0)
    return method.attach(base)


def train(model: Any, steps: int = 3) -> None:
    """A few steps that move every trainable tensor."""
    import torch

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-2)
    model.train()
    for _ in range(steps):
        model(input_ids=ids(), labels=ids(), use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@every_method
def test_formulas_count_and_weigh_what_trains(tiny_model: Path, case: str, dtype: str) -> None:
    method, ref = of(case), ModelRef(str(tiny_model), dtype, "cpu")
    info = method.describe(method.load(ref))
    model = attach(method, ref)
    MasterWeights(model.parameters())
    trained = [p for p in model.parameters() if p.requires_grad]
    assert method.count_trainable(info) == sum(p.numel() for p in trained) > 0
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    gradients = sum(p.numel() * p.element_size() for p in trained)
    expected = {"weights": weights, "gradients": gradients, "optimizer": 2 * gradients}
    assert method.state_bytes(info, dtype) == expected


def test_counts_are_the_papers(ref: ModelRef) -> None:
    base = make("full").load(ref)
    linear = [m for n, m in base.named_modules() if n.endswith("_proj")]
    info = make("full").describe(base)
    hidden, layers = base.config.hidden_size, base.config.num_hidden_layers
    lora = sum(4 * (m.in_features + m.out_features) for m in linear)
    assert make("lora", r=4).count_trainable(info) == lora
    assert make("prompt_tuning", num_virtual_tokens=7).count_trainable(info) == 7 * hidden
    assert make("prefix_tuning", num_virtual_tokens=7).count_trainable(info) == (
        2 * 7 * layers * hidden
    )
    assert make("ia3").count_trainable(info) == layers * (
        2 * hidden + base.config.intermediate_size
    )


@pytest.mark.parametrize("layout", ["gpt2", "gpt_neox", "qwen2", "gemma"])
def test_formulas_hold_for_other_layouts(layout: str) -> None:
    model = tiny(layout)
    for case in ("lora", "dora", "ia3", "prompt_tuning", "p_tuning", "prefix_tuning"):
        method, base = of(case), model()
        expected = method.count_trainable(method.describe(base))
        state = method.trainable_state(method.attach(base))
        assert expected == sum(t.numel() for t in state.values()), case


def tiny(layout: str) -> Any:
    """A maker of random models of two layers, with fewer key-value heads where that exists."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    if layout == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4}
    if layout in ("qwen2", "gemma"):
        sizes |= {"num_key_value_heads": 2}
    if layout == "gemma":
        sizes |= {"head_dim": 16}
    if layout != "gpt2":
        sizes |= {"intermediate_size": 48}
    config = AutoConfig.for_model(
        layout, vocab_size=64, bos_token_id=None, eos_token_id=0, pad_token_id=0, **sizes
    )
    return lambda: AutoModelForCausalLM.from_config(config)


@every_method
def test_saved_checkpoint_reloads_to_the_same_logits(
    ref: ModelRef, tmp_path: Path, case: str
) -> None:
    import torch
    from peft import PeftModel

    method = of(case)
    model = attach(method, ref)
    train(model)
    after = logits(model)
    method.save(model, tmp_path)
    assert torch.equal(logits(method.load_trained(ref, tmp_path)), after)
    if case != "full":  # and in any other program that uses PEFT
        plain = PeftModel.from_pretrained(ref.load(), tmp_path)
        assert torch.equal(logits(plain), after)


@every_method
def test_switched_off_it_computes_what_the_base_does(ref: ModelRef, case: str) -> None:
    import torch

    method = of(case)
    base = logits(method.load(ref))
    model = attach(method, ref)
    start = logits(model)
    if "starts_at_base" not in method.exceptions():
        assert torch.allclose(start, base, atol=1e-5)
    train(model)
    assert not torch.allclose(logits(model), base, atol=1e-3)
    context = method.switched_off(model)
    if context is None:
        assert "switched_off" in method.exceptions()
        return
    with context:
        assert torch.equal(logits(model), base)


@every_method
def test_resumed_model_starts_at_the_saved_logits_and_trains_on(
    ref: ModelRef, tmp_path: Path, case: str
) -> None:
    import torch

    method = of(case)
    model = attach(method, ref)
    train(model)
    method.save(model, tmp_path)
    resumed = method.resume(method.load(ref), tmp_path)
    assert torch.equal(logits(resumed), logits(model))
    states = method.trainable_state(resumed), method.trainable_state(model)
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    train(model)
    train(resumed)
    assert torch.equal(logits(resumed), logits(model))


@every_method
def test_reference_stays_what_the_model_was(ref: ModelRef, tmp_path: Path, case: str) -> None:
    import torch

    method = of(case)
    model = attach(method, ref)
    train(model, 1)
    start, mask = logits(model), torch.ones_like(ids())
    before = {name: tuple(t.shape) for name, t in model.named_parameters()}
    reference = method.add_reference(model)
    assert torch.equal(reference.logits(ids(), mask), start)
    train(model)
    assert not torch.equal(logits(model), start)
    assert torch.equal(reference.logits(ids(), mask), start)
    assert before == {name: tuple(t.shape) for name, t in model.named_parameters()}
    after = logits(model)
    method.save(model, tmp_path)
    assert torch.equal(logits(method.load_trained(ref, tmp_path)), after)


def test_reference_leaves_the_training_mode_of_every_module(ref: ModelRef) -> None:
    import torch

    method = of("lora")
    model = attach(method, ref).train()
    model.get_base_model().lm_head.eval()
    modes = [module.training for module in model.modules()]
    reference = method.add_reference(model)
    found = reference.logits(ids(), torch.ones_like(ids()))
    assert not found.requires_grad
    assert modes == [module.training for module in model.modules()]
    assert len(set(modes)) == 2


@every_method
def test_merged_model_computes_what_the_adapter_does(
    ref: ModelRef, tmp_path: Path, case: str
) -> None:
    import torch

    method = of(case)
    model = attach(method, ref)
    train(model)
    method.save(model, tmp_path)
    if method.refusal("merge") is not None:
        with pytest.raises(ModelError, match="cannot be merged"):
            method.merged(ref, tmp_path)
        return
    merged = method.merged(ref, tmp_path)
    assert not any("lora" in name or "ia3" in name for name, _ in merged.named_parameters())
    difference = (logits(merged) - logits(model)).abs().max()
    assert difference <= 1e-5 * logits(model).abs().max()
    assert torch.isfinite(difference)


@every_method
def test_a_bfloat16_base_reloads_exactly_and_merges_closely(
    tiny_model: Path, tmp_path: Path, case: str
) -> None:
    import torch

    method, ref = of(case), ModelRef(str(tiny_model), "bfloat16", "cpu")
    model = attach(method, ref)
    train(model)
    method.save(model, tmp_path)
    after = logits(model)
    assert torch.equal(logits(method.load_trained(ref, tmp_path)), after)
    assert torch.equal(logits(method.resume(method.load(ref), tmp_path)), after)
    if method.refusal("merge") is None:  # the sum is rounded to 8 bits of mantissa
        difference = (logits(method.merged(ref, tmp_path)) - after).abs().max()
        assert difference <= 0.03 * after.abs().max()


@pytest.mark.parametrize("case", ["lora", "dora", "pissa", "ia3", "prompt_tuning", "full"])
def test_score_head_trains_and_reloads(ref: ModelRef, tmp_path: Path, case: str) -> None:
    import torch

    method = of(case)
    torch.manual_seed(0)  # the head is drawn
    base = method.load(ref, "score")
    model = method.attach(base, ("score",))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        rewards = model.eval()(input_ids=ids()).logits
    assert rewards.shape == (2, 1)
    method.save(model, tmp_path)
    with torch.no_grad():
        again = method.load_trained(ref, tmp_path)(input_ids=ids()).logits
    assert torch.equal(again, rewards)


def test_adapters_have_gradients_under_gradient_checkpointing(ref: ModelRef) -> None:
    import torch

    for case in CASES:
        method = of(case)
        if method.refusal("gradient_checkpointing") is not None:
            assert case.startswith("prefix")
            continue
        found = []
        for checkpointing in (False, True):
            model = attach(method, ref)
            if checkpointing:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            model.train()
            model(input_ids=ids(), labels=ids(), use_cache=False).loss.backward()
            found.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
        for name, gradient in found[0].items():
            assert torch.allclose(found[1][name], gradient, atol=1e-6), (case, name)


def test_mixed_batch_gives_what_each_adapter_gives_alone(ref: ModelRef, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel

    for case in ("lora", "rslora"):
        method = of(case)
        assert method.refusal("mixed_batch") is None
        alone = []
        for seed in range(2):
            base = method.load(ref)
            torch.manual_seed(seed)
            model = method.attach(base)
            train(model, 1 + seed)
            method.save(model, tmp_path / f"{case}-{seed}")
            alone.append(logits(model)[seed])
        both = PeftModel.from_pretrained(method.load(ref), tmp_path / f"{case}-0", "first")
        both.load_adapter(str(tmp_path / f"{case}-1"), "second")
        with torch.no_grad():
            mixed = both.eval()(input_ids=ids(), adapter_names=["first", "second"]).logits
        for row in range(2):
            assert torch.allclose(mixed[row], alone[row], atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "dora", "qlora", "bottleneck"])
def test_a_target_that_the_model_lacks_is_remarked(workspace: Workspace, method: str) -> None:
    """PEFT trains the other ones without a word."""
    for target, told in (("v_prj", True), ("o_proj", False)):
        options = {"target_modules": ["down_proj", target]}
        workspace.tree["matrix"] = {"method": [{method: options}], "objective": ["sft"]}
        warnings = workspace.open().plan.warnings
        assert any("'v_prj' matches no layer" in text for text in warnings) == told


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("lora", {"init_lora_weights": "pissa_niter_4"}, "randomised SVD"),
        ("lora", {"init_lora_weights": "eva"}, "silently start as plain LoRA"),
        ("dora", {"use_dora": False}, "use_dora"),
        ("prompt_tuning", {"init": "text"}, "init_text"),
        ("ia3", {"target_modules": ["k_proj"]}, "together"),
        ("ia3", {"target_modules": ["a"], "feedforward_modules": ["b"]}, "not in target_modules"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    method: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(SuiteError, match=words):
        make(method, **options)


@pytest.mark.parametrize("case", ["pissa", "lora", "ia3", "prompt_tuning"])
def test_a_base_with_an_adapter_takes_no_second(ref: ModelRef, tmp_path: Path, case: str) -> None:
    model = attach(of(case), ref)
    of(case).save(model, tmp_path)
    with pytest.raises(ModelError, match="already carries an adapter"):
        of(case).attach(model)
    with pytest.raises(ModelError, match="already carries an adapter"):
        of(case).resume(model, tmp_path)
    if case != "prompt_tuning":  # its base is untouched
        with pytest.raises(ModelError, match="already carries an adapter"):
            of("pissa").attach(model.get_base_model())


def test_options_that_change_the_base_give_up_what_needs_it(ref: ModelRef) -> None:
    for case in ("pissa", "lora-olora"):
        for trait in ("swap", "mixed_batch"):
            assert "changes the base" in str(of(case).refusal(trait))
    assert "DoRA" in str(make("lora", use_dora=True).refusal("mixed_batch"))
    assert of("lora").refusal("swap") is None


def test_a_missing_package_is_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = registry.find("method", "lora")
    monkeypatch.setattr(declared, "requires", ("no_such_package",))
    with pytest.raises(SuiteError, match="method 'lora' needs the package 'no_such_package'"):
        from_yaml.build_fields(declared, {}, "matrix.method[0]")


def test_unknown_layout_says_which_layers_there_are() -> None:
    from harness.models.files import ModelInfo

    info = ModelInfo("", None, {}, {}, {"h.0.attention.weight": (8, 8)})
    assert "it has attention" in (make("ia3").refuse_model(info) or "")


def test_full_refuses_a_checkpoint_of_another_model(ref: ModelRef, tmp_path: Path) -> None:
    tiny("gpt2")().save_pretrained(tmp_path)
    method = of("full")
    with pytest.raises(ModelError, match="another model"):
        method.resume(method.load(ref), tmp_path)


@every_method
def test_a_score_head_goes_on_from_a_language_models_checkpoint(
    ref: ModelRef, tmp_path: Path, case: str
) -> None:
    import torch

    method = of(case)
    if method.refusal("new_head"):
        with pytest.raises(ModelError, match="head it was trained with"):
            method.resume(method.load(ref, "score"), tmp_path, ("score",))
        return
    trained = attach(method, ref)
    train(trained)
    method.save(trained, tmp_path / "lm")
    scores = method.resume(method.load(ref, "score"), tmp_path / "lm", ("score",))
    wanted, state = method.trainable_state(trained), method.trainable_state(scores)
    assert any("score" in name for name in state)
    shared = {n: t for n, t in state.items() if "score" not in n}
    shared_wanted = {n: t for n, t in wanted.items() if n in shared}
    assert shared.keys() == shared_wanted.keys()
    assert all(torch.equal(shared[name], shared_wanted[name]) for name in shared)
    for _ in range(2):
        scores(input_ids=ids()).logits.sum().backward()
        with torch.no_grad():
            for parameter in scores.parameters():
                if parameter.grad is not None:
                    parameter -= 0.01 * parameter.grad
    method.save(scores, tmp_path / "score")
    again = method.load_trained(ref, tmp_path / "score")
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids()).logits, scores.eval()(input_ids=ids()).logits)
