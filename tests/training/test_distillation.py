"""Distillation: its loss, its teachers, and that a teacher changes nothing but the loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import UsageError
from analog_lora_cli.hardware.tile.training_noise import TrainingNoise
from analog_lora_cli.models.build import TrainingModel, build, build_from, load_base
from analog_lora_cli.models.tiling import put_on_tiles
from analog_lora_cli.storage.checkpoint import read_checkpoint
from analog_lora_cli.training.arguments import training_arguments
from analog_lora_cli.training.callbacks.progress import TrainingObserver
from analog_lora_cli.training.distillation import Distillation, _distances
from analog_lora_cli.training.objectives import make_objective
from analog_lora_cli.training.teachers import OtherModel, SameWeights, make_teacher
from analog_lora_cli.training.train import train
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import prepare
from analog_lora_cli.workflows.train import train as run_training

MakeConfig = Callable[..., Config]
DISTILLED = {"kind": "distillation", "weight": 0.25, "temperature": 3.0}


def batch_of(model: TrainingModel, config: Config) -> dict[str, Tensor]:
    loaded = model.loaded
    features = loaded.task.train_features(loaded.processor)
    return loaded.task.collator(loaded.processor)([features[row] for row in range(4)])


def set_apart(model: TrainingModel) -> None:
    """Give the adapter an effect, as a training does."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.loaded.module.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


def logits(result: Any) -> Tensor:
    return torch.cat([value.flatten() for name, value in result.items() if name.endswith("logits")])


@pytest.mark.parametrize("task", ["sst2", "squad", "instruction"])
def test_the_loss_is_that_of_the_labels_and_of_the_teacher(task: str, make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(task, objective={**DISTILLED, "hidden_weight": 0.5})
    setup = prepare(config)
    set_apart(setup.model)
    objective = make_objective(config.objective, setup.model.loaded.task)
    assert isinstance(objective, Distillation) and setup.model.analog is not None
    arguments = training_arguments(config, tmp_path)
    trainer = objective.trainer(setup.model, setup.features, arguments, [], None)
    module, batch = setup.model.loaded.module.train(), batch_of(setup.model, config)
    items = torch.tensor(40) if objective.normalizes_by_items else None
    noise = setup.model.analog.noise
    assert noise is not None

    def again() -> None:
        noise.begin_step(0)
        torch.manual_seed(1)

    again()
    loss, _ = trainer.compute_loss(module, dict(batch), return_outputs=True, num_items_in_batch=items)
    again()
    extra = {} if items is None else {"num_items_in_batch": items}
    own = module(**batch, **extra, output_hidden_states=True)
    module.eval()
    with setup.model.analog.digital(), torch.no_grad():
        taught = module(**batch, output_hidden_states=True)
    terms = []
    for name in (name for name in own if name.endswith("logits")):
        for row in range(4):
            if task == "instruction":
                places = (batch["labels"][row, 1:] != -100).nonzero()[:, 0].tolist()
                pairs = [(own[name][row, place], taught[name][row, place]) for place in places]
            else:
                length = int(batch["attention_mask"][row].sum()) if task == "squad" else None
                pairs = [(own[name][row, :length], taught[name][row, :length])]
            for student, teacher in pairs:
                p, q = ((one.double() / 3.0).softmax(-1) for one in (teacher, student))
                terms.append(9.0 * (p * (p.log() - q.log())).sum())
    total = torch.stack(terms).detach().sum() / (40 if items is not None else len(terms))
    mask = batch["attention_mask"].bool()
    hidden = [
        ((a[mask] - b[mask]).square().sum() / b[mask].square().sum()).item()
        for a, b in zip(own["hidden_states"], taught["hidden_states"], strict=True)
    ]
    share = 1.0 if items is None else len(terms) / 40
    expected = 0.75 * own["loss"].item() + 0.25 * float(total) + 0.5 * share * sum(hidden) / len(hidden)
    assert float(total) > 0 and loss.item() == pytest.approx(expected, rel=1e-4)


def test_a_number_is_no_choice() -> None:
    own, other = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [2.5]])
    assert _distances(own, other, 2.0).tolist() == [4.0, 0.25]


def test_a_teacher_changes_no_noise_and_no_dropout(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws: list[Any] = []
    own = TrainingNoise.of_layer

    def recorded(noise: TrainingNoise, *arguments: Any) -> Any:
        draws.append((arguments[0], own(noise, *arguments)))
        return draws[-1][1]

    monkeypatch.setattr(TrainingNoise, "of_layer", recorded)
    seen, states = [], []
    for objective in ({"kind": "supervised"}, DISTILLED):
        config = make_config(objective=objective, train={"max_steps": 3, "gradient_accumulation_steps": 2})
        setup = prepare(config)
        draws.clear()
        train(setup.model, setup.features, training_arguments(config, tmp_path), False, TrainingObserver())
        seen.append(list(draws))
        states.append(torch.get_rng_state())
    assert len(seen[0]) == 6 * len({name for name, _ in seen[0]}) and seen[0] == seen[1]
    assert torch.equal(states[0], states[1]), "dropout drew the same numbers"


@pytest.mark.parametrize("teacher", ["self", "pretrained"])
def test_the_model_itself_teaches_digitally(teacher: str, make_config: MakeConfig) -> None:
    model = build(load_base(make_config("instruction", adapter={"dropout": 0.5})))
    set_apart(model)
    assert model.analog is not None
    module = model.loaded.module.train()
    batch = batch_of(model, model.loaded.config)
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    answer = make_teacher(teacher, model, None).answer(batch)
    assert all(part.training for part in module.modules())
    assert {name for name, parameter in module.named_parameters() if parameter.requires_grad} == trained
    assert all(layer.analog for layer in model.analog.layers.values())
    module.eval()
    with model.analog.digital(), torch.no_grad():
        with_adapter = logits(module(**batch))
        with module.disable_adapter():
            without = logits(module(**batch))
    assert not torch.allclose(with_adapter, without)
    torch.testing.assert_close(logits(answer), with_adapter if teacher == "self" else without)


@pytest.fixture(scope="module")
def digital(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digital") / "run"
    config = make_config(method="digital", train={"max_steps": 4, "learning_rate": 0.02})
    run_training(config, folder, SilentObserver(), drift=False)
    return folder


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"hardware": {"clip_sigma": 0.0}}, SameWeights),
        ({"hardware": {"clip_sigma": 1.0}}, OtherModel),
        ({"hardware": {"clip_sigma": 0.0}, "adapter": {"variant": "vera"}}, OtherModel),
    ],
)
def test_a_checkpoint_teaches_on_the_same_weights_where_it_can(
    changes: dict[str, Any], kind: type, digital: Path, make_config: MakeConfig
) -> None:
    model = build(load_base(make_config(**changes)))
    checkpoint = read_checkpoint(digital)
    trained = {name for name, parameter in model.loaded.module.named_parameters() if parameter.requires_grad}
    teacher = make_teacher(str(digital), model, checkpoint)
    assert type(teacher) is kind
    batch = batch_of(model, model.loaded.config)
    model.loaded.module.train()
    expected = build_from(checkpoint, "default", checkpoint.config).module
    with torch.no_grad():
        torch.testing.assert_close(logits(teacher.answer(batch)), logits(expected(**batch)))
    now = {name for name, parameter in model.loaded.module.named_parameters() if parameter.requires_grad}
    assert now == trained


def test_a_run_with_a_checkpoint_as_teacher(digital: Path, make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(
        hardware={"clip_sigma": 0.0}, objective={**DISTILLED, "teacher": str(digital)}, train={"max_steps": 2}
    )
    result = run_training(config, tmp_path / "run", SilentObserver(), drift=False)
    assert result.metrics["train"]["forward_passes"] == 4, "the teacher's count"
    assert sorted(path.name for path in (tmp_path / "run/adapters/default").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_the_teacher_of_an_analog_checkpoint_has_its_clipped_weights(make_config: MakeConfig, tmp_path: Path) -> None:
    taught = make_config(hardware={"clip_sigma": 1.0}, train={"max_steps": 1})
    run_training(taught, tmp_path / "run", SilentObserver(), drift=False)
    checkpoint = read_checkpoint(tmp_path / "run")
    expected = build_from(checkpoint, "default", checkpoint.config)
    analog = put_on_tiles(expected, checkpoint.config.hardware)
    for sigma, kind in ((1.0, SameWeights), (2.0, OtherModel)):
        model = build(load_base(make_config(hardware={"clip_sigma": sigma})))
        teacher = make_teacher(str(tmp_path / "run"), model, checkpoint)
        assert type(teacher) is kind
        batch = batch_of(model, taught)
        with analog.digital(), torch.no_grad():
            torch.testing.assert_close(logits(teacher.answer(batch)), logits(expected.module(**batch)))


def test_a_checkpoint_of_another_task_is_refused_before_anything_is_written(
    digital: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config("squad", objective={**DISTILLED, "teacher": str(digital)})
    with pytest.raises(UsageError, match=r"objective\.teacher: .* was trained for sst2"):
        run_training(config, tmp_path / "run", SilentObserver(), drift=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": 0.0}, "leaves nothing of the teacher"),
        ({"weight": 1.0}, "leaves no labels to learn from"),
        ({"teacher": "pretrained"}, "needs a pretrained head"),
    ],
)
def test_settings_without_effect_are_refused(changes: dict[str, Any], message: str, make_config: MakeConfig) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(objective={**DISTILLED, **changes})
    with pytest.raises(ValueError, match="method digital has none"):
        make_config(method="digital", objective=DISTILLED)


def test_tokens_are_counted_over_all_processes(make_config: MakeConfig) -> None:
    make_config(objective=DISTILLED, train={"average_tokens_across_devices": True})
    with pytest.raises(ValueError, match=r"train\.average_tokens_across_devices: false does not go"):
        make_config(objective=DISTILLED, train={"average_tokens_across_devices": False})
