"""The commands that train, measure, export and adapt; what each does is imported when it runs."""

from __future__ import annotations

import typer

from analog_lora_cli.commands import options

commands = typer.Typer()


@commands.command(
    epilog=options.examples(
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


@commands.command(
    "evaluate-drift",
    epilog=options.examples(
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
    from analog_lora_cli.workflows.drift_request import DriftRequest

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


@commands.command(
    epilog=options.examples(
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


@commands.command(
    epilog=options.examples(
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
