"""What a suite names outside the store is held to what was planned, wherever it is opened."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import transformers

from harness.commands import run as runs
from harness.core.errors import HarnessError, ModelError, StageFailed, SuiteError
from harness.core.files import digest_file, files_below
from harness.core.outside import as_planned, digest_known, tree_digest
from harness.models import folder as model_folder
from harness.models.files import ModelRef
from harness.models.folder import content_identity, held, loaded_files
from harness.models.resolve import resolve_model
from harness.models.spec import ModelSpec
from harness.scheduling.progress import ConsoleReporter
from harness.scheduling.schedule import Outcome
from harness.store.store import Store
from tests.conftest import Workspace


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be edited."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def identity(folder: Path, *, code: bool = False) -> str:
    return str(content_identity(folder, digest_file, "here", code=code)["content"])


def planned(folder: Path, **options: Any) -> ModelRef:
    """The model as a stage that was planned just now loads it."""
    return ModelRef(
        str(folder), "float32", "cpu", identity={"content": identity(folder)}, **options
    )


def append(path: Path, text: str = " \n") -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


# What is held ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json"])
@pytest.mark.parametrize("opened", ["load", "tokenizer", "config"])
def test_model_folder_that_was_edited_since_the_plan_is_opened_by_nothing(
    model: Path, name: str, opened: str
) -> None:
    ref = planned(model)
    getattr(ref, opened)()
    append(model / name)
    with pytest.raises(StageFailed, match=r"model has changed since it was planned\n  run again"):
        getattr(ref, opened)()
    getattr(planned(model), opened)()


def test_weights_of_the_same_size_and_time_as_before_are_noticed(model: Path) -> None:
    weights = model / "model.safetensors"
    ref, status = planned(model), weights.stat()
    ref.load()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(StageFailed, match="has changed since it was planned"):
        ref.load()


def test_file_that_was_only_touched_is_as_it_was(model: Path) -> None:
    ref = planned(model)
    ref.tokenizer()
    for path in model.iterdir():
        path.touch()
        path.chmod(0o600)
    ref.tokenizer()


def test_link_that_points_elsewhere_now_is_noticed(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text((model / "config.json").read_text() + "\n")
    kept = shutil.move(model / "config.json", tmp_path / "kept.json")
    (model / "config.json").symlink_to(kept)
    ref = planned(model)
    ref.config()
    (model / "config.json").unlink()
    (model / "config.json").symlink_to(other)
    with pytest.raises(StageFailed, match="has changed since it was planned"):
        ref.config()


def test_file_that_came_or_went_since_the_plan_is_noticed(model: Path) -> None:
    ref = planned(model)
    (model / "added_tokens.json").write_text("{}")
    with pytest.raises(StageFailed, match="has changed since it was planned"):
        ref.tokenizer()
    (model / "added_tokens.json").unlink()
    ref.tokenizer()
    (model / "model.safetensors").unlink()
    with pytest.raises(StageFailed, match="has changed since it was planned"):
        ref.tokenizer()


def replaced(path: Path) -> None:
    """As `rsync` and editors do: another file under its name."""
    fresh = path.with_suffix(".new")
    fresh.write_text(path.read_text() + "\n")
    fresh.replace(path)


@pytest.mark.parametrize("change", [append, replaced, Path.unlink], ids=lambda c: c.__name__)
def test_file_that_changes_while_it_is_read_fails_what_reads_it(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n")

    def reads() -> AbstractContextManager[None]:
        return as_planned(path, digest_file(path), lambda digest: digest(path))

    with reads():
        path.read_text()
    with pytest.raises(StageFailed, match="changed while it was read"), reads():
        change(path)
    path.write_text("{}\n")

    def half_read() -> None:
        with reads():
            change(path)
            raise ValueError("half a line")

    with pytest.raises(StageFailed, match="changed while it was read"):
        half_read()  # what the reader made of it is no news then
    path.write_text("{}\n")
    with pytest.raises(ValueError, match="half a line"), reads():
        raise ValueError("half a line")


def test_digest_is_not_remembered_of_a_file_that_has_just_changed(tmp_path: Path) -> None:
    path, store = tmp_path / "file", Store(tmp_path / "store")
    for text in ("one", "two", "six"):  # within one tick of the clock, maybe, and of one size
        path.write_text(text)
        assert store.file_digest(path) == digest_known(path) == digest_file(path)


def test_digest_is_remembered_of_a_file_that_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = tmp_path / "file", Store(tmp_path / "store")
    path.write_text("one")
    monkeypatch.setattr("harness.core.outside._TICK_NS", -1)
    read = []
    monkeypatch.setattr(
        "harness.core.outside.digest_file", lambda p: read.append(p) or digest_file(p)
    )
    for digest in (store.file_digest, digest_known):
        assert {digest(path) for _ in range(3)} == {digest_file(path)}
    assert len(read) == 2


def hub_snapshot(model: Path, cache: Path) -> str:
    """The model as the hub's cache holds it: links to files that are named after their content."""
    commit = "c" * 40
    repository = cache / "models--us--tiny"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    for path in model.iterdir():
        content = path.read_bytes()
        large = path.suffix == ".safetensors"
        etag = hashlib.sha256(content) if large else hashlib.sha1(
            b"blob %d\0" % len(content) + content
        )  # fmt: skip
        (repository / "blobs" / etag.hexdigest()).write_bytes(content)
        (snapshot / path.name).symlink_to(repository / "blobs" / etag.hexdigest())
    return commit


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_hubs_snapshot_is_held_to_the_names_of_its_files(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    commit = hub_snapshot(model, tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    blob = (tmp_path / "cache/models--us--tiny/snapshots" / commit / name).resolve()
    identity = {"hub": "us/tiny", "revision": commit}
    with held("us/tiny", identity):
        pass
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StageFailed, match="us/tiny has changed"), held("us/tiny", identity):
        pass


def go_on(opened: Any) -> Outcome:
    """Run what was planned already."""
    with open(os.devnull, "w") as nowhere:
        return runs.run_stages(opened, ConsoleReporter(nowhere))


def test_rows_that_were_edited_between_plan_and_run_are_not_read_under_the_old_key(
    workspace: Workspace,
) -> None:
    opened = workspace.open(only="zero-shot")
    append(workspace.folder / "test.jsonl", '{"prompt": "x", "completion": "y"}\n')
    with pytest.raises(SuiteError, match=r"test\.jsonl has changed since it was planned"):
        go_on(opened)
    assert all(record.ok for record in workspace.run(only="zero-shot").records.values())


def test_model_that_was_edited_between_plan_and_run_gives_no_result_under_the_old_key(
    workspace: Workspace, model: Path
) -> None:
    workspace.write(models={"tiny": str(model)})
    old = workspace.run(only="zero-shot")
    for kind in ("generate", "score"):
        shutil.rmtree(workspace.store / kind)
    opened = workspace.open(only="zero-shot")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    outcome = go_on(opened)
    read = [r for r in outcome.records.values() if r.kind == "generate" or "model" in r.config]
    reasons = [record.error["reason"] for record in read if record.error and not record.ok]
    assert set(reasons) == {"input changed"}
    again = workspace.run(only="zero-shot")
    assert all(record.ok for record in again.records.values())
    made = {key for key, record in again.records.items() if record.kind in ("generate", "score")}
    assert not made & set(old.records)


def test_model_that_is_replaced_while_an_adapter_trains_on_it_leaves_no_result(
    workspace: Workspace, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.stages import train

    trains = train._train

    def replaced_meanwhile(*given: Any) -> Any:
        result = trains(*given)
        replaced(model / "config.json")
        return result

    workspace.write(models={"tiny": str(model)})
    monkeypatch.setattr(train, "_train", replaced_meanwhile)
    outcome = workspace.run(only="lora-sft")
    (record,) = [r for r in outcome.records.values() if (r.kind, r.label) == ("train", "lora-sft")]
    assert record.error is not None
    assert record.error["reason"] == "input changed"


def test_folder_of_an_adapter_is_no_model(model: Path) -> None:
    """transformers would load the base that it names, wherever that is."""
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere"}')
    with pytest.raises(ModelError, match="holds an adapter") as refused:
        resolve_model(ModelSpec(path=str(model)), model, digest_file, "models.tiny")
    assert "under `checkpoints:`" in str(refused.value)


# What counts ----------------------------------------------------------------


def test_every_file_that_python_opens_of_a_model_is_part_of_its_identity(model: Path) -> None:
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates/rag.jinja").write_text("{{ messages }}")
    (model / "modeling_own.py").write_text(CODE)
    (model / "helper.py").write_text("SCALE = 1\n")
    config = json.loads((model / "config.json").read_text())
    auto = {"AutoModelForCausalLM": "modeling_own.Own"}
    (model / "config.json").write_text(json.dumps({**config, "auto_map": auto}))
    opened: set[str] = set()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and isinstance(arguments[0], str | os.PathLike):
            path = Path(os.fspath(arguments[0]))
            if path.is_relative_to(model) and path.is_file():
                opened.add(path.relative_to(model).as_posix())

    watching = True
    sys.addaudithook(watch)
    try:
        ref = ModelRef(str(model), "float32", "cpu", trust_remote_code=True)
        assert type(ref.load()).__name__ == "Own"
        ref.tokenizer()
    finally:
        watching = False
    named = {"additional_chat_templates/rag.jinja", "modeling_own.py", "helper.py", "config.json"}
    assert named <= opened <= set(loaded_files(model, code=True))


CODE = """
from transformers import LlamaForCausalLM
from .helper import SCALE

class Own(LlamaForCausalLM):
    pass
"""


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "trainer_state.json", "README.md", "training.py", "loss.csv", "optimizer.pt",
     "consolidated.safetensors", "chat_templates/a.jinja", "model.safetensors.index.json",
     ".cache/config.json", "sub/tokenizer.json"],
)  # fmt: skip
def test_file_that_nothing_loads_changes_no_key(model: Path, name: str) -> None:
    before = identity(model)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("{}")
    assert identity(model) == before


@pytest.mark.parametrize(
    "name",
    ["qwen.tiktoken", "vocab.txt", "merges.txt", "tokenizer.model", "added_tokens.json",
     "special_tokens_map.json", "additional_chat_templates/tool_use.jinja"],
)  # fmt: skip
def test_file_that_a_tokenizer_reads_changes_the_key(model: Path, name: str) -> None:
    before = identity(model)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("{}")
    added = identity(model)
    append(model / name)
    assert len({before, added, identity(model)}) == 3


def test_files_of_another_version_of_transformers_count_where_they_are_listed(model: Path) -> None:
    before = identity(model)
    (model / "tokenizer.4.0.0.json").write_text("{}")
    assert identity(model) == before
    config = json.loads((model / "tokenizer_config.json").read_text())
    listed = {**config, "fast_tokenizer_files": ["tokenizer.4.0.0.json"]}
    (model / "tokenizer_config.json").write_text(json.dumps(listed))
    assert "tokenizer.4.0.0.json" in loaded_files(model)


def test_code_counts_where_it_is_run_and_with_it_all_it_may_read(model: Path) -> None:
    for name in ("modeling_own.py", "layers/attention.py", "layers/table.txt", "README.md"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("")
    plain = set(loaded_files(model))
    assert set(loaded_files(model, code=True)) == plain  # nothing names the code
    config = json.loads((model / "config.json").read_text())
    auto = {"AutoModelForCausalLM": "modeling_own.Own"}
    (model / "config.json").write_text(json.dumps({**config, "auto_map": auto}))
    assert set(loaded_files(model)) == plain
    code = {"modeling_own.py", "layers/attention.py", "layers/table.txt"}
    assert set(loaded_files(model, code=True)) == plain | code


def test_shards_count_that_the_index_names_and_no_others(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    shutil.copy(model / "model-00001-of-00002.safetensors", model / "consolidated.safetensors")
    index = {
        "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002.safetensors"}
    }
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    found = {name for name in loaded_files(model) if "safetensors" in name}
    assert found == {"model-00001-of-00002.safetensors", "model.safetensors.index.json"}


def test_every_vocabulary_that_transformers_knows_is_known_here() -> None:
    named = set()
    for path in Path(transformers.__path__[0]).glob("models/*/tokenization_*.py"):
        for block in re.findall(r"^VOCAB_FILES_NAMES = \{(.*?)\}", path.read_text(), re.M | re.S):
            named |= set(re.findall(r':\s*"([^"]+)"', block))
    assert len(named) > 15
    assert named <= set(model_folder._TOKENIZERS)


@pytest.mark.parametrize("name", ["pocket-1m", "pocket-4m"])
def test_packaged_models_keep_their_identity(name: str) -> None:
    """It is in the key of every committed record."""
    folder = Path(__file__).parents[2] / "suites/pocket/models" / name
    known = {
        "pocket-1m": "b10c01ad10bc55141e7e6ceb628998d2784062b5ff1b92aae3cd8ac9a0301f0b",
        "pocket-4m": "c08aa1d123c3cfba0e55e7b210102feb8b85f782e9acbcf2dc510266bd8da5fe",
    }
    assert identity(folder) == known[name]


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    """All files of a folder that a suite names are read; `/` is none that anybody means."""
    (tmp_path / "below").mkdir()
    for name in ("a.txt", "below/b.txt", "c.txt"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "below")
    assert [path.name for path in files_below(tmp_path)] == ["a.txt", "b.txt", "c.txt"]
    monkeypatch.setattr("harness.core.files.MOST_FILES", 2)
    with pytest.raises(HarnessError, match="holds more than 2 files"):
        tree_digest(tmp_path, lambda path: path.name)
