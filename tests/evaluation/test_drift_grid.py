"""The drift evaluation: what is reused, what is refused, and that its statistics are right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from analog_lora_cli.cli import main
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.times import seconds
from analog_lora_cli.errors import UsageError
from analog_lora_cli.evaluation.drift_json import drift_json
from analog_lora_cli.evaluation.drift_result import DriftResult, paired_difference, paired_gain
from analog_lora_cli.evaluation.log import MeasurementLog
from analog_lora_cli.evaluation.measurement import DIGITAL, Measurement
from analog_lora_cli.evaluation.thresholds import parse_requirement
from analog_lora_cli.tasks import Metric, Scores
from analog_lora_cli.tasks.scores import Column
from analog_lora_cli.workflows import evaluate as evaluation
from analog_lora_cli.workflows.drift import DriftEvaluation
from analog_lora_cli.workflows.observer import SilentObserver
from analog_lora_cli.workflows.train import train as run_training
from tests.evaluation.results import drift_result

MakeConfig = Callable[..., Config]
WITHOUT_CHIPS = 1 + 5  # Digital, and five draws with converters only.
F1, PERPLEXITY = Metric("f1"), Metric("perplexity", unit="", higher_is_better=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig) -> Path:
    """Checkpoints `lora`, `digital` and `full` of the tiny model, without drift results."""
    folder = tmp_path_factory.mktemp("trained")
    for method in ("lora", "digital", "full"):
        config = make_config(method=method, train={"max_steps": 30, "learning_rate": 5e-3, "save_steps": 100})
        run_training(config, folder / method, SilentObserver(), drift=False)
        shutil.rmtree(folder / method / "drift")
    return folder


@pytest.fixture
def checkpoints(trained: Path, tmp_path: Path) -> Path:
    """A copy to write into."""
    shutil.copytree(trained, tmp_path / "c")
    return tmp_path / "c"


def evaluate(*arguments: object) -> int:
    return main(["evaluate-drift", *map(str, arguments), "--quiet"])


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "drift/default/drift.json").read_text())
    return content


@pytest.mark.parametrize("method", ["lora", "digital", "full"])
def test_a_measurement_does_not_depend_on_what_else_is_measured(method: str, checkpoints: Path, tmp_path: Path) -> None:
    assert evaluate(checkpoints / method, "--chips", 2, "--times", "0s,1y", "--output", tmp_path / "all") == 0
    assert evaluate(checkpoints / method, "--chips", 1, "--seed", 1, "--times", "1y", "--output", tmp_path / "one") == 0
    lines = [set((tmp_path / name / "measurements.jsonl").read_text().splitlines()[1:]) for name in ("all", "one")]
    assert len(lines[1]) == WITHOUT_CHIPS + 2 + 1
    assert lines[1] < lines[0]


def test_more_chips_and_times_reuse_what_is_there(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analog_lora_cli.evaluation.evaluator import Evaluator

    runs = []
    original = Evaluator.run
    monkeypatch.setattr(Evaluator, "run", lambda self, *a: runs.append(1) or original(self, *a))
    assert evaluate(checkpoints / "lora", "--chips", 1, "--times", "0s") == 0
    assert len(runs) == WITHOUT_CHIPS + 2
    assert evaluate(checkpoints / "lora", "--chips", 2, "--times", "0s,1h") == 0
    assert len(runs) == WITHOUT_CHIPS + 8
    assert evaluate(checkpoints / "lora", "--chips", 2, "--times", "0s,1h") == 0
    assert len(runs) == WITHOUT_CHIPS + 8, "nothing is measured twice"


def test_a_line_cut_off_by_a_kill_is_measured_again(checkpoints: Path) -> None:
    assert evaluate(checkpoints / "lora", "--chips", 2, "--times", "0s") == 0
    whole, file = result(checkpoints / "lora"), checkpoints / "lora/drift/default/measurements.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert evaluate(checkpoints / "lora", "--chips", 2, "--times", "0s") == 0
    assert result(checkpoints / "lora") == whole


def test_other_conditions_are_never_mixed_in(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(checkpoints / "lora", "--chips", 1, "--times", "0s") == 0
    before = result(checkpoints / "lora")
    capsys.readouterr()
    assert evaluate(checkpoints / "lora", "--chips", 1, "--times", "0s", "--set", "hardware.adc_bits=6") == 2
    assert "hardware.adc_bits: 8 there, 6 here" in " ".join(capsys.readouterr().err.split())
    assert result(checkpoints / "lora") == before
    options = ["--chips", 1, "--times", "0s", "--set", "hardware.adc_bits=3"]
    assert evaluate(checkpoints / "lora", *options, "--overwrite") == 0
    assert result(checkpoints / "lora")["hardware"]["adc_bits"] == 3


def test_measurements_of_former_chips_are_never_mixed_in(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(checkpoints / "lora", "--chips", 1, "--times", "0s") == 0
    file = checkpoints / "lora/drift/default/measurements.jsonl"
    first, *others = file.read_text().splitlines()
    old = "\n".join([json.dumps({**json.loads(first), "format": 3}), *others, ""])
    file.write_text(old)
    capsys.readouterr()
    assert evaluate(checkpoints / "lora", "--chips", 1, "--times", "0s") == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "another version of analora measured them, whose chips are other draws" in error and "--overwrite" in error
    assert file.read_text() == old
    assert evaluate(checkpoints / "lora", "--chips", 1, "--times", "0s", "--overwrite") == 0


def test_several_methods_on_the_same_chips(
    checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [checkpoints / "lora", checkpoints / "digital", checkpoints / "full"]
    assert evaluate(*folders, "--chips", 3, "--times", "0s,1y", "--output", tmp_path / "out") == 0
    table = capsys.readouterr().out
    assert max(map(len, table.splitlines())) <= 80
    content = json.loads((tmp_path / "out/comparison.json").read_text())
    values = {
        name: json.loads((tmp_path / f"out/{name}/drift.json").read_text())["times"][1]["metrics"]["accuracy"]["values"]
        for name in ("lora", "digital", "full")
    }
    difference = np.subtract(values["digital"], values["lora"])
    assert content["differences"]["digital"]["1y"]["mean"] == pytest.approx(difference.mean())
    assert (tmp_path / "out/comparison.png").read_bytes().startswith(b"\x89PNG")


def test_a_smaller_evaluation_never_replaces_a_fuller_one(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkpoints / "lora"
    assert evaluate(run, "--chips", 3, "--times", "0s,1y") == 0
    capsys.readouterr()
    whole, files = result(run), sorted((run / "drift/default").iterdir())
    assert evaluate(run, "--chips", 2, "--times", "0s") == 0
    table = capsys.readouterr().out
    assert "2 chips" in table and "1y" not in table, "what is shown is what was asked for"
    assert result(run) == whole
    assert evaluate(run, "--chips", 1, "--times", "1d", "--seed", 7) == 0
    merged = result(run)
    assert merged["chips"] == [0, 1, 2, 7]
    times = {time["label"]: time for time in merged["times"]}
    assert list(times) == ["0s", "1d", "1y"]
    assert (times["1d"]["chips"], times["1y"]["chips"]) == ([7], [0, 1, 2])
    assert times["1y"]["metrics"]["accuracy"]["ci95"] == whole["times"][1]["metrics"]["accuracy"]["ci95"]
    assert sorted((run / "drift/default").iterdir()) == files


def test_draws_need_not_be_without_gaps(checkpoints: Path) -> None:
    """Several processes that are killed leave any of their measurements."""
    options = [checkpoints / "lora", "--chips", 1, "--times", "0s"]
    assert evaluate(*options, "--set", "drift.draws=7") == 0
    log = checkpoints / "lora/drift/default/measurements.jsonl"
    log.write_text("".join(line for line in log.read_text().splitlines(True) if '"converters only draw 5"' not in line))
    assert evaluate(*options) == 0
    assert len(result(checkpoints / "lora")["converters_only_draws"]["accuracy"]["values"]) == 6


def test_a_comparison_reuses_what_the_checkpoints_hold(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Measurement] = []

    def counted(self: MeasurementLog, measurement: Measurement, scores: Scores, *more: Any) -> None:
        append(self, measurement, scores, *more)
        measured.append(measurement)

    folders, grid = [checkpoints / "lora", checkpoints / "digital"], ["--times", "0s,1y", "--output"]
    assert evaluate(*folders, "--chips", 2, *grid, tmp_path / "anew") == 0
    for folder in folders:
        assert evaluate(folder, "--chips", 2, "--times", "0s,1y") == 0
    built: list[object] = []
    build = evaluation.build_from
    monkeypatch.setattr(evaluation, "build_from", lambda *given: built.append(given) or build(*given))
    assert evaluate(*folders, "--chips", 2, *grid, tmp_path / "out") == 0
    assert built == []
    for name in ("lora", "digital"):
        for file in ("drift.json", "samples.npz"):
            assert (tmp_path / "out" / name / file).read_bytes() == (tmp_path / "anew" / name / file).read_bytes()
        logs = [(tmp_path / way / name / "measurements.jsonl").read_text() for way in ("out", "anew")]
        assert sorted(logs[0].splitlines()) == sorted(logs[1].splitlines())

    # One chip more is all that is measured then, and under other conditions or with --overwrite nothing is reused.
    append = MeasurementLog.append
    monkeypatch.setattr(MeasurementLog, "append", counted)
    assert evaluate(*folders, "--chips", 3, *grid, tmp_path / "out") == 0
    assert {one.chip for one in measured} == {2} and len(measured) == 2 * 4
    for more in (["--set", "hardware.adc_bits=6"], ["--overwrite"]):
        built.clear()
        assert evaluate(folders[0], "--chips", 1, *grid, tmp_path / more[0][2:], *more) == 0
        assert len(built) == 1


def test_a_requirement_writes_nothing(checkpoints: Path, tmp_path: Path) -> None:
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in checkpoints.rglob("*") if path.is_file()}

    assert evaluate(checkpoints / "lora", "--chips", 2, "--times", "0s") == 0
    before = contents()
    options = [checkpoints / "lora", "--chips", 2, "--times", "0s,1y", "--require", "accuracy>=0@1y"]
    assert evaluate(*options) == 0
    assert contents() == before
    assert evaluate(*options, "--output", tmp_path / "out") == 0
    assert (tmp_path / "out/drift.json").is_file() and contents() == before


def test_the_score_of_every_sample_is_kept(checkpoints: Path) -> None:
    assert evaluate(checkpoints / "lora", "--chips", 2, "--times", "0s") == 0
    kept = np.load(checkpoints / "lora/drift/default/samples.npz", allow_pickle=False)
    right = kept["validation.prediction"] == kept["validation.label"]
    rows = {str(name): 100 * row.mean() for name, row in zip(kept["measurements"], right, strict=True)}
    content = result(checkpoints / "lora")
    assert rows["digital"] == pytest.approx(content["digital"]["accuracy"])
    values = content["times"][0]["metrics"]["accuracy"]["values"]
    assert (rows["chip 1 at 0 s"] + rows["chip 1 at 0 s read 1"]) / 2 == pytest.approx(values[1])


def test_what_makes_numbers_meaningless_is_said() -> None:
    def predictions(*classes: int) -> dict[str, Column]:
        return {"validation.prediction": np.array(classes)}

    chip = Measurement("chip", 0, 0.0)
    nothing = drift_result([Metric("accuracy")], {"accuracy": 60.0}, {}, [], baseline={"accuracy": 60.0},
                           samples={DIGITAL: predictions(1, 1, 1)})  # fmt: skip
    first, second = nothing.warnings
    assert first.startswith("not better than the baseline: accuracy is 60.00") and second.startswith(
        "one answer only: the"
    )
    samples = {DIGITAL: predictions(0, 1, 0), chip: predictions(1, 1, 1)}
    collapsed = drift_result([Metric("accuracy")], {"accuracy": 90.0}, {chip: {"accuracy": 60.0}}, ["0s"],
                             baseline={"accuracy": 60.0}, samples=samples)  # fmt: skip
    assert collapsed.warnings == ["one answer only at 0s: 1 of 1 chips"]
    worse = drift_result([PERPLEXITY], {"perplexity": 9.0}, {}, [], baseline={"perplexity": 8.0})
    assert worse.warnings[0].startswith("not better than the baseline")


def test_requirements_decide_the_exit_code(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = [checkpoints / "lora", "--chips", 2, "--times", "0s,1y"]
    assert evaluate(*common, "--require", "accuracy>=1@1y", "--require", "accuracy:min>0@0s") == 0
    capsys.readouterr()
    assert evaluate(*common, "--require", "accuracy>=1@1y", "--require", "accuracy>100@365d") == 3
    assert "accuracy>100@365d" in capsys.readouterr().err
    for wrong in ("f1>=1@1y", "accuracy>=1@2y", "accuracy=>1@1y", "accuracy:median>1@1y", "acuracy>1@1y"):
        assert evaluate(*common, "--require", wrong) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--times", "0s,-1h"], "-1h"),
        (["--times", "soon"], "soon"),
        (["--chips", "0"], "--chips: input should be"),
        (["--adapter", "other"], "no adapter 'other'; it has default"),
        (["--set", "adapter.rank=3"], "belongs to the training"),
        (["--set", "hardware.weight_noise=0"], "training only"),
        (["--set", "hardware.device=reram-wan2022"], "1s, 1d, 2d"),
    ],
)
def test_bad_input_is_one_clear_error(
    options: list[str], message: str, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(checkpoints.rglob("*"))
    assert evaluate(checkpoints / "lora", *options) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert error.startswith("error: ")
    assert message in error
    assert sorted(checkpoints.rglob("*")) == before


@pytest.mark.parametrize("file", ["manifest.json", "analora.yaml", "adapters/default/adapter_model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00"])
def test_damaged_files_are_named(
    file: str, content: bytes, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoints / "lora" / file).write_bytes(content)
    assert evaluate(checkpoints / "lora", "--chips", 1, "--times", "0s") == 2
    assert Path(file).name in "".join(capsys.readouterr().err.split())


def test_the_digital_row_of_a_digital_adapter_is_that_of_its_training(checkpoints: Path) -> None:
    assert evaluate(checkpoints / "digital", "--chips", 1, "--times", "0s", "--set", "hardware.clip_sigma=0.5") == 0
    stored = json.loads((checkpoints / "digital/metrics.json").read_text())
    assert result(checkpoints / "digital")["digital"] == stored["digital"]


def made_result(values: dict[str, list[list[float]]], metric: Metric = F1) -> DriftResult:
    measured = {
        Measurement("chip", chip, seconds(label), read): {metric.name: value}
        for label, chips in values.items()
        for chip, reads in enumerate(chips)
        for read, value in enumerate(reads)
    }
    return drift_result([metric], {metric.name: 90.0}, measured, list(values))


def test_the_spread_of_readings_is_kept_apart_from_that_of_chips() -> None:
    summary = made_result({"0s": [[80.0, 82.0], [90.0, 92.0]]}).summary("f1", "0s")
    assert summary["values"] == [81.0, 91.0]
    assert summary["std"] == pytest.approx(np.std([81, 91], ddof=1))
    # Of the variance of the means, 50, the readings' is 2 / 2.
    assert summary["components"] == {"chip": pytest.approx(7.0), "read": pytest.approx(np.sqrt(2)), "samples": None}


def test_paired_differences_do_not_see_the_chips_own_spread() -> None:
    first, second = made_result({"0s": [[80.0], [90.0], [70.0]]}), made_result({"0s": [[81.0], [91.0], [71.0]]})
    difference = paired_difference(first, second, "0s")
    assert difference["mean"] == 1.0
    assert difference["ci95_chips"] == [1.0, 1.0] and difference["ci95"] is None


def test_requirement_on_the_lower_bound() -> None:
    measured = made_result({"0s": [[80.0], [90.0]]})
    assert not parse_requirement("f1:lower>=50@0s", (F1,), ["0s"]).holds(measured)
    assert parse_requirement("f1:mean>=85@0s", (F1,), ["0s"]).holds(measured)
    assert not parse_requirement("f1:lower>=0@0s", (F1,), ["0s"]).holds(made_result({"0s": [[80.0]]}))


def test_a_requirement_on_what_was_not_measured_fails() -> None:
    one = SimpleNamespace(subject=SimpleNamespace(name="run"), result=made_result({"0s": [[80.0]]}))
    rule = parse_requirement("no_answer_f1>=0@0s", [F1, Metric("no_answer_f1")], ["0s"])
    evaluation = DriftEvaluation([one], [], [rule], written=False, groups=[], deployment=False)  # type: ignore[list-item]
    assert [(check.name, check.measured) for check in evaluation.failed] == [("", None)]


def test_where_lower_is_better_the_worst_chip_is_the_largest_and_the_pessimistic_end_the_upper_one() -> None:
    measured = made_result({"0s": [[10.0], [11.0], [15.0]]}, PERPLEXITY)
    values = {}
    for statistic in ("mean", "worst", "min", "lower", "upper"):
        values[statistic] = parse_requirement(f"perplexity:{statistic}<=12@0s", [PERPLEXITY], ["0s"]).measured(measured)
    assert values["mean"] == 12.0 and values["worst"] == values["min"] == 15.0
    assert values["lower"] == values["upper"] == measured.summary("perplexity", "0s")["ci95_chips"][1] > 15.0
    assert parse_requirement("perplexity<=12@0s", [PERPLEXITY], ["0s"]).holds(measured)
    assert not parse_requirement("perplexity:lower<=12@0s", [PERPLEXITY], ["0s"]).holds(measured)


def test_the_worst_chip_is_the_smallest_where_higher_is_better() -> None:
    measured = made_result({"0s": [[80.0], [90.0]]})
    for statistic in ("worst", "min"):
        assert parse_requirement(f"f1:{statistic}>=80@0s", [F1], ["0s"]).measured(measured) == 80.0
    assert drift_json(measured)["times"][0]["metrics"]["f1"]["worst"] == 80.0


def test_a_gain_is_positive_where_things_got_better() -> None:
    for metric, sign in ((F1, 1.0), (PERPLEXITY, -1.0)):
        before, after = made_result({"0s": [[10.0], [20.0]]}, metric), made_result({"0s": [[12.0], [22.0]]}, metric)
        assert paired_gain(before, after, "0s")["mean"] == 2.0 * sign
        assert paired_difference(before, after, "0s")["mean"] == 2.0


def test_the_json_says_unit_and_direction() -> None:
    content = drift_json(made_result({"0s": [[10.0]]}, PERPLEXITY))
    assert (content["metric"], content["unit"], content["higher_is_better"]) == ("perplexity", "", False)
    content = drift_json(made_result({"0s": [[10.0]]}))
    assert (content["metric"], content["unit"], content["higher_is_better"]) == ("f1", "%", True)


def test_a_log_of_another_key_is_refused(tmp_path: Path) -> None:
    log = MeasurementLog(tmp_path / "measurements.jsonl", {"a": {"b": 1}})
    log.start({"validation.label": np.array([0, 1])})
    log.append(DIGITAL, Scores({"f1": 1.0}, {"validation.f1": np.array([0.25, 1 / 3])}))
    read = MeasurementLog(tmp_path / "measurements.jsonl", {"a": {"b": 1}}).read()
    assert read.scores[DIGITAL].metrics == {"f1": 1.0} and read.truth["validation.label"].tolist() == [0, 1]
    assert read.scores[DIGITAL].samples["validation.f1"].tolist() == [0.25, np.float32(1 / 3)]
    with pytest.raises(UsageError, match=r"a\.b: 1 there, 2 here"):
        MeasurementLog(tmp_path / "measurements.jsonl", {"a": {"b": 2}}).read()


GAUSSIAN = ["--chips", 3, "--times", "0s", "--gaussian", "1%,0.3"]


def test_rows_of_gaussian_noise(
    checkpoints: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured once a chip and level, shown, stored and reused; a later evaluation without them keeps them."""
    from analog_lora_cli.evaluation.evaluator import Evaluator

    runs = []
    original = Evaluator.run
    monkeypatch.setattr(Evaluator, "run", lambda self, *a: runs.append(1) or original(self, *a))
    run = checkpoints / "lora"
    assert evaluate(run, *GAUSSIAN) == 0
    table = capsys.readouterr().out
    assert len(runs) == WITHOUT_CHIPS + 3 * 2 + 3 * 2
    assert "noise 1%" in table and "noise 30%" in table and max(map(len, table.splitlines())) <= 80
    small, large = result(run)["gaussian"]
    assert (small["label"], small["level"], small["chips"]) == ("1%", 0.01, [0, 1, 2])
    assert len(large["metrics"]["accuracy"]["values"]) == 3 and large["metrics"]["accuracy"]["ci95"]
    assert "gaussian,,,2,0,accuracy" in (run / "drift/default/drift.csv").read_text()
    whole = result(run)
    assert evaluate(run, "--chips", 1, "--times", "0s") == 0
    assert "noise 1%" not in capsys.readouterr().out and result(run) == whole
    assert evaluate(run, *GAUSSIAN) == 0
    assert len(runs) == WITHOUT_CHIPS + 3 * 2 + 3 * 2, "nothing is measured twice"


def test_gaussian_noise_acts_on_the_outputs(checkpoints: Path) -> None:
    assert evaluate(checkpoints / "lora", *GAUSSIAN) == 0
    with np.load(checkpoints / "lora/drift/default/samples.npz") as file:
        rows = dict(zip(file["measurements"].tolist(), file["validation.prediction"], strict=True))
    assert not all(np.array_equal(rows["digital"], rows[f"gaussian 0.29999999999999999 chip {c}"]) for c in range(3))


def test_comparisons_pair_the_rows_of_gaussian_noise(
    checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [checkpoints / "lora", checkpoints / "digital"]
    assert evaluate(*folders, *GAUSSIAN, "--output", tmp_path / "out") == 0
    assert "noise 30%" in capsys.readouterr().out
    content = json.loads((tmp_path / "out/comparison.json").read_text())
    assert list(content["differences"]["digital"]) == ["0s", "1%", "30%"]


@pytest.mark.parametrize("level", ["3", "0", "1%,1%", "much", "-3%", "101%"])
def test_wrong_noise_levels_are_one_error(level: str, checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate-drift", str(checkpoints / "lora"), f"--gaussian={level}"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "--gaussian" in error and ("3%" in error or "twice" in error)
    assert not (checkpoints / "lora/drift").exists()
