"""The README names the licence of everything that pyproject.toml requires."""

from __future__ import annotations

import re
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

README = Path(__file__).parents[1] / "README.md"


def test_every_requirement_is_listed() -> None:
    table = README.read_text(encoding="utf-8").partition("## Licences")[2].partition("\n\nThe builds")[0]
    listed = set(re.findall(r"[a-z0-9-]+", table.lower()))
    required = {Requirement(text).name.lower() for text in requires("analog-lora-cli") or []}
    assert len(required) > 20
    assert required - listed == set()
