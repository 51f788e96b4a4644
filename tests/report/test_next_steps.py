"""The commands after a training: they name what exists, and fit what was trained."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from analog_lora_cli.config.schema import Config
from analog_lora_cli.report.next_steps import next_commands, print_next
from analog_lora_cli.runtime import console

MakeConfig = Callable[..., Config]


def commands(config: Config, folder: str = "runs/x", *, measured: bool = True, seeds: bool = False) -> list[str]:
    return [command for _, command in next_commands(Path(folder), config, measured=measured, seeds=seeds)]


@pytest.mark.parametrize(
    ("method", "measured", "seeds", "expected"),
    [
        ("lora", True, False, ["--chips 10", "inspect-tiles runs/x --errors", "report runs/x --output runs/x.html"]),
        ("full", False, False, ["evaluate-drift runs/x", "report runs/x", "export runs/x --format merged"]),
        ("digital", True, False, ["--chips 10", "report runs/x", "export runs/x --format peft"]),
        ("lora", True, True, ["--chips 10", "report runs/x", "export runs/x/seed-0 --format peft"]),
        ("lora", False, True, ["evaluate-drift runs/x", "report runs/x", "export runs/x/seed-0 --format peft"]),
    ],
)
def test_three_commands_that_fit(
    make_config: MakeConfig, method: str, measured: bool, seeds: bool, expected: list[str]
) -> None:
    found = commands(make_config(method=method), measured=measured, seeds=seeds)
    assert len(found) == 3
    assert all(part in command for part, command in zip(expected, found, strict=True)), found


def test_many_chips_are_not_asked_for_again(make_config: MakeConfig) -> None:
    assert "--chips" not in "".join(commands(make_config(drift={"chips": 12})))


def test_paths_can_be_pasted_whole(make_config: MakeConfig, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("my runs") / ("long-" * 30 + "[x]")
    for quiet in (False, True):
        console.messages.cache_clear()
        console.set_quiet(quiet)
        print_next(folder, make_config(), measured=True)
        captured = capsys.readouterr()
        assert captured.out == "" and (captured.err == "") == quiet
        if not quiet:
            lines = [line.strip() for line in captured.err.splitlines()[1:]]
            assert len(lines) == 3 and all(str(folder) in shlex.split(line)[2] for line in lines)
