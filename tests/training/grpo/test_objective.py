"""Whether GRPO can be trained is known before anything is read or written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import AnaloraError, ConfigError, DataError, UsageError
from analog_lora_cli.training.arguments import training_arguments
from analog_lora_cli.training.callbacks.progress import TrainingObserver
from analog_lora_cli.training.grpo import objective
from analog_lora_cli.training.train import train as run
from analog_lora_cli.workflows.train import prepare, train

GrpoConfig = Callable[..., Config]


def test_trls_arguments_with_transformers_defaults(grpo_config: GrpoConfig, tmp_path: Path) -> None:
    own = {"beta": 0.25, "temperature": 0.5, "scale_rewards": "batch", "loss_type": "dr_grpo", "num_iterations": 2}
    arguments: Any = training_arguments(grpo_config(objective=own), tmp_path)
    assert {name: getattr(arguments, name) for name in own} == own
    assert (arguments.bf16, arguments.gradient_checkpointing, arguments.use_vllm) == (False, False, False)
    assert arguments.shuffle_dataset and arguments.disable_dropout
    sequential = grpo_config(train={"train_sampling_strategy": "sequential", "gradient_checkpointing": True})
    arguments = training_arguments(sequential, tmp_path)
    assert not arguments.shuffle_dataset and arguments.gradient_checkpointing


def test_every_key_is_one_of_trls(grpo_config: GrpoConfig) -> None:
    """A key that TRL does not know, or renames, must not be passed over."""
    from trl import GRPOConfig

    assert set(grpo_config().objective.model_dump()) - {"kind", "rewards"} <= GRPOConfig.__dataclass_fields__.keys()


def test_groups_must_fill_a_rollout(grpo_config: GrpoConfig, tmp_path: Path) -> None:
    message = r"num_generations: 5 does not divide the 8 completions of a rollout: .*batch_size 4 x train\.gradient"
    with pytest.raises(ConfigError, match=message):
        training_arguments(grpo_config(objective={"num_generations": 5}), tmp_path)


def test_without_trl(grpo_config: GrpoConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(objective, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'needs TRL: pip install "analog-lora-cli\[rl\]"'):
        train(grpo_config(), tmp_path / "run")
    monkeypatch.setattr(objective, "sys", SimpleNamespace(version_info=_Python((3, 10))))
    with pytest.raises(UsageError, match=r"needs Python 3\.11 or later; this is Python 3\.10"):
        train(grpo_config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


class _Python(tuple[int, ...]):
    major, minor = 3, 10


def test_trl_is_imported_only_for_it(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "trl"]:
        monkeypatch.delitem(sys.modules, name)
    training_arguments(make_config(), tmp_path)
    assert "trl" not in sys.modules


def test_a_users_file_is_missing(grpo_config: GrpoConfig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read \./no\.py"):
        train(grpo_config(objective={"rewards": ["./no.py:f"]}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_too_few_prompts(grpo_config: GrpoConfig, tmp_path: Path) -> None:
    config = grpo_config(task={"max_train_samples": 1})
    setup = prepare(config)
    with pytest.raises(DataError, match="a rollout takes 2 prompts, the training data have 1"):
        run(setup.model, setup.features, training_arguments(config, tmp_path), False, TrainingObserver())


def test_a_reward_that_fails_ends_the_training(grpo_config: GrpoConfig, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(completions):\n    return 1 / 0\n")
    with pytest.raises(AnaloraError, match=r"mine\.py:f failed in line 2: ZeroDivisionError"):
        train(grpo_config(objective={"rewards": [f"{tmp_path}/mine.py:f"]}), tmp_path / "run")
