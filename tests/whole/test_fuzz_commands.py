"""No mistake in the arguments of a command, or in a file that it is given, is a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main
from tests.fuzz_commands import COMMANDS, Command, fuzz


def test_no_mistake_in_a_command_is_a_traceback(tmp_path: Path) -> None:
    assert not fuzz(tmp_path, range(100), seed=0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nor_is_any_of_3000(tmp_path: Path) -> None:
    assert not fuzz(tmp_path, range(3000), seed=1)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.words))
def test_help_names_each_exit_status(command: Command) -> None:
    words = [word for word in command.words if word[0] not in "@-"]
    said = CliRunner().invoke(main, [*words, "--help"]).output
    assert all(str(status) in said for status in command.statuses if status not in (0, 2)), said
