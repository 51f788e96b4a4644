"""`analora export --push-to-hub` through huggingface_hub itself, to a hub on this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from analog_lora_cli import cli
from tests.hub.fake_hub import Hub, NotFoundError, serving


@pytest.fixture(scope="module")
def checkpoint(tiny_model: Path, sst2_files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("push")
    files = {"train_file": str(sst2_files[0]), "validation_file": str(sst2_files[1])}
    content = {
        "model": {"name": str(tiny_model)},
        "task": {"name": "sst2", "max_length": 32, **files},
        "train": {"max_steps": 2, "per_device_train_batch_size": 8, "save_steps": 1},
        "drift": {"times": ["0s", "1y"], "chips": 2},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    command = ["train", "--config", str(folder / "config.yaml"), "--output", str(folder / "run"), "--quiet"]
    assert cli.main(command) == 0
    return folder / "run"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub()) as served:
        served.add("models", "user/thesis", {"thesis.pdf": b"x"})
        yield served


COMMANDS = """
import json, sys
from analog_lora_cli.cli import main
from analog_lora_cli.runtime import console
for arguments in json.loads(sys.argv[1]):
    console.messages.cache_clear()
    print("### exit code", main(["export", *arguments]), file=sys.stderr, flush=True)
"""


def push(hub: Hub, *commands: list[str], folder: Path, token: str | None) -> list[tuple[int, str]]:
    """Run `export` with each of these arguments, one after the other in one new process.

    Returns:
        exit code and what is printed to stderr, in one line, of each.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = {**inherited, "HF_HOME": str(folder / "hf"), "HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1"}
    if token is not None:
        environment["HF_TOKEN"] = token
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)],
        capture_output=True, text=True, timeout=200, env={**environment, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert "Traceback" not in done.stderr and done.returncode == 0, done.stderr
    said = re.split(r"### exit code (\d+)\n", done.stderr)[:-1]
    return [(int(code), " ".join(text.split())) for text, code in zip(said[::2], said[1::2], strict=True)]


def test_pushing_and_replacing(hub: Hub, checkpoint: Path, tmp_path: Path) -> None:
    """A repository that holds an export is replaced on demand alone, and what has no place in the new one goes."""
    merged, peft, elsewhere = (
        [str(checkpoint), "--output", str(tmp_path / folder), "--format", kind, "--push-to-hub", "user/model"]
        for folder, kind in (("out", "merged"), ("out", "peft"), ("elsewhere", "peft"))
    )
    taken = [*elsewhere[:-1], "user/thesis", "--overwrite"]
    commands = [merged, peft, elsewhere, taken, [*peft, "--overwrite"]]
    (pushed, printed), *refused, (replaced, again) = push(hub, *commands, folder=tmp_path, token=hub.token)
    assert pushed == replaced == 0, (printed, again)
    assert f"pushed to {hub.url}/user/model" in printed
    assert [code for code, _ in refused] == [2, 2, 2]
    assert "holds an export already; replace it with --overwrite" in refused[0][1]
    assert "user/model: the repository holds files; replace them with --overwrite" in refused[1][1]
    assert "user/thesis: the repository holds no export of analora (no export.json); use another" in refused[2][1]
    assert not (tmp_path / "elsewhere").exists() and len(hub.repositories["models", "user/thesis"]) == 1

    _, first, last = hub.repositories["models", "user/model"]
    card = first["README.md"].decode()
    assert card.startswith("---\nlibrary_name: transformers\n") and "## Over drift" in card and "| 1y |" in card
    assert "model.safetensors" in first and "model.safetensors" not in last
    assert {"adapter_config.json", "base/model.safetensors"} < last.keys()
    out = tmp_path / "out"
    local = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {name: content for name, content in last.items() if name != ".gitattributes"} == local


@pytest.mark.parametrize("token", [None, pytest.param("hf_wrong", marks=pytest.mark.slow)])
def test_refused_before_anything_is_written(token: str | None, hub: Hub, checkpoint: Path, tmp_path: Path) -> None:
    options = ["--output", str(tmp_path / "out"), "--format", "peft", "--push-to-hub", "user/model", "--overwrite"]
    ((code, printed),) = push(hub, [str(checkpoint), *options], folder=tmp_path, token=token)
    assert code == 2 and "not logged in to http://127.0.0.1:" in printed and printed.count("error: ") == 1
    assert not (tmp_path / "out").exists()
    assert not any(line.startswith("POST /api/repos") for line in hub.asked)


def test_a_hub_that_is_not_there(checkpoint: Path, tmp_path: Path) -> None:
    options = ["--output", str(tmp_path / "out"), "--format", "peft", "--push-to-hub", "user/model"]
    nowhere = Hub(url="http://127.0.0.1:9")
    ((code, printed),) = push(nowhere, [str(checkpoint), *options], folder=tmp_path, token="hf_secret")
    assert code == 2 and "--push-to-hub: http://127.0.0.1:9 cannot be reached:" in printed
    assert not (tmp_path / "out").exists()


def test_a_hub_that_refuses_the_upload(
    hub: Hub, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Hub, name: str, lines: object) -> str:
        raise NotFoundError("EntryNotFound")

    monkeypatch.setattr(Hub, "push", refuse)
    options = ["--output", str(tmp_path / "out"), "--format", "peft", "--push-to-hub", "user/model"]
    ((code, printed),) = push(hub, [str(checkpoint), *options], folder=tmp_path, token=hub.token)
    assert code == 1 and "error: --push-to-hub user/model: " in printed
    assert f"The export is complete in {tmp_path}/out; push it with hf upload user/model" in printed
    assert (tmp_path / "out" / "export.json").is_file()
