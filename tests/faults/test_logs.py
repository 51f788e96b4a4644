"""log.txt and --debug: what a command did, when, with which versions, and why it failed."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from analog_lora_cli import cli
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime import log as run_log
from tests.faults.work import Work

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \[\d+\] [a-z]+: .*|    .*")
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def fresh_console() -> None:
    console.messages.cache_clear()
    console.results.cache_clear()


def evaluate(works: dict[str, Work], tmp_path: Path) -> tuple[list[str], Path]:
    """The command on a copy of the checkpoint, and the log that it writes."""
    work = works["evaluate-drift"]
    return work.command(work.prepare(tmp_path / "w")), tmp_path / "w/c/drift/default/log.txt"


def test_a_log_tells_what_was_done(works: dict[str, Work], tmp_path: Path) -> None:
    command, log = evaluate(works, tmp_path)
    assert cli.main(command) == 0
    first = log.read_text()
    assert all(LINE.fullmatch(line) for line in first.splitlines()), first
    for wanted in ("begin: command: analora evaluate-drift ", "versions: analora ", "device: ", "stage: evaluating",
                   "measured: chip 2 at ", "end: exit code 0"):  # fmt: skip
        assert wanted in first, wanted
    assert "\x1b" not in first, "the colours of a library's messages are left out"
    assert "LOAD REPORT" in first, "what libraries warn of is kept here, and not shown"
    assert cli.main(command) == 0
    assert log.read_text().startswith(first) and log.read_text().count("begin: ") == 2


def test_an_unexpected_error_leaves_its_traceback_in_the_log(
    works: dict[str, Work], tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analog_lora_cli.evaluation.evaluator import Evaluator

    def broken(self: Evaluator, *arguments: object) -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(Evaluator, "run", broken)
    command, log = evaluate(works, tmp_path)
    assert cli.main(command) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said and f"{log} holds the traceback" in "".join(said.split("\n"))
    assert "error: ZeroDivisionError: odd" in log.read_text() and "in broken" in log.read_text()
    assert log.read_text().rstrip().endswith("end: exit code 1")
    assert cli.main([*command, "--debug"]) == 1
    said = capsys.readouterr().err
    for wanted in ("Traceback", "in broken", "versions: analora ", "platform: ", "command: analora evaluate-drift"):
        assert wanted in said, wanted


def test_what_is_refused_leaves_no_log(works: dict[str, Work], tmp_path: Path) -> None:
    command, log = evaluate(works, tmp_path)
    assert cli.main([*command, "--adapter", "none"]) == 2
    assert not log.parent.exists()


def test_only_the_main_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    run_log.start(["train"])
    run_log.keep_in(tmp_path)
    run_log.record("stage", "reading")
    run_log.end(0)
    assert list(tmp_path.iterdir()) == []


def test_warnings_that_no_filter_silences_are_shown_in_one_line(capsys: Captured) -> None:
    from analog_lora_cli.runtime.libraries import prepare_libraries

    run_log.start(["train"])
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # As in a command; in tests they are errors.
        prepare_libraries()
        warnings.warn("something\nmatters", UserWarning, stacklevel=1)
        warnings.warn("nothing to the user", FutureWarning, stacklevel=1)
    run_log.end(0)
    assert capsys.readouterr().err == "warning: test_logs: something matters\n"
