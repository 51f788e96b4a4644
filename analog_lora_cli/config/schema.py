"""What may stand in a configuration: every key, its meaning, its unit and its special values.

Unknown keys are errors. This module imports neither torch nor transformers, so that configurations can be
listed and checked at once.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from analog_lora_cli.config.latency import LatencyConfig
from analog_lora_cli.config.section import Section
from analog_lora_cli.config.times import seconds, time_label

TaskName = Literal["squad", "squad_v2", "cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli"]
Method = Literal["lora", "full", "digital"]
Variant = Literal["lora", "rslora", "dora", "adalora", "vera", "lora+"]
Init = Literal["default", "gaussian"]
Device = Literal["pcm", "hermes", "reram-cmo", "reram-wan2022", "state-independent", "custom-drift"]
Converter = Literal["single-pair", "dual-pair", "n-pair", "custom-pair", "single-device"]
Compensation = Literal["none", "global", "global-exact", "per-column"]
DriftTime = Annotated[str, BeforeValidator(time_label)]


CHARACTERIZED: dict[Device, tuple[float, float]] = {
    "pcm": (0.0, 25.0),
    "custom-drift": (0.0, 25.0),
    "state-independent": (0.0, 25.0),
    "hermes": (0.0, 20.7),
    "reram-wan2022": (0.0, 40.0),
    "reram-cmo": (9.0, 88.199997),
}
"""Smallest and largest conductance in uS that the constants of each noise model belong to (aihwkit's defaults; for
`hermes` with two devices a weight)."""


REWRITES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")
"""Initialisations of PEFT that subtract the adapter's start from the base weights."""


def _leaves_base_alone(value: object) -> object:
    if isinstance(value, str) and value.lower() in REWRITES_BASE:
        raise ValueError(
            f"{value} rewrites the base weights: the chip would have to hold the rewritten ones, and could not serve "
            "other adapters; use default or gaussian with variant lora"
        )
    return value


def _unique_times(times: list[str]) -> list[str]:
    by_seconds: dict[float, str] = {}
    for label in times:
        if seconds(label) in by_seconds:
            raise ValueError(f"{label} and {by_seconds[seconds(label)]} are the same time")
        by_seconds[seconds(label)] = label
    return [by_seconds[key] for key in sorted(by_seconds)]


class ModelConfig(Section):
    """The pretrained model whose linear layers are put onto analog tiles."""

    name: str = Field(default="google/mobilebert-uncased", min_length=1)
    """Hub id, local folder, or `package:PACKAGE/FOLDER` for a folder inside an installed Python package."""

    revision: str | None = None
    """Branch, tag or commit on the hub; null takes the default branch. Only for hub ids."""


class TaskConfig(Section):
    """The task, its data and how text becomes features."""

    name: TaskName = "squad"
    """SQuAD v1.1 or v2, or a GLUE task."""

    train_file: str | None = None
    """SQuAD JSON, or CSV/JSON/JSONL with GLUE's column names; `package:PACKAGE/FILE` for a file inside an
    installed package; null takes the data set from the hub."""

    validation_file: str | None = None
    """As `train_file`."""

    max_length: int = Field(default=320, ge=8)
    """Longest input, in tokens."""

    doc_stride: int = Field(default=128, ge=1)
    """Overlap of the windows of a long SQuAD context, in tokens. Without effect on GLUE."""

    max_train_samples: int | None = Field(default=None, ge=1)
    """Use only this many training samples, drawn with `train.seed`; null: all."""

    max_eval_samples: int | None = Field(default=None, ge=1)
    """Use only the first validation samples (SQuAD: questions); null: all."""

    n_best: int = Field(default=20, ge=1)
    """SQuAD: start and end candidates considered in each window."""

    max_answer_length: int = Field(default=30, ge=1)
    """SQuAD: longest answer, in tokens."""

    null_threshold: float = 0.0
    """SQuAD v2: the empty answer is given when its score exceeds the best answer's by more than this (logits)."""


class AdapterConfig(Section):
    """The digital adapter that PEFT puts beside the analog layers. Not used by `method: full`."""

    variant: Annotated[Variant, BeforeValidator(_leaves_base_alone)] = "lora"
    """`lora`; `rslora` (scaled by 1/sqrt(rank)); `dora` (magnitude and direction, needs `dropout: 0`); `adalora`
    (rank spread over the layers while training); `vera` (frozen shared projections, trained vectors); `lora+`
    (larger learning rate for B)."""

    rank: int = Field(default=8, ge=1)
    """Rank of the update. For `adalora` the average rank at the end."""

    alpha: float = Field(default=32.0, gt=0)
    """Scale of the update: the product BA is multiplied by alpha/rank (`rslora`: alpha/sqrt(rank)). `vera` has no
    such scale: setting it there is an error."""

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout on the adapter's input while training, as a probability."""

    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of the linear layers that get an adapter: `query`, `attention.self.query` or a full name; each matches as
    a dotted suffix, and must match something. The head is left out while `train_head` is true. Null: every linear
    layer that lies on tiles."""

    train_head: bool = True
    """True: the task head is digital, trained and saved with the adapter. False, as in the paper's repository: the
    head is random and frozen, on tiles like every other linear layer, and gets an adapter if it is a target."""

    init: Annotated[Init, BeforeValidator(_leaves_base_alone)] = "default"
    """How LoRA's A starts: `default` (Kaiming uniform) or `gaussian`. B starts at zero in both."""

    lora_plus_ratio: float = Field(default=16.0, ge=1)
    """`lora+`: learning rate of B over that of A."""

    adalora_init_rank: int | None = Field(default=None, ge=1)
    """`adalora`: rank at the start; null: 1.5 times `rank`, rounded up."""


class HardwareConfig(Section):
    """The analog hardware. Tile units: inputs scaled by the token's largest magnitude, weights by the largest
    magnitude of their output column, so that both lie in [-1, 1]."""

    simulator: Literal["fast", "aihwkit"] = "fast"
    """`fast`: this project's tile; `aihwkit`: aihwkit's own torch tile, slower, for comparison."""

    kernels: Literal["auto", "torch", "numba"] = "auto"
    """How the tiles of `fast` are computed on a CPU: `numba` with compiled loops and dropout whose masks come from a
    hash, `torch` with torch's own operations and dropout, `auto` with numba where it can be loaded. Bit-identical but
    for the dropout masks and rounding."""

    layers: list[str] | None = None
    """Linear layers to put onto tiles, as dotted suffixes of their names; null: all but the trained head."""

    tile_rows: int = Field(default=512, ge=0)
    """Inputs of one tile (word lines); 0: no limit."""

    tile_columns: int = Field(default=512, ge=0)
    """Outputs of one tile (bit lines); 0: no limit."""

    dac_bits: int = Field(default=8, ge=0, le=16)
    """Resolution of the input converter in bits: 2^bits - 1 levels over [-1, 1]; 0: ideal, 1 is not possible."""

    adc_bits: int = Field(default=8, ge=0, le=16)
    """Resolution of the output converter in bits: 2^bits - 1 levels over [-adc_bound, adc_bound]; 0: ideal."""

    adc_bound: float = Field(default=12.0, ge=0)
    """Largest output that the ADC can read, in tile units; 0: no limit (then `adc_bits` must be 0)."""

    bound_management: Literal["saturate", "iterative"] = "saturate"
    """What happens to a token whose output exceeds `adc_bound` on a tile: `saturate` clamps it; `iterative` reads that
    token again with halved input until it fits (aihwkit does so for the whole batch at once)."""

    output_noise: float = Field(default=0.04, ge=0)
    """Standard deviation of the Gaussian noise before the ADC, in tile units, in training and evaluation."""

    weight_noise: float = Field(default=0.067, ge=0)
    """Standard deviation of the training noise on the weights, relative to the tile's largest weight; one draw per
    forward pass. Only in training."""

    weight_noise_type: Literal["gaussian", "device"] = "gaussian"
    """`gaussian`: `weight_noise`, as in the paper; `device`: each step programs a new chip of the configured `device`
    at a random age, log-uniform between the first and the last of `drift.times` (slower)."""

    weight_noise_ramp: float = Field(default=0.0, ge=0, le=1)
    """Share of the training steps over which the weight noise grows linearly from 0 to its value; 0: constant."""

    clip_sigma: float = Field(default=3.0, ge=0)
    """Weights are clipped once, when mapped, at this many standard deviations; 0: off."""

    clip_scope: Literal["column", "tile"] = "column"
    """Over what the standard deviation is taken: each output column of a tile (the paper's text), or the whole tile
    in tile units (the paper's repository)."""

    device: Device = "pcm"
    """Noise model of the memory device, aihwkit's: programming noise, drift and read noise."""

    device_options: dict[str, Any] = Field(default_factory=dict)
    """Constants of the noise model by aihwkit's names, for instance `prog_noise_scale`, `drift_scale`, `t_0`."""

    g_max: float | None = Field(default=None, gt=0)
    """Conductance of the largest weight, in uS; null: what the device was characterized at, see `CHARACTERIZED`."""

    g_min: float | None = Field(default=None, ge=0)
    """Conductance of a zero weight, in uS; null: what the device was characterized at."""

    converter: Converter | None = None
    """How a weight becomes conductances: G+ and G- (`single-pair`), more pairs of different significance
    (`dual-pair`, `n-pair`, `custom-pair`), or one device (`single-device`). Null: `single-pair`, but `single-device`
    for `reram-cmo`, which has no other."""

    converter_options: dict[str, Any] = Field(default_factory=dict)
    """Constants of the converter by aihwkit's names, for instance `f_lst` for `dual-pair`."""

    drift_compensation: Compensation = "global"
    """Digital rescaling of each tile against drift, from a read-out of all its rows: `none`, `global` (one factor a
    tile), `global-exact` (the same, against the ideal weights), `per-column` (one factor an output)."""

    @model_validator(mode="after")
    def _consistent(self) -> HardwareConfig:
        if self.dac_bits == 1 or self.adc_bits == 1:
            raise ValueError("a converter of 1 bit is not possible: use 0 (ideal) or 2 and more bits")
        if self.adc_bits and not self.adc_bound:
            raise ValueError("adc_bits needs adc_bound > 0: without a range there is no step to quantize to")
        g_min, g_max = self.conductance_range
        if g_min >= g_max:
            raise ValueError(f"g_min ({g_min} uS) must be below g_max ({g_max} uS)")
        return self

    @property
    def conductance_range(self) -> tuple[float, float]:
        """Smallest and largest conductance in uS."""
        g_min, g_max = CHARACTERIZED[self.device]
        return (g_min if self.g_min is None else self.g_min, g_max if self.g_max is None else self.g_max)

    @property
    def converter_name(self) -> Converter:
        """The converter, chosen or by default."""
        return self.converter or ("single-device" if self.device == "reram-cmo" else "single-pair")


class TrainConfig(BaseModel):
    """Names and meanings of `transformers.TrainingArguments`; only those with a default of our own are listed."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    num_train_epochs: float = Field(default=3.0, gt=0)
    """Passes over the training data."""

    max_steps: int = -1
    """Optimizer steps; -1: as `num_train_epochs` says."""

    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate."""

    per_device_train_batch_size: int = Field(default=32, ge=1)
    """Samples of one forward pass on one device."""

    per_device_eval_batch_size: int = Field(default=128, ge=1)
    """Samples of one evaluation batch at most, in the final metrics and in the drift evaluation; on a CPU no more
    than fit into 4096 tokens, which is faster."""

    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Forward passes for each optimizer step."""

    lr_scheduler_type: str = "linear"
    """Course of the learning rate after warm-up."""

    warmup_steps: float = Field(default=0.0, ge=0)
    """Steps of linear warm-up; a number below 1 is a share of all steps."""

    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decay; applied to all trained parameters but biases and normalisation."""

    optim: str = "adamw_torch"
    """Optimizer, by TrainingArguments' names."""

    seed: int = Field(default=42, ge=0)
    """Seed of everything random: sampling, head and adapter initialisation, dropout, training noise."""

    train_sampling_strategy: Literal["random", "sequential", "group_by_length"] = "group_by_length"
    """`group_by_length` puts samples of like length into one batch: less padding, same data."""

    logging_steps: float = Field(default=10, gt=0)
    """Steps between two lines of the log."""

    save_steps: float = Field(default=200, gt=0)
    """Steps between two states that `--resume` can continue from; a number below 1 is a share of all steps."""

    save_total_limit: int = Field(default=2, ge=2)
    """How many of those states are kept; at least 2, so that one is whole at any moment."""

    report_to: list[str] = Field(default_factory=list)
    """`tensorboard` and `wandb`, if installed; nothing by default."""


class DriftConfig(Section):
    """The evaluation over time: chips are programmed, aged and measured."""

    times: Annotated[list[DriftTime], Field(min_length=1), AfterValidator(_unique_times)] = Field(
        default=["0s", "1h", "1d", "1w", "30d", "1y", "10y"]
    )
    """Times after programming: seconds, or with a unit (s, min, h, d, w, y; 1y = 365 d)."""

    chips: int = Field(default=10, ge=1)
    """How many simulated chips are programmed, each with a seed of its own."""

    seed: int = Field(default=0, ge=0)
    """Seed of the first chip; the others count up from it."""

    reads: int = Field(default=1, ge=1)
    """Readings of each chip at each time, each with read noise of its own: shows the spread within a chip."""


class ReferenceConfig(Section):
    """Published numbers to show beside the measured ones. Never inherited through `extends`."""

    source: str
    """Where the numbers stand."""

    digital: dict[str, float] = Field(default_factory=dict)
    """Metric without analog hardware, by name, in percent."""

    drift: dict[str, dict[DriftTime, float]] = Field(default_factory=dict)
    """Metric by name and time after programming, in percent."""

    before: dict[str, dict[DriftTime, float]] = Field(default_factory=dict)
    """As `drift`, before an adaptation: the old adapter on the new hardware."""

    trainable_parameters: int | None = None
    """Parameters that are trained."""

    note: str | None = None
    """What else the source says, or does not say."""


class Config(Section):
    """A complete configuration, as it stands in a preset, in `--config` and in a checkpoint."""

    description: str = ""
    """One line for `analora presets`."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    task: TaskConfig = Field(default_factory=TaskConfig)
    method: Method = "lora"
    """`lora`: base frozen on tiles, digital adapters trained under noise; `full`: all mapped weights trained under
    noise (hardware-aware training); `digital`: the same LoRA with no analog simulation."""
    adapter: AdapterConfig = Field(default_factory=AdapterConfig)
    hardware: HardwareConfig = Field(default_factory=HardwareConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    drift: DriftConfig = Field(default_factory=DriftConfig)
    latency: LatencyConfig = Field(default_factory=LatencyConfig)
    reference: ReferenceConfig | None = None

    @property
    def trains_base(self) -> bool:
        """Whether the weights on tiles are trained themselves: `method: full`."""
        return self.method == "full"

    @property
    def has_adapter(self) -> bool:
        """Whether a digital adapter stands beside the base: all methods but `full`."""
        return self.method != "full"

    @property
    def on_tiles(self) -> bool:
        """Whether the base lies on tiles in training: all methods but `digital`."""
        return self.method != "digital"

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.adapter.variant == "dora" and self.adapter.dropout:
            raise ValueError(
                "adapter.dropout must be 0 with adapter.variant dora: with dropout PEFT computes the base layer again "
                "digitally, without the tile's noise"
            )
        if self.task.doc_stride >= self.task.max_length and self.task.name.startswith("squad"):
            raise ValueError(
                f"task.doc_stride ({self.task.doc_stride}) must be below task.max_length ({self.task.max_length})"
            )
        return self
