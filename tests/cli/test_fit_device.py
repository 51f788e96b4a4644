"""`analora fit-device` from measurements to a device that `inspect-tiles` takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from analog_lora_cli import cli
from analog_lora_cli.config.device_file import PCM, read_device_file
from analog_lora_cli.hardware.physics.fitted_noise import FittedNoiseModel
from analog_lora_cli.runtime import console

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    console.results.cache_clear()
    console.messages.cache_clear()
    console.set_quiet(False)


@pytest.fixture
def measurements(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = FittedNoiseModel(**PCM.model_dump())
    target = torch.tensor([1.0, 5.0, 10.0, 15.0, 20.0, 25.0]).repeat_interleave(40)
    programmed, exponent = (
        model.apply_programming_noise_to_conductance(target),
        model.generate_drift_coefficients(target),
    )
    lines = ["device,target_uS,time_s,measured_uS,lot"]
    for time in (0.0, 60.0, 600.0, 3600.0, 86400.0):
        read = model.apply_drift_noise_to_conductance(programmed, exponent, time)
        lines += [f"{n},{g:g},{time + 20:g},{m:.5g},7" for n, (g, m) in enumerate(zip(target, read, strict=True))]
    path = tmp_path / "measured.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_fit_and_use(measurements: Path, capsys: Captured) -> None:
    output = measurements.with_name("own.yaml")
    command = ["fit-device", str(measurements), "--output", str(output)]
    assert cli.main(command) == 0
    out, err = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80
    for text in ("own.yaml: 240 devices, 6 levels, 1,200 reads", "exponent of 1/g", "0.6500", "1 uS: reads scatter"):
        assert text in out
    assert "columns not used: lot" in err
    assert "extrapolated from 1 uS" in " ".join(err.split())
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert read_device_file(output).t_0_s == 20.0
    # The same data, the same file; and nothing is replaced unasked.
    before = output.read_bytes()
    assert cli.main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert cli.main([*command, "--overwrite", "--quiet"]) == 0
    assert output.read_bytes() == before
    capsys.readouterr()
    inspect = ["inspect-tiles", "--preset", "smoke-squad-lora", "--set", f"hardware.device={output}"]
    assert cli.main([*inspect, "--statistics"]) == 0
    assert "from 0 to 25" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--output", "own.json"], "--output own.json: expected a name that ends in .yaml"),
        (["--output", "own.yaml", "--plot", "own.yaml"], "must name different files"),
        (["--output", "own.yaml", "--t-read", "0"], "--t-read 0.0: expected a number of seconds above 0"),
        (["--output", "own.yaml", "--t-read", "30"], "measured.csv: column time_s: the first read (20 s) is before"),
        (["--output", "folder.yaml"], "--output folder.yaml: is a folder"),
    ],
)
def test_wrong_options_write_nothing(
    measurements: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(measurements.parent)
    Path("folder.yaml").mkdir()
    before = sorted(Path().iterdir())
    assert cli.main(["fit-device", "measured.csv", *arguments]) == 2
    assert expected in " ".join(capsys.readouterr().err.split())
    assert sorted(Path().iterdir()) == before
