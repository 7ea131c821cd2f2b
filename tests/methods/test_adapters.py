"""Several adapters over one base: swapped and mixed, they answer as they do alone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.adapters import BASE, Adapters, load_several
from harness.core import registry
from harness.core.errors import ModelError
from harness.models.files import ModelRef
from tests.methods.test_methods import make

TRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {"r": 4}),
    "lora.some": ("lora", {"r": 2, "target_modules": ["q_proj", "up_proj"], "lora_alpha": 8}),
    "rslora": ("rslora", {"r": 8}),
    "dora": ("dora", {"r": 4}),
    "houlsby": ("bottleneck", {"reduction_factor": 4}),
    "pfeiffer": ("bottleneck", {"placement": "pfeiffer", "reduction_factor": 8}),
    "tinker": ("tinker", {"r": 4, "train_mlp": False}),
    "ia3": ("ia3", {}),
    "prompt": ("prompt_tuning", {"num_virtual_tokens": 3}),
    "long-prompt": ("prompt_tuning", {"num_virtual_tokens": 7}),
    "p": ("p_tuning", {"num_virtual_tokens": 4, "encoder_hidden_size": 16}),
    "prefix": ("prefix_tuning", {"num_virtual_tokens": 2}),
    "long-prefix": ("prefix_tuning", {"num_virtual_tokens": 5}),
    "pissa": ("pissa", {"r": 4}),
}
TOGETHER = [name for name in TRAINED if name != "pissa"]
MIXED = [
    ["lora", BASE, "rslora", "lora.some"],
    ["tinker", BASE, "lora", "tinker"],
    ["pfeiffer", "houlsby", BASE, "pfeiffer"],
    ["prompt", "p", "long-prompt", BASE],
    ["long-prefix", BASE, "prefix", "long-prefix"],
]
PROMPTS = ["a1?", "a rather longer one", "b", "cd cd"]


@pytest.fixture(scope="module")
def ref(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """The tiny model with larger weights, so that its answers differ and positions matter."""
    import torch
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("lively")
    model = ModelRef(str(tiny_model), "float32", "cpu").load()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return ModelRef(str(folder), "float32", "cpu")


@pytest.fixture(scope="module")
def folders(ref: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each, by its method's own save."""
    import torch

    found = {}
    for name, (method, options) in TRAINED.items():
        made = make(method, **options)
        model = made.attach(made.load(ref))
        torch.manual_seed(len(found))
        with torch.no_grad():
            for tensor in made.trainable_state(model).values():
                tensor.add_(torch.randn_like(tensor) * 0.2)
        found[name] = tmp_path_factory.mktemp("trained") / name
        made.save(model, found[name])
    return found


@pytest.fixture(scope="module")
def loaded(ref: ModelRef, folders: dict[str, Path]) -> Adapters:
    return load_several(ref, {name: folders[name] for name in TOGETHER})


@pytest.fixture(scope="module")
def alone(ref: ModelRef, folders: dict[str, Path]) -> dict[str, tuple[Any, list[str]]]:
    """What each adapter on a base of its own says to each prompt, one by one."""
    import torch

    tokenizer = ref.tokenizer()
    found = {}
    for name in [BASE, *TOGETHER]:
        method = make(*TRAINED[name][:1], **TRAINED[name][1]) if name != BASE else None
        model = method.load_trained(ref, folders[name]) if method else ref.load()
        rows, texts = [], []
        for prompt in PROMPTS:
            ids = tokenizer(text=prompt, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                rows.append(model(input_ids=ids, use_cache=False).logits[0, -1])
                new = model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6,
                    do_sample=False, pad_token_id=1,
                )[0, ids.shape[1] :].tolist()  # fmt: skip
            new = new[: new.index(0)] if 0 in new else new
            texts.append(tokenizer.decode(new, skip_special_tokens=True).strip())
        found[name] = (torch.stack(rows), texts)
    return found


def test_swapped_in_place_each_answers_as_on_a_base_of_its_own(
    loaded: Adapters, alone: dict[str, Any]
) -> None:
    import torch

    assert len({tuple(texts) for _, texts in alone.values()}) > len(alone) // 2  # they do differ
    for name in [*TOGETHER, BASE, *reversed(TOGETHER)]:
        loaded.use(name)
        logits, texts = alone[name]
        assert torch.allclose(loaded.logits(PROMPTS), logits, atol=1e-4), name
        assert loaded.generate(PROMPTS, max_new_tokens=6) == texts, name


def test_lm_eval_reads_one_base_under_each_adapter_as_fresh_loads(
    loaded: Adapters, ref: ModelRef, folders: dict[str, Path]
) -> None:
    from lm_eval.api.instance import Instance

    from harness.inference import HarnessLM

    asked = [Instance("loglikelihood", {}, (prompt, end), 0) for prompt in PROMPTS for end in "ab"]
    answering = [
        Instance("generate_until", {}, (prompt, {"max_gen_toks": 4}), 0) for prompt in PROMPTS
    ]
    loaded.use(BASE)
    before = [p.clone() for p in loaded.base.parameters()]
    engine = HarnessLM(loaded.model, loaded.tokenizer)
    for name in [*TOGETHER, BASE, *reversed(TOGETHER)]:
        loaded.use(name)
        engine.use(loaded.model)
        method = make(TRAINED[name][0], **TRAINED[name][1]) if name != BASE else None
        model = method.load_trained(ref, folders[name]) if method else ref.load()
        alone = HarnessLM(model, loaded.tokenizer)
        assert engine.sharing.shares is alone.sharing.shares, name
        assert engine.loglikelihood(asked) == alone.loglikelihood(asked), name
        assert engine.generate_until(answering) == alone.generate_until(answering), name
    for now, then in zip(loaded.base.parameters(), before, strict=True):
        assert now.equal(then)


@pytest.mark.parametrize("names", MIXED, ids=lambda names: names[0])
def test_mixed_in_one_batch_each_row_answers_as_alone(
    loaded: Adapters, alone: dict[str, Any], names: list[str]
) -> None:
    import torch

    loaded.use("dora")
    found = loaded.logits(PROMPTS, names)
    texts = loaded.generate(PROMPTS, names, max_new_tokens=6)
    for row, name in enumerate(names):
        assert torch.allclose(found[row], alone[name][0][row], atol=1e-4), name
        assert texts[row] == alone[name][1][row], name
    assert loaded.name == "dora"  # the one in use stays in use
    assert torch.allclose(loaded.logits(PROMPTS), alone["dora"][0], atol=1e-4)


def test_mixed_rows_end_at_their_own_stop_strings(loaded: Adapters, alone: dict[str, Any]) -> None:
    names = ["prompt", "p", "long-prompt", "prompt"]
    whole = [alone[name][1][row] for row, name in enumerate(names)]
    stop = next(text[2] for text in whole if len(text) > 3)
    found = loaded.generate(PROMPTS, names, max_new_tokens=6, until=[stop])
    assert found == [text.split(stop)[0].strip() for text in whole]


def test_the_example_in_the_readme_runs(
    ref: ModelRef,
    folders: dict[str, Path],
    alone: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = (part for part in re.findall(r"```python\n(.*?)```", text, re.S) if "several" in part)
    here = {
        "Qwen/Qwen3-0.6B": ref.source, "bfloat16": "float32", "cuda": "cpu",
        "out/lora-a": str(folders["lora"]), "out/lora-b": str(folders["lora.some"]),
        "out/prompt": str(folders["prompt"]), "Why is the sky blue?": PROMPTS[1],
        "max_new_tokens=64": "max_new_tokens=6",
    }  # fmt: skip
    for there, ours in here.items():
        assert there in code, there
        code = code.replace(there, ours)
    exec(code, {})
    first, second = capsys.readouterr().out.splitlines()
    assert first == str([alone["prompt"][1][1]])
    assert second.count(",") >= 1


def test_the_base_is_in_memory_once(loaded: Adapters) -> None:
    weights = {id(p) for p in loaded.base.parameters()}
    for model in loaded._models.values():
        shared = [p for p in model.parameters() if id(p) in weights]
        assert len(shared) == len(weights)


REFUSALS = [
    (["dora", "lora", BASE, BASE], r"'dora' \(dora\) cannot share a batch: PEFT cannot mix DoRA"),
    (["ia3", BASE, BASE, BASE], r"'ia3' \(ia3\) cannot share a batch: PEFT silently ignores"),
    (["lora", "prompt", BASE, BASE], r"'lora' \(lora\) and 'prompt' \(prompt_tuning\) cannot"),
    (["prefix", "prompt", BASE, BASE], "change different parts"),
    (["lora", "lroa", BASE, BASE], "did you mean 'lora'"),
    (["lora"], "1 adapter_names for 4 prompts"),
]


@pytest.mark.parametrize(("names", "says"), REFUSALS)
def test_what_cannot_be_mixed_is_refused_and_never_ignored(
    loaded: Adapters, names: list[str], says: str
) -> None:
    for ask in (loaded.logits, loaded.generate):
        with pytest.raises(ModelError, match=says):
            ask(PROMPTS, names)


def test_every_method_is_either_mixed_here_or_says_why_not() -> None:
    covered = {TRAINED[name][0] for names in MIXED for name in names if name != BASE}
    ours = [n for n in registry.names("method") if n != "toy_method" and n != "qlora"]
    for name in ours:
        reason = make(name).refusal("mixed_batch")
        assert (reason is None) == (name in covered), (name, reason)


def test_what_cannot_share_a_base_is_refused(
    ref: ModelRef, folders: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"adapter 'x': a pissa checkpoint .*changes the base"):
        load_several(ref, {"lora": folders["lora"], "x": folders["pissa"]})
    with pytest.raises(ModelError, match=r"adapter 'x': .* holds no adapter_config\.json"):
        load_several(ref, {"x": tmp_path})
    pickled = shutil.copytree(folders["lora"], tmp_path / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"holds no adapter_model\.safetensors"):
        load_several(ref, {"x": pickled})
    with pytest.raises(ModelError, match="one in 4 bits, one unquantised"):
        load_several(ref, {"a": folders["lora"], "b": folders["rslora"]}, {"b": "qlora"})


def test_adapters_of_a_4_bit_base_swap_and_mix(ref: ModelRef, tmp_path: Path) -> None:
    import torch

    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: no qlora here")
    method, expected = make("qlora", r=2), {}
    for seed, name in enumerate(("a", "b")):
        model = method.attach(method.load(ref))
        torch.manual_seed(seed)
        with torch.no_grad():
            for tensor in method.trainable_state(model).values():
                tensor.add_(torch.randn_like(tensor) * 0.2)
        method.save(model, tmp_path / name)
        one = load_several(ref, {name: tmp_path / name}, {name: "qlora"})
        one.use(name)
        expected[name] = one.logits(PROMPTS)
        assert not torch.equal(one.logits(PROMPTS, [BASE] * 4), expected[name])
    both = load_several(ref, {n: tmp_path / n for n in "ab"}, {"a": "qlora", "b": "qlora"})
    both.use("b")
    assert torch.equal(both.logits(PROMPTS), expected["b"])
    mixed = both.logits(PROMPTS, ["b", "a", "b", "a"])
    for row, name in enumerate("baba"):
        assert torch.allclose(mixed[row], expected[name][row], atol=2e-2)
