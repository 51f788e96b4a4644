"""`analora fit-device`."""

from __future__ import annotations

from analog_lora_cli.report.device import print_fit
from analog_lora_cli.runtime import console
from analog_lora_cli.workflows.fit_device import FitRequest, carry_out


def run(request: FitRequest) -> None:
    """Fit a device, write its file and picture, and print its constants.

    Raises:
        UsageError: before anything is written: wrong options, bad rows, too few measurements.
    """
    fitted = carry_out(request, console.note)
    if fitted.measurements.unused:
        console.note(f"columns not used: {', '.join(fitted.measurements.unused)}")
    if fitted.measurements.levels[0] > 0:
        console.warn(
            "no device was programmed to 0 uS: the programming noise of zero weights is extrapolated from "
            f"{fitted.measurements.levels[0]:g} uS"
        )
    for path in (request.output, request.picture):
        console.note(f"written: {path}")
    print_fit(fitted, request.output)
