"""`analora export --push-to-hub` through huggingface_hub itself, to a hub on this machine."""

from __future__ import annotations

import os
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


def push(folder: Path, hub: Hub, checkpoint: Path, *arguments: str, token: str | None) -> tuple[int, str]:
    """Exit code and what is printed to stderr, in one line."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = {**inherited, "HF_HOME": str(folder / "hf"), "HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1"}
    if token is not None:
        environment["HF_TOKEN"] = token
    done = subprocess.run(
        [sys.executable, "-m", "analog_lora_cli", "export", str(checkpoint), "--output", str(folder / "out"),
         *arguments],
        capture_output=True, text=True, timeout=200, env={**environment, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, " ".join(done.stderr.split())


def test_pushing_and_replacing(hub: Hub, checkpoint: Path, tmp_path: Path) -> None:
    merged = ["--format", "merged", "--push-to-hub", "user/model"]
    code, printed = push(tmp_path, hub, checkpoint, *merged, token=hub.token)
    assert code == 0, printed
    assert f"pushed to {hub.url}/user/model" in printed
    _, files = hub.find("models", "user/model", "main")
    local = {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*")}
    assert {name: content for name, content in files.items() if name != ".gitattributes"} == local
    card = files["README.md"].decode()
    assert card.startswith("---\nlibrary_name: transformers\n") and "## Over drift" in card and "| 1y |" in card

    # The repository holds an export now: it is replaced on demand alone, and what has no place in the new one goes.
    peft = ["--format", "peft", "--push-to-hub", "user/model"]
    commits = len(hub.repositories["models", "user/model"])
    code, printed = push(tmp_path, hub, checkpoint, *peft, token=hub.token)
    assert code == 2 and "holds an export already; replace it with --overwrite" in printed
    code, printed = push(tmp_path / "elsewhere", hub, checkpoint, *peft, token=hub.token)
    assert code == 2 and "user/model: the repository holds files; replace them with --overwrite" in printed
    assert not (tmp_path / "elsewhere" / "out").exists()
    assert len(hub.repositories["models", "user/model"]) == commits
    code, printed = push(tmp_path, hub, checkpoint, *peft, "--overwrite", token=hub.token)
    assert code == 0, printed
    _, files = hub.find("models", "user/model", "main")
    assert "model.safetensors" not in files and {"adapter_config.json", "base/model.safetensors"} < files.keys()


@pytest.mark.parametrize(
    ("repository", "token", "message"),
    [
        ("user/model", None, "not logged in to http://127.0.0.1:"),
        pytest.param("user/model", "hf_wrong", "not logged in to http://127.0.0.1:", marks=pytest.mark.slow),
        ("user/thesis", "hf_secret", "the repository holds no export of analora (no export.json); use another"),
    ],
)
def test_refused_before_anything_is_written(
    repository: str, token: str | None, message: str, hub: Hub, checkpoint: Path, tmp_path: Path
) -> None:
    options = ["--format", "peft", "--push-to-hub", repository, "--overwrite"]
    code, printed = push(tmp_path, hub, checkpoint, *options, token=token)
    assert code == 2 and message in printed and printed.count("error: ") == 1
    assert not (tmp_path / "out").exists()
    assert not any(line.startswith("POST /api/repos") for line in hub.asked)


def test_a_hub_that_is_not_there(checkpoint: Path, tmp_path: Path) -> None:
    options = ["--format", "peft", "--push-to-hub", "user/model"]
    code, printed = push(tmp_path, Hub(url="http://127.0.0.1:9"), checkpoint, *options, token="hf_secret")
    assert code == 2 and "--push-to-hub: http://127.0.0.1:9 cannot be reached:" in printed
    assert not (tmp_path / "out").exists()


def test_a_hub_that_refuses_the_upload(
    hub: Hub, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Hub, name: str, lines: object) -> str:
        raise NotFoundError("EntryNotFound")

    monkeypatch.setattr(Hub, "push", refuse)
    code, printed = push(tmp_path, hub, checkpoint, "--format", "peft", "--push-to-hub", "user/model", token=hub.token)
    assert code == 1 and "error: --push-to-hub user/model: " in printed
    assert f"The export is complete in {tmp_path}/out; push it with hf upload user/model" in printed
    assert (tmp_path / "out" / "export.json").is_file()
