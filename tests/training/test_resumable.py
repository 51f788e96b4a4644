"""The mixin before transformers' Trainer and before trainers that override the same methods."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Sampler
from transformers import Trainer, TrainingArguments

from analog_lora_cli.config.sections.objective import SupervisedSection
from analog_lora_cli.config.sections.task import SquadSection
from analog_lora_cli.errors import CheckpointError
from analog_lora_cli.tasks import make_task
from analog_lora_cli.training.callbacks.state import StatefulCallback
from analog_lora_cli.training.objectives import Supervised
from analog_lora_cli.training.resumable import TRAINED, ResumableTrainer
from analog_lora_cli.training.sampling import EpochSampler
from analog_lora_cli.training.saved_state import COMPLETE, is_complete, newest_state
from analog_lora_cli.training.supervised import SupervisedTrainer
from tests.training.conftest import BATCH, SAMPLES, InterruptAfter, Interrupted, OneLayer

MakeArguments = Callable[..., TrainingArguments]


class Twice(Sampler[int]):
    """Each sample twice, in an order from a generator that goes on from epoch to epoch, as GRPO's sampler does."""

    def __init__(self, samples: int, seed: int) -> None:
        self.samples = samples
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return 2 * self.samples

    def __iter__(self) -> Iterator[int]:
        for index in torch.randperm(self.samples, generator=self.generator).tolist():
            yield from (index, index)


class OtherTrainer(Trainer):
    """Overrides what the mixin overrides, as TRL's trainers do."""

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        return Twice(len(self.train_dataset if dataset is None else dataset), self.args.seed)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        folder.mkdir(parents=True)
        (folder / "card.md").write_text("what a trainer adds")
        super()._save_checkpoint(model, trial)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        return super().compute_loss(model, inputs, return_outputs, **kwargs) * 0.5


class ResumableOther(ResumableTrainer, OtherTrainer): ...


class Steps(StatefulCallback):
    """Counts the steps of a training over its interruptions."""

    def __init__(self) -> None:
        self.count = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.count += 1

    def save_state(self, folder: Path) -> None:
        (folder / "steps.json").write_text(json.dumps(self.count))

    def load_state(self, folder: Path) -> None:
        self.count = json.loads((folder / "steps.json").read_text())


def make(kind: str, arguments: TrainingArguments, features: list[dict[str, Any]], *callbacks: Any) -> Any:
    options = {"model": OneLayer(), "args": arguments, "train_dataset": features, "callbacks": [Steps(), *callbacks]}
    return (
        SupervisedTrainer(objective=Supervised(SupervisedSection(), make_task(SquadSection(), 0)), **options)
        if kind == "own"
        else ResumableOther(**options)
    )


def steps_of(trainer: Any) -> int:
    return next(callback.count for callback in trainer.callback_handler.callbacks if isinstance(callback, Steps))


@pytest.mark.parametrize(("kind", "epoch"), [("own", SAMPLES), ("other", 2 * SAMPLES)])
def test_a_resumed_training_is_the_same_in_any_epoch(
    kind: str, epoch: int, make_arguments: MakeArguments, features: list[dict[str, Any]]
) -> None:
    whole = make(kind, make_arguments("whole"), features)
    whole.fit(None)
    orders = [whole.model.order[start : start + epoch] for start in range(0, 3 * epoch, epoch)]
    assert orders[0] != orders[1] != orders[2]
    assert all(set(order) == set(range(SAMPLES)) for order in orders)
    cut_at = 2 * epoch // BATCH + 3
    cut = make(kind, make_arguments("cut"), features, InterruptAfter(cut_at))
    with pytest.raises(Interrupted):
        cut.fit(None)
    again = make(kind, make_arguments("cut"), features)
    state = newest_state(Path(again.args.output_dir))
    assert state is not None and state.name == f"checkpoint-{cut_at // 2 * 2}"
    again.fit(state)
    done = cut_at // 2 * 2 * BATCH
    assert again.model.order == whole.model.order[done:]
    assert torch.equal(again.model.trained.weight, whole.model.trained.weight)
    assert steps_of(again) == steps_of(whole) == 3 * epoch // BATCH


@pytest.mark.parametrize("kind", ["own", "other"])
def test_the_state_of_the_last_step_is_taken_as_it_is(
    kind: str, make_arguments: MakeArguments, features: list[dict[str, Any]]
) -> None:
    """5 of the 6 or 12 steps of an epoch: the Trainer itself would take a sixth."""
    arguments = make_arguments("run", max_steps=5, save_steps=5, lr_scheduler_type="constant")
    whole = make(kind, arguments, features)
    whole.fit(None)
    again = make(kind, arguments, features)
    again.fit(Path(arguments.output_dir) / "checkpoint-5")
    assert again.model.order == []
    assert torch.equal(again.model.trained.weight, whole.model.trained.weight)
    assert (again.state.global_step, steps_of(again)) == (5, 5)


def test_a_state_is_complete_with_the_files_of_all_who_write_into_it(
    make_arguments: MakeArguments, features: list[dict[str, Any]]
) -> None:
    arguments = make_arguments("run", max_steps=2)
    make("other", arguments, features).fit(None)
    state = Path(arguments.output_dir) / "checkpoint-2"
    assert {TRAINED, "steps.json", "card.md", "optimizer.pt"} < set(json.loads((state / COMPLETE).read_text()))
    assert is_complete(state)
    (state / "card.md").write_text("changed")
    assert not is_complete(state)
    assert newest_state(state.parent) is None


def test_only_what_is_trained_is_stored(make_arguments: MakeArguments, features: list[dict[str, Any]]) -> None:
    from safetensors.torch import load_file

    arguments = make_arguments("run", max_steps=2)
    make("own", arguments, features).fit(None)
    assert set(load_file(Path(arguments.output_dir) / "checkpoint-2" / TRAINED)) == {"trained.weight", "trained.bias"}


@pytest.mark.parametrize("file", [TRAINED, "steps.json", "optimizer.pt", "trainer_state.json"])
def test_a_state_of_another_kind_is_one_error_that_names_it(
    file: str, make_arguments: MakeArguments, features: list[dict[str, Any]]
) -> None:
    arguments = make_arguments("run", max_steps=4)
    with pytest.raises(Interrupted):
        make("own", arguments, features, InterruptAfter(3)).fit(None)
    state = Path(arguments.output_dir) / "checkpoint-2"
    (state / file).write_bytes(b"of another kind")
    with pytest.raises(CheckpointError, match="checkpoint-2: this state cannot be loaded"):
        make("own", arguments, features).fit(state)


def test_the_samplers_of_transformers_are_replaced_and_others_stay(
    make_arguments: MakeArguments, features: list[dict[str, Any]]
) -> None:
    assert isinstance(make("own", make_arguments("a"), features)._get_train_sampler(), EpochSampler)
    assert isinstance(make("other", make_arguments("b"), features)._get_train_sampler(features), Twice)


def test_data_without_a_column_of_lengths_are_grouped_by_their_tokens(make_arguments: MakeArguments) -> None:
    features = [{"input_ids": list(range(size))} for size in (1, 5, 2, 5, 1, 2)]
    arguments = make_arguments("run", train_sampling_strategy="group_by_length")
    sampler = make("own", arguments, features)._get_train_sampler()
    order = list(sampler)
    assert sorted(order) == list(range(6))
    sizes = [len(features[index]["input_ids"]) for index in order]
    assert sizes[::2] == sizes[1::2]


def supervised_fine_tuning(trl: Any, model: Any, tokenizer: Any, options: dict[str, Any]) -> Any:
    from datasets import Dataset

    class ResumableSFT(ResumableTrainer, trl.SFTTrainer): ...

    texts = Dataset.from_dict({"text": [f"the chip {word} a tile" for word in VERBS]})
    arguments = trl.SFTConfig(**options)
    return ResumableSFT(model=model, args=arguments, train_dataset=texts, processing_class=tokenizer)


def reinforcement_learning(trl: Any, model: Any, tokenizer: Any, options: dict[str, Any]) -> Any:
    from datasets import Dataset

    class ResumableGRPO(ResumableTrainer, trl.GRPOTrainer): ...

    def reward(completions: list[str], **kwargs: Any) -> list[float]:
        return [float(text.count("a")) for text in completions]

    prompts = Dataset.from_dict({"prompt": [f"the chip {word}" for word in VERBS]})
    arguments = trl.GRPOConfig(**options, num_generations=2, max_completion_length=6)
    return ResumableGRPO(
        model=model, args=arguments, train_dataset=prompts, processing_class=tokenizer, reward_funcs=reward
    )


VERBS = "good bad cold warm slow fast".split()


@pytest.mark.parametrize("make_trainer", [supervised_fine_tuning, reinforcement_learning])
def test_trls_trainers(make_trainer: Callable[..., Any], tiny_model: Path, tmp_path: Path) -> None:
    """A tiny language model, cut and resumed in its second epoch."""
    trl = pytest.importorskip("trl")
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.eos_token = tokenizer.sep_token
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}

    def make_one(folder: str) -> Any:
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape))
        options = {
            "output_dir": str(tmp_path / folder),
            "per_device_train_batch_size": 2,
            "num_train_epochs": 2,
            "learning_rate": 0.01,
            "save_steps": 2,
            "report_to": "none",
            "use_cpu": True,
            "bf16": False,
            "disable_tqdm": True,
            "gradient_checkpointing": False,
        }
        return make_trainer(trl, model, tokenizer, options)

    whole = make_one("whole")
    whole.fit(None)
    total = whole.state.max_steps
    cut = make_one("cut")
    cut.add_callback(InterruptAfter(total - 1))
    with pytest.raises(Interrupted):
        cut.fit(None)
    again = make_one("cut")
    again.fit(newest_state(tmp_path / "cut"))
    assert again.state.global_step == total
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, again.model.get_parameter(name)), name
