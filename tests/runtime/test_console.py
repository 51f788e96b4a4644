"""Messages are shown as they are."""

from __future__ import annotations

import pytest

from analog_lora_cli.runtime import console


def test_names_in_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console.messages.cache_clear()
    console.note("written: out[v1].json")
    console.stage("evaluating [bold]run")
    assert capsys.readouterr().err == "written: out[v1].json\nevaluating [bold]run\n"
