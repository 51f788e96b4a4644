"""`inspect-tiles` as a whole: a model's placement on tiles, and its files. Imports torch only when it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analog_lora_cli.config import scope
from analog_lora_cli.config.flat import flatten
from analog_lora_cli.config.load import Layers, load_config, parse_overrides
from analog_lora_cli.config.options import option_layers
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import UsageError
from analog_lora_cli.runtime.libraries import imports_done
from analog_lora_cli.storage.checkpoint import read_checkpoint, verify_adapter
from analog_lora_cli.storage.files import check_new_file, replacing, write_json, write_text
from analog_lora_cli.storage.layout import FIRST_ADAPTER
from analog_lora_cli.workflows.request import Request

if TYPE_CHECKING:
    from analog_lora_cli.inspection.inspect import Inspection
    from analog_lora_cli.inspection.source import Source

DEFAULT_TIMES = "1d,1y,10y"
DEFAULT_TOKENS = 128


@dataclass(frozen=True, kw_only=True)
class InspectRequest(Request):
    """The options of `analora inspect-tiles`; see `inspect_tiles` for what each means."""

    PATHS = ("checkpoint", "config_file", "json", "csv", "plot")

    checkpoint: Path | None = None
    preset: str | None = None
    config_file: Path | None = None
    model: str | None = None
    adapter: str | None = None
    overrides: Sequence[str] = ()
    statistics: bool = False
    errors: bool = False
    times: str | Sequence[str] | None = None
    chips: int | None = None
    seed: int | None = None
    inputs: str | None = None
    tokens: int | None = None
    pack: bool = False
    json: Path | None = None
    csv: Path | None = None
    plot: Path | None = None
    overwrite: bool = False

    @property
    def real_inputs(self) -> bool:
        """Whether errors are measured on validation data, not on random inputs."""
        return self.errors and (self.inputs or ("random" if self.model is not None else "data")) == "data"

    @property
    def names_task(self) -> bool:
        """Whether an override names the task."""
        return any("task.name" in flatten(layer) for _, layer in parse_overrides(self.overrides))

    @property
    def files(self) -> dict[str, Path]:
        """The files to write by option."""
        files = {"json": self.json, "csv": self.csv, "plot": self.plot}
        return {name: path for name, path in files.items() if path is not None}

    def check(self) -> None:
        """Check that the options fit together and that the files can be written; writes nothing.

        Raises:
            UsageError: they do not.
        """
        _check_source(self)
        _check_options(self)
        _check_overrides(self)
        _check_files(self)

    def config(self) -> Config:
        """The configuration to inspect."""
        options: Layers = [] if self.model is None else [("--model", {"model": {"name": self.model}})]
        if self.errors:
            chips = 1 if self.chips is None else self.chips
            options += option_layers(self.overrides, times=self.times or DEFAULT_TIMES, chips=chips, seed=self.seed)
        if self.checkpoint is None:
            return load_config(self.preset, self.config_file, self.overrides, options=options)
        checkpoint, adapter = read_checkpoint(self.checkpoint), self.adapter or FIRST_ADAPTER
        verify_adapter(checkpoint, adapter)
        base = checkpoint.config_of(adapter).model_dump(mode="json")
        return load_config(base=base, overrides=self.overrides, options=options)


def inspect_tiles(
    checkpoint: Path | str | None = None,
    *,
    preset: str | None = None,
    config_file: Path | str | None = None,
    model: str | None = None,
    adapter: str | None = None,
    overrides: Sequence[str] = (),
    statistics: bool = False,
    errors: bool = False,
    times: str | Sequence[str] | None = None,
    chips: int | None = None,
    seed: int | None = None,
    inputs: str | None = None,
    tokens: int | None = None,
    pack: bool = False,
    json: Path | str | None = None,
    csv: Path | str | None = None,
    plot: Path | str | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Look at how a model lies on tiles; give exactly one of `checkpoint`, `preset` (or `config_file`) and `model`.

    Args:
        checkpoint: a checkpoint folder.
        preset: name of a preset.
        config_file: a YAML file.
        model: a hub id, a local folder, or `package:PACKAGE/FOLDER`.
        adapter: an adapter of the checkpoint; None: the first one.
        overrides: `KEY=VALUE` texts, as with `--set`.
        statistics: load the weights; their distribution and conductances.
        errors: also measure each layer's error, effect by effect.
        times: for `errors`: times after programming; None: 1d, 1y, 10y.
        chips: for `errors`: number of chips to average over; None: 1.
        seed: for `errors`: seed of the first chip.
        inputs: for `errors`: `data` or `random`; None: `data`, or with `model` `random`.
        tokens: for `errors`: inputs of each layer; None: 128.
        pack: let small layers share tiles.
        json: file for everything.
        csv: file for one line a layer.
        plot: file for a picture of the tiles, PNG.
        overwrite: replace files that exist.
        progress: called with the numbers of finished and of all layers.

    Raises:
        UsageError: before anything is written.
    """
    options = {name: value for name, value in locals().items() if name != "progress"}  # The fields of the request.
    return carry_out(InspectRequest(**options), progress)


def carry_out(request: InspectRequest, progress: Callable[[int, int], None] | None = None) -> Inspection:
    """Inspect as a request says; errors as with `inspect_tiles`."""
    request.check()
    config = request.config()

    from analog_lora_cli.inspection.inspect import InspectionRequest, inspect
    from analog_lora_cli.inspection.own_task import with_own_task

    if request.model is not None and not request.names_task:
        config = with_own_task(config)

    details = InspectionRequest(
        statistics=request.statistics,
        errors=request.errors,
        real_inputs=request.real_inputs,
        tokens=request.tokens or DEFAULT_TOKENS,
        pack=request.pack,
    )
    if request.statistics or request.errors:
        imports_done()
    inspection = inspect(_source(request, config), details, progress)
    _write(inspection, request.files)
    return inspection


def _check_source(request: InspectRequest) -> None:
    sources = {
        "CHECKPOINT": request.checkpoint is not None,
        "--preset or --config": request.preset is not None or request.config_file is not None,
        "--model": request.model is not None,
    }
    if sum(sources.values()) != 1:
        names = " and ".join(name for name, is_given in sources.items() if is_given) or "none"
        raise UsageError(
            f"give exactly one of CHECKPOINT, --preset NAME (or --config FILE) and --model ID; got {names}"
        )
    if request.adapter is not None and request.checkpoint is None:
        raise UsageError("--adapter names an adapter of a checkpoint; give a CHECKPOINT")


def _check_options(request: InspectRequest) -> None:
    for name in ("times", "chips", "seed", "inputs", "tokens"):
        if getattr(request, name) is not None and not request.errors:
            raise UsageError(f"--{name}: has an effect on --errors only; add --errors")
    if request.tokens is not None and request.tokens < 1:
        raise UsageError(f"--tokens: expected 1 or more, got {request.tokens}")
    if request.inputs not in (None, "data", "random"):
        raise UsageError(f"--inputs: expected data or random, got {request.inputs!r}")
    if request.inputs == "data" and request.model is not None:
        raise UsageError("--inputs data: --model names no data; give a preset, a --config or a checkpoint")


def _check_overrides(request: InspectRequest) -> None:
    """A key that changes nothing here is an error, not a silent nothing."""
    for option, layer in parse_overrides(request.overrides):
        for key in filter(scope.is_key, flatten(layer)):
            if request.checkpoint is not None and scope.settled(key):
                raise UsageError(f"{option}: {key} belongs to the training and cannot change here")
            if key in ("drift.times", "drift.chips", "drift.seed"):
                raise UsageError(f"{option}: give --{key.partition('.')[2]} instead")
            if key == "hardware.simulator":
                raise UsageError(f"{option}: the errors are those of this tool's own tile, whatever {key} says")
            missing = scope.inspection_shows(key, request.statistics, request.errors)
            if missing is None:
                raise UsageError(f"{option}: {key} changes nothing that inspect-tiles shows")
            if missing:
                acts = "the errors" if missing == "--errors" else "weights and conductances"
                raise UsageError(f"{option}: {key} acts on {acts}; add {missing}")


def _check_files(request: InspectRequest) -> None:
    files = request.files
    if len({path.absolute() for path in files.values()}) < len(files):
        raise UsageError("--json, --csv and --plot must name different files")
    for name, path in files.items():
        check_new_file(f"--{name}", path, request.overwrite)


def _source(request: InspectRequest, config: Config) -> Source:
    from analog_lora_cli.inspection.source import Source

    if request.checkpoint is None:
        file = request.config_file.stem if request.config_file is not None else None
        model = Path(str(request.model))
        return Source(request.preset or file or (model.resolve().name if model.is_dir() else str(model)), config)
    checkpoint = read_checkpoint(request.checkpoint)
    return Source(request.checkpoint.resolve().name, config, checkpoint, request.adapter or FIRST_ADAPTER)


def _write(inspection: Inspection, files: dict[str, Path]) -> None:
    from analog_lora_cli.inspection.files import inspection_csv, inspection_json

    for name, path in files.items():
        if name == "json":
            write_json(path, inspection_json(inspection))
        elif name == "csv":
            write_text(path, inspection_csv(inspection))
        else:
            from analog_lora_cli.figures.tiles import tile_plot

            with replacing(path) as beside:
                tile_plot(inspection, beside)
