"""The commands that show or fit; what each does is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analog_lora_cli.commands import options

commands = typer.Typer()


@commands.command(
    "inspect-tiles",
    epilog=options.examples(
        "analora inspect-tiles --model bert-large-uncased --set hardware.tile_rows=256",
        "analora inspect-tiles --preset squad-lora --pack --csv mobilebert.csv",
        "analora inspect-tiles runs/sst2 --errors --times 1d,10y --plot tiles.png",
    ),
)
def inspect_tiles(
    checkpoint: Annotated[Path | None, typer.Argument(metavar="CHECKPOINT", help="Checkpoint folder.")] = None,
    preset: options.Preset = None,
    model: options.Model = None,
    config: options.ConfigFile = None,
    set_: options.Overrides = None,
    adapter: options.OneAdapter = None,
    statistics: options.Statistics = False,
    errors: options.Errors = False,
    times: options.ErrorTimes = None,
    chips: options.ErrorChips = None,
    seed: options.ErrorSeed = None,
    inputs: options.ErrorInputs = None,
    tokens: options.ErrorTokens = None,
    pack: options.Pack = False,
    show_all: options.ShowAll = False,
    json: options.Json = None,
    csv: options.Csv = None,
    plot: options.Plot = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Show how a model lies on tiles and what that costs: devices, time, and with its weights, errors."""
    from analog_lora_cli.commands import inspect_tiles as command
    from analog_lora_cli.workflows.inspect import InspectRequest

    request = InspectRequest(
        checkpoint=checkpoint,
        preset=preset,
        config_file=config,
        model=model,
        adapter=adapter,
        overrides=set_ or [],
        statistics=statistics,
        errors=errors,
        times=times,
        chips=chips,
        seed=seed,
        inputs=inputs,
        tokens=tokens,
        pack=pack,
        json=json,
        csv=csv,
        plot=plot,
        overwrite=overwrite,
    )
    command.run(request, show_all=show_all)


@commands.command(
    epilog=options.examples(
        "analora report runs/sst2 --output report.html",
        "analora report runs/sst2 runs/sst2-digital --output report.html",
        "analora report runs/cola-comparison --output report.html --markdown -",
        "analora report runs/sst2 --latex table.tex",
    )
)
def report(
    runs: options.ReportedFolders,
    output: options.ReportFile = None,
    markdown: options.MarkdownTable = None,
    latex: options.LatexTable = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write what runs have given as one page to send to somebody, or as a table; nothing is measured.

    The page is one HTML file that needs no network: results over time with their
    intervals, chips, spread by cause, placement, latency, training, configuration
    and provenance; several runs are set side by side.
    """
    from analog_lora_cli.commands import report as command
    from analog_lora_cli.workflows.report import ReportRequest

    command.run(ReportRequest(runs=runs, output=output, markdown=markdown, latex=latex, overwrite=overwrite))


@commands.command(epilog=options.examples("analora presets", "analora presets squad-lora > my-run.yaml"))
def presets(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Print this preset, resolved; default: list all.")
    ] = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """List the presets, or print one, resolved."""
    from analog_lora_cli.commands import presets as command

    command.run(name)


@commands.command(
    "explain",
    epilog=options.examples("analora explain", "analora explain hardware", "analora explain hardware.adc_bits"),
)
def explain_key(
    key: Annotated[
        str | None,
        typer.Argument(metavar="KEY", help="A key such as hardware.adc_bits, or a section; default: list all."),
    ] = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Print what a configuration key means: unit, default, allowed values, what it affects."""
    from analog_lora_cli.commands import explain as command

    command.run(key)


@commands.command(
    "fit-device",
    epilog=options.examples(
        "analora fit-device measurements.csv --output my-device.yaml",
        "analora fit-device measurements.csv --output my-device.yaml --overwrite",
    ),
)
def fit_device(
    measurements: options.Measurements,
    output: options.DeviceFile,
    plot: options.FitPlot = None,
    t_read: options.ReadDuration = 250e-9,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Fit a memory device's programming noise, drift and read noise to measured conductances.

    One row is one read of one device. Columns, in any order: device (its name),
    target_uS (conductance it was programmed to), time_s (seconds after
    programming), measured_uS (conductance read). Lines that begin with # are
    comments; other columns are not used.

    Needed: 4 levels above 0 uS, 20 devices at each level, 3 reads of each device
    at different times, the last 10 times later than the first. Better: a level
    at 0 uS, 100 devices a level, 8 reads of each over days.

    The file is then a device: --set hardware.device=FILE. A checkpoint keeps the
    constants, and needs the file no more.
    """
    from analog_lora_cli.commands import fit_device as command
    from analog_lora_cli.workflows.fit_device import FitRequest

    command.run(FitRequest(measurements=measurements, output=output, plot=plot, t_read=t_read, overwrite=overwrite))


@commands.command(epilog=options.examples("analora doctor"))
def doctor(quiet: options.Quiet = False, debug: options.Debug = False) -> None:
    """Check the installation: torch, GPU, aihwkit's extension, torchvision, hub."""
    from analog_lora_cli.commands import doctor as command

    command.run()
