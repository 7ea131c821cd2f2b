"""Training in bfloat16: what trains is float32, and the audit sees elements, not tensors alone."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.commands import plan as describe
from harness.comparison.compare import compare
from harness.core import from_yaml, registry
from harness.core.errors import SuiteError
from harness.inference.rewards import rewards
from harness.methods.lora import Lora
from harness.models.files import ModelRef
from harness.models.precision import MasterWeights, autocast
from harness.objectives._trl.memory import KeptActivations
from harness.objectives._trl.movement import ELEMENTS, PLACES, Watch, elements, spread
from harness.planning.precision import refuse_dtype
from harness.stages import _companions
from harness.stages._cost_memory import Batch, activation_bytes, peak_bytes
from tests.conftest import DPO, PPO, REWARD, SFT, Workspace
from tests.methods.test_methods import ids
from tests.methods.test_methods import make as made

METHODS: dict[str, tuple[dict[str, Any], float]] = {
    "full": ({}, 1e-5),
    "lora": ({"r": 4}, 2e-4),
    "dora": ({"r": 4}, 2e-4),
    "rslora": ({"r": 4}, 2e-4),
    "pissa": ({"r": 4}, 2e-4),
    "qlora": ({"r": 4}, 2e-4),
    "bottleneck": ({"reduction_factor": 8}, 2e-4),
    "ia3": ({}, 1e-3),
    "prompt_tuning": ({"num_virtual_tokens": 4}, 1e-2),
    "p_tuning": ({"num_virtual_tokens": 4, "encoder_hidden_size": 16}, 1e-3),
    "prefix_tuning": ({"num_virtual_tokens": 4}, 1e-2),
}
"""Options that are small, and a usual learning rate."""
OBJECTIVES: dict[str, dict[str, Any]] = {"sft": SFT, "dpo": DPO, "ppo": PPO}


def objectives(rate: float) -> list[dict[str, Any]]:
    return [{name: {**fields, "learning_rate": rate}} for name, fields in OBJECTIVES.items()]


def in_bfloat16(workspace: Workspace, model: Path, method: str) -> None:
    """The suite's cells of one method at its usual rate, on a model in bfloat16."""
    if method == "qlora":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: no qlora here")
    options, rate = METHODS[method]
    workspace.write(
        models={"tiny": {"path": str(model), "dtype": "bfloat16"}},
        matrix={"data": ["letters"], "method": [{method: options}], "objective": objectives(rate)},
        reward_model={**REWARD, "learning_rate": rate},
    )


def audits(outcome: Any) -> dict[str, dict[str, dict[str, str]]]:
    """Label of a training -> name of a check -> the check."""
    return {
        r.label: {check["check"]: check for check in r.metrics["audit"]}
        for r in outcome.records.values()
        if r.kind == "train"
    }


@pytest.mark.parametrize(
    "method",
    [m if m in ("full", "lora") else pytest.param(m, marks=pytest.mark.slow) for m in METHODS],
)
def test_every_method_passes_its_audits_in_bfloat16_at_usual_rates(
    aligned: Workspace, tiny_model: Path, method: str
) -> None:
    in_bfloat16(aligned, tiny_model, method)
    outcome = aligned.run()
    assert not outcome.failed, [r.error for r in outcome.failed]
    found = audits(outcome)
    assert len(found) >= 3
    for checks in found.values():
        share = re.search(r"([\d.]+)% of those", checks[ELEMENTS]["detail"])
        assert share is not None
        assert float(share[1]) > 95
        assert {c["status"] for c in checks.values()} <= {"passed", "skipped"}
        assert checks[ELEMENTS]["status"] == "passed"
    policy = next(checks for label, checks in found.items() if label.endswith("-ppo"))
    for name in ("the value model moved", "gradients reached all of the value model",
                 "all of the value model is finite"):  # fmt: skip
        assert policy[name]["status"] == "passed", policy


def trained(outcome: Any, label: str) -> Any:
    (record,) = [r for r in outcome.records.values() if r.kind == "train" and r.label == label]
    return record


def losses(workspace: Workspace, record: Any) -> list[float]:
    log = workspace.store / "train" / record.key[:24] / "steps.jsonl"
    return [json.loads(line)["loss"] for line in log.read_text().splitlines()]


def test_losses_in_bfloat16_follow_those_in_float32(workspace: Workspace, tiny_model: Path) -> None:
    """Full fine-tuning over 200 steps in which the loss halves: each loss within 2% of the other's,
    and their mean within a thousandth."""
    objective = {**SFT, "learning_rate": 1e-3, "max_steps": 200}
    found = {}
    for dtype in ("float32", "bfloat16"):
        one_training(workspace, tiny_model, "full", objective, dtype)
        outcome = workspace.run(only="full-sft")
        assert not outcome.failed, [r.error for r in outcome.failed]
        found[dtype] = losses(workspace, trained(outcome, "full-sft"))
    whole, short = found["float32"], found["bfloat16"]
    assert whole[-1] < 0.6 * whole[0]
    assert short == pytest.approx(whole, rel=0.02)
    assert sum(short) == pytest.approx(sum(whole), rel=1e-3)


def one_training(
    workspace: Workspace, model: Path, method: Any, objective: dict[str, Any], dtype: str
) -> None:
    workspace.write(
        models={"tiny": {"path": str(model), "dtype": dtype}},
        matrix={"method": [method], "objective": [{"sft": objective}]},
        scorers=["exact_match"],
    )


def test_bfloat16_weights_fail_the_cell_with_a_hint(
    workspace: Workspace, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was before: the model is bfloat16, and so is all that trains."""
    monkeypatch.setattr(_companions, "MasterWeights", lambda parameters: MasterWeights([]))
    one_training(workspace, tiny_model, "full", {**SFT, "learning_rate": 1e-5}, "bfloat16")
    (failed,) = [r for r in workspace.run(only="full-sft").failed if r.kind == "train"]
    message = (failed.error or {})["message"]
    told = re.search(
        rf"{ELEMENTS}: ([\d.]+)% of [\d,]+ elements moved.*raise the learning", message
    )
    assert told is not None, message
    assert 0 < float(told[1]) < 30


def test_a_module_that_stays_coarse_beside_whole_adapters_fails_too(
    aligned: Workspace, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A score head is a hundredth of what trains: its own share is looked at."""

    def but_head(parameters: Any) -> MasterWeights:
        return MasterWeights([p for p in parameters if p.dim() < 2 or p.shape[0] > 1])

    monkeypatch.setattr(_companions, "MasterWeights", but_head)
    in_bfloat16(aligned, tiny_model, "lora")
    aligned.tree["reward_model"]["learning_rate"] = 1e-5
    failed = [r for r in aligned.run(only="lora-ppo").failed if r.label == "lora-reward"]
    assert re.search(rf"{ELEMENTS}: .*least: .*score", (failed[0].error or {})["message"])


def test_pure_bfloat16_is_had_for_the_asking_and_warned_of(
    workspace: Workspace, tiny_model: Path
) -> None:
    method = {"full": {"master_weights": False}}
    one_training(workspace, tiny_model, method, {**SFT, "learning_rate": 3e-4}, "bfloat16")
    (warning,) = workspace.open().plan.warnings
    assert "full-sft trains weights in a short format" in warning
    outcome = workspace.run(only="full-sft")
    assert not outcome.failed, [r.error for r in outcome.failed]
    check = audits(outcome)["full-sft"][ELEMENTS]
    assert check["status"] in ("passed", "skipped")
    compared = compare(workspace.open().plan, outcome.records, workspace.open().store)
    assert warning in compared.notes  # the report tells it too
    state = trained(outcome, "full-sft").cost["state"]
    parameters = trained(outcome, "full-sft").cost["parameters"]
    assert state["weights"] == state["gradients"] == 2 * parameters
    one_training(workspace, tiny_model, "full", SFT, "bfloat16")
    assert not workspace.open().plan.warnings


@pytest.mark.parametrize("method", ["lora", "bottleneck"])
def test_one_step_passes_where_half_an_adapter_cannot_move_yet(
    workspace: Workspace, tiny_model: Path, method: str
) -> None:
    given = {method: METHODS[method][0]}
    one_training(workspace, tiny_model, given, {**SFT, "max_steps": 1}, "float32")
    outcome = workspace.run(only=f"{method}-sft")
    assert not outcome.failed, [r.error for r in outcome.failed]
    checks = audits(outcome)[f"{method}-sft"]
    assert "could not: no gradient" in checks["training moved every trainable tensor"]["detail"]
    assert "can have none" in checks["gradients reached every trainable tensor"]["detail"]


@pytest.mark.parametrize(("side", "steps"), [("lora_B", 1), ("lora_A", 2)])
def test_one_step_is_no_excuse_for_gradients_that_are_dropped(
    workspace: Workspace, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, side: str, steps: int
) -> None:
    attach = Lora.attach

    def deaf(self: Lora, base: Any, also_train: tuple[str, ...] = ()) -> Any:
        model = attach(self, base)
        for name, parameter in model.named_parameters():
            if f"layers.1.mlp.up_proj.{side}" in name:
                parameter.register_hook(lambda gradient: gradient * 0)
        return model

    monkeypatch.setattr(Lora, "attach", deaf)
    objective = {**SFT, "max_steps": steps, "lr_scheduler_type": "constant"}
    one_training(workspace, tiny_model, {"lora": {"r": 4}}, objective, "float32")
    (failed,) = [r for r in workspace.run(only="lora-sft").failed if r.kind == "train"]
    message = (failed.error or {})["message"]
    assert re.search(rf"training moved every .*not .*up_proj.{side}", message), message
    assert re.search(rf"gradients reached every .*none at .*up_proj.{side}", message), message


@pytest.mark.parametrize("method", ["full", "lora"])
def test_what_goes_on_starts_from_the_unrounded_weights(
    tiny_model: Path, tmp_path: Path, method: str
) -> None:
    import torch

    way, ref = made(method), ModelRef(str(tiny_model), "bfloat16", "cpu")
    objective = SimpleNamespace(also_train=("score",) if method == "lora" else ())
    base = way.load(ref, "score" if method == "lora" else "lm")
    model, masters = _companions.trainable(way, objective, base, None)  # type: ignore[arg-type]
    assert {t.dtype for t in way.trainable_state(model).values()} == {torch.float32}
    with torch.no_grad():
        for tensor in way.trainable_state(model).values():
            tensor.add_(torch.randn_like(tensor) * 1e-4)
    way.save(model, tmp_path)
    saved = {name: tensor.clone() for name, tensor in way.trainable_state(model).items()}
    with masters.as_loaded():
        scored = model.eval()(input_ids=ids()).logits
    assert torch.equal(way.load_trained(ref, tmp_path)(input_ids=ids()).logits, scored)

    again = SimpleNamespace(also_train=())
    base = way.load(ref, "score" if method == "lora" else "lm")
    resumed, masters = _companions.trainable(way, again, base, tmp_path)  # type: ignore[arg-type]
    state = way.trainable_state(resumed)
    assert state.keys() == saved.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in saved.items())
    with masters.as_loaded():
        assert torch.equal(resumed.eval()(input_ids=ids()).logits, scored)
    assert all(torch.equal(state[name], tensor) for name, tensor in saved.items())


def test_rewards_are_no_multiples_of_a_short_format(tiny_model: Path) -> None:
    import torch

    model = ModelRef(str(tiny_model), "bfloat16", "cpu").load("score")
    with torch.no_grad():
        model.score.weight.mul_(100)
    found = torch.tensor(rewards(model, 1, [[5, 6, 7], [9, 8], [20, 30, 40, 50]], 512))
    assert found.bfloat16().float().ne(found).any()
    assert torch.equal(copy.deepcopy(model).score(torch.ones(32)), model.score(torch.ones(32)))


@pytest.mark.parametrize(
    ("device", "objective", "method", "says"),
    [
        ("cpu", "sft", made("lora"), "on a CPU"),
        ("cuda", "ppo", made("lora"), "with ppo, whose trainer does not scale the loss"),
        ("cuda", "sft", made("full", master_weights=False), "needs float32 weights to train"),
        ("cuda", "sft", made("full"), None),
        ("cuda", "sft", made("lora"), None),
    ],
)
def test_float16_is_refused_where_its_gradients_would_be_lost(
    device: str, objective: str, method: Any, says: str | None
) -> None:
    aim = from_yaml.build_fields(registry.find("objective", objective), {}, objective)
    if says is None:
        refuse_dtype(method, aim, "float16", device, "suite.yaml: models.m")
        return
    refuse_dtype(method, aim, "bfloat16", device, "suite.yaml: models.m")
    with pytest.raises(SuiteError, match=says) as error:
        refuse_dtype(method, aim, "float16", device, "suite.yaml: models.m")
    assert "models.m.dtype" in str(error.value)
    assert "bfloat16" in str(error.value)


def test_a_plan_refuses_to_train_in_float16_on_a_cpu(
    workspace: Workspace, tiny_model: Path
) -> None:
    workspace.write(models={"tiny": {"path": str(tiny_model), "dtype": "float16"}})
    with pytest.raises(
        SuiteError, match=r"models\.tiny\.dtype: float16 cannot be trained on a CPU"
    ):
        workspace.open()


def test_shares_are_told_of_what_float32_would_move() -> None:
    import torch

    before = {"w": torch.zeros(100), "embeddings": torch.zeros(1000)}
    due = {"w": torch.ones(100, dtype=torch.bool), "embeddings": torch.arange(1000) < 40}
    state = {"w": torch.ones(100), "embeddings": (torch.arange(1000) < 40).float()}
    unseen = elements(before, state, due)  # 96% of the embeddings had no gradient
    assert unseen["status"] == "passed"
    assert "12.7% of 1,100 elements moved" in unseen["detail"]
    state["w"] = (torch.arange(100) < 14).float()
    assert elements(before, state, due)["status"] == "failed"
    assert elements(before, state, due, rounded=True)["status"] == "skipped"
    assert elements(before, state, {})["status"] == "skipped"


def test_elements_are_looked_at_all_over_a_tensor() -> None:
    import torch

    rows, columns = 3000, 256
    places = spread(torch.arange(rows * columns).reshape(rows, columns))
    assert PLACES / 2 < len(places) <= PLACES
    assert len(set((places % columns).tolist())) == columns
    assert len(set((places // columns).tolist())) == rows


def test_gradients_that_adam_cannot_feel_ask_for_nothing() -> None:
    """The bias of keys has a gradient of rounding alone: no step moves a bias of 100 by it."""
    import torch

    weight, bias = (torch.nn.Parameter(torch.full((64,), size)) for size in (0.02, 100.0))
    weight.grad, bias.grad = torch.full((64,), 1e-5), torch.full((64,), 1e-10)
    watch = Watch({"weight": weight, "bias": bias}, {})
    watch.look(torch.optim.AdamW([weight, bias], lr=1e-5))
    assert set(watch.dues) == {"weight"}
    assert watch.without_gradient == ()
    watch = Watch({"weight": weight}, {})
    watch.look(torch.optim.SGD([weight], lr=1e-5))
    assert watch.dues == {}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("full", {}), ("lora", {"r": 4}), ("lora", {"r": 32}), ("dora", {"r": 4}), ("ia3", {}),
        ("bottleneck", {"reduction_factor": 2}), ("prompt_tuning", {"num_virtual_tokens": 8}),
    ],
)  # fmt: skip
def test_memory_by_formula_is_near_what_autograd_keeps(
    method: str, options: dict[str, Any], dtype: str
) -> None:
    """Within 15%, for what each more token of the layers takes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
        attn_implementation="sdpa", hidden_size=64, intermediate_size=176, num_hidden_layers=8,
    )  # fmt: skip
    base = LlamaForCausalLM(config).to(getattr(torch, dtype))
    way = made(method, **options)
    info = way.describe(base)
    model = way.attach(base)
    MasterWeights(model.parameters())

    def kept(length: int) -> int:
        counted = KeptActivations(model.parameters())
        tokens = torch.randint(64, (4, length))
        with counted.first(), autocast(dtype, "cpu"):
            asked = {"attention_mask": torch.ones_like(tokens), "use_cache": False}
            model(input_ids=tokens, logits_to_keep=1, **asked).logits.float().sum()
        return counted.bytes

    def expected(length: int) -> int:
        batch = Batch(
            4 * length, {"float32": 4, "bfloat16": 2}[dtype], whole=not way.adapts,
            inputs=way.keeps_inputs, beside=way.kept_numbers(info),
        )  # fmt: skip
        return activation_bytes(config.to_dict(), batch) or 0

    assert kept(64) - kept(32) == pytest.approx(expected(64) - expected(32), rel=0.15)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory_of_checkpointed_layers_is_that_of_their_inputs(dtype: str) -> None:
    """Beside the one layer that is made again, which autograd does not keep here."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 24}
    config = LlamaConfig(vocab_size=64, num_attention_heads=4, tie_word_embeddings=True, **sizes)
    base = LlamaForCausalLM(config).to(getattr(torch, dtype)).train()
    base.gradient_checkpointing_enable({"use_reentrant": False})
    kept = KeptActivations(base.parameters())
    tokens = torch.randint(64, (4, 64))
    with kept.first(), autocast(dtype, "cpu"):
        base.get_decoder()(input_ids=tokens, use_cache=False).last_hidden_state.float().sum()
    size = {"float32": 4, "bfloat16": 2}[dtype]

    def expected(layers: int, checkpointed: bool) -> int:
        given = {**sizes, "num_hidden_layers": layers}
        found = activation_bytes(given, Batch(256, size, whole=True, checkpointed=checkpointed))
        return found or 0

    layer = expected(1, False) - expected(0, False)
    assert kept.bytes == pytest.approx(expected(24, True) - layer, rel=0.25)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_memory_of_a_4_bit_base_is_that_of_numbers_in_float32_between_its_layers(
    tmp_path: Path, checkpointed: bool
) -> None:
    """PEFT raises the norms and the embedding; for what each layer more takes, within 10%."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: no qlora here")
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    way = made("qlora", r=4)
    shape = {"hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 4}

    def kept(layers: int) -> int:
        config = LlamaConfig(vocab_size=64, num_hidden_layers=layers, **shape)
        folder = tmp_path / str(layers)
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
        model = way.attach(way.load(ModelRef(str(folder), "bfloat16", "cpu"))).train()
        if checkpointed:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": False})
        counted = KeptActivations(model.parameters())
        tokens = torch.randint(64, (4, 64))
        with counted.first(), autocast("bfloat16", "cpu"):
            decoder = model.get_base_model().get_decoder()
            decoder(input_ids=tokens, use_cache=False).last_hidden_state.float().sum()
        return counted.bytes

    def expected(layers: int) -> int:
        config = {**shape, "num_hidden_layers": layers}
        batch = Batch(
            256, 2, beside=layers * 7 * 4, checkpointed=checkpointed, raised=way.raises_base
        )
        return activation_bytes(config, batch) or 0

    assert kept(6) - kept(2) == pytest.approx(expected(6) - expected(2), rel=0.1)


MEASURED = json.loads(
    (Path(__file__).parents[2] / "results" / "performance" / "nvidia-h100-80gb-hbm3"
     / "gpu-bench.json").read_text(encoding="utf-8")
)["cases"]  # fmt: skip
SEVEN = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000}  # fmt: skip
ONE = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
       "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256}  # fmt: skip


@pytest.mark.parametrize(
    ("case", "config", "weights", "batch"),
    [
        ("lora-7b", SEVEN, 2 * 6_738_415_616, Batch(4096, 2)),
        ("lora-1b", ONE, 2 * 1_235_814_400, Batch(8192, 2)),
        ("full-1b", ONE, 0, Batch(8192, 2, whole=True)),
        (
            "qlora-7b",
            SEVEN,
            6_476_005_376 // 2 + 4 * 262_410_240,  # the linear layers in 4 bits
            Batch(4096, 2, checkpointed=True, raised=True),
        ),
    ],
)
def test_the_peak_by_formula_is_near_what_a_card_measured(
    case: str, config: dict[str, int], weights: int, batch: Batch
) -> None:
    """Within a twentieth, in bfloat16; `weights` are the frozen ones'."""
    measured = MEASURED[case]["harness"]
    parts = {
        "weights": weights + measured["gradients"],  # what trains is float32, as its gradient is
        "gradients": measured["gradients"],
        "optimizer": measured["optimizer"],
    }
    short = dict(MEASURED[case]["settings"]["adapter"]).get("adapter_dtype") == "bfloat16"
    copies = 0 if short else measured["gradients"] // 2
    found = (peak_bytes(parts, config, batch) or 0) + copies
    assert found == pytest.approx(measured["peak_allocated"], rel=0.05)


def test_weights_gradients_and_optimizer_are_counted_as_the_formula_says(
    workspace: Workspace, tiny_model: Path
) -> None:
    for method in ("full", "lora"):
        one_training(workspace, tiny_model, {method: METHODS[method][0]}, SFT, "bfloat16")
        outcome = workspace.run(only=f"{method}-sft")
        state = trained(outcome, f"{method}-sft").cost["state"]
        way, ref = made(method, **METHODS[method][0]), ModelRef(str(tiny_model), "bfloat16", "cpu")
        base = way.load(ref)
        predicted = way.state_bytes(way.describe(base), "bfloat16")
        predicted["optimizer"] += 4 * len(way.trainable_state(way.attach(base)))  # counts of steps
        assert {part: state[part] for part in predicted} == predicted
    assert "bfloat16: what trains is float32" in table(workspace.open())


def table(opened: Any) -> str:
    return describe.table(opened.plan, opened.store, why=False)
