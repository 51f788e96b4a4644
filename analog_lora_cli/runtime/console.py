"""Consoles and tables in one style: messages and progress on stderr, results on stdout."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime.ranks import is_main, rank

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Print no progress and no notes from now on; errors and results stay."""
    global _quiet
    _quiet = quiet


@lru_cache(maxsize=1)
def messages() -> Console:
    """Console for progress, notes and errors: stderr."""
    return Console(stderr=True, highlight=False, soft_wrap=False)


@lru_cache(maxsize=1)
def results() -> Console:
    """Console for results: stdout."""
    return Console(highlight=False)


def note(text: str | Table | Text) -> None:
    """Print a note, unless `--quiet` is on; text as it is, without markup, because it may hold a user's names."""
    if not _quiet:
        messages().print(Text(text) if isinstance(text, str) else text)


def stage(text: str) -> None:
    """Print a note on what begins now, less prominent than others."""
    note(Text(text, style="dim"))


def is_quiet() -> bool:
    """Whether `--quiet` was given."""
    return _quiet


def warn(text: str) -> None:
    """Print a warning, and log it."""
    run_log.record("warning", text)
    messages().print(Text.assemble(("warning: ", "yellow"), text))


def error(text: str) -> None:
    """Print an error; of several processes, those that are not the main one say which they are."""
    where = "" if is_main() else f"rank {rank()}: "
    messages().print(Text.assemble((f"error: {where}", "bold red"), text), soft_wrap=True)


def marked(warnings: Iterable[str]) -> list[str]:
    """Warnings as lines of a table's caption, each once."""
    return [f"[bold yellow]! {escape(warning)}[/]" for warning in dict.fromkeys(warnings)]


class _Table(Table):
    """A table whose title and remarks stand in lines as wide as the console, however narrow the table is."""

    heading: str = ""
    remarks: str | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.heading:
            yield Text.from_markup(self.heading, style="bold")
        yield from super().__rich_console__(console, options)
        if self.remarks is not None:
            yield Text.from_markup(self.remarks, style="dim")


def table(title: str, *columns: str, caption: str | None = None, left: int = 1, **options: Any) -> Table:
    """An empty table in the house style.

    Args:
        title: above the table.
        columns: headings.
        caption: below the table.
        left: how many columns from the left hold text; the others hold numbers.
    """
    result = _Table(
        box=box.SIMPLE_HEAD,
        header_style="bold",
        pad_edge=False,
        **options,
    )
    result.heading, result.remarks = title, caption
    for index, heading in enumerate(columns):
        result.add_column(heading, justify="left" if index < left else "right", no_wrap=index >= left, overflow="fold")
    return result
