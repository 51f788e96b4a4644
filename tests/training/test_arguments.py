"""The `train` section becomes TrainingArguments, a user's own values first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import ConfigError
from analog_lora_cli.training.arguments import training_arguments


@pytest.mark.parametrize(("section", "expected"), [({}, True), ({"logging_first_step": False}, False)])
def test_the_first_step_is_logged_unless_the_user_says_otherwise(
    section: dict[str, bool], expected: bool, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    assert training_arguments(make_config(train=section), tmp_path).logging_first_step is expected


def test_reentrant_checkpointing_needs_no_tiles(make_config: Callable[..., Config], tmp_path: Path) -> None:
    train = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
    with pytest.raises(ConfigError, match=r"gradient_checkpointing_kwargs: use_reentrant true .*method digital"):
        training_arguments(make_config(train=train), tmp_path)
    assert training_arguments(make_config(method="digital", train=train), tmp_path).gradient_checkpointing_kwargs


def test_devices_of_any_age_need_data_of_every_age(make_config: Callable[..., Config], tmp_path: Path) -> None:
    few = {"device": "reram-wan2022"}
    training_arguments(make_config(hardware={**few, "weight_noise_type": "gaussian"}), tmp_path)
    with pytest.raises(ConfigError, match=r"weight_noise_type: device .*reram-wan2022 is known at 1 s, 86400 s"):
        training_arguments(make_config(hardware={**few, "weight_noise_type": "device"}), tmp_path)
