"""The commands that make sense after a training, to be copied."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.text import Text

from analog_lora_cli.config.schema import Config
from analog_lora_cli.runtime import console
from analog_lora_cli.storage.layout import TILES
from analog_lora_cli.storage.seed_folders import seed_folder

MANY_CHIPS = 10
"""Chips of a measurement that says something about the spread between them."""


def next_commands(folder: Path, config: Config, *, measured: bool, seeds: bool) -> list[tuple[str, str]]:
    """Three commands for a finished training, each with what it is for.

    Args:
        folder: that of the checkpoint, or of all trainings of `--seeds`.
        config: the configuration of the training, or of the first.
        measured: whether it was measured over drift.
        seeds: whether the folder is one of `--seeds`.
    """
    one = seed_folder(folder, 0) if seeds else folder
    report = analora("report", folder, "--output", f"{folder}.html")
    found = []
    if measured and config.drift.chips >= MANY_CHIPS:
        found.append(
            (
                "with 6-bit converters",
                analora("evaluate-drift", folder, "--set", "hardware.adc_bits=6", "--output", f"{folder}-6bit"),
            )
        )
    elif measured:
        found.append(("more chips", analora("evaluate-drift", folder, "--chips", MANY_CHIPS)))
    else:
        found.append(("over drift", analora("evaluate-drift", folder)))
    found.append(("a page to send", report))
    if config.on_tiles and measured and not seeds:
        found.insert(1, ("errors by layer", errors_command(folder)))
    else:
        form = "peft" if config.has_adapter else "merged"
        found.append(("for other tools", analora("export", one, "--format", form, "--output", f"{one}-{form}")))
    return found


def print_next(folder: Path, config: Config, *, measured: bool, seeds: bool = False) -> None:
    """Print these commands as notes; arguments as with `next_commands`."""
    if console.is_quiet():
        return
    commands = next_commands(folder, config, measured=measured, seeds=seeds)
    console.messages().print("next:")
    for purpose, command in commands:
        # Never broken into lines: it is to be copied.
        console.messages().print(Text.assemble("  ", command, (f"  # {purpose}", "dim")), soft_wrap=True)


def errors_command(folder: Path) -> str:
    """The command that writes the errors of a checkpoint's layers where `analora report` finds them."""
    return analora("inspect-tiles", folder, "--errors", "--json", folder / TILES)


def analora(*words: object) -> str:
    """A command of this tool as one types it."""
    return shlex.join(["analora", *map(str, words)])
