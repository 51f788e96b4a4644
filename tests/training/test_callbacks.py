"""What the callbacks do between the steps, and that they leave the model as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from analog_lora_cli.config.schema import Config
from analog_lora_cli.hardware.tile.effective_weights import EffectiveWeights
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise
from analog_lora_cli.models.build import TrainingModel, build, load_base
from analog_lora_cli.models.tiling import AnalogModel
from analog_lora_cli.training.additions import additions
from analog_lora_cli.training.arguments import training_arguments
from analog_lora_cli.training.callbacks.adalora import AdaLoraBudget
from analog_lora_cli.training.callbacks.chips import ChipEachStep, DeviceMoments
from analog_lora_cli.training.callbacks.noise import WeightNoiseSchedule
from analog_lora_cli.training.callbacks.progress import TrainingObserver
from analog_lora_cli.training.train import train
from analog_lora_cli.workflows.train import prepare
from tests.training.conftest import Interrupted

MakeConfig = Callable[..., Config]


def built_on_tiles(config: Config) -> tuple[TrainingModel, AnalogModel]:
    model = build(load_base(config))
    assert model.analog is not None
    return model, model.analog


def at(step: int, total: int = 100) -> Any:
    return SimpleNamespace(global_step=step, max_steps=total)


def test_the_noise_grows_over_its_share_of_the_steps(make_config: MakeConfig) -> None:
    model, analog = built_on_tiles(make_config())
    assert analog.noise is not None
    schedule = WeightNoiseSchedule(model.loaded.plain, analog.noise, ramp=0.2)
    strengths = []
    for step in (0, 5, 20, 99):
        schedule.on_step_begin(None, at(step), None)  # type: ignore[arg-type]
        strengths.append(analog.noise.strength)
    assert strengths == [0.0, 0.25, 1.0, 1.0]
    assert analog.noise.step == 99


class Interrupts(TrainingObserver):
    def step(self, step: int, samples: int) -> None:
        raise Interrupted


@pytest.mark.parametrize("noise", ["gaussian", "device", "device-gaussian"])
@pytest.mark.parametrize("interrupted", [True, False])
def test_a_training_leaves_no_hook_and_no_chip(
    noise: str, interrupted: bool, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(hardware={"weight_noise_type": noise}, train={"max_steps": 2})
    setup = prepare(config)
    model, analog = setup.model, setup.model.analog
    arguments = training_arguments(config, tmp_path)
    if interrupted:
        with pytest.raises(Interrupted):
            train(model, setup.features, arguments, resume=False, observer=Interrupts())
    else:
        train(model, setup.features, arguments, resume=False, observer=TrainingObserver())
    assert analog is not None and analog.noise is not None
    assert not model.loaded.plain._forward_pre_hooks
    assert all(layer.state is None for layer in analog.layers.values())
    passes = analog.noise.forward_pass
    assert passes == 1, "the hook was there during the training"
    model.loaded.module.train()(**{key: torch.ones(1, 4, dtype=torch.long) for key in ("input_ids", "attention_mask")})
    assert analog.noise.forward_pass == passes


def test_the_device_programs_another_chip_at_each_step(make_config: MakeConfig) -> None:
    _, analog = built_on_tiles(make_config())
    layer = next(iter(analog.layers.values()))
    weights = []
    with ChipEachStep(analog.layers, analog.hardware, seed=1, ages=[0.0, 3.0e7]) as chips:
        for step in (0, 1, 0):
            chips.on_step_begin(None, at(step), None)  # type: ignore[arg-type]
            assert layer.state is not None
            weights.append(layer.state.weight.clone())
    assert layer.state is None
    assert torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[1])


def test_moments_of_a_device_follow_the_ages_of_its_chips(make_config: MakeConfig) -> None:
    """Another age for each step, another draw for each forward pass, and no copy of the weights."""
    _, analog = built_on_tiles(make_config(hardware={"weight_noise_type": "device-gaussian"}))
    assert analog.noise is not None
    layer = next(iter(analog.layers.values())).train()
    ages = [0.0, 3.0e7]
    with DeviceMoments(analog.layers, analog.hardware, seed=1, ages=ages) as moments:
        compensations, weights = [], []
        for step, passes in ((0, 1), (1, 1), (0, 1), (0, 2)):
            moments.on_step_begin(None, at(step), None)  # type: ignore[arg-type]
            analog.noise.begin_step(step)
            for _ in range(passes):
                analog.noise.begin_forward()
            assert layer.state is not None
            assert layer.state.weight.data_ptr() == layer.weight.data_ptr()
            compensations.append(layer.state.compensation.clone())
            weights.append(EffectiveWeights.now(layer).weight())
        exact = ChipEachStep(analog.layers, analog.hardware, seed=1, ages=ages)
        assert [moments.age_of(step) for step in range(5)] == [exact.age_of(step) for step in range(5)]
    assert layer.state is None
    assert torch.equal(compensations[0], compensations[2]) and not torch.equal(compensations[0], compensations[1])
    assert torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[3])


def test_adalora_spreads_its_budget_over_the_steps_of_the_training(make_config: MakeConfig, tmp_path: Path) -> None:
    """What the model was built with says nothing of them; a saved state does."""
    config = make_config(adapter={"variant": "adalora"})
    models = [build(load_base(config)).loaded.module for _ in range(2)]
    first, second = map(AdaLoraBudget, models)
    first.on_train_begin(None, at(0, total=50), None)  # type: ignore[arg-type]
    first._allocator.exp_avg_ipt["layer"] = torch.tensor([0.5, 0.25])
    first._config.rank_pattern = {"layer": [True, False]}
    first.save_state(tmp_path)
    second.load_state(tmp_path)
    for model in models:
        peft_config = model.peft_config["default"]
        assert (peft_config.total_step, peft_config.tinit, peft_config.tfinal) == (50, 5, 15)
        assert peft_config.rank_pattern == {"layer": [True, False]}
        assert torch.equal(model.base_model.rankallocator.exp_avg_ipt["layer"], torch.tensor([0.5, 0.25]))


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({}, ["WeightNoiseSchedule"]),
        ({"hardware": {"weight_noise_type": "device"}}, ["WeightNoiseSchedule", "ChipEachStep"]),
        ({"hardware": {"weight_noise_type": "device-gaussian"}}, ["WeightNoiseSchedule", "DeviceMoments"]),
        ({"method": "full"}, ["WeightNoiseSchedule", "StepInTileUnits"]),
        ({"method": "digital"}, []),
        ({"method": "digital", "adapter": {"variant": "adalora"}}, ["AdaLoraBudget"]),
    ],
)
def test_what_a_configuration_adds(
    sections: dict[str, Any], expected: list[str], make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(**sections)
    added = additions(build(load_base(config)), training_arguments(config, tmp_path), None)
    assert [type(callback).__name__ for callback in added.callbacks] == expected
    assert added.optimizer is None


def test_lora_plus_trains_b_faster(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(adapter={"variant": "lora+", "lora_plus_ratio": 8.0}, train={"learning_rate": 0.001})
    model = build(load_base(config))
    added = additions(model, training_arguments(config, tmp_path), None)
    assert added.optimizer is not None
    rates = {id(p): group["lr"] for group in added.optimizer.param_groups for p in group["params"]}
    named = {name: rates[id(p)] for name, p in model.loaded.module.named_parameters() if p.requires_grad}
    assert {rate for name, rate in named.items() if "lora_A" in name} == {0.001}
    assert {rate for name, rate in named.items() if "lora_B" in name} == {0.008}


def test_lora_plus_trains_input_ranges_at_the_base_rate(make_config: MakeConfig, tmp_path: Path) -> None:
    adapter = {"variant": "lora+", "lora_plus_ratio": 8.0}
    config = make_config(adapter=adapter, hardware={"input_range": "learned"}, train={"learning_rate": 0.001})
    model = build(load_base(config))
    optimizer = additions(model, training_arguments(config, tmp_path), None).optimizer
    assert optimizer is not None
    rates = [(id(p), group["lr"]) for group in optimizer.param_groups for p in group["params"]]
    named = {name: dict(rates)[id(p)] for name, p in model.loaded.module.named_parameters() if p.requires_grad}
    assert len(rates) == len(named)
    assert {rate for name, rate in named.items() if name.endswith(".input_range")} == {0.001}
    assert {rate for name, rate in named.items() if "lora_B" in name} == {0.008}


def test_gradient_checkpointing_computes_layers_again_with_their_own_noise(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the training itself: the contexts reach torch's checkpoint, and the result is that without it."""
    calls = []
    contexts = TrainingNoise.checkpoint_contexts
    monkeypatch.setattr(TrainingNoise, "checkpoint_contexts", lambda noise: calls.append(1) or contexts(noise))
    results = []
    for checkpointed in (False, True):
        config = make_config(adapter={"dropout": 0.0}, train={"max_steps": 2, "gradient_checkpointing": checkpointed})
        setup = prepare(config)
        folder = tmp_path / str(checkpointed)
        train(setup.model, setup.features, training_arguments(config, folder), False, TrainingObserver())
        module = setup.model.loaded.module
        results.append({name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad})
    assert calls
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())
