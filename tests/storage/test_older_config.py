"""A checkpoint's configuration that lacks a section: one that settles what it is, and one that only counts its cost."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from analog_lora_cli.config.load import dump_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.energy import EnergyConfig
from analog_lora_cli.errors import CheckpointError
from analog_lora_cli.storage.checkpoint import read_config


def stored_without(section: str, folder: Path) -> Path:
    content = yaml.safe_load(dump_config(Config()))
    del content[section]
    (folder / "analora.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_a_model_of_costs_may_be_newer_than_the_checkpoint(tmp_path: Path) -> None:
    assert read_config(stored_without("energy", tmp_path)).energy == EnergyConfig()


def test_a_section_that_settles_the_run_may_not_be_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"analora\.yaml: damaged: no hardware"):
        read_config(stored_without("hardware", tmp_path))
