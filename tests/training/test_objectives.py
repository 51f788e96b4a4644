"""The loss is injected: the model's own by default, any other by an object."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.objective import ObjectiveSection
from analog_lora_cli.errors import ConfigError
from analog_lora_cli.training import objectives
from analog_lora_cli.training.arguments import training_arguments
from analog_lora_cli.training.callbacks.progress import TrainingObserver
from analog_lora_cli.training.objectives import Supervised, make_objective
from analog_lora_cli.training.supervised import SupervisedTrainer
from analog_lora_cli.training.train import train
from analog_lora_cli.workflows.train import prepare
from tests.training.conftest import OneLayer

MakeArguments = Callable[..., TrainingArguments]


class Smaller:
    """Half of the model's own loss, and what it was told about the items of a step."""

    normalizes_by_items = True

    def __init__(self) -> None:
        self.items: list[Any] = []

    def compute_loss(self, own_loss: Any, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        self.items.append(num_items_in_batch)
        outputs = model(**inputs)
        return 0.5 * outputs["loss"], outputs


def test_the_supervised_loss_is_the_models_own(make_arguments: MakeArguments, features: list[dict[str, Any]]) -> None:
    """Averaged over accumulated batches: 2 x 3 samples are 1 x 6."""
    losses = []
    for batch, accumulated in ((6, 1), (3, 2)):
        arguments = make_arguments(
            f"run-{batch}",
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulated,
            max_steps=1,
            max_grad_norm=0.0,
            train_sampling_strategy="sequential",
        )
        model = OneLayer()
        model.frozen = torch.nn.Identity()
        model.forward = lambda x, number, labels, model=model: {  # type: ignore[method-assign]
            "loss": torch.nn.functional.mse_loss(model.trained(x)[:, 0], labels)
        }
        trainer = SupervisedTrainer(model=model, args=arguments, train_dataset=features, objective=Supervised())
        trainer.fit(None)
        losses.append(trainer.state.log_history[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_an_objective_of_another_kind_replaces_it(
    make_arguments: MakeArguments, features: list[dict[str, Any]]
) -> None:
    objective = Smaller()
    arguments = make_arguments("run", max_steps=1, gradient_accumulation_steps=2)
    trainer = SupervisedTrainer(model=OneLayer(), args=arguments, train_dataset=features, objective=objective)
    trainer.fit(None)
    assert [int(items) for items in objective.items] == [4, 4]
    batch = {"x": torch.zeros(1, 4), "number": torch.tensor([0]), "labels": torch.tensor([1.0])}
    trainer.model.eval()
    own = Trainer.compute_loss(trainer, trainer.model, dict(batch))
    assert torch.equal(trainer.compute_loss(trainer.model, dict(batch)), 0.5 * own)
    loss, outputs = trainer.compute_loss(trainer.model, dict(batch), return_outputs=True)
    assert torch.equal(loss, 0.5 * own) and outputs["output"].shape == (1, 1)


def test_a_training_has_the_objective_of_its_configuration(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    objective = Smaller()
    monkeypatch.setitem(objectives.OBJECTIVES, "smaller", lambda: objective)
    config = make_config(train={"max_steps": 1})
    config = config.model_copy(update={"objective": ObjectiveSection(kind="smaller")})
    setup = prepare(config)
    train(setup.model, setup.features, training_arguments(config, tmp_path), False, TrainingObserver())
    assert len(objective.items) == 1


def test_an_unknown_kind_is_an_error_of_the_configuration() -> None:
    assert isinstance(make_objective("supervised"), Supervised)
    with pytest.raises(ConfigError, match=r"objective\.kind: 'distil' is not known; use one of supervised"):
        make_objective("distil")
