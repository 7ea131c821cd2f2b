"""What an audit remembers a tensor by tells of any change, on the machine or on an accelerator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import torch

from harness.stages._audit import fingerprint, sums


def on_the_machine(tensor: torch.Tensor) -> str:
    return fingerprint({"own": tensor})["own"]


def on_an_accelerator(tensor: torch.Tensor) -> str:
    return sums(tensor.contiguous().flatten().view(torch.uint8))


@pytest.mark.parametrize("digest", [on_the_machine, on_an_accelerator])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_one_bit_a_swap_and_two_signs_are_each_seen(
    digest: Callable[[torch.Tensor], str], dtype: torch.dtype
) -> None:
    own = (torch.arange(1, 601).reshape(20, 30) % 250).to(dtype)
    bit, swapped, signs, shifted = (own.clone() for _ in range(4))
    bit.view(torch.uint8)[3, 5] ^= 1
    swapped[[0, 1]] = own[[1, 0]]
    signs[0, :2] = -own[0, :2]
    shifted[0, 0] += 1
    shifted[0, 1] -= 1
    seen = [digest(tensor) for tensor in (own, bit, swapped, signs, shifted, own[:19])]
    assert len(set(seen)) == len(seen)
    assert digest(own.clone()) == digest(own.t().contiguous().t()) == seen[0]


def test_in_the_machines_memory_it_is_a_sha256_of_the_bytes() -> None:
    tensor = torch.arange(10, dtype=torch.float32)
    assert on_the_machine(tensor) == hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


def test_a_number_without_a_shape_and_an_empty_tensor_have_a_fingerprint_too() -> None:
    found = fingerprint(
        {"one": torch.tensor(1.0), "other": torch.tensor(2.0), "none": torch.zeros(0)}
    )
    assert len(set(found.values())) == 3


def test_large_tensors_are_summed_part_by_part_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = torch.arange(1000, dtype=torch.int32).view(torch.uint8)
    whole = sums(raw)
    monkeypatch.setattr("harness.stages._audit._SUMMED", 333)
    assert sums(raw) == whole
