"""What an audit remembers a tensor by tells of any change, on the machine or on an accelerator."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable

import pytest
import torch

from harness.stages import _audit
from harness.stages._audit import fingerprint, sums
from tests.host_waits import HostWaits


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


def weights(byte: int, places: int) -> list[tuple[int, int]]:
    """By how much each of the two sums grows when one byte becomes another, place by place."""
    bare = numbers(torch.zeros(places, dtype=torch.uint8))
    grown = []
    for place in range(places):
        raw = torch.zeros(places, dtype=torch.uint8)
        raw[place] = byte
        grown.append(tuple(new - old for new, old in zip(numbers(raw), bare, strict=True)))
    return grown


def numbers(raw: torch.Tensor) -> tuple[int, int]:
    told = re.fullmatch(r"(\d+) ([0-9a-f]{16}) ([0-9a-f]{16})", sums(raw))
    assert told is not None, sums(raw)
    assert int(told[1]) == len(raw)
    return int(told[2], 16), int(told[3], 16)


def test_each_of_the_two_sums_weighs_each_place_by_an_odd_number_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An odd weight times a change of a byte is never 0 modulo 2^64."""
    monkeypatch.setattr("harness.stages._audit._SUMMED", 50)
    for each in zip(*weights(1, 120), strict=True):
        assert all(weight % 2 for weight in each)
        assert len({weight % 2**64 for weight in each}) == 120


def test_sums_of_bytes_that_are_added_are_added_modulo_2_to_the_64() -> None:
    draws = torch.Generator().manual_seed(0)
    for _ in range(20):
        one, other = torch.randint(0, 128, (2, 300), generator=draws, dtype=torch.uint8)
        zeros = numbers(torch.zeros_like(one))
        parts = zip(numbers(one), numbers(other), zeros, strict=True)
        assert numbers(one + other) == tuple((a + b - c) % 2**64 for a, b, c in parts)


def test_on_an_accelerator_one_tensor_is_summed_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each takes memory there, and the machine may have a hundred cores."""
    now, most = [], []

    def watched(raw: torch.Tensor) -> str:
        now.append(raw)
        time.sleep(0.01)
        most.append(len(now))
        now.pop()
        return f"{len(raw)} bytes"

    monkeypatch.setattr(_audit, "sums", watched)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    state = {str(n): torch.empty(n, 2, dtype=torch.bfloat16, device="meta") for n in range(8)}
    assert fingerprint(state) == {str(n): f"{4 * n} bytes" for n in range(8)}
    assert most == [1] * 8


def test_the_host_waits_once_for_the_sums_of_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_audit, "_SUMMED", 50)
    with HostWaits().watching() as waits:
        sums(torch.arange(600, dtype=torch.int32).view(torch.uint8))
    assert waits.ours == {"stages/_audit.py sums: tolist": 1}
