"""Keys of `hardware` that say which layers lie on tiles, and how their weights are cut and clipped."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.section import Section

_PLACES = Affects("mapping", "training", reason="says which layers lie on tiles")
_CUT = Affects("mapping", "training", reason="says how the weights are cut into tiles")
_CLIP = Affects("clipping", "training", reason="says how the programmed weights were clipped")

_AUTO = "auto:"


def _names_or_auto(value: list[str] | str | None) -> list[str] | str | None:
    if isinstance(value, str) and not (value.startswith(_AUTO) and value.removeprefix(_AUTO).isdecimal()):
        raise ValueError(f"expected a list of names, or auto:N with a number N of layers, got {value!r}")
    return value


class PlacementKeys(Section):
    """Placement of a model's layers on tiles."""

    layers: Annotated[list[str] | str | None, AfterValidator(_names_or_auto), _PLACES] = None
    """Linear layers to put onto tiles, as dotted suffixes of their names; null: all but a digital head; `auto:N`: all
    but the N whose analog error matters most for the loss, measured on training data before the training, which writes
    them into `digital_layers`."""

    digital_layers: Annotated[list[str] | None, _PLACES] = None
    """Linear layers that stay digital although `layers` would put them onto tiles, as dotted suffixes of their names;
    null: none, or with `layers: auto:N` those that are measured."""

    max_unsupported_share: Annotated[float, Affects("training", "report")] = Field(default=0.5, ge=0, le=1)
    """Largest share of the weights that multiply inputs which no tile can hold, such as the experts of a mixture that
    transformers keeps in 3-D parameters: a model beyond it is not trained. `inspect-tiles` shows the share."""

    tile_rows: Annotated[int, _CUT, Unit("word lines")] = Field(default=512, ge=0)
    """Inputs of one tile (word lines); 0: no limit."""

    tile_columns: Annotated[int, _CUT, Unit("bit lines")] = Field(default=512, ge=0)
    """Outputs of one tile (bit lines); 0: no limit."""

    input_rotation: Annotated[
        Literal["none", "hadamard"], Affects("mapping", "training", reason="is in the programmed weights")
    ] = "none"
    """Digital rotation of each layer's inputs before the DACs, and of its weights before they are clipped and
    programmed, which leaves their product as it is: `hadamard` in blocks of the largest power of two that divides the
    inputs, with random signs (QuaRot, arXiv 2404.00456, does so for digital quantization). It spreads the few large
    activations of a language model over all inputs. Products then exceed the ADC's range more often: use it with
    `bound_management: iterative`. For methods lora and digital and adapters that only add to a layer's product; not
    for an export to aihwkit. `inspect-tiles` counts its energy, not its time."""

    clip_sigma: Annotated[
        float,
        _CLIP,
        Unit("standard deviations"),
    ] = Field(default=3.0, ge=0)
    """Weights are clipped once, when mapped, at this many standard deviations; 0: off."""

    clip_scope: Annotated[
        Literal["column", "tile"],
        _CLIP,
    ] = "column"
    """Weights that one standard deviation is taken over: each output column of a tile (the paper's text), or the whole
    tile in tile units (the paper's repository)."""

    @model_validator(mode="after")
    def _as_many_as_named(self) -> PlacementKeys:
        if self.fragile is not None and self.digital_layers is not None and len(self.digital_layers) != self.fragile:
            raise ValueError(
                f"digital_layers names {len(self.digital_layers)} layers, and layers: {self.layers} stands for "
                f"{self.fragile}: set digital_layers to null, so that they are measured"
            )
        return self

    @property
    def fragile(self) -> int | None:
        """N of `layers: auto:N`; None for any other choice."""
        return int(self.layers.removeprefix(_AUTO)) if isinstance(self.layers, str) else None

    @property
    def unmeasured(self) -> int | None:
        """Number of layers that stay digital and are yet to be measured; None where all are known."""
        return self.fragile if self.digital_layers is None else None

    @property
    def measured_keys(self) -> frozenset[str]:
        """Keys that each training measures for itself, so that two of one method may differ in them."""
        return frozenset() if self.fragile is None else frozenset({"digital_layers"})

    @property
    def named_layers(self) -> list[str] | None:
        """Names of the layers to put onto tiles; None: all that are not named otherwise."""
        return None if isinstance(self.layers, str) else self.layers
