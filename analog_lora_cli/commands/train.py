"""`analora train`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analog_lora_cli.config.load import load_config
from analog_lora_cli.config.options import option_layers
from analog_lora_cli.errors import UsageError
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime.libraries import imports_done, prepare_libraries
from analog_lora_cli.runtime.ranks import is_main
from analog_lora_cli.storage.checkpoint import check_modes


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of `analora train`."""

    preset: str | None
    config_file: Path | None
    overrides: Sequence[str]
    times: str | None
    chips: int | None
    limit: int | None
    seeds: int | None
    output: Path | None
    resume: bool
    overwrite: bool
    drift: bool


def run(request: Request) -> None:
    """Train, evaluate, and print the result."""
    name = request.preset or (None if request.config_file is None else request.config_file.stem)
    if name is None:
        raise UsageError("give --preset NAME or --config FILE; `analora presets` lists the presets")
    check_modes(request.resume, request.overwrite)
    for option in ("times", "chips"):
        if getattr(request, option) is not None and not request.drift:
            raise UsageError(f"--{option}: has no effect with --no-drift; leave one of them out")
    options = option_layers(request.overrides, times=request.times, chips=request.chips, limit=request.limit)
    config = load_config(request.preset, request.config_file, request.overrides, options=options)
    if not is_main():
        console.set_quiet(True)
    prepare_libraries()

    from analog_lora_cli.evaluation.drift_grid import check_times
    from analog_lora_cli.report.drift.run import print_run, print_seed_runs
    from analog_lora_cli.report.next_steps import print_next
    from analog_lora_cli.report.progress.console import ConsoleObserver
    from analog_lora_cli.workflows.seeds import train_seeds
    from analog_lora_cli.workflows.train import train

    imports_done()
    if request.times is not None:
        check_times(config.hardware, config.drift.times, "--times")
    output = request.output or Path("runs") / name
    how = {"resume": request.resume, "overwrite": request.overwrite, "drift": request.drift}
    with ConsoleObserver() as observer:
        if request.seeds is None:
            result = train(config, output, observer, **how)
        else:
            seed_runs = train_seeds(config, output, request.seeds, observer, **how)
    if is_main() and request.seeds is None:
        print_run(result, name)
        print_next(output, config, measured=request.drift)
    elif is_main():
        print_seed_runs(seed_runs)
        if not seed_runs.busy:
            print_next(output, config, measured=request.drift, seeds=True)
