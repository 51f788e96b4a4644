"""`analora evaluate-drift`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analog_lora_cli.config.load import load_config
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import RequirementError, UsageError
from analog_lora_cli.runtime import console
from analog_lora_cli.runtime import log as run_log
from analog_lora_cli.runtime.libraries import imports_done, prepare_libraries
from analog_lora_cli.runtime.processes import is_main, together
from analog_lora_cli.storage.checkpoint import Checkpoint, read_checkpoint, verify_adapter
from analog_lora_cli.storage.layout import ALL, FIRST_ADAPTER

if TYPE_CHECKING:
    from analog_lora_cli.evaluation.thresholds import Requirement
    from analog_lora_cli.workflows.evaluate import Assessment, Subject

MAY_CHANGE = ("hardware.", "drift.", "reference.", "model.name", "model.revision", "task.validation_file",
              "task.max_eval_samples", "task.n_best", "task.max_answer_length", "task.null_threshold",
              "train.per_device_eval_batch_size")  # fmt: skip
"""Keys that `--set` may change here; the others belong to the training."""


def run(
    checkpoints: list[Path],
    adapters: list[str],
    times: str | None,
    chips: int | None,
    seed: int | None,
    overrides: list[str],
    output: Path | None,
    requirements: list[str],
    overwrite: bool,
) -> None:
    """Measure the checkpoints on chips over time, print the table, write the files, check the requirements."""
    if not is_main():
        console.set_quiet(True)
    overrides = [*overrides, *_drift_overrides(times, chips, seed)]
    _check_overrides(overrides)
    folders = [read_checkpoint(folder) for folder in checkpoints]
    chosen = [(checkpoint, name) for checkpoint in folders for name in _adapters(checkpoint, adapters)]
    prepare_libraries()
    with together():
        done, wanted = _measured(chosen, overrides, output, requirements, overwrite, ALL in adapters)
    if is_main():
        _gate(done, wanted)


def _measured(
    chosen: list[tuple[Checkpoint, str]],
    overrides: list[str],
    output: Path | None,
    requirements: list[str],
    overwrite: bool,
    all_adapters: bool,
) -> tuple[list[Assessment], list[Requirement]]:
    """Measure the chosen adapters, print the table and write the files; also returns the parsed requirements."""
    from analog_lora_cli.evaluation.drift_grid import check_times
    from analog_lora_cli.evaluation.thresholds import parse_requirement
    from analog_lora_cli.report.progress.console import ConsoleReport
    from analog_lora_cli.tasks import make_task
    from analog_lora_cli.workflows.evaluate import Subject, assess, check_comparable

    subjects = [Subject(checkpoint, _config(checkpoint, name, overrides), name) for checkpoint, name in chosen]
    first = subjects[0].config
    subjects = [_with_drift_of(subject, first) for subject in subjects]
    # Adapters for several tasks cannot be compared with each other: they are listed as what one chip serves.
    tasks = {subject.config.task.name for subject in subjects}
    one_checkpoint = len({checkpoint.folder for checkpoint, _ in chosen}) == 1
    deployment = one_checkpoint and len(subjects) > 1 and (all_adapters or len(tasks) > 1)
    metrics = {name: None for subject in subjects for name in make_task(subject.config.task, 0).metric_names}
    wanted = [parse_requirement(text, tuple(metrics), first.drift.times) for text in requirements]
    for subject in subjects:
        check_times(subject.config.hardware, subject.config.drift.times)
    if len(subjects) > 1 and not deployment:
        check_comparable(subjects)
    imports_done()
    report = ConsoleReport()
    try:
        several = len(subjects) > 1
        done = [assess(one, _folder(one, output, several), report, overwrite=overwrite) for one in subjects]
    finally:
        report.close()
    if is_main():
        _write_and_print(done, output, deployment)
    return done, wanted


def _drift_overrides(times: str | None, chips: int | None, seed: int | None) -> list[str]:
    listed = None if times is None else f"[{','.join(part.strip() for part in times.split(','))}]"
    values = {"times": listed, "chips": chips, "seed": seed}
    return [f"drift.{key}={value}" for key, value in values.items() if value is not None]


def _check_overrides(overrides: list[str]) -> None:
    for text in overrides:
        key = text.partition("=")[0].strip()
        if key.startswith("hardware.weight_noise"):
            raise UsageError(f"--set {text}: {key} acts in training only; it would change nothing here")
        if key in ("hardware", "drift") or key.startswith(MAY_CHANGE):
            continue
        raise UsageError(
            f"--set {text}: {key} belongs to the training and cannot change here; what can: hardware.*, drift.*, "
            "model.name, task.validation_file, task.max_eval_samples, train.per_device_eval_batch_size"
        )


def _adapters(checkpoint: Checkpoint, names: list[str]) -> list[str]:
    """The adapters that `--adapter` names: by default the first one, with `all` every one."""
    every = checkpoint.adapters or [FIRST_ADAPTER]
    return list(
        dict.fromkeys(name for given in names or [FIRST_ADAPTER] for name in (every if given == ALL else [given]))
    )


def _config(checkpoint: Checkpoint, adapter: str, overrides: list[str]) -> Config:
    verify_adapter(checkpoint, adapter)
    return load_config(base=checkpoint.config_of(adapter).model_dump(mode="json"), overrides=overrides)


def _with_drift_of(subject: Subject, first: Config) -> Subject:
    from dataclasses import replace

    return replace(subject, config=subject.config.model_copy(update={"drift": first.drift}))


def _folder(subject: Subject, output: Path | None, several: bool) -> Path:
    """The folder for a subject's measurements."""
    if output is None:
        return subject.own_folder
    return output / subject.name.replace("/", "-") if several else output


def _write_and_print(done: list[Assessment], output: Path | None, deployment: bool) -> None:
    from analog_lora_cli.report.drift.comparison import comparison_table, write_comparison
    from analog_lora_cli.report.drift.deployment import deployment_table, write_deployment
    from analog_lora_cli.report.drift.table import drift_table, write_drift

    several = len(done) > 1
    for one in done:
        assert one.drift is not None
        folder = _folder(one.subject, output, several)
        run_log.keep_in(folder)
        write_drift(one.drift, folder, one.subject.name)
        if not several:
            title = f"{one.subject.name}: {one.metric} over time"
            console.results().print(drift_table(one.drift, title, one.guess.get(one.metric)))
        console.note(f"written: {folder}/drift.json, drift.csv, drift.png")
    if deployment:
        console.results().print(deployment_table(done))
        if output is not None:
            write_deployment(done, output)
            console.note(f"written: {output}/deployment.json")
    elif several:
        console.results().print(comparison_table(done))
        if output is not None:
            write_comparison(done, output)
            console.note(f"written: {output}/comparison.json, comparison.png")


def _gate(done: list[Assessment], wanted: list[Requirement]) -> None:
    checked = [(one, rule) for one in done for rule in wanted if one.drift and rule.metric in one.drift.digital]
    failed = [(one, rule) for one, rule in checked if one.drift is not None and not rule.holds(one.drift)]
    if not failed:
        return
    made = console.table("Requirements that do not hold", "checkpoint", "required", "measured", left=2)
    for one, rule in failed:
        assert one.drift is not None
        measured = rule.measured(one.drift)
        made.add_row(one.subject.name, rule.text, "unknown with one chip" if measured is None else f"{measured:.2f}")
    console.messages().print(made)
    raise RequirementError(f"{len(failed)} of {len(checked)} requirements do not hold")
