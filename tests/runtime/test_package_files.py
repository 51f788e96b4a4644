from __future__ import annotations

import sys
from pathlib import Path

import pytest

import analog_lora_cli
from analog_lora_cli.errors import UsageError
from analog_lora_cli.runtime.package_files import is_package_path, resolve_package_path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "toy_package_x"
    (folder / "model").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "model" / "config.json").write_text("{}")
    (tmp_path / "toy_module_x.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_finds_folders_and_files_without_importing(package: Path) -> None:
    assert resolve_package_path("package:toy_package_x/model") == package / "model"
    assert resolve_package_path("package:toy_package_x/model/config.json") == package / "model" / "config.json"
    assert resolve_package_path("package:toy_package_x") == package
    assert "toy_package_x" not in sys.modules


def test_finds_this_projects_own_files() -> None:
    path = resolve_package_path("package:analog_lora_cli/errors.py")
    assert path == Path(str(analog_lora_cli.__file__)).parent / "errors.py"


def test_knows_its_own_names() -> None:
    assert is_package_path("package:a/b")
    assert not is_package_path("packages/a")


@pytest.mark.parametrize(
    "name",
    [
        "toy/model",
        "package:",
        "package:/etc/passwd",
        "package:a.b/c",
        "package:a/../b",
        "package:a//etc",
        "package:a-b/c",
    ],
)
def test_refuses_other_forms(name: str) -> None:
    with pytest.raises(UsageError, match="package:PACKAGE/PATH"):
        resolve_package_path(name)


def test_says_what_to_install() -> None:
    with pytest.raises(UsageError, match="pip install not-there-x"):
        resolve_package_path("package:not_there_x/model")


def test_a_module_without_a_spec_is_not_installed() -> None:
    with pytest.raises(UsageError, match=r"__main__ is not installed|single module"):
        resolve_package_path("package:__main__/model")


def test_says_what_is_there_instead(package: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no modle; in it is model \(is model meant\?\)"):
        resolve_package_path("package:toy_package_x/modle")
    with pytest.raises(UsageError, match=r"there is config\.json \(is config\.json meant\?\)"):
        resolve_package_path("package:toy_package_x/model/confg.json")
    with pytest.raises(UsageError, match="in it is model"):
        resolve_package_path("package:toy_package_x/other/deep/file")


def test_a_module_holds_no_files(package: Path) -> None:
    with pytest.raises(UsageError, match="single module"):
        resolve_package_path("package:toy_module_x/file")
