"""Bottleneck adapters: what they compute, against plain torch, and what PEFT promises of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel
from torch import nn

from harness.core.errors import ModelError
from harness.methods.bottleneck import Bottleneck
from harness.models.files import ModelInfo, ModelRef
from tests.conftest import Workspace

_SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 64, "bos_token_id": None,
    "eos_token_id": 0, "pad_token_id": 1,
}  # fmt: skip
_GROUPED = {"num_key_value_heads": 1, "head_dim": 16}
_VISION = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
           "num_attention_heads": 1, "image_size": 8, "patch_size": 4}  # fmt: skip
_LAYERS = ("model.layers", "self_attn", "mlp")
# model type -> fields of its config beyond the sizes; where its blocks are, and in them the modules
# whose output transformers adds to the residual.
LAYOUTS: dict[str, tuple[dict[str, Any], tuple[str, str, str]]] = {
    "llama": (_GROUPED, _LAYERS),
    "mistral": (_GROUPED, _LAYERS),
    "qwen2": ({"num_key_value_heads": 1}, _LAYERS),
    "qwen3": (_GROUPED, _LAYERS),
    "gemma": (_GROUPED, _LAYERS),
    "gemma2": (_GROUPED, _LAYERS),
    "gemma3_text": (_GROUPED, _LAYERS),
    "gemma3": (
        {"text_config": _SIZES | _GROUPED, "vision_config": _VISION, "mm_tokens_per_image": 4},
        ("model.language_model.layers", "self_attn", "mlp"),
    ),
    "olmo2": ({"num_key_value_heads": 1}, _LAYERS),
    "phi3": ({"num_key_value_heads": 1}, _LAYERS),
    "gpt2": ({"n_inner": 48}, ("transformer.h", "attn", "mlp")),
    "gpt_neox": ({}, ("gpt_neox.layers", "attention", "mlp")),
    "falcon": ({}, ("transformer.h", "self_attention", "mlp")),
    "phi": ({"num_key_value_heads": 1}, _LAYERS),
    "opt": (
        {"ffn_dim": 48, "word_embed_proj_dim": 32}, ("model.decoder.layers", "self_attn", "fc2"),
    ),
    "starcoder2": (_GROUPED, _LAYERS),
    "stablelm": ({"num_key_value_heads": 1}, _LAYERS),
    "cohere": ({"num_key_value_heads": 1}, _LAYERS),
    "smollm3": ({"num_key_value_heads": 1}, _LAYERS),
    "granite": ({"num_key_value_heads": 1}, _LAYERS),
    "gptj": ({"n_inner": 48, "rotary_dim": 4}, ("transformer.h", "attn", "mlp")),
    "gpt_neo": ({"attention_types": [[["global", "local"], 1]]}, ("transformer.h", "attn", "mlp")),
}  # fmt: skip
MIXTURES: dict[str, dict[str, Any]] = {
    "mixtral": {**_GROUPED, "num_local_experts": 4},
    "qwen3_moe": {
        **_GROUPED,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
    },
}
LAYOUTS |= {kind: (fields, _LAYERS) for kind, fields in MIXTURES.items()}
IDS = torch.randint(2, 64, (4, 9), generator=torch.Generator().manual_seed(1))
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": lambda x: x.clamp(min=0),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "tanh": lambda x: 2 / (1 + torch.exp(-2 * x)) - 1,
}


def tiny(kind: str = "llama", head: str = "CausalLM", **fields: Any) -> Any:
    torch.manual_seed(0)
    own = LAYOUTS[kind][0] if kind in LAYOUTS else {}
    sizes = {} if "text_config" in own else _SIZES
    config = transformers.AutoConfig.for_model(kind, **{**sizes, **own, **fields})
    auto = getattr(transformers, f"AutoModelFor{head}")
    return auto.from_config(config, attn_implementation="eager").eval()


def randomise(model: nn.Module, adapter: str, seed: int) -> None:
    """Up starts at zero; give an adapter weights that do something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bottleneck_" in name and f".{adapter}." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


def logits(model: Any, ids: torch.Tensor = IDS, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids, **options).logits


def loss_of(model: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(model(input_ids=IDS).logits[:, :-1].flatten(0, 1),
                                       IDS[:, 1:].flatten())  # fmt: skip


def adapter_gradients(model: nn.Module) -> Iterator[torch.Tensor]:
    for parameter in model.parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            yield parameter.grad


def info_of(model: Any, config: dict[str, Any] | None = None) -> ModelInfo:
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    return ModelInfo("", None, {}, config=config or {}, shapes=shapes)


class Plain:
    """The papers' formula as hooks on the sublayers themselves, in plain torch."""

    def __init__(self, base: nn.Module, kind: str, method: Bottleneck, weights: Any) -> None:
        self.method = method
        self.weights = [w.detach().clone().requires_grad_() for w in weights]
        blocks, attention, feed_forward = LAYOUTS[kind][1]
        own = [attention, feed_forward] if method.placement == "houlsby" else [feed_forward]
        ends = [f"{blocks}.{i}.{name}" for i in range(2) for name in own]
        for i, end in enumerate(ends):
            base.get_submodule(end).register_forward_hook(self.hook(4 * i))
        assert len(self.weights) == 4 * len(ends)

    def hook(self, first: int) -> Any:
        down, down_bias, up, up_bias = self.weights[first : first + 4]

        def adapt(module: nn.Module, inputs: Any, output: Any) -> Any:
            h = output[0] if isinstance(output, tuple) else output
            narrow = ACTIVATIONS[self.method.activation](h @ down.T + down_bias)
            h = h + self.method.scaling * (narrow @ up.T + up_bias)
            return (h, *output[1:]) if isinstance(output, tuple) else h

        return adapt


def compare_with_plain_torch(kind: str, method: Bottleneck) -> None:
    base = tiny(kind)
    start = logits(base)
    expected_count = method.count_trainable(method.describe(base))
    if kind not in MIXTURES:  # whose experts have no name of their own in the files
        planned = info_of(base, base.config.to_dict())
        assert method.count_trainable(planned) == expected_count
    model = method.attach(tiny(kind)).eval()
    assert torch.equal(logits(model), start)
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trainable.values()) == expected_count
    randomise(model, "default", 2)
    plain = Plain(base, kind, method, trainable.values())
    torch.testing.assert_close(logits(model), logits(base), rtol=1e-5, atol=1e-6)
    assert (logits(model) - start).abs().max() > 1e-3
    loss_of(model).backward()
    loss_of(base).backward()
    for found, expected in zip(adapter_gradients(model), plain.weights, strict=True):
        torch.testing.assert_close(found, expected.grad, rtol=1e-4, atol=1e-6)
    with model.disable_adapter():
        assert torch.equal(logits(model), start)


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_outputs_and_gradients_are_those_of_plain_torch(kind: str, placement: Any) -> None:
    compare_with_plain_torch(kind, Bottleneck(placement=placement, reduction_factor=4))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation_is_its_formula(activation: Any) -> None:
    compare_with_plain_torch("llama", Bottleneck(activation=activation, scaling=0.5))


def test_every_known_model_type_is_held_by_a_test() -> None:
    from harness.methods._peft import bottleneck_layouts as _bottleneck_layouts

    assert set(_bottleneck_layouts.LAYOUTS) == set(LAYOUTS) - set(MIXTURES)


def test_dropout_acts_in_training_only() -> None:
    model = Bottleneck(dropout=0.5).attach(tiny())
    randomise(model, "default", 2)
    assert torch.equal(logits(model.eval()), logits(model))
    assert not torch.equal(logits(model.train()), logits(model))


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_no_gradient(reentrant: bool) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = Bottleneck().attach(tiny()).train()
        randomise(model, "default", 2)
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        loss_of(model).backward()
        gradients.append(list(adapter_gradients(model)))
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("placement", "reduction_factor"),
    [("houlsby", 4), ("houlsby", 8), ("houlsby", 16), ("houlsby", 32),
     ("pfeiffer", 2), ("pfeiffer", 8), ("pfeiffer", 16)],
)  # fmt: skip
def test_usual_reductions_train_between_half_and_eight_percent_of_a_billion_parameter_model(
    placement: Any, reduction_factor: int
) -> None:
    # Llama 3.2 1B's shapes, whose weights are 1.24 billion numbers.
    with torch.device("meta"):
        base = tiny(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
                    num_attention_heads=32, num_key_value_heads=8, head_dim=64,
                    vocab_size=128256, tie_word_embeddings=True)  # fmt: skip
        total = sum(p.numel() for p in base.parameters())
        method = Bottleneck(placement=placement, reduction_factor=reduction_factor)
        expected = method.count_trainable(info_of(base))
        model = method.attach(base)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected
    assert expected is not None
    assert 0.005 <= expected / total <= 0.08


@pytest.mark.parametrize(("activation", "bottlenecks"), [("gelu", 2), ("silu", 2), ("relu", 1)])
def test_saved_activations_are_those_of_the_formula(activation: Any, bottlenecks: int) -> None:
    model = Bottleneck(activation=activation, reduction_factor=4).attach(tiny()).train()
    layer = model.get_submodule("base_model.model.model.layers.0.self_attn.o_proj")
    own = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = layer(torch.randn(10, 32, requires_grad=True))
    assert held.requires_grad
    assert sum(kept.values()) == 10 * 4 * (32 + bottlenecks * 8)


def test_low_precision_base_keeps_its_dtype_and_trains_float32_adapters() -> None:
    base = tiny().to(torch.bfloat16)
    start = logits(base)
    model = Bottleneck().attach(base).eval()
    assert torch.equal(logits(model), start)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    randomise(model, "default", 2)
    assert logits(model).dtype == torch.bfloat16
    assert not torch.equal(logits(model), start)


_FRESH = """
import sys, torch
from safetensors.torch import save_file
from peft import PeftModel
import harness.methods._peft.bottleneck
from harness.methods.bottleneck import Bottleneck
from harness.models.files import ModelRef
from pathlib import Path
base, checkpoint, out = map(Path, sys.argv[1:])
load = lambda: ModelRef(str(base), "float32", "cpu").load()
model = PeftModel.from_pretrained(load(), checkpoint).eval()
with torch.no_grad():
    save_file({"logits": model(input_ids=torch.arange(2, 20)[None]).logits}, out / "logits")
torch.manual_seed(5)
Bottleneck().save(Bottleneck().attach(load()), out / "attached")
"""


@pytest.mark.slow  # another process imports everything anew
def test_another_process_reloads_the_same_logits_and_writes_the_same_bytes(
    tiny_model: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    ref, method = ModelRef(str(tiny_model), "float32", "cpu"), Bottleneck()
    torch.manual_seed(5)
    model = method.attach(ref.load())
    method.save(model, tmp_path / "attached")
    randomise(model, "default", 3)
    method.save(model, tmp_path / "trained")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    root = str(Path(__file__).parents[2])
    subprocess.run(
        [sys.executable, "-c", _FRESH, tiny_model, tmp_path / "trained", fresh], check=True,
        env={**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": root}, timeout=240,
    )  # fmt: skip
    expected = logits(model.eval(), torch.arange(2, 20)[None])
    assert torch.equal(load_file(fresh / "logits")["logits"], expected)
    assert torch.equal(logits(method.load_trained(ref, tmp_path / "trained"),
                              torch.arange(2, 20)[None]), expected)  # fmt: skip
    ours, theirs = tmp_path / "attached", fresh / "attached"
    names = {path.name for path in ours.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    assert all((ours / n).read_bytes() == (theirs / n).read_bytes() for n in names)


def test_resumed_checkpoint_is_trainable_and_equal(tmp_path: Path) -> None:
    method = Bottleneck(placement="pfeiffer", activation="silu")
    model = method.attach(tiny())
    randomise(model, "default", 3)
    method.save(model, tmp_path)
    again = method.resume(tiny(), tmp_path)
    assert torch.equal(logits(again.eval()), logits(model.eval()))
    state, expected = method.trainable_state(again), method.trainable_state(model)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)


def test_empty_loading_gives_the_same_adapter(tmp_path: Path) -> None:
    model = Bottleneck().attach(tiny())
    randomise(model, "default", 3)
    Bottleneck().save(model, tmp_path)
    again = PeftModel.from_pretrained(tiny(), tmp_path, low_cpu_mem_usage=True)
    assert torch.equal(logits(again.eval()), logits(model.eval()))


@pytest.fixture
def two(tmp_path: Path) -> tuple[Any, dict[str, Any]]:
    """Adapters `first` (houlsby) and `second` (pfeiffer) on one base, and each model alone."""
    alone: dict[str, Any] = {"__base__": tiny()}
    for seed, (name, placement) in enumerate([("first", "houlsby"), ("second", "pfeiffer")]):
        method = Bottleneck(placement=placement, reduction_factor=4 + seed)  # type: ignore[arg-type]
        alone[name] = method.attach(tiny()).eval()
        randomise(alone[name], "default", seed)
        method.save(alone[name], tmp_path / name)
    model = PeftModel.from_pretrained(tiny(), tmp_path / "first", adapter_name="first").eval()
    model.load_adapter(tmp_path / "second", "second")
    return model, alone


def test_adapters_of_one_base_are_switched_deleted_and_unloaded(two: Any) -> None:
    model, alone = two
    for name in ("first", "second", "first"):
        model.set_adapter(name)
        assert torch.equal(logits(model), logits(alone[name]))
    model.set_adapter("second")
    model.delete_adapter("first")
    assert torch.equal(logits(model), logits(alone["second"]))
    base = model.unload()
    assert torch.equal(logits(base), logits(alone["__base__"]))
    assert not any("bottleneck" in name for name, _ in base.named_modules())


def test_rows_of_one_batch_take_their_own_adapters(two: Any) -> None:
    model, alone = two
    names = ["second", "__base__", "first", "second"]
    mixed = logits(model, adapter_names=names)
    for row, name in enumerate(names):
        one = logits(alone[name], IDS[row : row + 1])[0]
        torch.testing.assert_close(mixed[row], one, rtol=1e-5, atol=1e-6)
    assert torch.equal(logits(model), logits(alone["first"]))  # the active one, as before


@pytest.mark.parametrize("copies", [{}, {"num_beams": 3}, {"num_return_sequences": 2}])
def test_generation_takes_each_rows_adapter(two: Any, copies: dict[str, int]) -> None:
    model, alone = two
    names = ["second", "__base__", "first", "second"]
    sample = {"do_sample": True, "top_k": 1} if "num_return_sequences" in copies else {}
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, **copies, **sample}
    mask = torch.ones_like(IDS)
    mixed = model.generate(input_ids=IDS, attention_mask=mask, adapter_names=names, **options)
    every = copies.get("num_return_sequences", 1)
    for row, name in enumerate(names):
        one = alone[name].generate(input_ids=IDS[row : row + 1], attention_mask=mask[:1], **options)
        assert torch.equal(mixed[row * every : (row + 1) * every], one)
        base = alone["__base__"].generate(
            input_ids=IDS[row : row + 1], attention_mask=mask[:1], **options
        )
        assert torch.equal(one, base) == (name == "__base__")


def test_adapter_names_are_refused_and_never_ignored(two: Any) -> None:
    model, alone = two
    with pytest.raises(ValueError, match=r"'c'; the model has 'first', 'second'"):
        logits(model, adapter_names=["first", "second", "c", "first"])
    with pytest.raises(ValueError, match="3 adapter_names for a batch of 4"):
        logits(model, adapter_names=["first", "second", "first"])
    with pytest.raises(ValueError, match="eval"):
        logits(model.train(), adapter_names=["first", "second", "first", "second"])
    assert torch.equal(logits(model.eval()), logits(alone["first"]))  # no hook stays behind


def test_merging_is_refused(two: Any) -> None:
    for merge in (two[0].merge_adapter, two[0].merge_and_unload):
        with pytest.raises(ValueError, match="not linear"):
            merge()


def test_score_head_trains_along_and_reloads_and_mixes(tmp_path: Path) -> None:
    method = Bottleneck()
    base = tiny(head="SequenceClassification", num_labels=1)
    model = method.attach(base, also_train=("score",))
    randomise(model, "default", 3)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(input_ids=IDS).logits.sum().backward()
    optimizer.step()
    assert any("score" in name for name in method.trainable_state(model))
    method.save(model, tmp_path)
    clean = tiny(head="SequenceClassification", num_labels=1)
    before = logits(clean)
    again = method.resume(clean, tmp_path).eval()
    assert torch.equal(logits(again), logits(model.eval()))
    mixed = logits(again, adapter_names=["default", "__base__", "default", "__base__"])
    expected = torch.stack([logits(again)[0], before[1], logits(again)[2], before[3]])
    torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=1e-6)


def test_projections_that_are_named_are_adapted_and_others_refused() -> None:
    sizes = {"ffn_dim": 48, "word_embed_proj_dim": 32}
    told = Bottleneck(target_modules=["self_attn.out_proj", "fc2"])
    model = told.attach(tiny("opt", **sizes))
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert count == told.count_trainable(info_of(tiny("opt", **sizes))) == 4 * (2 * 32 * 2 + 34)
    with pytest.raises(ModelError, match=r"fc1' gives 48 numbers, the residual stream has 32"):
        Bottleneck(target_modules=["fc1"]).attach(tiny("opt", **sizes))
    with pytest.raises(ModelError, match=r"Embedding, not a projection"):
        Bottleneck(target_modules=["embed_tokens"]).attach(tiny())
    with pytest.raises(ModelError, match=r"'no_proj' matches no layer.*down_proj"):
        Bottleneck(target_modules=["no_proj"]).attach(tiny())


def test_an_expression_names_the_projections() -> None:
    told = Bottleneck(target_modules=r".*\.0\.(self_attn\.o_proj|mlp\.down_proj)")
    model = told.attach(tiny())
    adapted = {name.split(".bottleneck")[0] for name in told.trainable_state(model)}
    inside = "base_model.model.model.layers.0"
    assert adapted == {f"{inside}.self_attn.o_proj", f"{inside}.mlp.down_proj"}


class SideDoor(nn.Module):
    """A feed-forward that writes to the residual stream by two ways."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.side, self.mlp = nn.Linear(32, 32, bias=False), mlp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.side(x) + self.mlp(x)


def test_a_block_with_another_way_to_its_residual_is_refused() -> None:
    model = tiny()
    for block in model.model.layers:
        block.mlp = SideDoor(block.mlp)
    with pytest.raises(ModelError, match=r"adds more to the residual[\s\S]*target_modules"):
        Bottleneck().attach(model)


def test_a_second_adapter_finds_its_place_beside_the_first() -> None:
    model = Bottleneck(placement="pfeiffer").attach(tiny("phi"))
    config = Bottleneck(placement="houlsby").config(tiny("phi"), ())
    model.add_adapter("second", config)
    assert model.peft_config["second"].target_modules == {"self_attn.dense", "mlp.fc2"}


def test_four_bit_base_trains_and_reloads(tiny_model: Path, tmp_path: Path) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    quantise = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip

    def load() -> Any:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            tiny_model, quantization_config=quantise, dtype=torch.float32
        )
        for module in model.modules():
            if isinstance(module, bitsandbytes.nn.Linear4bit):
                # Else an evaluation repacks the weights and the gradient through them is lost.
                module.support_avx512bf16_for_cpu = False
        return model.eval()

    method = Bottleneck(reduction_factor=4)
    base = load()
    start = logits(base)
    expected = method.count_trainable(info_of(base))
    model = method.attach(base)
    assert torch.equal(logits(model.eval()), start)
    assert sum(t.numel() for t in method.trainable_state(model).values()) == expected
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = loss_of(model.train())
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    method.save(model, tmp_path)
    again = PeftModel.from_pretrained(load(), tmp_path).eval()
    assert torch.equal(logits(again), logits(model.eval()))
    with model.disable_adapter():
        assert torch.equal(logits(model), start)


class Packed(nn.Module):
    """Weights as two numbers a byte, as 4-bit layers keep them: no shape to read a width from."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.compute_dtype = torch.float32
        self.scale = float(layer.weight.detach().abs().max()) / 7
        codes = (layer.weight.detach() / self.scale).round().add(8).to(torch.uint8).flatten()
        self.weight = nn.Parameter((codes[::2] * 16 + codes[1::2])[:, None], requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        codes = torch.stack([self.weight[:, 0] // 16, self.weight[:, 0] % 16], 1).flatten()
        weight = (codes.to(x.dtype) - 8) * self.scale
        return x @ weight.view(self.out_features, self.in_features).T


def test_packed_base_trains_float_adapters_and_keeps_its_weights(tmp_path: Path) -> None:
    def load() -> Any:
        base = tiny()
        for block in base.model.layers:
            block.self_attn.o_proj = Packed(block.self_attn.o_proj)
            block.mlp.down_proj = Packed(block.mlp.down_proj)
        return base.eval()

    method, base = Bottleneck(reduction_factor=4), load()
    start, expected = logits(base), method.count_trainable(info_of(base))
    model = method.attach(base)
    assert sum(t.numel() for t in method.trainable_state(model).values()) == expected
    randomise(model, "default", 2)
    loss_of(model).backward()
    assert all(gradient.abs().max() > 0 for gradient in adapter_gradients(model))
    method.save(model, tmp_path)
    assert torch.equal(logits(method.resume(load(), tmp_path).eval()), logits(model.eval()))
    assert torch.equal(logits(model.unload()), start)


def test_a_suite_trains_audits_and_scores_both_placements(workspace: Workspace) -> None:
    sft = {"learning_rate": 1e-2, "per_device_train_batch_size": 4, "max_length": 64}
    workspace.write(
        matrix={
            "method": ["bottleneck"],
            "bottleneck.placement": ["houlsby", "pfeiffer"],
            "objective": [{"sft": sft}],
        },
        scorers=["exact_match"],
    )
    outcome = workspace.run()
    assert not outcome.failed
    trained = [r for r in outcome.records.values() if r.kind == "train"]
    # Two layers; hidden size 32, a bottleneck of 2.
    counts = {4 * (2 * 32 * 2 + 34), 2 * (2 * 32 * 2 + 34)}
    assert {record.cost["trainable_parameters"] for record in trained} == counts
    for record in trained:
        predicted = record.cost["predicted"]["trainable_parameters"]
        assert predicted == record.cost["trainable_parameters"]
        assert {check["status"] for check in record.metrics["audit"]} == {"passed"}
