"""The commands with their options and help; what each does is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analog_lora_cli.commands import options
from analog_lora_cli.version import __version__

app = typer.Typer(
    name="analora",
    help="Transformers on analog in-memory hardware, adapted with digital LoRA adapters (AHWA-LoRA).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        print(f"analora {__version__}")
        raise typer.Exit


def _examples(*lines: str) -> str:
    """The end of a command's help, one line for each example."""
    return "\n\n".join(["Examples:", *lines])


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(
    epilog=_examples(
        "analora train --preset quickstart",
        "analora train --preset glue-sst2-lora --set hardware.adc_bits=6",
        "analora train --preset squad-lora --chips 2 --times 0s,1y --limit 500",
        "analora train --preset glue-cola-lora --seeds 5 --output runs/cola",
        "analora train --config my-run.yaml --no-drift",
    )
)
def train(
    preset: options.Preset = None,
    config: options.ConfigFile = None,
    set_: options.Overrides = None,
    chips: options.Chips = None,
    times: options.Times = None,
    limit: options.Limit = None,
    seeds: options.Seeds = None,
    no_drift: options.NoDrift = False,
    output: options.RunFolder = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train what a preset says, write a checkpoint, and evaluate it over drift."""
    from analog_lora_cli.commands import train as command

    command.run(
        command.Request(
            preset=preset,
            config_file=config,
            overrides=set_ or [],
            times=times,
            chips=chips,
            limit=limit,
            seeds=seeds,
            output=output,
            resume=resume,
            overwrite=overwrite,
            drift=not no_drift,
        )
    )


@app.command(
    "evaluate-drift",
    epilog=_examples(
        "analora evaluate-drift runs/sst2 --chips 20 --times 0s,1d,1y",
        "analora evaluate-drift runs/sst2 --set hardware.adc_bits=6 --output six-bit",
        "analora evaluate-drift runs/lora runs/digital --output runs/comparison",
        "analora evaluate-drift runs/lora --gaussian 1%,3%,6.7%",
        "analora evaluate-drift runs/sst2 --recalibrate 32",
        "analora evaluate-drift runs/sst2 --require 'accuracy>=85@1y'",
    ),
)
def evaluate_drift(
    checkpoints: options.CheckpointFolders,
    set_: options.Overrides = None,
    adapter: options.Adapters = None,
    times: options.Times = None,
    chips: options.Chips = None,
    seed: options.Seed = None,
    reads: options.Reads = None,
    gaussian: options.Gaussian = None,
    recalibrate: options.Recalibrate = None,
    limit: options.Limit = None,
    require: options.Require = None,
    output: options.DriftFolder = None,
    overwrite: options.MeasureAnew = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Program simulated chips, age them through all times, and report the task's metrics."""
    from analog_lora_cli.commands import evaluate_drift as command
    from analog_lora_cli.workflows.drift import DriftRequest

    command.run(
        DriftRequest(
            checkpoints=checkpoints,
            adapters=adapter or [],
            times=times,
            chips=chips,
            seed=seed,
            reads=reads,
            gaussian=gaussian,
            recalibrate=recalibrate,
            limit=limit,
            overrides=set_ or [],
            requirements=require or [],
            output=output,
            overwrite=overwrite,
        )
    )


@app.command(
    epilog=_examples(
        "analora export runs/sst2 --format merged --output sst2-merged",
        "analora export runs/sst2 --format conductances --chip 3 --at 1y --output chip3",
        "analora export runs/sst2 --format peft --output peft --push-to-hub me/sst2",
    )
)
def export(
    checkpoint: options.CheckpointFolder,
    format_: options.Format,
    output: options.ExportFolder,
    adapter: options.ExportedAdapter = "default",
    chip: options.ExportedChip = None,
    at: options.ExportedAge = None,
    push_to_hub: options.PushToHub = None,
    overwrite: options.ReplaceExport = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write a result for another tool: PEFT, transformers, a chip's programmer, aihwkit."""
    from analog_lora_cli.commands import export as command
    from analog_lora_cli.export.request import ExportRequest

    command.run(
        ExportRequest(
            checkpoint=checkpoint,
            format=format_.value,
            output=output,
            adapter=adapter,
            chip=chip,
            at=at,
            repository=push_to_hub,
            overwrite=overwrite,
        )
    )


@app.command(
    epilog=_examples(
        "analora adapt runs/glue --preset glue-cola-lora --adapter cola",
        "analora adapt runs/x --adapter six --from default --set hardware.adc_bits=6",
        "analora adapt runs/sst2 --preset adapt-aged-chip --chip 7 --at 10y",
        "analora adapt runs/sst2 --preset recalibrate-chip --chip 3 --at 1y",
    )
)
def adapt(
    checkpoint: options.CheckpointFolder,
    preset: options.Preset = None,
    config: options.ConfigFile = None,
    set_: options.Overrides = None,
    adapter: options.NewAdapter = None,
    from_: options.StartAdapter = None,
    chip: options.OwnChip = None,
    at: options.OwnAge = None,
    no_drift: options.NoDrift = False,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train one more adapter for a checkpoint's analog weights: a new task, new hardware, or an aged chip."""
    from analog_lora_cli.commands import adapt as command
    from analog_lora_cli.workflows.adaptation import AdaptRequest

    request = AdaptRequest(
        checkpoint=checkpoint,
        preset=preset,
        config_file=config,
        overrides=set_ or [],
        adapter=adapter,
        start=from_,
        chip=chip,
        at=at,
        resume=resume,
        overwrite=overwrite,
        drift=not no_drift,
    )
    command.run(request)


@app.command(
    "inspect-tiles",
    epilog=_examples(
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


@app.command(
    epilog=_examples(
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


@app.command(epilog=_examples("analora presets", "analora presets squad-lora > my-run.yaml"))
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


@app.command(
    "explain", epilog=_examples("analora explain", "analora explain hardware", "analora explain hardware.adc_bits")
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


@app.command(
    "fit-device",
    epilog=_examples(
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


@app.command(epilog=_examples("analora doctor"))
def doctor(quiet: options.Quiet = False, debug: options.Debug = False) -> None:
    """Check the installation: torch, GPU, aihwkit's extension, torchvision, hub."""
    from analog_lora_cli.commands import doctor as command

    command.run()
