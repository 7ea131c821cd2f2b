"""Every family of models with every method: counted, trained, saved and loaded again."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.models.files import ModelRef
from tests.families import FAMILIES, METHODS, info_of, make, method_of, refusal_of, table

Folders = Callable[[str], Path]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("families")

    @cache
    def folder(family: str) -> Path:
        return make(family, root / family)

    return folder


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(4, 36).reshape(2, 16)
    with torch.no_grad():
        return model.eval()(input_ids=ids, use_cache=False).logits[:, -16:]


def train(model: Any, steps: int = 2) -> None:
    ids = torch.arange(4, 36).reshape(2, 16)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-2)
    model.train()
    for _ in range(steps):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


CELLS = [(family, method) for family in FAMILIES for method in METHODS]


@pytest.mark.filterwarnings("ignore")  # the libraries' own, of what tiny models lack
@pytest.mark.parametrize(("family", "name"), CELLS)
def test_a_family_trains_with_a_method_or_plan_says_why_not(
    family: str, name: str, folders: Folders, tmp_path: Path
) -> None:
    folder, method = folders(family), method_of(name)
    info = info_of(folder)
    if refusal_of(info, name) is not None:
        return  # with a reason, which stands in the table
    ref = ModelRef(str(folder), "float32", "cpu")
    base = method.load(ref)
    expected = method.count_trainable(method.describe(base))
    planned = method.count_trainable(info)
    before = logits(base)
    model = method.attach(base)
    trained = {n: t.clone() for n, t in method.trainable_state(model).items()}
    assert sum(tensor.numel() for tensor in trained.values()) == expected
    assert planned in (expected, None)
    if "starts_at_base" not in method.exceptions():
        torch.testing.assert_close(logits(model), before)
    train(model)
    for proof, (holds, seen) in method.proofs(model).items():
        assert holds, f"{proof}: {seen}"
    after = logits(model)
    assert (after - before).abs().max() > 0
    method.save(model, tmp_path)
    again = method.load_trained(ref, tmp_path)
    scale = float(after.abs().max())
    assert (logits(again) - after).abs().max() <= method.reload_tolerance * scale
    ids = torch.arange(4, 12).reshape(1, 8)
    assert again.generate(input_ids=ids, max_new_tokens=3, do_sample=False).shape[-1] > 8


def test_the_table_in_the_documents_is_the_codes(folders: Folders) -> None:
    committed = Path(__file__).parents[2] / "docs" / "families.md"
    assert committed.read_text(encoding="utf-8") == table(folders)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("ctrl", {"n_embd": 32, "dff": 48, "n_layer": 2, "n_head": 4, "n_positions": 64}),
        ("rwkv", {"hidden_size": 32, "num_hidden_layers": 2, "context_length": 64}),
    ],
)
def test_what_has_a_row_for_each_token_is_no_layer_of_the_blocks_whatever_its_name(
    family: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    """CTRL calls its embedding `w`, and RWKV its head `head`."""
    info, method = info_of(make(family, tmp_path, **fields)), method_of("lora")
    base = method.load(ModelRef(str(tmp_path), "float32", "cpu"))
    assert method.count_trainable(info) == method.count_trainable(method.describe(base))
