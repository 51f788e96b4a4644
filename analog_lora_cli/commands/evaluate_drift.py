"""`analora evaluate-drift`."""

from __future__ import annotations

from analog_lora_cli.errors import RequirementError
from analog_lora_cli.report.progress.console import ConsoleObserver
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime.ranks import is_main
from analog_lora_cli.workflows.drift import carry_out
from analog_lora_cli.workflows.drift_request import DriftRequest


def run(request: DriftRequest) -> None:
    """Measure the checkpoints on chips over time, and print the table.

    Raises:
        RequirementError: a requirement does not hold.
    """
    if not is_main():
        console.set_quiet(True)
    with ConsoleObserver() as observer:
        evaluation = carry_out(request, observer)
    if not is_main():
        return
    from analog_lora_cli.report.drift.evaluation import print_evaluation, print_failed

    print_evaluation(evaluation, request.output)
    if evaluation.failed:
        print_failed(evaluation.failed)
        raise RequirementError(f"{len(evaluation.failed)} of {len(evaluation.checks)} requirements do not hold")
