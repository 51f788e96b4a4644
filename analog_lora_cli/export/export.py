"""One export, from a checkpoint to a complete folder, and to the hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from analog_lora_cli.config.devices import DEVICES
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.config.times import seconds, time_label
from analog_lora_cli.errors import UsageError
from analog_lora_cli.evaluation.drift_grid import check_times
from analog_lora_cli.export.aihwkit import write_aihwkit
from analog_lora_cli.export.conductances import write_conductances
from analog_lora_cli.export.description import Description
from analog_lora_cli.export.hub import check_repository, push
from analog_lora_cli.export.manifest import EXPORT, check_output, export_manifest, hashes
from analog_lora_cli.export.merged import write_merged
from analog_lora_cli.export.peft import write_peft
from analog_lora_cli.export.readme import export_readme
from analog_lora_cli.export.request import ExportRequest
from analog_lora_cli.export.source import Source
from analog_lora_cli.storage.files import replacing, write_json

WRITERS: dict[str, Callable[[Source, Path], Description]] = {
    "peft": write_peft,
    "merged": write_merged,
    "aihwkit": write_aihwkit,
}
"""Writers of the formats without a chip; `conductances` is the other one."""


@dataclass(frozen=True)
class Exported:
    """Result of an export."""

    folder: Path
    files: dict[str, int]
    """Size in bytes of each file, by its path in the folder."""
    address: str | None
    """Address of the repository on the hub; None without a push."""


def export(request: ExportRequest, stage: Callable[[str], None]) -> Exported:
    """Write an export; the folder appears whole or not at all.

    Args:
        request: the options.
        stage: called with the text of each stage.

    Raises:
        UsageError: before anything is written: options that do not fit together, a checkpoint that is none, a taken
            folder or repository.
        AnaloraError: while writing or pushing.
    """
    request.check()
    source = Source.open(request.checkpoint, request.adapter)
    if request.format == "peft" and not source.has_adapter:
        raise UsageError(
            f"--format peft: {request.checkpoint} was trained with method full, which has no adapter; "
            "--format merged, conductances and aihwkit work"
        )
    hardware = source.config.hardware
    if request.format == "aihwkit":
        _refuse_beyond_aihwkit(request, hardware)
    chip = None
    if request.chip is not None and request.at is not None:
        check_times(hardware, [time_label(request.at)], "--at")
        chip = (request.chip, seconds(request.at))
    check_output(request.output, request.overwrite)
    if request.repository is not None:
        check_repository(request.repository, request.overwrite)
    stage(f"exporting {request.checkpoint} as {request.format}")
    with replacing(request.output, alone=True) as folder:
        # Again, now that no other process is writing there.
        check_output(request.output, request.overwrite)
        folder.mkdir()
        if request.format == "conductances":
            description = write_conductances(source, folder, chip)
        else:
            description = WRITERS[request.format](source, folder)
        manifest = export_manifest(source, request.format, chip) | {"files": hashes(folder)}
        (folder / "README.md").write_text(export_readme(source, description, manifest), encoding="utf-8")
        write_json(folder / EXPORT, manifest | {"files": hashes(folder)})
        files = {name: (folder / name).stat().st_size for name in [*hashes(folder)]}
    address = None
    if request.repository is not None:
        stage(f"pushing to {request.repository}")
        address = push(request.output, request.repository, f"analora export --format {request.format}")
    return Exported(request.output, files, address)


def _refuse_beyond_aihwkit(request: ExportRequest, hardware: HardwareConfig) -> None:
    if not DEVICES[hardware.device].in_aihwkit:
        raise UsageError(
            f"--format aihwkit: aihwkit has no noise model that takes the constants of hardware.device "
            f"{hardware.device}; --format conductances writes targets, and with --chip and --at a chip of this device"
        )
    keys = [f"hardware.{key}" for key in hardware.beyond_aihwkit]
    if keys:
        plain = {"hardware.drift_compensation": "global", "hardware.input_rotation": "none"}
        instead = [f"{key}={plain.get(key, 0)}" for key in keys]
        raise UsageError(
            f"--format aihwkit: {request.checkpoint} uses {', '.join(keys)}, which aihwkit's torch tiles do not have; "
            f"use --format conductances, or train with {', '.join(instead)}"
        )
