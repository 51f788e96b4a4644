"""`analora adapt`."""

from __future__ import annotations

from analog_lora_cli.errors import UsageError
from analog_lora_cli.report.progress.console import ConsoleObserver
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime.processes import is_main
from analog_lora_cli.workflows.adapt_and_measure import carry_out
from analog_lora_cli.workflows.adaptation import AdaptRequest


def run(request: AdaptRequest, *, resume: bool, overwrite: bool, drift: bool) -> None:
    """Train one more adapter for a checkpoint's programmed weights, and report what it recovers."""
    if resume and overwrite:
        raise UsageError("--resume continues an adaptation and --overwrite replaces one: give one of them")
    if not is_main():
        console.set_quiet(True)
    with ConsoleObserver() as observer:
        recovery = carry_out(request, resume=resume, overwrite=overwrite, drift=drift, observer=observer)
    if is_main():
        from analog_lora_cli.report.drift.adaptation import print_adaptation

        print_adaptation(recovery)
