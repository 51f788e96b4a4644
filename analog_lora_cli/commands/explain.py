"""`analora explain`."""

from __future__ import annotations

from analog_lora_cli.config.explain import is_section, key_facts
from analog_lora_cli.report.explain import key_table, keys_table, kinds_table, sections_table
from analog_lora_cli.runtime import console


def run(key: str | None) -> None:
    """Print what a key means, the keys of a section, or the sections.

    Raises:
        UsageError: no configuration has this key.
    """
    if key is None:
        tables = [sections_table()]
    elif is_section(key):
        tables = [table for table in (keys_table(key), kinds_table(key)) if table is not None]
    else:
        tables = [key_table(key_facts(key))]
    for table in tables:
        console.results().print(table)
