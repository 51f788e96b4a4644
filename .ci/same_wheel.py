"""Fails unless two wheels hold the same files, and with them what only a package's data bring.

Usage: same_wheel.py FROM_ARCHIVE FROM_TREE
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path


def contents(wheel: str) -> dict[str, int]:
    """Check sum of each file by name."""
    return {entry.filename: entry.CRC for entry in zipfile.ZipFile(wheel).infolist()}


first, second = map(contents, sys.argv[1:])
different = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
if different:
    sys.exit(f"not the same in both wheels: {', '.join(different)}")
presets = {f"analog_lora_cli/presets/{path.name}" for path in Path("presets").glob("*.yaml")}
source = {
    str(path) for path in Path("analog_lora_cli").rglob("*") if path.is_file() and "__pycache__" not in path.parts
}
missing = sorted((presets | source) - first.keys())
if missing:
    sys.exit(f"not in the wheel: {', '.join(missing)}")
print(f"{len(first)} files, the same from the archive and from the tree")
