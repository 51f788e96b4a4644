"""Task, adapter, objective and device are open: what belongs to which kind, and what a lower layer leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from analog_lora_cli.config.adapt import adaptation_config
from analog_lora_cli.config.devices import DEVICES, Device
from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.load import dump_config, load_config
from analog_lora_cli.config.registry import ADAPTERS, TASKS
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.adapter import AdaLoraSection
from analog_lora_cli.config.sections.task import GlueSection, Squad2Section, TaskSection
from analog_lora_cli.config.yaml_file import parse_yaml
from analog_lora_cli.errors import ConfigError
from tests.tasks.section import task_section

Preset = Callable[[str, str], None]
File = Callable[..., Path]


@pytest.mark.parametrize("override", [*(f"task.name={name}" for name in TASKS.names()), "adapter.variant=vera"])
def test_a_dump_holds_the_keys_of_its_kind_and_reads_back(override: str) -> None:
    config = load_config(overrides=[override])
    content = parse_yaml(dump_config(config), "dumped")
    assert content["task"].keys() == type(config.task).model_fields.keys()
    assert content["adapter"].keys() == type(config.adapter).model_fields.keys()
    assert load_config(base=content) == Config.model_validate(content) == config


def test_each_name_has_its_section() -> None:
    assert type(load_config(overrides=["task.name=squad_v2", "task.null_threshold=1.5"]).task) is Squad2Section
    assert type(load_config(overrides=["task.name=sst2"]).task) is GlueSection
    adapter = load_config(overrides=["adapter.variant=adalora", "adapter.rank=3"]).adapter
    assert isinstance(adapter, AdaLoraSection) and adapter.start_rank == 5
    assert load_config(overrides=["adapter.variant=dora"]).adapter.dropout == 0


def test_a_lower_layer_leaves_nothing_of_another_kind_behind(preset: Preset, file: File) -> None:
    preset("parent", "task: {name: squad, n_best: 3, max_length: 64, doc_stride: 16}\nadapter: {alpha: 4, rank: 2}\n")
    preset("child", "extends: parent\ntask: {name: cola}\nadapter: {variant: vera}\n")
    for config in (
        load_config("child"),
        load_config("parent", overrides=["task.name=cola", "adapter.variant=vera"]),
        load_config("parent", file("task: {name: cola}\nadapter: {variant: vera}\n")),
        load_config(base=load_config("parent").model_dump(), overrides=["task.name=cola", "adapter.variant=vera"]),
    ):
        assert (config.task.name, config.task.max_length, config.adapter.rank) == ("cola", 64, 2)
        assert not hasattr(config.task, "n_best") and not hasattr(config.adapter, "alpha")
    # A checkpoint's own file is such a layer, too.
    complete = file(dump_config(load_config("parent")))
    assert load_config(file=complete, overrides=["task.name=sst2"]).task.max_length == 64


def test_what_the_user_says_for_another_kind_is_an_error(preset: Preset, file: File) -> None:
    preset("own", "task: {name: cola, n_best: 3}\n")
    preset("squad", "task: {name: squad}\n")
    path = file("task: {n_best: 3}\n")
    for arguments, source in (
        ({"preset": "own"}, "preset own"),
        ({"preset": "squad", "file": path, "overrides": ["task.name=cola"]}, str(path)),
        ({"preset": "squad", "overrides": ["task.n_best=3", "task.name=cola"]}, "--set task.n_best=3"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(**arguments)  # type: ignore[arg-type]
        assert caught.value.problems == [
            f"task.n_best: unknown key for task cola; tasks squad, squad_v2 have it (from {source})"
        ]
    # A key that no kind has is an error wherever it stands.
    preset("typo", "task: {name: squad, n_bets: 3}\n")
    with pytest.raises(ConfigError, match=r"task\.n_bets: unknown key"):
        load_config("typo", overrides=["task.name=cola"])


def test_a_further_adapter_for_another_task(preset: Preset) -> None:
    preset("recipe", "task: {name: cola, max_length: 16}\n")
    base = load_config(overrides=["task.n_best=3", "adapter.alpha=4"])
    for preset_name, overrides in (("recipe", []), (None, ["task.name=cola"])):
        config = adaptation_config(base, preset_name, None, overrides)
        assert config.task.name == "cola" and not hasattr(config.task, "n_best")
    with pytest.raises(ConfigError, match="unknown key for task cola"):
        adaptation_config(base, "recipe", None, ["task.doc_stride=4"])


def test_the_section_of_a_task_in_python() -> None:
    assert task_section(name="mnli", max_length=9).max_length == 9
    with pytest.raises(ValueError, match="expected one of squad"):
        task_section(name="x")


class RankingSection(TaskSection):
    """Pairs of sentences in order."""

    name: Annotated[Literal["ranking"], Affects("architecture", "score", "training")] = "ranking"
    """Pairs."""

    margin: Annotated[float, Affects("training")] = Field(default=0.5, gt=0)
    """Margin between the scores of a pair."""


@pytest.fixture
def ranking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(TASKS, "_entries", dict(TASKS._entries))
    TASKS.register(["ranking"], RankingSection)
    yield


def test_another_package_adds_a_task(ranking: None) -> None:
    config = load_config("squad-lora", overrides=["task.name=ranking", "task.margin=0.25"])
    assert type(config.task) is RankingSection and config.task.margin == 0.25
    assert load_config(base=parse_yaml(dump_config(config), "dumped")) == config
    with pytest.raises(ConfigError, match="task.margin: unknown key for task squad; task ranking has it"):
        load_config("squad-lora", overrides=["task.margin=0.25"])
    with pytest.raises(ConfigError, match="expected one of squad, .*, ranking, got 'rankng'; did you mean ranking"):
        load_config(overrides=["task.name=rankng"])
    with pytest.raises(ConfigError, match=r"task\.margin: input should be greater than 0"):
        load_config(overrides=["task.name=ranking", "task.margin=0"])
    with pytest.raises(ValueError, match="task squad is registered already"):
        TASKS.register(["squad"], RankingSection)


def test_another_package_adds_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DEVICES, "_entries", dict(DEVICES._entries))
    DEVICES.register(["flash"], Device("flash", "floating gates", "package.Flash", 1.0, 2.0, "n-pair"))
    hardware = load_config(overrides=["hardware.device=flash"]).hardware
    assert hardware.conductance_range == (1.0, 2.0) and hardware.converter_name == "n-pair"
    with pytest.raises(ConfigError, match="did you mean flash"):
        load_config(overrides=["hardware.device=flsh"])


def test_the_default_of_each_section_is_the_first_registered() -> None:
    config = Config()
    assert (config.task.name, config.adapter.variant) == (TASKS.default, ADAPTERS.default)
    assert (config.hardware.device, config.objective.kind) == (DEVICES.names()[0], "supervised")


def test_a_kind_whose_keys_do_not_say_what_they_affect_is_refused() -> None:
    """Or measurements with another value of such a key would be taken for the same."""

    class Silent(TaskSection):
        name: Annotated[Literal["silent"], Affects("score")] = "silent"
        depth: int = 1

    with pytest.raises(ValueError, match=r"Silent\.depth does not say what it affects"):
        TASKS.register(["silent"], Silent)
