"""The configuration of a further adapter: which layer has the last word."""

from __future__ import annotations

import pytest

from analog_lora_cli.config.adapt import adaptation_config
from analog_lora_cli.config.load import load_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import ConfigError


@pytest.fixture
def base() -> Config:
    return load_config(
        "squad-lora",
        overrides=[
            "task.train_file=squad.json",
            "hardware.adc_bits=7",
            "hardware.weight_noise=0.03",
            "train.max_steps=360",
            "drift.chips=4",
        ],
    )


def test_the_same_task_keeps_all_but_what_is_said(base: Config) -> None:
    config = adaptation_config(base, None, None, ["hardware.dac_bits=6"])
    assert config.hardware.dac_bits == 6
    assert config.reference is None, "the published numbers were for other settings"
    kept = config.model_dump(exclude={"hardware", "reference", "description"})
    assert kept == base.model_dump(exclude={"hardware", "reference", "description"})


def test_a_preset_for_the_same_task_adds_only_what_it_says_itself(base: Config) -> None:
    config = adaptation_config(base, "adapt-6bit", None, [])
    assert (config.hardware.adc_bits, config.hardware.dac_bits) == (6, 6)
    assert (config.train.max_steps, config.drift.chips) == (360, 4), "not those of the preset's parent"
    assert config.task.train_file == "squad.json"
    assert config.reference is None, "the published numbers were for other hardware"
    reference = adaptation_config(load_config("squad-lora"), "adapt-6bit-paper", None, []).reference
    assert reference is not None and reference.before == {"f1": {"10y": 60.81}}


def test_the_papers_way_is_that_of_the_preset_whatever_the_checkpoint_had() -> None:
    least_squares = adaptation_config(load_config("squad-lora"), "adapt-6bit", None, [])
    assert least_squares.hardware.drift_compensation == "least-squares" and least_squares.reference is None
    paper = adaptation_config(least_squares, "adapt-6bit-paper", None, [])
    assert paper.hardware.drift_compensation == "global" and paper.reference is not None


def test_a_preset_for_a_new_task_brings_its_recipe_but_not_its_hardware(base: Config) -> None:
    config = adaptation_config(base, "glue-sst2-lora", None, [])
    assert config.task.name == "sst2"
    assert config.task.train_file is None, "the other task's data"
    assert (config.train.max_steps, config.drift.chips) == (-1, 10)
    assert (config.hardware.adc_bits, config.hardware.weight_noise) == (7, 0.03)
    assert config.reference is None, "the published numbers were for other hardware"
    assert adaptation_config(load_config("squad-lora"), "glue-sst2-lora", None, []).reference is not None


def test_a_new_task_without_a_preset_keeps_the_recipe(base: Config) -> None:
    sets = ["task.name=sst2", "task.train_file=a.csv", "adapter.targets=null"]
    config = adaptation_config(base, None, None, sets)
    assert (config.task.train_file, config.task.max_length) == ("a.csv", 320)
    assert (config.train.max_steps, config.adapter.rank) == (360, 8)


def test_on_a_chip_there_is_no_statistical_weight_noise_unless_asked_for(base: Config) -> None:
    assert adaptation_config(base, None, None, [], in_the_loop=True).hardware.weight_noise == 0
    some = adaptation_config(base, None, None, ["hardware.weight_noise=0.01"], in_the_loop=True)
    assert some.hardware.weight_noise == 0.01
    with pytest.raises(ConfigError, match="weight_noise_type"):
        adaptation_config(base, None, None, ["hardware.weight_noise_type=device"], in_the_loop=True)


def test_every_conflict_is_named_at_once(base: Config) -> None:
    with pytest.raises(ConfigError) as error:
        adaptation_config(
            base, None, None, ["hardware.tile_rows=1", "hardware.device_options={t_0: 1.0}", "method=full"]
        )
    assert len(error.value.problems) == 3
