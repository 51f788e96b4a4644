"""Tables of configuration keys: the sections, the keys of one, or everything about one key."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten

from rich.markup import escape
from rich.table import Table

from analog_lora_cli.config.effects import MEANINGS
from analog_lora_cli.config.explain import KeyFacts, section_facts, section_kinds, section_names
from analog_lora_cli.runtime import console

_VALUE = 14
"""Characters of a default value in a list of keys."""

_BETWEEN = 3
"""Characters between two columns."""

_SHORTEST = 20
"""Characters of a text in a list of keys, however narrow the console is."""

_TRAIN = "Any other field of transformers.TrainingArguments is accepted too, except those that this tool sets itself."


def sections_table() -> Table:
    """The sections of a configuration, one line each."""
    table = console.table(
        "Sections", "section", "what it is", left=2, caption="`analora explain SECTION` lists the keys of one."
    )
    return _add_lines(table, [(name, _sentence(description)) for name, description in section_names().items()])


def keys_table(section: str) -> Table:
    """The keys of one section, one line each."""
    table = console.table(
        section, "key", "default", "what it is", left=3, caption=_TRAIN if section == "train" else None
    )
    rows = []
    for facts in section_facts(section):
        kind = f"({facts.only_for}) " if facts.only_for else ""
        default = facts.default if len(facts.default) <= _VALUE else f"{facts.default[: _VALUE - 3]}..."
        rows.append((facts.key.partition(".")[2], default, kind + _sentence(facts.description)))
    return _add_lines(table, rows)


def kinds_table(section: str) -> Table | None:
    """The kinds of one section with the keys that not all of them have; None if there is only one kind."""
    kinds = section_kinds(section)
    if not kinds:
        return None
    table = console.table(f"Kinds of {section}", "name", "own keys", "what it is", left=3)
    for kind in kinds:
        table.add_row(", ".join(kind.names), ", ".join(kind.own_keys), kind.description)
    return table


def key_table(facts: KeyFacts) -> Table:
    """Everything about one key."""
    table = console.table(facts.key, "", "", left=2, show_header=False)
    rows = {
        "meaning": "\n".join([facts.description, *facts.special]),
        "only for": facts.only_for,
        "unit": facts.unit,
        "default": facts.default,
        "allowed": facts.allowed,
        "affects": "\n".join(f"{effect}: {MEANINGS[effect].text}" for effect in facts.effects) or "nothing",
        "acts in": ", ".join(facts.commands),
        "adapt": facts.reason and f"cannot change on a programmed chip: it {facts.reason}",
    }
    for name, text in rows.items():
        if text:
            table.add_row(name, escape(text))
    table.columns[0].no_wrap = True
    return table


def _add_lines(table: Table, rows: Sequence[tuple[str, ...]]) -> Table:
    """The table with these rows, one line each: the last text is cut to the width that the others leave."""
    headings = [str(column.header) for column in table.columns]
    widths = [max(map(len, column)) for column in list(zip(headings, *rows, strict=True))[:-1]]
    room = console.results().width - sum(widths) - _BETWEEN * (len(widths) + 1)
    for *values, text in rows:
        table.add_row(*map(escape, (*values, shorten(text, max(room, _SHORTEST), placeholder="..."))))
    return table


def _sentence(text: str) -> str:
    return text.partition(". ")[0].removesuffix(".")
