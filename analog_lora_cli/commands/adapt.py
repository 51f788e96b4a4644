"""`analora adapt`."""

from __future__ import annotations

from pathlib import Path

from analog_lora_cli.config.adapt import adaptation_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.times import seconds, time_option
from analog_lora_cli.errors import UsageError
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime.libraries import imports_done, prepare_libraries
from analog_lora_cli.runtime.processes import collective_timeout, is_main, together
from analog_lora_cli.storage.checkpoint import Checkpoint, read_checkpoint, verify_adapter
from analog_lora_cli.storage.layout import FIRST_ADAPTER


def run(
    folder: Path,
    preset: str | None,
    config_file: Path | None,
    overrides: list[str],
    adapter: str | None,
    start: str | None,
    chip: int | None,
    at: str | None,
    resume: bool,
    overwrite: bool,
    drift: bool,
) -> None:
    """Train one more adapter for a checkpoint's programmed weights, and report what it recovers."""
    name = adapter if adapter is not None else preset or (config_file.stem if config_file is not None else None)
    if name is None:
        raise UsageError("give the new adapter a name with --adapter NAME (or --preset NAME, which names it too)")
    if (chip is None) != (at is None):
        raise UsageError("--chip SEED and --at TIME belong together: one chip at one time after programming")
    if resume and overwrite:
        raise UsageError("--resume continues an adaptation and --overwrite replaces one: give one of them")
    age = time_option("--at", at)
    checkpoint = read_checkpoint(folder)
    ground = _ground(checkpoint, start)
    config = adaptation_config(ground, preset, config_file, overrides, in_the_loop=chip is not None)
    if age is not None:
        config = _with_time(config, age)
        if start is None and config.task.name == ground.task.name:
            start = FIRST_ADAPTER
    if not is_main():
        console.set_quiet(True)
    prepare_libraries()

    from analog_lora_cli.evaluation.drift_grid import check_times
    from analog_lora_cli.report.drift.adaptation import print_adaptation
    from analog_lora_cli.report.progress.console import ConsoleReport
    from analog_lora_cli.workflows.adapt import Adaptation, AgedChip, run_adaptation
    from analog_lora_cli.workflows.recover import measure_recovery

    aged_chip = None if chip is None or age is None else AgedChip(chip, age)
    adaptation = Adaptation(checkpoint, config, name, start, aged_chip)
    imports_done()
    with together(collective_timeout(config)):
        if drift or aged_chip is not None:
            check_times(config.hardware, config.drift.times)
        report = ConsoleReport()
        try:
            adapted = run_adaptation(adaptation, report, resume, overwrite)
            recovery = measure_recovery(adaptation, adapted, report, drift)
        finally:
            report.close()
        if is_main():
            print_adaptation(recovery)


def _ground(checkpoint: Checkpoint, start: str | None) -> Config:
    """The configuration to begin with: that of the adapter to start from, or of the first one."""
    if start is not None:
        verify_adapter(checkpoint, start)
    return checkpoint.config_of(start or FIRST_ADAPTER)


def _with_time(config: Config, label: str) -> Config:
    """The configuration with one more time to measure at, unless it is among them."""
    times = config.drift.times
    if seconds(label) in map(seconds, times):
        return config
    drift = config.drift.model_copy(update={"times": sorted([*times, label], key=seconds)})
    return config.model_copy(update={"drift": drift})
