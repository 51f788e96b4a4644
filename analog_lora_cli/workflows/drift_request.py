"""The options of `analora evaluate-drift`, and the adapters that they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analog_lora_cli.config import scope
from analog_lora_cli.config.adapt import refuse_unnamed_metrics
from analog_lora_cli.config.flat import flatten
from analog_lora_cli.config.load import load_config, parse_overrides
from analog_lora_cli.config.options import option_layers
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import UsageError
from analog_lora_cli.storage.checkpoint import Checkpoint, read_checkpoint, verify_adapter
from analog_lora_cli.storage.layout import ALL, FIRST_ADAPTER
from analog_lora_cli.storage.seed_folders import seed_folders
from analog_lora_cli.workflows.methods import check_methods
from analog_lora_cli.workflows.request import Request
from analog_lora_cli.workflows.subject import Subject


@dataclass(frozen=True, kw_only=True)
class DriftRequest(Request):
    """The options of `analora evaluate-drift`; see `evaluate_drift` for what each means."""

    PATHS = ("output",)
    LISTS = ("checkpoints", "adapters")

    checkpoints: Sequence[Path | str]
    adapters: Sequence[str] = ()
    times: str | Sequence[str] | None = None
    chips: int | None = None
    seed: int | None = None
    reads: int | None = None
    gaussian: str | Sequence[str | float] | None = None
    recalibrate: int | None = None
    limit: int | None = None
    overrides: Sequence[str] = ()
    requirements: Sequence[str] = ()
    output: Path | None = None
    overwrite: bool = False

    @property
    def writes(self) -> bool:
        """Whether results are written: a check with requirements only reads, unless it is told where to write."""
        return not self.requirements or self.output is not None

    def plan(self) -> list[Subject]:
        """Plan the measurement: adapters, each with its checkpoint and configuration; all with the first one's `drift`.

        Raises:
            UsageError, CheckpointError, ConfigError: a folder, an adapter, an option or a key is wrong.
        """
        if not self.checkpoints:
            raise UsageError("give at least one checkpoint folder")
        _check_overrides(self.overrides)
        options = option_layers(
            self.overrides,
            times=self.times,
            chips=self.chips,
            seed=self.seed,
            reads=self.reads,
            limit=self.limit,
            gaussian=self.gaussian,
            recalibrate=self.recalibrate,
        )
        plan: list[Subject] = []
        for folder, group in self._folders():
            checkpoint = read_checkpoint(folder)
            for name in _adapters(checkpoint, self.adapters):
                verify_adapter(checkpoint, name)
                base = checkpoint.config_of(name).model_dump(mode="json")
                config = load_config(base=base, overrides=self.overrides, options=options)
                refuse_unnamed_metrics(config, parse_overrides(self.overrides))
                _refuse_clipping(checkpoint.config_of(name), config)
                drift = plan[0].config.drift if plan else config.drift
                plan.append(Subject(checkpoint, config.model_copy(update={"drift": drift}), name, group=group))
        check_methods(plan)
        return plan

    def _folders(self) -> list[tuple[Path, Path | None]]:
        """The checkpoint folders, each with the folder of `train --seeds` that it is in, if that was given."""
        folders: list[tuple[Path, Path | None]] = []
        for folder in map(Path, self.checkpoints):
            own = seed_folders(folder)
            folders += [(each, folder) for each in own] or [(folder, None)]
        kinds = {group is None for _, group in folders}
        if len(kinds) > 1:
            raise UsageError(
                "some folders hold one checkpoint, others several of train --seeds: one training cannot stand for its "
                "method; give folders of one kind"
            )
        if False in kinds and (len(set(self.adapters)) > 1 or ALL in self.adapters):
            raise UsageError("--adapter: folders of train --seeds are compared by one adapter; give one name")
        return folders


def _check_overrides(overrides: Sequence[str]) -> None:
    for option, layer in parse_overrides(overrides):
        for key in filter(scope.is_key, flatten(layer)):
            if scope.settled(key):
                raise UsageError(
                    f"{option}: {key} belongs to the training and cannot change here; what can: hardware.*, drift.*, "
                    "model.name, task.validation_file, task.max_eval_samples, train.per_device_eval_batch_size"
                )
            if not scope.shown_over_drift(key):
                only = "; it acts in training only" if scope.affects(key, "training") else ""
                raise UsageError(f"{option}: {key} would change nothing here{only}")


def _refuse_clipping(trained: Config, config: Config) -> None:
    """The trained weights of `method: full` were clipped in training and are not clipped again."""
    if not config.trains_base:
        return
    old, new = (scope.project(one.hardware, "clipping") for one in (trained, config))
    for key in old:
        if old[key] != new[key]:
            raise UsageError(
                f"hardware.{key}: would change nothing here: the weights of method full were clipped in training, at "
                f"{old[key]!r}"
            )


def _adapters(checkpoint: Checkpoint, names: Sequence[str]) -> list[str]:
    """The adapters that `--adapter` names: by default the first one, with `all` every one."""
    all_names = checkpoint.adapters or [FIRST_ADAPTER]
    adapters = [each for name in names or [FIRST_ADAPTER] for each in (all_names if name == ALL else [name])]
    return list(dict.fromkeys(adapters))
