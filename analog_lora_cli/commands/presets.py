"""`analora presets`."""

from __future__ import annotations

from analog_lora_cli.config.load import dump_config, load_config
from analog_lora_cli.config.presets import preset_names
from analog_lora_cli.runtime import console

WIDE = 120
"""Columns of a terminal from which method and task stand in columns of their own."""


def run(name: str | None) -> None:
    """List the presets, or print one, resolved."""
    if name is not None:
        print(dump_config(load_config(preset=name)), end="")
        return
    wide = console.results().width >= WIDE
    table = console.table("Presets", "name", *(["method", "task"] if wide else []), "what it is", left=4)
    for preset in preset_names():
        config = load_config(preset=preset)
        kind = [config.method, config.task.name]
        if wide:
            table.add_row(preset, *kind, config.description)
        else:
            table.add_row(preset, f"{config.description} [dim]({', '.join(kind)})[/dim]")
    table.columns[0].no_wrap = True
    console.results().print(table)
