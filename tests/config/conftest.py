from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analog_lora_cli.config import presets


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes a preset of the given name and YAML into a preset folder of its own."""
    folder = tmp_path / "presets"
    folder.mkdir()
    monkeypatch.setattr(presets, "preset_folder", lambda: folder)

    def write(name: str, text: str) -> None:
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")

    return write


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a configuration file."""

    def write(content: str | bytes, name: str = "config.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
