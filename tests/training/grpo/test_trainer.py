"""One draw of noise for a rollout and its losses, the same result after a kill, a reference that stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from analog_lora_cli.config.schema import Config
from analog_lora_cli.hardware.tile.analog_linear import AnalogLinear
from analog_lora_cli.hardware.tile.effective_weights import EffectiveWeights
from analog_lora_cli.models.build import TrainingModel
from analog_lora_cli.training.arguments import training_arguments
from analog_lora_cli.training.callbacks.progress import TrainingObserver
from analog_lora_cli.training.train import train
from analog_lora_cli.workflows.train import prepare

trainers = pytest.importorskip("analog_lora_cli.training.grpo.trainer")

GrpoConfig = Callable[..., Config]
OVER_SEVERAL_STEPS = {"num_iterations": 2, "steps_per_generation": 4}
"""A rollout is trained on in four optimizer steps of two batches."""
LAYER = "model.layers.0.mlp.down_proj"
EXACT_CONVERTERS = {"output_noise": 0.0, "dac_bits": 0, "adc_bits": 0}


class Seen(TrainingObserver):
    """What the trainer logged."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []

    def values(self, step: int, values: dict[str, float]) -> None:
        self.logged.append(values)


def trained(config: Config, folder: Path, resume: bool = False) -> tuple[TrainingModel, list[dict[str, float]]]:
    setup, seen = prepare(config), Seen()
    train(setup.model, setup.features, training_arguments(config, folder), resume, seen)
    return setup.model, seen.logged


def adapter(model: TrainingModel) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.loaded.module.named_parameters() if p.requires_grad}


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int | None, bool]]:
    """Step, hash of the weights, seed of the outputs, and whether it is a loss, of each call of one layer."""
    calls: list[tuple[int, int, int | None, bool]] = []
    now = EffectiveWeights.now

    def spy(layer: AnalogLinear) -> EffectiveWeights:
        effective = now(layer)
        if layer.name == LAYER:
            assert layer.noise is not None
            weight = hash(effective.weight().numpy().tobytes())
            calls.append((layer.noise.step, weight, effective.noise.output_seed, torch.is_grad_enabled()))
        return effective

    monkeypatch.setattr(EffectiveWeights, "now", spy)
    return calls


@pytest.mark.parametrize(("options", "draws_expected"), [({}, [0, 1, 2]), (OVER_SEVERAL_STEPS, [0, 0, 0, 0, 1])])
def test_a_rollout_and_its_losses_see_one_draw(
    options: dict[str, int],
    draws_expected: list[int],
    grpo_config: GrpoConfig,
    draws: list[tuple[int, int, int | None, bool]],
    tmp_path: Path,
) -> None:
    config = grpo_config(objective=options, train={"max_steps": len(draws_expected), "save_steps": 100})
    trained(config, tmp_path)
    by_step = [{weights for step, weights, *_ in draws if step == each} for each in range(len(draws_expected))]
    assert all(len(weights) == 1 for weights in by_step), "the chip changed within a step"
    numbers = {chip: number for number, chip in enumerate(dict.fromkeys(chip for chips in by_step for chip in chips))}
    assert [numbers[next(iter(chips))] for chips in by_step] == draws_expected
    # Each token was written in a forward pass of its own, and two batches were trained on in each step.
    assert sum(loss for *_, loss in draws) == 2 * len(draws_expected)
    assert sum(not loss for *_, loss in draws) > 4 * len(set(draws_expected))
    assert len({outputs for _, _, outputs, _ in draws}) == len(draws), "the noise of the outputs is new in each call"


@pytest.mark.parametrize("held", [True, False])
def test_the_loss_sees_the_probabilities_that_the_rollout_had(
    held: bool, grpo_config: GrpoConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The ratio is 1 before the first step of a rollout; it would not be if its loss saw another draw."""
    if not held:  # As TRL does by itself: new noise in each forward pass.
        monkeypatch.setattr(trainers.GrpoTrainer, "training_step", trainers.GRPOTrainer.training_step)
        monkeypatch.setattr("analog_lora_cli.training.grpo.objective.Grpo.noise_scope", "forward")
    logps: list[torch.Tensor] = []
    compute = trainers.GrpoTrainer._get_per_token_logps_and_entropies

    def spy(self: Any, model: Any, ids: Any, *arguments: Any, **options: Any) -> Any:
        result = compute(self, model, ids, *arguments, **options)
        logps.append(result[0].detach())
        return result

    monkeypatch.setattr(trainers.GrpoTrainer, "_get_per_token_logps_and_entropies", spy)
    monkeypatch.setattr("trl.trainer.grpo_trainer.shuffle_sequence_dict", lambda batch: batch)
    objective = {**OVER_SEVERAL_STEPS, "steps_per_generation": 2}
    trained(grpo_config(objective=objective, hardware=EXACT_CONVERTERS, train={"max_steps": 1}), tmp_path)
    scored, *losses = logps
    assert len(losses) == 2
    assert torch.allclose(torch.cat(losses), scored, atol=1e-5) == held


@pytest.mark.parametrize("objective", [{}, {"beta": 0.1}, OVER_SEVERAL_STEPS])
def test_the_same_adapter_after_a_kill(objective: dict[str, Any], grpo_config: GrpoConfig, tmp_path: Path) -> None:
    """Wherever it came: between two rollouts, or while one is trained on."""
    config = grpo_config(objective=objective, train={"max_steps": 5})
    whole, _ = trained(config, tmp_path / "run")
    for step in (1, 3):
        for state in (tmp_path / "run").glob("checkpoint-*"):
            if int(state.name.rpartition("-")[2]) <= step:
                (tmp_path / f"{step}").mkdir(exist_ok=True)
                (tmp_path / f"{step}" / state.name).symlink_to(state)
        resumed, _ = trained(config, tmp_path / f"{step}", resume=True)
        for name, tensor in adapter(whole).items():
            assert torch.equal(tensor, adapter(resumed)[name]), (step, name)


def test_the_reference_is_the_model_at_the_beginning(grpo_config: GrpoConfig, tmp_path: Path) -> None:
    config = grpo_config(objective={"beta": 0.1}, hardware=EXACT_CONVERTERS)
    model, logged = trained(config, tmp_path)
    assert logged[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert logged[2]["kl"] > 1e-6, "the policy moves, the reference does not"
    assert set(model.loaded.module.peft_config) == {"default"}
    assert not any(".ref." in name for name, _ in model.loaded.module.named_parameters())


def test_checkpointing_computes_with_the_same_noise_again(grpo_config: GrpoConfig, tmp_path: Path) -> None:
    """TRL switches it off to write and on again; the noise of the outputs must still be that of the first pass."""
    runs = []
    for checkpointing in (False, True):
        config = grpo_config(train={"gradient_checkpointing": checkpointing})
        model, _ = trained(config, tmp_path / str(checkpointing))
        runs.append(adapter(model))
        assert model.loaded.plain.is_gradient_checkpointing == checkpointing
    for name, tensor in runs[0].items():
        assert torch.allclose(tensor, runs[1][name], atol=1e-7), name


@pytest.mark.parametrize("options", [{}, OVER_SEVERAL_STEPS])
def test_weights_that_are_kept_give_the_same_adapter(
    options: dict[str, int], grpo_config: GrpoConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As those that are drawn in each forward pass."""
    config = grpo_config(objective=options, hardware={"weight_noise_ramp": 0.5})
    kept, _ = trained(config, tmp_path / "kept")
    assert kept.analog is not None and all(layer.state is None for layer in kept.analog.layers.values())
    monkeypatch.setattr("analog_lora_cli.training.grpo.rollout_noise._can_keep", lambda layer: False)
    drawn, _ = trained(config, tmp_path / "drawn")
    for name, tensor in adapter(kept).items():
        assert torch.equal(tensor, adapter(drawn)[name]), name


def test_progress_has_reward_and_length(grpo_config: GrpoConfig, tmp_path: Path) -> None:
    _, logged = trained(grpo_config(), tmp_path)
    for entry in logged:
        assert -2 <= entry["reward"] <= 2 and 1 <= entry["completions/mean_length"] <= 6
        assert entry["reward"] == pytest.approx(entry["rewards/format_soft/mean"])


def test_it_learns(grpo_config: GrpoConfig, tmp_path: Path) -> None:
    """A reward of a user's file that noise does not hide is collected."""
    file = tmp_path / "rewards.py"
    file.write_text("def opened(completion_ids):\n    return [float(ids.count(4)) for ids in completion_ids]\n")
    objective = {"rewards": [f"{file}:opened"], "num_generations": 8}
    train = {"max_steps": 12, "learning_rate": 3e-2, "per_device_train_batch_size": 16, "save_steps": 100}
    _, logged = trained(grpo_config(objective=objective, train=train), tmp_path / "run")
    rewards = [entry["reward"] for entry in logged]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 1, rewards
