"""Names and files of the presets."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from analog_lora_cli.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent.parent


def preset_folder() -> Path:
    """The folder with the presets: inside an installed package, or beside it in a working copy."""
    packaged = _PACKAGE / "presets"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "presets"


def preset_names() -> list[str]:
    """Names of all presets that can be run; parents whose name starts with `_` are left out."""
    return sorted(path.stem for path in preset_folder().glob("*.yaml") if not path.stem.startswith("_"))


def preset_path(name: str) -> Path:
    """The file of a preset.

    Raises:
        ConfigError: there is no preset of this name; the message suggests near ones.
    """
    paths = {path.stem: path for path in preset_folder().glob("*.yaml")}
    if name in paths:
        return paths[name]
    near = get_close_matches(name, preset_names(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`analora presets` lists all"
    raise ConfigError([f"there is no preset {name!r}: {hint}"])
