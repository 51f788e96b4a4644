from __future__ import annotations

import pytest

from analog_lora_cli.runtime.failure import hint


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("train", "continue with --resume"),
        ("adapt", "continue with --resume"),
        ("evaluate-drift", "run the command again: finished measurements are reused"),
        ("export", "nothing half-written is left, run the command again"),
    ],
)
def test_the_hint_names_an_option_that_the_command_has(command: str, expected: str) -> None:
    assert hint([command, "folder"]).endswith(expected)
    assert hint(["--debug", command]).endswith(expected)
