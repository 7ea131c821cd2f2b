"""A file of claims with any mistake in its YAML is read, or refused in a sentence that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.commands.check import read_claims
from harness.core.errors import SuiteError
from tests.suite_mistakes import encoded
from tests.suite_values import BYTES, TEXTS

CLAIM = b"- candidate not_worse baseline on exact_match by "
ODD = [*map(encoded, TEXTS), *BYTES]


def _refusal(file: Path) -> str:
    try:
        read_claims(file)
    except SuiteError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("before", [b"- ", CLAIM, b"- {variant: ", b"claims: "])
def test_any_text_of_claims_is_read_or_refused_with_the_files_name(
    before: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "claims.yaml"
    refused = 0
    for odd in ODD:
        file.write_bytes(before + odd + b"\n")
        said = _refusal(file)
        assert not said or said.startswith(f"{file}: ")
        refused += bool(said)
    assert refused > len(ODD) / 4


@pytest.mark.parametrize("odd", ["!!int x", "9" * 5000, "!!timestamp x"])
def test_value_that_yaml_cannot_make_is_no_traceback(odd: str, tmp_path: Path) -> None:
    file = tmp_path / "claims.yaml"
    file.write_text(f"- {{metric: acc, variant: candidate, relation: at_least, than: {odd}}}\n")
    with pytest.raises(SuiteError, match=r"claims\.yaml: "):
        read_claims(file)
