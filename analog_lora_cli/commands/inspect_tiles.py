"""`analora inspect-tiles`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from analog_lora_cli.errors import UsageError
from analog_lora_cli.report.progress.meter import Meter
from analog_lora_cli.runtime import console
from analog_lora_cli.workflows.inspect import InspectRequest, carry_out

STDOUT = Path("-")


def run(request: InspectRequest, *, show_all: bool) -> None:
    """Look at a model, write the files, and print the tables, or with `--json -` the JSON."""
    for name in ("csv", "plot"):
        if request.files.get(name) == STDOUT:
            raise UsageError(f"--{name} -: only --json can go to stdout; name a file")
    as_json = request.json == STDOUT
    if as_json:
        request = replace(request, json=None)
    meter = Meter("layers")

    def progress(count: int, total: int) -> None:
        if count == 1:
            meter.begin(0, total)
        meter.update(count, total)

    request.check()
    if request.statistics or request.errors:
        console.note("reading data and model ..." if request.errors else "reading the model ...")
    try:
        inspection = carry_out(request, progress)
    finally:
        meter.end()
    for path in request.files.values():
        console.note(f"written: {path}")
    if as_json:
        from analog_lora_cli.inspection.files import inspection_json

        print(json.dumps(inspection_json(inspection), indent=2, ensure_ascii=False, allow_nan=False))
        return
    from analog_lora_cli.report.tiles.inspection import print_inspection

    print_inspection(inspection, show_all)
