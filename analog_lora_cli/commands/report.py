"""`analora report`."""

from __future__ import annotations

from analog_lora_cli.errors import UsageError
from analog_lora_cli.runtime import console
from analog_lora_cli.storage.files import write_text
from analog_lora_cli.workflows.report import STDOUT, ReportRequest, collect


def run(request: ReportRequest) -> None:
    """Collect what is stored, and write the page and the tables."""
    if request.markdown == STDOUT and request.latex == STDOUT:
        raise UsageError("--markdown - and --latex -: only one of them can go to stdout")
    request.check()
    console.stage("reading results ...")
    report = collect(request)

    from analog_lora_cli.report.html.page import render
    from analog_lora_cli.report.tables import latex, markdown

    forms = {"output": render, "markdown": markdown, "latex": latex}
    texts = {option: forms[option](report) for option in request.files}
    for option, path in request.files.items():
        if path == STDOUT:
            print(texts[option], end="")
        else:
            write_text(path, texts[option])
            console.note(f"written: {path}")
