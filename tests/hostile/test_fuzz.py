"""Random configurations, manifests and bytes: a clear error, or a correct load; never another exception."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analog_lora_cli.config.load import dump_config, load_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import AnaloraError, ConfigError
from analog_lora_cli.evaluation.log import MeasurementLog
from analog_lora_cli.storage.checkpoint import read_checkpoint, verify_adapter
from analog_lora_cli.storage.layout import MANIFEST, TRAINER
from analog_lora_cli.storage.manifest import read_manifest, write_manifest
from analog_lora_cli.tasks.scores import Columns
from analog_lora_cli.workflows.evaluate import MEASUREMENTS
from analog_lora_cli.workflows.subject import Subject

ODD = "1e400 ~ null on 0x1F 1:30 2024-01-01 \ud800 \0 ../x package:x 1d -1s [ {a".split(" ")
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*ODD, 10**400]) | st.text(max_size=12)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
ACTIONS = ["flip", "cut", "insert", "copy"]
BYTES = st.tuples(st.sampled_from(ACTIONS), st.floats(0, 1), st.binary(min_size=1, max_size=8))


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """JSON content with up to three places replaced, removed or added to."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        place = content
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], (dict, list)) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            action = draw(st.sampled_from(["replace", "remove", "add"]))
            if action == "replace":
                place[key] = draw(VALUES)
            elif action == "remove":
                del place[key]
            elif isinstance(place, dict):
                place[draw(st.text(max_size=8) | st.just(f"{key}x"))] = draw(VALUES)
            else:
                place.append(draw(VALUES))
            break
    return content


def damaged(content: bytes, how: tuple[str, float, bytes]) -> bytes:
    action, position, other = how
    index = int(position * max(0, len(content) - 1))
    if action == "flip":
        part = content[index : index + len(other)]
        return content[:index] + bytes(a ^ b for a, b in zip(part, other, strict=False)) + content[index + len(part) :]
    if action == "cut":
        return content[:index] + content[index + len(other) :]
    return content[:index] + (other if action == "insert" else content[:64]) + content[index:]


@pytest.fixture(scope="module")
def valid(make_config: Callable[..., Config]) -> Config:
    """A configuration to change."""
    return make_config()


def loads_or_explains(file: Path) -> None:
    try:
        config = load_config(file=file)
    except ConfigError as error:
        assert error.problems and all(problem.strip() for problem in error.problems)
        return
    file.write_text(dump_config(config), encoding="utf-8")
    assert load_config(file=file) == config


def changed_configuration(valid: Config, file: Path, data: st.DataObject) -> None:
    content = data.draw(changed(valid.model_dump(mode="json")))
    file.write_text(json.dumps(content), encoding="utf-8")
    loads_or_explains(file)


def damaged_configuration(valid: Config, file: Path, data: st.DataObject) -> None:
    content = dump_config(valid).encode()
    for how in data.draw(st.lists(BYTES, min_size=1, max_size=4)):
        content = damaged(content, how)
    file.write_bytes(content)
    loads_or_explains(file)


def comparable(metrics: dict[str, float], samples: Columns) -> tuple[dict[str, float], dict[str, bytes]]:
    return metrics, {name: values.tobytes() for name, values in samples.items()}


def opened(folder: Path) -> tuple[Any, ...]:
    """All that a command reads of a checkpoint before it loads weights."""
    checkpoint = read_checkpoint(folder)
    for name in checkpoint.adapters:
        verify_adapter(checkpoint, name)
    subjects = [Subject(checkpoint, checkpoint.config_of(name), name) for name in checkpoint.adapters]
    logs = [MeasurementLog(subject.own_folder / MEASUREMENTS, subject.key()).read() for subject in subjects]
    logged = [{one: comparable(scores.metrics, scores.samples) for one, scores in log.scores.items()} for log in logs]
    truth = [{} if log.truth is None else {"truth": comparable({}, log.truth)} for log in logs]
    return checkpoint.config, checkpoint.manifest, [subject.key() for subject in subjects], [*logged, *truth]


def changed_manifest(whole: Path, folder: Path, data: st.DataObject) -> None:
    content = data.draw(changed(read_manifest(whole / "lora")))
    try:
        write_manifest(folder, content)
    except UnicodeEncodeError:  # Half of a surrogate pair cannot be stored.
        return
    try:
        opened(folder)
    except AnaloraError as error:
        assert str(folder) in str(error)


def damaged_file(whole: Path, folder: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(readable(whole / "lora")))
    before = opened(folder)
    content = (folder / path).read_bytes()
    (folder / path).write_bytes(damaged(content, data.draw(BYTES)))
    try:
        after = opened(folder)
        # Finished measurements may be lost, and are measured again then; none may change.
        assert after[:-1] == before[:-1]
        assert all(new.items() <= old.items() for new, old in zip(after[-1], before[-1], strict=True))
    except AnaloraError as error:
        assert str(folder) in str(error)
    finally:
        (folder / path).write_bytes(content)


def readable(folder: Path) -> list[Path]:
    found = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return [path for path in found if path.parts[0] != TRAINER]


@pytest.fixture(scope="module")
def copied(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint to damage again and again."""
    return Path(shutil.copytree(whole / "lora", tmp_path_factory.mktemp("fuzz") / "lora"))


@pytest.mark.parametrize("fuzz", [changed_configuration, damaged_configuration])
class TestConfigurations:
    """The configuration loader."""

    @settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_some(self, fuzz: Any, valid: Config, tmp_path: Path, data: st.DataObject) -> None:
        fuzz(valid, tmp_path / "run.yaml", data)

    @pytest.mark.slow
    @settings(max_examples=5000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_many(self, fuzz: Any, valid: Config, tmp_path: Path, data: st.DataObject) -> None:
        fuzz(valid, tmp_path / "run.yaml", data)


@pytest.mark.parametrize("fuzz", [changed_manifest, damaged_file])
class TestCheckpoints:
    """The checkpoint reader."""

    @settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_some(self, fuzz: Any, whole: Path, copied: Path, data: st.DataObject) -> None:
        fuzz(whole, copied, data)
        shutil.copy(whole / "lora" / MANIFEST, copied)

    @pytest.mark.slow
    @settings(max_examples=3000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_many(self, fuzz: Any, whole: Path, copied: Path, data: st.DataObject) -> None:
        fuzz(whole, copied, data)
        shutil.copy(whole / "lora" / MANIFEST, copied)
