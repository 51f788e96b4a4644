"""Defaults < preset < --config < --set, and what `extends` passes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analog_lora_cli.config.load import differences, load_config
from analog_lora_cli.config.presets import preset_names
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import EXIT_USAGE, ConfigError

Preset = Callable[[str, str], None]
File = Callable[..., Path]


def test_each_layer_goes_over_the_one_below(preset: Preset, file: File) -> None:
    preset("base", "adapter: {rank: 16, alpha: 64, dropout: 0.3}\nhardware: {adc_bits: 6}\n")
    config_file = file("adapter: {alpha: 8, dropout: 0.2}\n")
    config = load_config("base", config_file, ["adapter.dropout=0.1", "adapter.dropout=0.05"])
    assert (config.adapter.rank, config.adapter.alpha, config.adapter.dropout) == (16, 8.0, 0.05)
    assert config.hardware.adc_bits == 6
    assert config.hardware.dac_bits == Config().hardware.dac_bits
    assert load_config() == Config()


def test_zero_false_and_null_override_what_lies_below(preset: Preset, file: File) -> None:
    preset(
        "base",
        "model: {name: a/b, revision: v1}\ntask: {max_train_samples: 5}\nadapter: {train_head: true, dropout: 0.3}\n"
        "hardware: {adc_bits: 6, tile_rows: 64, layers: [query]}\nreference: {source: paper}\n",
    )
    given = [
        "model.revision=null",
        "task.max_train_samples=null",
        "adapter.train_head=false",
        "adapter.dropout=0",
        "hardware.adc_bits=0",
        "hardware.tile_rows=0",
        "hardware.layers=null",
        "reference=null",
    ]
    by_option = load_config("base", overrides=given)
    by_file = load_config(
        "base",
        file(
            "model: {revision: null}\ntask: {max_train_samples: null}\nadapter: {train_head: false, dropout: 0}\n"
            "hardware: {adc_bits: 0, tile_rows: 0, layers: null}\nreference: null\n"
        ),
    )
    for config in (by_option, by_file):
        nothing = [config.model.revision, config.task.max_train_samples, config.hardware.layers, config.reference]
        assert nothing == [None] * 4
        assert config.adapter.train_head is False and config.adapter.dropout == 0.0
        assert config.hardware.adc_bits == config.hardware.tile_rows == 0


def test_a_list_replaces_a_list_and_a_mapping_is_merged(preset: Preset) -> None:
    preset("base", "drift: {times: [0s, 1d, 1y]}\nhardware: {device_options: {a: 1, b: 2}}\n")
    config = load_config("base", overrides=["drift.times=[1h]", "hardware.device_options.b=3"])
    assert config.drift.times == ["1h"] and config.hardware.device_options == {"a": 1, "b": 3}


def test_extends_lays_several_presets_over_each_other(preset: Preset, file: File) -> None:
    preset("task", "adapter: {rank: 3}\nhardware: {adc_bits: 4, dac_bits: 4}\n")
    preset("tiles", "hardware: {adc_bits: 6}\n")
    config = load_config(file=file("extends: [task, tiles]\nhardware: {tile_rows: 64}\n"))
    assert config.adapter.rank == 3
    assert (config.hardware.adc_bits, config.hardware.dac_bits, config.hardware.tile_rows) == (6, 4, 64)
    assert load_config(file=file("extends: [tiles, task]\n")).hardware.adc_bits == 4


def test_the_hardware_of_analog_foundation_models_goes_with_any_preset(file: File) -> None:
    config = load_config(file=file("extends: [smollm2-instruct, analog-foundation-models]\n"))
    assert config.task.name == "instruction" and config.hardware.weight_noise_ramp == 0.6
    assert (config.hardware.input_rotation, config.hardware.bound_management) == ("none", "saturate")
    assert (config.hardware.input_range, config.hardware.adc_bound, config.hardware.clip_sigma) == ("learned", 14, 2.5)
    assert config.hardware.weight_noise == 0.03


def test_extends_goes_through_several_parents(preset: Preset, file: File) -> None:
    preset("_root", "adapter: {rank: 2, alpha: 2, dropout: 0.2}\n")
    preset("middle", "extends: _root\nadapter: {alpha: 4}\n")
    preset("leaf", "extends: middle\nadapter: {dropout: 0.4}\n")
    config = load_config("leaf")
    assert (config.adapter.rank, config.adapter.alpha, config.adapter.dropout) == (2, 4.0, 0.4)
    assert load_config(file=file("extends: leaf\n")) == config
    assert preset_names() == ["leaf", "middle"]


def test_the_reference_is_never_inherited(preset: Preset, file: File) -> None:
    preset("parent", "reference: {source: paper, digital: {f1: 90.0}}\n")
    preset("child", "extends: parent\nhardware: {adc_bits: 6}\n")
    preset("own", "extends: parent\nreference: {source: mine}\n")
    assert load_config("parent").reference is not None
    assert load_config("child").reference is None
    assert load_config(file=file("extends: parent\nhardware: {adc_bits: 6}\n")).reference is None
    reference = load_config("own").reference
    assert reference is not None and reference.source == "mine" and reference.digital == {}


@pytest.mark.parametrize(
    ("presets", "start", "message"),
    [
        ({"a": "extends: b", "b": "extends: c", "c": "extends: a"}, "a", "preset a: extends itself through a > b > c"),
        ({"a": "extends: a"}, "a", "preset a: extends itself through a"),
        ({"a": "extends: bas", "base": ""}, "a", "preset a: extends: there is no preset 'bas': did you mean base?"),
        ({"a": "extends: [3]"}, "a", r"preset a: extends: expected the name of a preset, or a list of names, got 3"),
        ({"quickstart": ""}, "quikstart", "there is no preset 'quikstart': did you mean quickstart?"),
        ({}, "zzz", "there is no preset 'zzz': `analora presets` lists all"),
    ],
)
def test_presets_that_are_not_to_be_had(preset: Preset, presets: dict[str, str], start: str, message: str) -> None:
    for name, text in presets.items():
        preset(name, text)
    with pytest.raises(ConfigError, match=message):
        load_config(start)


def test_a_file_that_extends_and_a_preset_exclude_each_other(preset: Preset, file: File) -> None:
    preset("a", "")
    path = file("extends: a\n")
    with pytest.raises(ConfigError, match="extends 'a', and --preset a was given: use one of them"):
        load_config("a", path)
    with pytest.raises(ConfigError, match=rf"{path}: extends: there is no preset 'q'"):
        load_config(file=file("extends: q\n"))
    with pytest.raises(ConfigError, match="on the command line use --preset"):
        load_config(overrides=["extends=a"])


def test_a_checkpoint_is_a_base_and_a_file(preset: Preset) -> None:
    base = load_config(overrides=["adapter.rank=3"]).model_dump(mode="json")
    assert load_config(base=base, overrides=["adapter.alpha=5"]).adapter.rank == 3


def test_differences_name_both_values() -> None:
    lines = differences(load_config(), load_config(overrides=["adapter.rank=3", "train.bf16=true"]))
    assert lines == ["adapter.rank: 8 there, 3 here", "train.bf16: None there, True here"]


def test_the_message_names_the_layer_that_the_value_came_from(preset: Preset, file: File) -> None:
    preset("base", "hardware: {adc_bits: 6}\nadapter: {rank: 0}\n")
    path = file("hardware: {dac_bits: 99}\n")
    with pytest.raises(ConfigError) as caught:
        load_config("base", path, ["hardware.adc_bits=20", "drift=3"])
    assert caught.value.exit_code == EXIT_USAGE
    report = "\n".join(caught.value.problems)
    for line in (
        "adapter.rank: input should be greater than or equal to 1, got 0 (from preset base)",
        f"hardware.dac_bits: input should be less than or equal to 16, got 99 (from {path})",
        "hardware.adc_bits: input should be less than or equal to 16, got 20 (from --set hardware.adc_bits=20)",
        "drift: is a section: expected keys below it, such as drift.times, got 3 (from --set drift=3)",
    ):
        assert line in report
    assert len(caught.value.problems) == 4 and str(caught.value).startswith("the configuration has problems:\n  - ")
    # A rule over several keys names the last layer that set one of them, not the first.
    with pytest.raises(ConfigError, match=r"adc_bits needs adc_bound > 0.*\(from --set hardware.adc_bound=0\)"):
        load_config("base", overrides=["adapter.rank=1", "hardware.adc_bound=0"])


@pytest.mark.parametrize(
    ("override", "kept"),
    [
        ("model.name=prajjwal1/bert-tiny", False),
        ("task.validation_file=dev.json", False),
        ("task.max_eval_samples=100", False),
        ("hardware.adc_bits=6", False),
        ("train.seed=3", True),
        ("hardware.kernels=torch", True),
        ("drift.chips=2", True),
    ],
)
def test_published_numbers_stand_only_beside_their_model_data_and_hardware(override: str, kept: bool) -> None:
    assert load_config("squad-lora").reference is not None
    assert (load_config("squad-lora", overrides=override).reference is not None) is kept
    checkpoint = load_config("squad-lora").model_dump(mode="json")
    assert (load_config(base=checkpoint, overrides=override).reference is not None) is kept
    own = ["reference={source: mine, digital: {f1: 90.0}}", override]
    assert load_config("squad-lora", overrides=own).reference is not None
