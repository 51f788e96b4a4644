"""An adaptation: which adapter is added to which checkpoint, and whether that is possible. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from analog_lora_cli.config import scope
from analog_lora_cli.config.adapt import adaptation_config
from analog_lora_cli.config.flat import flatten
from analog_lora_cli.config.load import differences
from analog_lora_cli.config.recalibration import Recalibration
from analog_lora_cli.config.schema import Config
from analog_lora_cli.config.sections.adapter import LoraSection
from analog_lora_cli.config.times import seconds, time_option
from analog_lora_cli.errors import UsageError
from analog_lora_cli.models.adapter_variants import VARIANTS
from analog_lora_cli.runtime.ranks import is_main
from analog_lora_cli.storage import checkpoint as store
from analog_lora_cli.storage import layout
from analog_lora_cli.storage.checkpoint import Checkpoint, read_checkpoint
from analog_lora_cli.storage.files import check_writable
from analog_lora_cli.storage.locks import check_free
from analog_lora_cli.storage.manifest import is_adapter_name
from analog_lora_cli.storage.sealed import read_sealed
from analog_lora_cli.workflows.request import Request


@dataclass(frozen=True)
class AgedChip:
    """One chip at one time."""

    seed: int
    at: str
    """Time after programming, with its unit."""

    @property
    def age(self) -> float:
        """Seconds after programming."""
        return seconds(self.at)


@dataclass(frozen=True)
class Adaptation:
    """Plan of an adaptation."""

    checkpoint: Checkpoint
    config: Config
    name: str
    """Name of the new adapter."""
    start: str | None = None
    """The adapter to start from; None: a new one."""
    chip: AgedChip | None = None
    """The chip to train on; None: statistical noise, for all chips."""

    @property
    def trainer_folder(self) -> Path:
        """Folder of the saved states that `--resume` continues from."""
        return store.trainer_folder(self.checkpoint.folder, self.name)

    @property
    def finished(self) -> bool:
        """Whether the checkpoint holds an adapter of this name."""
        return self.name in self.checkpoint.manifest["adapters"]

    @property
    def unfinished(self) -> bool:
        """Whether an adaptation of this name was begun, perhaps to replace an adapter, and not ended."""
        request = self.trainer_folder / layout.REQUEST
        if not (self.finished and request.is_file()):
            return request.is_file()
        content, entry = read_sealed(request), self.checkpoint.entry(self.name)
        same = all(content.get(key) == entry.get(key) for key in self.request())
        return not same or Config.model_validate(content["config"]) != self.checkpoint.config_of(self.name)

    def request(self) -> dict[str, Any]:
        """Inputs that decide the result, for the manifest and for `--resume`."""
        files = None if self.start is None else self.checkpoint.entry(self.start)["files"]
        return {"from": self.start, "from_files": files, "chip": None if self.chip is None else asdict(self.chip)}


@dataclass(frozen=True, kw_only=True)
class AdaptRequest(Request):
    """The options of `analora adapt`; see `adapt` for what each means."""

    PATHS = ("checkpoint", "config_file")

    checkpoint: Path
    preset: str | None = None
    config_file: Path | None = None
    overrides: Sequence[str] = ()
    adapter: str | None = None
    start: str | None = None
    chip: int | None = None
    at: str | None = None
    resume: bool = False
    overwrite: bool = False
    drift: bool = True

    def plan(self) -> Adaptation:
        """Plan the adaptation, from the checkpoint and the options.

        Raises:
            UsageError, CheckpointError, ConfigError: the folder, an option or a key is wrong.
        """
        store.check_modes(self.resume, self.overwrite)
        checkpoint = read_checkpoint(self.checkpoint)
        name = self.adapter if self.adapter is not None else self.preset
        if name is None and self.config_file is not None:
            name = self.config_file.stem
        if name is None:
            raise UsageError("give the new adapter a name with --adapter NAME (or --preset NAME, which names it too)")
        if (self.chip is None) != (self.at is None):
            raise UsageError("--chip SEED and --at TIME belong together: one chip at one time after programming")
        age, start = time_option("--at", self.at), self.start
        if start is not None:
            store.verify_adapter(checkpoint, start)
        base = checkpoint.config_of(start or layout.FIRST_ADAPTER)
        config = adaptation_config(
            base, self.preset, self.config_file, self.overrides, in_the_loop=self.chip is not None
        )
        if config.objective.recalibration is not None:
            config = _recalibrated(base, config, config.objective.recalibration)
        if self.chip is None or age is None:
            return Adaptation(checkpoint, config, name, start)
        if start is None and config.task.same_head(base.task):
            start = layout.FIRST_ADAPTER
        return Adaptation(checkpoint, _with_time(config, age), name, start, AgedChip(self.chip, age))


def _with_time(config: Config, label: str) -> Config:
    """The configuration with one more time to measure at, unless it is among them."""
    times = config.drift.times
    if seconds(label) in map(seconds, times):
        return config
    drift = config.drift.model_copy(update={"times": sorted([*times, label], key=seconds)})
    return config.model_copy(update={"drift": drift})


def _recalibrated(base: Config, config: Config, settings: Recalibration) -> Config:
    """The configuration of an adapter with a correction added: as one LoRA adapter, of both ranks together, with scale
    1.

    Raises:
        UsageError: the configuration changes what a recalibration takes as it is.
    """
    before, after = (flatten(one.model_dump(mode="json", include={"adapter", "train"})) for one in (base, config))
    idle = [key for key in after if before.get(key) != after[key] and not _acts_without_training(key)]
    if idle:
        raise UsageError(
            f"{idle[0]}: a recalibration trains nothing and takes the adapter as it is: leave it out; "
            "objective.recalibration_rank is the rank of the correction"
        )
    rank = base.adapter.rank + settings.rank
    adapter = LoraSection(rank=rank, alpha=float(rank), train_head=base.adapter.train_head)
    return config.model_copy(update={"adapter": adapter})


def _acts_without_training(key: str) -> bool:
    return scope.shown_over_drift(key) or key == "train.seed"  # The seed draws the text that is read.


def check_adaptation(adaptation: Adaptation, resume: bool, overwrite: bool) -> None:
    """Check whether an adaptation can begin, without writing anything.

    Raises:
        UsageError: the name is not one or is taken, the adapter to start from does not fit, or an unfinished
            adaptation is in the way.
        CheckpointError: the adapter to start from is damaged.
    """
    checkpoint, config, name = adaptation.checkpoint, adaptation.config, adaptation.name
    if checkpoint.config.trains_base:
        raise UsageError(
            f"{checkpoint.folder}: method full has trained the weights on the tiles for one task and has no adapters; "
            "adapt works on checkpoints of method lora or digital"
        )
    if not is_adapter_name(name) or name in (layout.ALL, layout.FIRST_ADAPTER):
        reason = f"; {name!r} has a meaning of its own" if name in (layout.ALL, layout.FIRST_ADAPTER) else ""
        raise UsageError(
            f"--adapter {name}: expected a name of at most 64 letters, digits, dots, dashes and underscores{reason}"
        )
    if adaptation.chip is not None and not config.on_tiles:
        raise UsageError("--chip: method digital knows no chips; add --set method=lora")
    if config.objective.recalibration is not None and (adaptation.chip is None or adaptation.start is None):
        missing = "--chip SEED --at TIME" if adaptation.chip is None else "--from ADAPTER, one of the same task"
        raise UsageError(
            "objective.kind: recalibration corrects a trained adapter for one chip at one time: add " + missing
        )
    if adaptation.start is not None:
        _check_start(adaptation, adaptation.start)
    check_writable(checkpoint.folder)
    if is_main():
        check_free(adaptation.trainer_folder)
    _check_existing(adaptation, resume, overwrite)


def _check_start(adaptation: Adaptation, start: str) -> None:
    store.verify_adapter(adaptation.checkpoint, start)
    old, new = adaptation.checkpoint.config_of(start), adaptation.config
    if not new.task.same_head(old.task) and not old.head == new.head == "pretrained":
        raise UsageError(
            f"--from {start}: was trained for {old.task.name}, with a head that {new.task.name} cannot use; leave "
            "--from out"
        )
    if new.objective.recalibration is not None:
        variant = VARIANTS[old.adapter.variant]
        if variant.factors is None:
            raise UsageError(
                f"--from {start}: no correction can be added to its adapter.variant {old.adapter.variant}: it "
                f"{variant.no_sum}. `analora evaluate-drift --recalibrate` measures one beside it"
            )
        return
    if not VARIANTS[new.adapter.variant].continues:
        raise UsageError(
            f"--from {start}: variant {new.adapter.variant} has spread its ranks already and cannot start from there; "
            "leave --from out, or use another adapter.variant from the beginning"
        )
    before, after = old.adapter.model_dump(), new.adapter.model_dump()
    changed = [key for key in ("variant", "rank", "alpha", "targets") if before.get(key) != after.get(key)]
    if changed:
        raise UsageError(
            f"--from {start}: its adapter.{changed[0]} is {before.get(changed[0])!r}, which cannot change; "
            "leave --from out for a new adapter"
        )


def _check_existing(adaptation: Adaptation, resume: bool, overwrite: bool) -> None:
    folder, name = adaptation.checkpoint.folder, adaptation.name
    if adaptation.finished and not (resume or overwrite):
        raise UsageError(
            f"{folder}: has an adapter {name} already; choose another --adapter, or replace it with --overwrite"
        )
    request = adaptation.trainer_folder / layout.REQUEST
    if adaptation.finished and resume and not adaptation.unfinished:
        old_config, old = adaptation.checkpoint.config_of(name), adaptation.checkpoint.entry(name)
    elif request.is_file() and not overwrite:
        old = read_sealed(request)
        old_config = Config.model_validate(old["config"])
        if not resume:
            raise UsageError(
                f"{folder}: holds an unfinished adaptation {name}; continue it with --resume, replace it with "
                "--overwrite, or choose another --adapter"
            )
    else:
        return
    differing = differences(old_config, adaptation.config)
    for key, value in adaptation.request().items():
        if old.get(key) != value:
            differing.append(f"--{key.replace('_', ' ')}: {old.get(key)!r} there, {value!r} here")
    if differing:
        lines = "\n".join(f"  - {line}" for line in differing)
        raise UsageError(
            f"{folder}: --resume continues an adaptation as it was started; {name} differs in\n{lines}\n"
            "Use the old values, or another --adapter"
        )
