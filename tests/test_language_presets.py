"""Presets of language models: each builds with a tiny model, and carries the paper's settings and numbers."""

from __future__ import annotations

from typing import Any

import pytest

from analog_lora_cli.config.load import load_config
from analog_lora_cli.config.presets import preset_names
from analog_lora_cli.config.schema import Config
from analog_lora_cli.workflows.train import prepare
from tests.test_presets import PAPER_TIMES

LANGUAGE = [name for name in preset_names() if load_config(preset=name).task.pretrained_head]
PAPER = ["llama3.1-8b-alpaca-lora", "llama3.1-8b-gsm8k-grpo"]
FILES = {"instruction": "instructions/{}.json", "reasoning": "arithmetic/{}.jsonl"}
POSITIONS = 512


def tiny_variant(name: str) -> Config:
    """The same configuration on the tiny Llama and on local data."""
    config = load_config(preset=name)
    file = f"package:analog_lora_cli/data/{FILES[config.task.name]}"
    overrides = [
        "model.name=package:analog_lora_cli/data/tiny-llama",
        f"task.train_file={file.format('train')}",
        f"task.validation_file={file.format('validation')}",
        "task.max_train_samples=8",
        "task.max_eval_samples=4",
        f"task.max_length={POSITIONS}",
        "task.too_long=drop",
        *(["task.max_new_tokens=16"] if config.task.name == "reasoning" else []),
        *(["objective.max_completion_length=16"] if config.objective.kind == "grpo" else []),
    ]
    return load_config(preset=name, overrides=overrides)


@pytest.mark.parametrize("name", LANGUAGE)
def test_preset_builds(name: str) -> None:
    config = tiny_variant(name)
    assert config.description
    setup = prepare(config)
    assert len(setup.features) == 8
    assert setup.model.loaded.trainable_parameters > 0
    assert (setup.model.analog is not None) == (config.method != "digital")
    assert config.hardware.clip_sigma == 0, "a decoder's large weights carry it"


def test_names() -> None:
    own = ["smollm2-instruct", "smollm2-arithmetic", "smollm2-arithmetic-grpo", "smoke-reasoning-grpo", "own-decoder"]
    assert set(PAPER + own) <= set(LANGUAGE)


@pytest.mark.parametrize("name", PAPER)
def test_hardware_is_the_papers(name: str) -> None:
    config = load_config(preset=name)
    hardware = config.hardware
    assert (hardware.dac_bits, hardware.adc_bits, hardware.output_noise, hardware.device) == (0, 0, 0.0, "pcm")
    assert (config.adapter.rank, config.adapter.targets, config.train.seed) == (16, None, 42)
    assert (config.drift.times, config.drift.chips) == (PAPER_TIMES, 10)


def test_reinforcement_learning_is_the_papers() -> None:
    config: Any = load_config(preset="llama3.1-8b-gsm8k-grpo")
    train, objective = config.train, config.objective
    assert (train.max_steps, train.learning_rate, train.weight_decay, train.warmup_steps) == (500, 5e-6, 0.1, 50.0)
    assert (objective.num_generations, objective.max_completion_length, objective.beta) == (16, 1024, 0.0)
    assert config.hardware.weight_noise == 0.03
    assert len(objective.rewards) == 4
    assert config.reference.drift["exact_match"] == {"0s": 77.71} and config.reference.digital == {"exact_match": 85.06}


def test_a_preset_for_adapt_has_the_adapter_of_the_one_before() -> None:
    """So that `--from default` can go on with it."""
    for before, after in (
        ("smollm2-instruct", "smollm2-arithmetic-grpo"),
        ("smollm2-arithmetic", "smollm2-arithmetic-grpo"),
        ("llama3.1-8b-alpaca-lora", "llama3.1-8b-gsm8k-grpo"),
    ):
        assert load_config(preset=before).adapter == load_config(preset=after).adapter
