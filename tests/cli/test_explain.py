"""`analora explain`: what a key means, without torch and within 80 columns."""

from __future__ import annotations

import subprocess
import sys

import pytest

from analog_lora_cli import cli
from analog_lora_cli.config import scope
from analog_lora_cli.config.registry import TASKS
from analog_lora_cli.runtime import console

SCRIPT = """
import sys
from analog_lora_cli import cli
code = cli.main({arguments})
assert "torch" not in sys.modules, "torch was imported"
sys.exit(code)
"""


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    console.results.cache_clear()
    console.messages.cache_clear()


def explain(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["explain", *arguments]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    return out


def in_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = SCRIPT.format(arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    text = explain(capsys, "hardware.adc_bits")
    for part in ("Resolution of the output converter", "bits", "8", "at least 0, at most 16", "read", "evaluate-drift"):
        assert part in text
    assert "cannot change on a programmed chip" in explain(capsys, "hardware.g_max")
    assert "vera, lora+" in explain(capsys, "adapter.variant")
    assert "squad, squad_v2" in explain(capsys, "task.n_best")
    assert "dora: Must be 0" in explain(capsys, "adapter.dropout")
    assert "reram-cmo: filamentary" in explain(capsys, "hardware.device")


def test_a_section_lists_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    text = explain(capsys, "task")
    assert all(name in text for name in (*TASKS.names(), "max_length", "null_threshold"))
    assert "Any other field of transformers.TrainingArguments" in " ".join(explain(capsys, "train").split())


def test_every_key_can_be_explained(capsys: pytest.CaptureFixture[str]) -> None:
    sections = explain(capsys)
    for key in {key for key, _ in scope.fields()}:
        assert key.partition(".")[0] in sections
        assert "meaning" in explain(capsys, key)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("hardware.adc_bit", "hardware.adc_bit: unknown key; did you mean hardware.adc_bits?"),
        ("hardware.adc", "hardware.adc: unknown key; did you mean hardware.adc_bits or hardware.adc_bound or "),
        ("rank", "did you mean adapter.rank?"),
        ("train.output_dir", "is set by this tool: use --output"),
        ("method.x", "method.x: unknown key"),
    ],
)
def test_an_unknown_key(capsys: pytest.CaptureFixture[str], key: str, message: str) -> None:
    assert cli.main(["explain", key]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["explain", "task"], 0, ""),
        (["train", "--preset", "smoke-squad-lora", "--set", "hardware.adc_bit=3"], 2, "did you mean hardware.adc_bits"),
        (["train", "--preset", "smoke-squad-lora", "--set", "train.lerning_rate=3"], 2, "did you mean train.learning"),
        (["train", "--preset", "smoke-glue-lora", "--set", "task.n_best=3"], 2, "unknown key for task sst2"),
    ],
)
def test_a_key_is_looked_up_before_torch_is_imported(arguments: list[str], code: int, message: str) -> None:
    ran = in_a_process(*arguments)
    assert ran.returncode == code, ran.stderr
    assert message in " ".join(ran.stderr.split())
