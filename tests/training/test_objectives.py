"""The loss is injected: the model's own by default, any other by an object."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
import torch
from transformers import Trainer, TrainingArguments

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.registry import OBJECTIVES
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.objective import ObjectiveSection, SupervisedSection
from analog_lora_cli.config.sections.task import SquadSection
from analog_lora_cli.hardware.tile.training_noise import NoiseScope
from analog_lora_cli.tasks import Task, make_task
from analog_lora_cli.training import objectives
from analog_lora_cli.training.arguments import training_arguments
from analog_lora_cli.training.callbacks.progress import TrainingObserver
from analog_lora_cli.training.objectives import Supervised, make_objective, register
from analog_lora_cli.training.supervised import BatchLoss, SupervisedTrainer
from analog_lora_cli.training.train import train
from analog_lora_cli.workflows.train import prepare
from tests.training.conftest import OneLayer

MakeArguments = Callable[..., TrainingArguments]


class SmallerSection(ObjectiveSection):
    """A share of the model's own loss."""

    kind: Annotated[Literal["smaller"], Affects("training")] = "smaller"
    share: Annotated[float, Affects("training")] = 0.5


class Smaller(BatchLoss):
    """Half of the model's own loss, and what it was told about the items of a step."""

    section: ClassVar[type[ObjectiveSection]] = SmallerSection
    noise_scope: NoiseScope = "step"
    normalizes_by_items = True
    forward_passes = 1
    last: ClassVar[Smaller]

    def __init__(self, config: ObjectiveSection, task: Task) -> None:
        super().__init__(config, task)
        self.items: list[Any] = []
        Smaller.last = self

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
        trainer = SupervisedTrainer(
            model=model,
            args=arguments,
            train_dataset=features,
            objective=Supervised(SupervisedSection(), make_task(SquadSection(), 0)),
        )
        trainer.fit(None)
        losses.append(trainer.state.log_history[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_an_objective_of_another_kind_replaces_it(
    make_arguments: MakeArguments, features: list[dict[str, Any]]
) -> None:
    objective = Smaller(SmallerSection(), make_task(SquadSection(), 0))
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
    """One class and one registration; the section reaches the objective, and the tiles have its noise scope."""
    for entries in (OBJECTIVES, objectives._kinds):
        monkeypatch.setattr(entries, "_entries", dict(entries._entries))
    register(Smaller)
    config = make_config(objective={"kind": "smaller", "share": 0.25}, train={"max_steps": 1})
    setup = prepare(config)
    train(setup.model, setup.features, training_arguments(config, tmp_path), False, TrainingObserver())
    assert len(Smaller.last.items) == 1 and Smaller.last.config == config.objective
    assert setup.model.analog is not None and setup.model.analog.noise is not None
    assert setup.model.analog.noise.scope == "step"


def test_supervised_is_the_default(make_config: Callable[..., Config]) -> None:
    assert isinstance(make_objective(make_config().objective, make_task(SquadSection(), 0)), Supervised)
