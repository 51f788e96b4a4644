"""A small checkpoint, and the commands that work on it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest

from analog_lora_cli.config.load import dump_config
from analog_lora_cli.config.schema import Config
from tests.faults.process import analora
from tests.faults.work import Undisturbed, Work


@pytest.fixture(scope="session")
def config_file(tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., Config]) -> Path:
    """A training of 15 steps, saved every third, measured on two chips."""
    file = tmp_path_factory.mktemp("config") / "run.yaml"
    train = {"max_steps": 15, "save_steps": 3}
    file.write_text(dump_config(make_config(train=train, drift={"chips": 2})))
    return file


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, config_file: Path) -> Path:
    """A folder with a checkpoint `c` in it, without drift results."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = ["train", "--config", config_file, "--output", folder / "c", "--no-drift", "--quiet"]
    code, said = analora(*arguments, said=folder / "said")
    assert code == 0, said
    shutil.rmtree(folder / "c" / "trainer")
    shutil.rmtree(folder / "c" / "drift")
    (folder / "c" / "log.txt").unlink()
    (folder / "said").unlink()
    return folder


@pytest.fixture(scope="session")
def works(config_file: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Work]:
    """The commands by name; `export --overwrite` replaces an export of another format."""
    exported = tmp_path_factory.mktemp("exported")
    shutil.copytree(trained, exported, dirs_exist_ok=True)
    code, said = analora("export", exported / "c", "--format", "merged", "--output", exported / "x",
                         said=exported / "said")  # fmt: skip
    assert code == 0, said
    (exported / "said").unlink()
    adapted = ("--adapter", "six", "--from", "default", "--set", "hardware.adc_bits=6", "--set", "drift.chips=2")
    chip = ("--format", "conductances", "--chip", "3", "--at", "1y", "--output", "{}/x", "--quiet")
    listed = [
        Work("train", ("train", "--config", str(config_file), "--output", "{}/c", "--quiet"), None, ("--resume",)),
        Work("evaluate-drift", ("evaluate-drift", "{}/c", "--chips", "3", "--quiet"), trained),
        Work("adapt", ("adapt", "{}/c", *adapted, "--quiet"), trained, ("--resume",)),
        Work("export", ("export", "{}/c", *chip), trained),
        Work("export --overwrite", ("export", "{}/c", *chip, "--overwrite"), exported),
    ]
    return {work.name: work for work in listed}


@pytest.fixture(scope="session")
def undisturbed(works: dict[str, Work], tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Runs a command to its end, once."""

    @lru_cache
    def run(name: str) -> tuple[Path, float]:
        folder = works[name].prepare(tmp_path_factory.mktemp("undisturbed") / "w")
        began = time.monotonic()
        code, said = analora(*works[name].command(folder), said=folder.parent / "said")
        assert code == 0, said
        return folder, time.monotonic() - began

    return run
