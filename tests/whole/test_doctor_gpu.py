"""`harness doctor` computes on the GPU that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.commands import doctor

TORCH = """
from types import SimpleNamespace

class Ones:
    def __init__(self, device):
        self.device = device
    def __matmul__(self, other):
        return self
    def item(self):
        if self.device == {broken!r}:
            raise RuntimeError("no kernel image is available for execution on the device")

def ones(size, device="cpu"):
    return Ones(device)

cuda = SimpleNamespace(
    is_available=lambda: True, get_device_name=lambda: "Tesla T4",
    is_bf16_supported=lambda including_emulation: {short},
)
"""


@pytest.mark.parametrize(
    ("broken", "short", "good", "says"),
    [
        ("", True, True, "torch computes; Tesla T4"),
        ("", False, True, "slow in bfloat16: set `dtype: float16`"),
        ("cuda", True, False, "no kernel image is available"),
    ],
)
def test_doctor_computes_on_the_gpu_and_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, short: bool, good: bool, says: str
) -> None:
    (tmp_path / "torch.py").write_text(TORCH.format(broken=broken, short=short))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    passed, told = doctor._torch()
    assert passed is good
    assert says in told
