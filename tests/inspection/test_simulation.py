"""Memory and time of a simulation, told by config.json alone; for large language models too."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from rich.console import Console

from analog_lora_cli.config.effects import Affects
from analog_lora_cli.config.registry import TASKS
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.task import TaskSection
from analog_lora_cli.inspection.files import inspection_csv, inspection_json
from analog_lora_cli.inspection.inspect import Inspection, InspectionRequest, inspect
from analog_lora_cli.inspection.simulation import CHIP_NS_PER_WEIGHT
from analog_lora_cli.inspection.source import Source
from analog_lora_cli.report.tiles.simulation import simulation_table, size
from analog_lora_cli.tasks import Task, register, registry

LLAMA: dict[str, dict[str, int]] = {
    "8B": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 14336},
    "70B": {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "intermediate_size": 28672},
}
"""Llama 3.1, in what its sizes differ."""
PARAMETERS = {"8B": 8_030_261_248, "70B": 70_553_706_496}
"""As published with the weights."""
LINEAR = {"8B": 6_979_321_856, "70B": 68_451_041_280}
"""Weights of the layers' matrices: heads and embedding are 2 x 128,256 x hidden, norms the rest."""


class LanguageSection(TaskSection):
    """Text to continue."""

    name: Annotated[Literal["language"], Affects("architecture", "score", "training")] = "language"
    """Text to continue."""


class Language(Task):
    """A task of a causal language model, as far as shapes are concerned."""

    section = LanguageSection
    auto_class_name = "AutoModelForCausalLM"
    peft_task_type = "CAUSAL_LM"
    pipeline_tag = "text-generation"
    metrics = ()

    def model_options(self) -> dict[str, object]:
        return {}

    def _none(self, *_: Any) -> Any:
        raise NotImplementedError

    example = property(_none)
    train_features = eval_sets = outputs = baseline_score = _none


@pytest.fixture
def language(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The kind of task, registered for one test; no shapes kept from another one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for entries in (TASKS, registry._kinds):
        monkeypatch.setattr(entries, "_entries", dict(entries._entries))
    register(Language)


def llama(folder: Path, name: str) -> str:
    """A folder with nothing but the config.json of Llama 3.1."""
    from transformers import LlamaConfig

    more = {"num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072}
    LlamaConfig(**LLAMA[name], **more, tie_word_embeddings=False, dtype="bfloat16").save_pretrained(folder)
    return str(folder)


def described(folder: str, **model: str) -> Inspection:
    task = {"name": "language"}
    config = Config.model_validate({"model": {"name": folder, **model}, "task": task, "adapter": {"rank": 16}})
    return inspect(Source("it", config), InspectionRequest())


@pytest.mark.parametrize("name", ["8B", "70B"])
@pytest.mark.usefixtures("language")
def test_llama_by_its_configuration(name: str, tmp_path: Path) -> None:
    found = described(llama(tmp_path / name, name), dtype="bfloat16")
    layers, largest = found.placement.layers, LLAMA[name]["hidden_size"] * LLAMA[name]["intermediate_size"]
    assert len(found.placement.analog) == 7 * LLAMA[name]["num_hidden_layers"]
    assert not {"lm_head", "model.embed_tokens"} & {layer.name for layer in found.placement.analog}
    cost = found.simulation(layers)
    assert (cost.weights, cost.chip, cost.workspace) == (2 * PARAMETERS[name], 4 * LINEAR[name], 4 * largest)
    assert cost.adapters == 4 * sum(layer.adapter_parameters for layer in layers)
    assert cost.chip_seconds == pytest.approx(CHIP_NS_PER_WEIGHT * LINEAR[name] / 1e9)
    content = inspection_json(found)["simulation"]
    assert (content["dtype"], content["tile_dtype"]) == ("bfloat16", "float32")
    assert content["weight_bytes"] == cost.weights and content["chip_seconds"] == cost.chip_seconds
    if name == "8B":  # The paper's adapters.
        assert cost.adapters == 4 * 41_943_040 and described(str(tmp_path / name)).simulation(layers).chip == cost.chip


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.usefixtures("language")
def test_the_table_fits(width: int, tmp_path: Path) -> None:
    text = io.StringIO()
    Console(file=text, width=width).print(simulation_table(described(llama(tmp_path / "8B", "8B"), dtype="bfloat16")))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= width and "…" not in text.getvalue()
    rows = [" ".join(line.split()) for line in lines]
    assert "model 16.1 GB in bfloat16 (model.dtype)" in rows
    assert "workspace 235 MB the largest layer in float32" in rows
    assert "chip 27.9 GB weights in float32, once for all chips and times" in rows


def test_a_layer_s_part_stands_in_both_files(make_config: Callable[..., Config]) -> None:
    found = inspect(Source("it", make_config()), InspectionRequest())
    content, (heading, *lines) = inspection_json(found), inspection_csv(found).splitlines()
    columns = heading.split(",")
    for layer, line in zip(content["layers"], lines, strict=True):
        cells = dict(zip(columns, line.split(","), strict=True))
        outputs, inputs = layer["shape"]
        part = layer["simulation"]
        assert part["chip_bytes"] == 4 * outputs * inputs == int(cells["chip_bytes"])
        assert part["weight_bytes"] == 4 * layer["parameters"] == int(cells["weight_bytes"])
        assert part["chip_seconds"] == float(cells["chip_seconds"]) > 0
    for key in ("chip_bytes", "chip_seconds"):
        total = sum(layer["simulation"][key] for layer in content["layers"])
        assert content["simulation"][key] == pytest.approx(total)
    assert content["simulation"]["weight_bytes"] == 4 * content["totals"]["parameters"]


def test_more_devices_take_longer_to_program_and_no_more_memory(make_config: Callable[..., Config]) -> None:
    hardware = ({"converter": "single-pair"}, {"converter": "dual-pair", "converter_options": {"f_lst": [1.0, 2.0]}})
    pair, two = (inspect(Source("it", make_config(hardware=one)), InspectionRequest()) for one in hardware)
    cost, other = (one.simulation(one.placement.layers) for one in (pair, two))
    assert other.chip_seconds == pytest.approx(2 * cost.chip_seconds) and other.chip == cost.chip


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (999_999, "1 MB"), (83_886_080, "83.9 MB"), (16_060_522_496, "16.1 GB"),
     (141_107_412_992, "141 GB"), (2 * 10**12, "2 TB")],
)  # fmt: skip
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the largest resident memory")
def test_a_model_of_141_gigabytes_is_shown_in_little_memory(tmp_path: Path) -> None:
    """The command as users call it; about half a gigabyte of it are the libraries."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from analog_lora_cli.cli import main\n"
        "code = main(sys.argv[1:])\n"
        # Not getrusage, whose maximum a child takes over from its parent.
        "status = Path('/proc/self/status').read_text()\n"
        "print(status.split('VmHWM:')[1].split()[0], file=sys.stderr, flush=True)\n"
        "sys.exit(code)\n"
    )
    command = [sys.executable, "-c", program, "inspect-tiles", "--model", llama(tmp_path / "70B", "70B")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "80"}
    options = ["--set", "model.dtype=bfloat16", "--json", str(tmp_path / "out.json")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True, env=environment)
    assert "141 GB" in done.stdout and json.loads((tmp_path / "out.json").read_text())["totals"]["tiles"] == 261_120
    (peak,) = [line for line in done.stderr.splitlines() if line.isdecimal()]
    assert int(peak) < 1.5e6
