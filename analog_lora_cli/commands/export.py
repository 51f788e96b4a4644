"""`analora export`."""

from __future__ import annotations

from rich.markup import escape
from rich.text import Text

from analog_lora_cli.export.request import ExportRequest
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime.libraries import imports_done, prepare_libraries


def run(request: ExportRequest) -> None:
    """Write the export, push it if asked to, and list its files."""
    request.check()
    broken = prepare_libraries()

    from analog_lora_cli.export.export import export

    imports_done()
    exported = export(request, console.note)
    table = console.table(escape(f"{request.output}: {request.format}"), "file", "size")
    for name, size in exported.files.items():
        table.add_row(escape(name), _size(size))
    console.results().print(table)
    if exported.address is not None:
        console.note(f"pushed to {exported.address}")
    console.note(f"{request.output}/README.md says how to load it")
    if broken is not None:
        console.note(
            Text(
                f"torchvision is broken here ({broken}): in a plain Python script transformers, and so the export, "
                "will not load; install the torchvision that belongs to this torch, or pip uninstall torchvision"
            )
        )


def _size(count: int) -> str:
    """Bytes for a person, in powers of 1024."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
