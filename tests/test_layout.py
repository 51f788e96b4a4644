"""Folders of the package stay small enough to be looked through."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import analog_lora_cli

PACKAGE = Path(str(analog_lora_cli.__file__)).parent


def test_no_folder_holds_more_than_a_seventh_of_the_code() -> None:
    lines: Counter[str] = Counter()
    for path in PACKAGE.rglob("*.py"):
        folder = path.parent.relative_to(PACKAGE).as_posix()
        if folder != "data":  # It generates what is shipped, and nothing imports it.
            lines[folder] += len(path.read_text(encoding="utf-8").splitlines())
    folder, most = lines.most_common(1)[0]
    assert most <= lines.total() / 7, f"{folder} holds {most} of {lines.total()} lines: split it"
