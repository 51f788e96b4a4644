"""`analora doctor`."""

from __future__ import annotations

from analog_lora_cli.errors import AnaloraError
from analog_lora_cli.report.installation import print_findings
from analog_lora_cli.runtime.installation import WRONG, findings


def run() -> None:
    """Look at the installation and print what was found.

    Raises:
        AnaloraError: something that is needed is broken.
    """
    found = findings()
    print_findings(found)
    broken = [finding.what for finding in found if finding.state == WRONG]
    if broken:
        raise AnaloraError(f"needed and broken: {', '.join(broken)}; the table says what mends it")
