"""`adapt` as a whole: train one more adapter, and measure what it recovers. Imports torch only when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from analog_lora_cli.runtime import processes
from analog_lora_cli.runtime.libraries import imports_done, prepare_libraries
from analog_lora_cli.runtime.ranks import is_main
from analog_lora_cli.workflows.adaptation import AdaptRequest
from analog_lora_cli.workflows.observer import RunObserver, SilentObserver

if TYPE_CHECKING:
    from analog_lora_cli.workflows.recover import Recovery


def adapt(
    checkpoint: Path | str,
    *,
    preset: str | None = None,
    config_file: Path | str | None = None,
    overrides: Sequence[str] = (),
    adapter: str | None = None,
    start: str | None = None,
    chip: int | None = None,
    at: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    drift: bool = True,
    observer: RunObserver | None = None,
) -> Recovery:
    """Train one more adapter for a checkpoint's analog weights, store it beside the others, and measure it.

    Args:
        checkpoint: the folder.
        preset: name of a preset: a new task, or new settings.
        config_file: a YAML file of the same kind.
        overrides: `KEY=VALUE` texts, as with `--set`.
        adapter: name of the new adapter; None: that of the preset or of the file.
        start: the adapter to start from (`--from`); with it, adaptation.json says how much is recovered.
        chip: seed of the one chip to train on.
        at: age of that chip, for instance `1y`.
        resume: continue an interrupted adaptation.
        overwrite: replace an adapter of the same name.
        drift: measure over chips and times; else digitally and without chips only.
        observer: watches the run; None: silent.

    Raises:
        UsageError: before anything is written.
        AnaloraError: while running.
    """
    options = {name: value for name, value in locals().items() if name != "observer"}  # The fields of the request.
    return carry_out(AdaptRequest(**options), observer)


def carry_out(request: AdaptRequest, observer: RunObserver | None = None) -> Recovery:
    """Train and measure as a request says; errors as with `adapt`."""
    observer = observer or SilentObserver()
    adaptation = request.plan()
    prepare_libraries()

    from analog_lora_cli.evaluation.drift_grid import check_times
    from analog_lora_cli.workflows.recover import measure_recovery
    from analog_lora_cli.workflows.reporters import report_drift
    from analog_lora_cli.workflows.results import write_recovery
    from analog_lora_cli.workflows.train import settled
    from analog_lora_cli.workflows.train_adapter import train_adapter

    imports_done()
    config = settled(adaptation.config)
    adaptation = replace(adaptation, config=config)
    with processes.together(processes.collective_timeout(config)):
        if request.drift or adaptation.chip is not None:
            check_times(config.hardware, config.drift.times)
        checkpoint = train_adapter(adaptation, observer, request.resume, request.overwrite)
        recovery = measure_recovery(adaptation, checkpoint, observer, request.drift)
        if request.drift and is_main():
            subject = recovery.after.subject
            write_recovery(recovery, subject.own_folder)
            report_drift(config, checkpoint.folder, subject.own_folder, subject.name)
    return recovery
