"""`analora adapt`."""

from __future__ import annotations

from analog_lora_cli.report.progress.console import ConsoleObserver
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime.ranks import is_main
from analog_lora_cli.workflows.adapt import carry_out
from analog_lora_cli.workflows.adaptation import AdaptRequest


def run(request: AdaptRequest) -> None:
    """Train one more adapter for a checkpoint's programmed weights, and report what it recovers."""
    if not is_main():
        console.set_quiet(True)
    with ConsoleObserver() as observer:
        recovery = carry_out(request, observer)
    if is_main():
        from analog_lora_cli.report.drift.adaptation import print_adaptation

        print_adaptation(recovery)
