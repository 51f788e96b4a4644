"""SIGTERM, as a scheduler sends it, and Ctrl-C: an end within seconds, a true hint, and the same result afterwards."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from analog_lora_cli.runtime.failure import hint
from tests.faults.process import Command, analora
from tests.faults.work import Undisturbed, Work, left_over, log_texts, result, see_that_nothing_is_half


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", ["evaluate-drift", pytest.param("adapt", marks=pytest.mark.slow), "export --overwrite"]
)
def test_a_signal_ends_a_command_within_seconds(
    name: str, number: int, works: dict[str, Work], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    work = works[name]
    what = {"evaluate-drift": "measured: chip 0", "adapt": "step 4"}.get(name, "")

    def at_work() -> bool:
        if name.startswith("export"):
            return any((place / "x").exists() for place in left_over(folder))
        return any(what in text for text in log_texts(folder))

    code = 0
    for attempt in range(8):
        folder = work.prepare(tmp_path / f"w{attempt}")
        before = result(folder)
        command = Command(*work.command(folder), said=tmp_path / "said")
        command.wait_until(at_work)
        sent = time.monotonic()
        command.send(number)
        code = command.wait()
        if code != 0:  # Else it was at its end before the signal came.
            break
    assert code == 130, command.text()
    assert time.monotonic() - sent < 5
    assert command.text().startswith("error: interrupted; ")
    assert command.text().endswith(hint(works[name].command(folder)))
    see_that_nothing_is_half(folder)
    assert left_over(folder) == []
    if name.startswith("export"):
        assert result(folder) == before
    if name == "adapt":
        steps = [int(path.name.rpartition("-")[2]) for path in folder.glob("c/trainer/adapters/six/checkpoint-*")]
        assert max(steps) % 3, "a state of the present step, not only one of every third"
    code, said = analora(*work.command(folder), *work.again, said=tmp_path / "again")
    assert code == 0, said
    assert result(folder) == result(undisturbed(name)[0])
