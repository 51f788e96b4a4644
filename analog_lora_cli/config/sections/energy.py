"""Constants of the energy model of `inspection.energy`: what tiles, converters, digital units and memories take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from analog_lora_cli.config.effects import Affects, Unit
from analog_lora_cli.config.section import Section

Source = Literal["published", "fitted", "assumed"]


class EnergyConfig(Section):
    """Energy of a token: operations are counted, each has a constant price. Lengths of inputs and the size of numbers
    are those of `latency`. Nothing but `inspect-tiles` and `report` depends on these constants."""

    read_fj_per_device: Annotated[float, Affects("cost"), Unit("fJ")] = Field(default=12.8, ge=0)
    """Energy in fJ that a device takes in a product, averaged over conductances and inputs: 5 uS at 0.2 V for 64 ns,
    half of the longest pulse."""

    read_phases: Annotated[int, Affects("cost")] = Field(default=1, ge=1)
    """Reads of a product. 1: positive and negative inputs and weights at once; 4: one after the other, which is more
    precise."""

    dac_pj_per_bit: Annotated[float, Affects("cost"), Unit("pJ")] = Field(default=0.39, ge=0)
    """Energy in pJ of a conversion of an input, for each bit of `hardware.dac_bits`."""

    adc_fj_per_step: Annotated[float, Affects("cost"), Unit("fJ")] = Field(default=121.0, ge=0)
    """Energy in fJ of a conversion of an output, for each of the 2^bits steps of `hardware.adc_bits`; with it all that
    a tile takes besides devices and input converters, such as clocks and regulators."""

    ideal_bits: Annotated[int, Affects("cost"), Unit("bits")] = Field(default=8, ge=2, le=16)
    """Bits of a converter that the simulation takes for ideal (`hardware.dac_bits` or `adc_bits` 0)."""

    mac_pj: Annotated[float, Affects("cost"), Unit("pJ")] = Field(default=1.5, ge=0)
    """Energy in pJ of a digital multiplication and addition in FP16."""

    near_pj_per_byte: Annotated[float, Affects("cost"), Unit("pJ")] = Field(default=1.25, ge=0)
    """Energy in pJ to move a byte into or out of the memory beside a tile."""

    far_pj_per_byte: Annotated[float, Affects("cost"), Unit("pJ")] = Field(default=162.5, ge=0)
    """Energy in pJ to fetch a byte of digital weights that do not fit into `latency.cluster_memory_kib` of each cluster
    of the layer, from DRAM."""

    tokens_per_weight_read: Annotated[int, Affects("cost"), Unit("tokens")] = Field(default=1, ge=1)
    """Tokens that share one fetch of digital weights. 1: each token fetches them anew, as in the generation of a single
    answer."""


SOURCE: dict[str, tuple[Source, str]] = {
    "read_fj_per_device": ("assumed", "G V^2 t of a phase-change device in the middle of its range"),
    "read_phases": ("published", "Le Gallo et al., Nature Electronics 6, 680 (2023): modes of one and four phases"),
    "dac_pj_per_bit": ("published", "Shafiee et al., ISCA 2016, table I: 4 mW for 1024 one-bit converters, 100 ns"),
    "adc_fj_per_step": ("fitted", "Khaddam-Aljameh et al., JSSC 57, 1027 (2022): 256 x 256 core, 10.5 TOPS/W"),
    "ideal_bits": ("assumed", "the resolution of the chips that the constants are from"),
    "mac_pj": ("published", "Horowitz, ISSCC 2014: 1.1 pJ and 0.4 pJ in 45 nm"),
    "near_pj_per_byte": ("published", "Horowitz, ISSCC 2014: 10 pJ for 64 bits of an 8 KiB SRAM"),
    "far_pj_per_byte": ("published", "Horowitz, ISSCC 2014: 1.3 nJ for 64 bits of a DRAM, the lower end"),
    "tokens_per_weight_read": ("assumed", "no reuse"),
}
"""Origin of each default, and where it is from. `published`: the source names the figure, in the technology of its
time. `fitted`: with the other constants it gives the source's energy efficiency. `assumed`: this tool's choice."""
