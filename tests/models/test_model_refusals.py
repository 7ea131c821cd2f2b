"""What a model and a method cannot do together is refused by plan; what they can is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from harness.core.errors import HarnessError, ModelError
from harness.methods._experts import ADAPTED
from harness.models.files import ModelInfo, ModelRef
from harness.models.kinds import refuse_kind
from tests.conftest import DPO, SFT, Workspace, preferences, write_jsonl
from tests.families import WHOLE_HEADS, info_of, make, method_of


def planned(workspace: Workspace, method: Any, model: Path | None = None) -> Any:
    models = workspace.tree["models"] if model is None else {"tiny": str(model)}
    matrix = {**workspace.tree["matrix"], "method": [method]}
    workspace.write(models=models, matrix=matrix)
    return workspace.open().plan


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ({"lora": {"target_modules": ["q"]}}, ["target_modules 'q'", "q_proj"]),
        ({"lora": {"target_modules": "q_proj"}}, ["target_modules 'q_proj'", "q_proj"]),
        ({"lora": {"exclude_modules": r".*_proj"}}, ["target_modules 'all-linear'"]),
        ({"lora": {"modules_to_save": ["norms"]}}, ["modules_to_save 'norms'"]),
        ({"lora": {"target_modules": "(q"}}, ["target_modules", "no regular expression"]),
        ({"qlora": {"target_modules": ["w"]}}, ["target_modules 'w'", "down_proj"]),
        ({"bottleneck": {"target_modules": ["out"]}}, ["target_modules 'out'", "o_proj"]),
        (
            {"ia3": {"target_modules": ["k", "down_proj"], "feedforward_modules": ["down_proj"]}},
            ["target_modules 'k'", "k_proj"],
        ),
    ],
)
def test_targets_that_match_nothing_are_refused_with_the_layers_there_are(
    workspace: Workspace, method: Any, told: list[str]
) -> None:
    with pytest.raises(HarnessError) as refused:
        planned(workspace, method)
    for part in told:
        assert part in str(refused.value)


@pytest.mark.parametrize("kind", ["t5", "bart", "bert", "roberta", "llava", "no-such-type"])
def test_models_that_write_nothing_are_refused(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    for path in tiny_model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | {"model_type": kind}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(HarnessError, match=rf"models.tiny[\s\S]*'{kind}'[\s\S]*decoder-only"):
        planned(workspace, "lora", folder)


def test_every_decoder_that_transformers_has_is_left_to_be_tried() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    decoders = [name for name in NAMES if refuse_kind({"model_type": name}) is None]
    assert len(decoders) > 140
    assert not set(decoders) & set(MASKED)
    assert refuse_kind({"model_type": "bert", "is_decoder": True}) is None


def test_types_whose_experts_are_adapted_are_those_of_peft() -> None:
    from peft.utils.transformers_weight_conversion import _MODEL_TO_CONVERSION_PATTERN as PATTERNS

    assert {PATTERNS[name] for name in ADAPTED} == {"mixtral", "qwen2_moe"}


@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral"])
@pytest.mark.parametrize("options", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_options_that_peft_has_not_for_experts_are_refused(
    tmp_path: Path, family: str, options: dict[str, Any]
) -> None:
    folder = make(family, tmp_path)
    info = info_of(folder)
    assert next(iter(options)) in (method_of("lora", **options).refuse_model(info) or "")
    told = method_of("lora", target_modules=["q_proj", "v_proj"], **options)
    assert told.refuse_model(info) is None
    base = ModelRef(str(folder), "float32", "cpu").load()
    expected = told.count_trainable(told.describe(base))
    assert expected == told.count_trainable(info)
    state = told.trainable_state(told.attach(base))
    assert expected == sum(tensor.numel() for tensor in state.values())


TARGETS: dict[str, dict[str, Any]] = {
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "head": {"target_modules": ["lm_head", "q_proj"]},
    "both": {"target_modules": ["lm_head", "embed_tokens"]},
    "expression": {"target_modules": r".*layers\.1\..*\.(q|k)_proj"},
    "excluded": {"exclude_modules": ["q_proj", "layers.0.mlp.up_proj"]},
    "excluded by expression": {"exclude_modules": r".*layers\.0\..*"},
    "head in full": {"modules_to_save": ["lm_head"]},
    "embedding in full": {"modules_to_save": ["embed_tokens"]},
    "norm in full": {"modules_to_save": ["norm"], "target_modules": ["v_proj"]},
}


@pytest.mark.filterwarnings("ignore:Model.*tie_word_embeddings")
@pytest.mark.filterwarnings("ignore:Model with `tie_word_embeddings")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("case", TARGETS)
def test_adapters_on_any_layer_are_counted_and_come_back(
    tmp_path: Path, case: str, *, tied: bool
) -> None:
    folder = make("llama", tmp_path / "base", tie_word_embeddings=tied)
    method, ref = method_of("lora", **TARGETS[case]), ModelRef(str(folder), "float32", "cpu")
    info, base = info_of(folder), method.load(ref)
    assert method.refuse_model(info) is None
    expected = method.count_trainable(method.describe(base))
    before = logits(base)
    model = method.attach(base)
    state = method.trainable_state(model)
    assert expected == sum(tensor.numel() for tensor in state.values())
    assert expected == method.count_trainable(info)
    with torch.no_grad():
        for tensor in state.values():
            tensor.add_(torch.randn_like(tensor) * 0.1)
    after = logits(model)
    method.save(model, tmp_path / "saved")
    again = method.load_trained(ref, tmp_path / "saved")
    torch.testing.assert_close(logits(again), after)
    assert method.unmatched(again, ref, tmp_path / "saved") == ([], [])
    off = method.switched_off(again)
    with off:
        torch.testing.assert_close(logits(again), before)
    resumed = method.resume(method.load(ref), tmp_path / "saved")
    torch.testing.assert_close(logits(resumed), after)
    assert expected == sum(t.numel() for t in method.trainable_state(resumed).values())


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(4, 20).reshape(2, 8), use_cache=False).logits


@pytest.mark.parametrize("family", ["gpt_neox", "qwen3_moe", "gemma2"])
def test_full_goes_on_to_dpo_and_answers(workspace: Workspace, tmp_path: Path, family: str) -> None:
    write_jsonl(workspace.folder / "preferences.jsonl", preferences(24))
    data = {**workspace.tree["data"], "preferences": {"train": "preferences.jsonl"}}
    objectives = [{"sft": SFT}, {"dpo": DPO}]
    matrix = {"data": ["letters"], "method": ["full"], "objective": objectives}
    folder = make(family, tmp_path / "base")
    workspace.write(models={"tiny": str(folder)}, data=data, matrix=matrix, base={})
    outcome = workspace.run()
    assert not outcome.failed, [r.error for r in outcome.failed]
    trained = [r for r in outcome.records.values() if r.kind == "train"]
    used = {record.provenance["attn_implementation"] for record in trained}
    assert used == {"eager" if family == "gemma2" else "sdpa"}
    own = json.loads((folder / "config.json").read_text())
    saved = [json.loads(p.read_text()) for p in workspace.store.glob("**/checkpoint/config.json")]
    assert len(saved) == len(trained) == 2
    for config in saved:
        assert config.get("output_router_logits") == own.get("output_router_logits")


@pytest.mark.parametrize(
    ("name", "options"),
    [("prompt_tuning", {}), ("prompt_tuning", {"init": "random"}), ("p_tuning", {})],
)
def test_a_prompt_is_as_wide_as_the_embedding_not_as_the_layers(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    folder = make("opt", tmp_path, word_embed_proj_dim=16, do_layer_norm_before=False)
    method, base = method_of(name, **options), ModelRef(str(folder), "float32", "cpu").load()
    expected = method.count_trainable(method.describe(base))
    model = method.attach(base)
    state = method.trainable_state(model)
    assert logits(model).shape[-1] == base.config.vocab_size
    assert expected == method.count_trainable(info_of(folder))
    assert expected == sum(tensor.numel() for tensor in state.values())


def test_bottleneck_adapters_find_blocks_that_end_in_a_norm(tmp_path: Path) -> None:
    folder = make("opt", tmp_path, word_embed_proj_dim=16, do_layer_norm_before=False)
    model = method_of("bottleneck").attach(ModelRef(str(folder), "float32", "cpu").load())
    assert model.peft_config["default"].target_modules == {"self_attn.out_proj", "fc2"}


def test_a_recurrent_model_takes_lora_but_on_its_last_projection(tmp_path: Path) -> None:
    folder = make("mamba", tmp_path)
    refusal = method_of("lora").refuse_model(info_of(folder))
    assert refusal is not None
    assert "exclude_modules: [out_proj]" in refusal
    told = method_of("lora", exclude_modules=["out_proj"])
    assert told.refuse_model(info_of(folder)) is None
    model = told.attach(ModelRef(str(folder), "float32", "cpu").load())
    assert not any("out_proj.lora" in name for name in told.trainable_state(model))


@pytest.mark.parametrize(
    ("family", "method", "told"),
    [
        ("mamba2", "prefix_tuning", "have no attention"),  # its state spaces have heads too
        ("openai-gpt", "prefix_tuning", "keeps no keys and values"),
        ("rwkv", "qlora", "fails in 4 bits"),
    ],
)
def test_older_and_recurrent_families_are_refused_what_they_cannot(
    family: str, method: str, told: str
) -> None:
    config = AutoConfig.for_model(family).to_dict()
    refusal = method_of(method).refuse_model(ModelInfo("", None, {}, config))
    assert refusal is not None
    assert told in refusal


def test_a_head_of_another_name_is_not_quantised(tmp_path: Path) -> None:
    """BioGPT's is called output_projection, and shares its weights with the embedding."""
    folder = make("biogpt", tmp_path, **{**WHOLE_HEADS, "num_hidden_layers": 1})
    base = method_of("qlora").load(ModelRef(str(folder), "float32", "cpu"))
    assert base.output_projection.weight.shape == base.get_input_embeddings().weight.shape
    assert base(input_ids=torch.arange(4, 12)[None]).logits.isfinite().all()


@pytest.mark.parametrize("name", ["full", "lora", "qlora", "ia3", "bottleneck"])
def test_of_a_multimodal_model_what_reads_text_trains(tmp_path: Path, name: str) -> None:
    folder = make("gemma3", tmp_path)
    method = method_of(name)
    model = method.attach(method.load(ModelRef(str(folder), "float32", "cpu")))
    names = list(method.trainable_state(model))
    assert any("language_model" in n for n in names)
    assert not any("vision" in n or "multi_modal" in n for n in names)


@pytest.mark.parametrize(
    ("family", "method", "told"),
    [
        ("gpt_oss", "lora", "neither the experts nor the router"),
        ("qwen3_moe", "qlora", "stay whole"),
        ("qwen3_moe", "lora", None),
        ("llama", "qlora", None),
    ],
)
def test_plan_says_what_becomes_of_experts(
    workspace: Workspace, tmp_path: Path, family: str, method: str, told: str | None
) -> None:
    warnings = planned(workspace, method, make(family, tmp_path / "m")).warnings
    found = [warning for warning in warnings if "experts" in warning]
    assert bool(found) == (told is not None)
    assert told is None or told in found[0]


def test_layers_that_stay_whole_are_refused_before_they_are_trained(tmp_path: Path) -> None:
    class Scaled(torch.nn.Linear):
        """A class of a model's own, which nobody replaces."""

    ref = ModelRef(str(make("llama", tmp_path)), "float32", "cpu")
    method = method_of("qlora")
    base = method.load(ref)
    base.model.layers[0].mlp.down_proj = Scaled(48, 32, bias=False)
    with pytest.raises(ModelError, match=r"layers.0.mlp.down_proj \(Scaled\)"):
        method.attach(base)


def test_half_of_a_fused_tensor_is_refused(tmp_path: Path) -> None:
    info = info_of(make("qwen3_moe", tmp_path))
    refusal = method_of("lora", target_modules=["q_proj", "up_proj"]).refuse_model(info)
    assert refusal is not None
    assert "gate_proj and up_proj" in refusal


@pytest.mark.parametrize("name", ["prompt_tuning", "prefix_tuning"])
def test_soft_prompts_know_heads_by_any_name(tmp_path: Path, name: str) -> None:
    sizes = {"d_model": 32, "n_heads": 4, "n_layers": 2}
    base = ModelRef(str(make("mpt", tmp_path, **sizes)), "float32", "cpu").load()
    method = method_of(name)
    assert method.refuse_model(method.describe(base)) is None
    assert logits(method.attach(base)).shape[-1] == base.config.vocab_size
