"""Table of `analora doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from analog_lora_cli.runtime import console
from analog_lora_cli.version import __version__

if TYPE_CHECKING:
    from analog_lora_cli.runtime.installation import Finding

_STYLES = {"ok": "green", "note": "yellow", "wrong": "bold red"}


def print_findings(findings: list[Finding]) -> None:
    """Print one row for each check, with the fix below the detail."""
    table = console.table(f"analora {__version__}", "", "state", "detail, and what fixes it", left=3)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    table.columns[2].overflow = "fold"
    for finding in findings:
        # Names of packages and folders hold brackets: Text takes them as they are.
        detail = Text(finding.detail)
        if finding.fix:
            detail.append(f"\n-> {finding.fix}", style="bold" if finding.state == "wrong" else "")
        table.add_row(finding.what, Text(finding.state, style=_STYLES[finding.state]), detail)
    console.results().print(table)
