"""`analora train`."""

from __future__ import annotations

from pathlib import Path

from analog_lora_cli.config.load import load_config
from analog_lora_cli.errors import UsageError
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime.libraries import imports_done, prepare_libraries
from analog_lora_cli.runtime.processes import collective_timeout, is_main, together


def run(
    preset: str | None,
    config_file: Path | None,
    overrides: list[str],
    output: Path | None,
    resume: bool,
    overwrite: bool,
    drift: bool,
) -> None:
    """Train, write the checkpoint, evaluate it, and print the result."""
    if preset is None and config_file is None:
        raise UsageError("give --preset NAME or --config FILE; `analora presets` lists the presets")
    if resume and overwrite:
        raise UsageError("--resume continues a run and --overwrite replaces it: give one of them")
    config = load_config(preset, config_file, overrides)
    folder = output or Path("runs") / (preset or config_file.stem)  # type: ignore[union-attr]
    if not is_main():
        console.set_quiet(True)
    prepare_libraries()

    from analog_lora_cli.report.drift.run import print_run
    from analog_lora_cli.report.progress.console import ConsoleReport
    from analog_lora_cli.workflows.train import run_training

    imports_done()
    with together(collective_timeout(config)):
        report = ConsoleReport()
        try:
            result = run_training(config, folder, report, resume, overwrite, drift)
        finally:
            report.close()
        if is_main():
            print_run(result, preset or config_file.stem)  # type: ignore[union-attr]
