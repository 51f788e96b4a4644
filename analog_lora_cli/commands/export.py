"""`analora export`."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from analog_lora_cli.config.times import time_option
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime.libraries import imports_done, prepare_libraries


def run(
    checkpoint: Path,
    kind: str,
    output: Path,
    adapter: str,
    chip: int | None,
    at: str | None,
    repository: str | None,
    overwrite: bool,
) -> None:
    """Write the export, push it if asked to, and list its files."""
    prepare_libraries()

    from analog_lora_cli.export.export import ExportRequest, export

    imports_done()
    request = ExportRequest(checkpoint, kind, output, adapter, chip, time_option("--at", at), overwrite, repository)
    done = export(request, console.note)
    made = console.table(f"{output}: {kind}", "file", "size")
    for name, size in done.files.items():
        made.add_row(escape(name), _size(size))
    console.results().print(made)
    if done.address is not None:
        console.note(f"pushed to {done.address}")
    console.note(f"{output}/README.md says how to load it")


def _size(count: int) -> str:
    """Bytes for a person, in powers of 1024."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
