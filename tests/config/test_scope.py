"""Every key says what it affects, and the questions about it get the answers that the commands rely on."""

from __future__ import annotations

import pytest

from analog_lora_cli.config import scope
from analog_lora_cli.config.effects import MEANINGS
from analog_lora_cli.config.schema import Config

HARDWARE = set(Config().hardware.model_dump())


@pytest.mark.parametrize(("key", "field"), list(scope.fields()))
def test_every_key_says_what_it_affects_and_what_it_means(key: str, field: object) -> None:
    statement = scope.statement(field)  # type: ignore[arg-type]
    assert statement is not None, f"{key}: annotate it with Affects(...)"
    assert statement.effects <= MEANINGS.keys()
    assert field.description, f"{key}: a docstring below the field"  # type: ignore[attr-defined]


def test_what_programs_a_chip() -> None:
    fixed = {key for key in HARDWARE if scope.affects(f"hardware.{key}", "mapping", "clipping", "programming")}
    assert fixed == {
        "layers", "digital_layers", "tile_rows", "tile_columns", "clip_sigma", "clip_scope", "device",
        "device_options", "g_max", "g_min", "converter", "converter_options", "reference_columns",
        "input_rotation",
    }  # fmt: skip
    assert all(scope.reason(f"hardware.{key}") for key in fixed)
    assert scope.sections("programming") == ["model", "method", "hardware"]


def test_what_a_measurement_depends_on() -> None:
    config = Config()
    assert HARDWARE - scope.project(config.hardware, *scope.MEASUREMENT).keys() == {
        "weight_noise", "weight_noise_type", "weight_noise_ramp", "kernels", "input_range_decay",
        "max_unsupported_share",
    }  # fmt: skip
    task = config.task.model_dump()
    assert task.keys() - scope.project(config.task, *scope.MEASUREMENT).keys() == {
        "train_file", "validation_file", "max_train_samples",
    }  # fmt: skip
    assert scope.project(config.train, *scope.MEASUREMENT) == {"per_device_eval_batch_size": 128}
    whole = scope.project(config, "clipping")
    assert whole["hardware"] == {"clip_sigma": 3.0, "clip_scope": "column"} and whole["task"] == {}


@pytest.mark.parametrize(
    ("key", "effects"),
    [
        ("hardware.device_options.t_0", {"programming", "read", "training"}),
        ("train.bf16", {"training"}),
        ("task.n_best", {"score"}),
        ("adapter.adalora_init_rank", {"architecture", "training"}),
        ("description", set()),
    ],
)
def test_keys_of_all_kinds(key: str, effects: set[str]) -> None:
    assert scope.is_key(key) and scope.effects(key) == effects


@pytest.mark.parametrize("key", ["hardware", "task.zzz", "zzz", "train.zzz", "train.output_dir", ""])
def test_what_is_no_key(key: str) -> None:
    assert not scope.is_key(key)
    with pytest.raises(KeyError):
        scope.effects(key)


def test_what_may_change_for_a_stored_adapter() -> None:
    settled = {"method", "model.dtype", "task.name", "task.max_length", "adapter.rank", "train.seed"}
    free = {"model.name", "hardware.adc_bits", "hardware.kernels", "task.n_best", "task.validation_file", "drift.chips"}
    assert all(map(scope.settled, settled)) and not any(map(scope.settled, free))
    assert all(map(scope.shown_over_drift, free))
    nothing = {"latency.clusters", "hardware.weight_noise", "train.learning_rate", "description"}
    assert not any(map(scope.shown_over_drift, nothing)) and not any(map(scope.settled, nothing))


@pytest.mark.parametrize(
    ("key", "missing"),
    [
        ("hardware.tile_rows", ""),
        ("adapter.targets", ""),
        ("latency.clusters", ""),
        ("hardware.converter", ""),
        ("hardware.g_max", "--statistics or --errors"),
        ("hardware.clip_sigma", "--statistics or --errors"),
        ("hardware.adc_bits", ""),
        ("hardware.adc_bound", "--errors"),
        ("task.validation_file", "--errors"),
        ("train.max_steps", None),
        ("task.n_best", None),
    ],
)
def test_what_inspect_tiles_needs_to_show_a_key(key: str, missing: str | None) -> None:
    assert scope.inspection_shows(key, statistics=False, errors=False) == missing
    if missing is not None:
        assert scope.inspection_shows(key, statistics=True, errors=True) == ""
