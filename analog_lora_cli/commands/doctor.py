"""`analora doctor`."""

from __future__ import annotations

from analog_lora_cli.errors import AnaloraError
from analog_lora_cli.report.installation import print_findings
from analog_lora_cli.runtime.installation import WRONG, findings


def run() -> None:
    """Check the installation and print the findings.

    Raises:
        AnaloraError: something that is needed is broken.
    """
    rows = list(findings())
    print_findings(rows)
    broken = [row.what for row in rows if row.state == WRONG]
    if broken:
        raise AnaloraError(f"needed and broken: {', '.join(broken)}; the table says what fixes it")
