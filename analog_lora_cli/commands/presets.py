"""`analora presets`."""

from __future__ import annotations

from analog_lora_cli.config.load import dump_config, load_config
from analog_lora_cli.config.presets import preset_names
from analog_lora_cli.runtime import console


def run(name: str | None) -> None:
    """List the presets, or print one, resolved."""
    if name is not None:
        print(dump_config(load_config(preset=name)), end="")
        return
    made = console.table("Presets", "name", "method", "task", "what it is", left=4)
    for preset in preset_names():
        config = load_config(preset=preset)
        made.add_row(preset, config.method, config.task.name, config.description)
    made.columns[0].no_wrap = True
    console.results().print(made)
