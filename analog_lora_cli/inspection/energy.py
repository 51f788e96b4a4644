"""Energy of a token: operations that tiles, converters, digital units and memories carry out, each at its price.

For a layer on tiles, summed over its tiles, with B_in and B_out bits of the converters:

    read    = devices * phases * read_fj_per_device
    DAC     = inputs of all tiles * phases * B_in * dac_pj_per_bit
    ADC     = bit lines of all tiles * phases * 2^B_out * adc_fj_per_step
    digital = outputs of all tiles * mac_pj                 scaling, and adding up partial sums
    memory  = 2 * (inputs * B_in + outputs * B_out) / 8 * near_pj_per_byte          written once and read once

An adapter of rank r on M inputs and N outputs multiplies r * (M + N) times and fetches as many weights; a digital layer
multiplies once for each weight and fetches it. Attention of a token over n others, those of `latency.sequence_tokens`
(an encoder's input, or what stands before a decoder's next token), multiplies 2 * n * (width of the queries) times and
reads n keys and values. A head is counted for each token, also where a task needs it once for an input. Not in the
model: normalisation, activation functions, softmax, leakage while nothing is computed, links between chips.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from analog_lora_cli.config.sections.energy import SOURCE, EnergyConfig
from analog_lora_cli.config.sections.hardware import HardwareConfig
from analog_lora_cli.config.sections.latency import LatencyConfig
from analog_lora_cli.hardware.tile.rotation import rotation_additions
from analog_lora_cli.inspection.attention import AttentionShape
from analog_lora_cli.inspection.inspect import Inspection
from analog_lora_cli.models.placement import PlacedLayer

FJ, PJ = 1e-6, 1e-3
"""In nJ."""


@dataclass(frozen=True)
class Energy:
    """Energy for a token by component, in nJ."""

    read: float = 0.0
    """Devices of the tiles."""
    dac: float = 0.0
    adc: float = 0.0
    digital: float = 0.0
    """Multiplications and additions of digital units."""
    memory: float = 0.0
    """Movement of inputs, outputs and digital weights."""

    def __add__(self, other: Energy) -> Energy:
        return Energy(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    @property
    def total(self) -> float:
        """All components, in nJ."""
        return self.read + self.dac + self.adc + self.digital + self.memory


@dataclass(frozen=True)
class TileWork:
    """Operations of a layer's tiles for a token."""

    devices: int
    inputs: int
    """Inputs of all tiles: conversions of the DACs."""
    bit_lines: int
    """Bit lines of all tiles, those of references included: conversions of the ADCs."""
    outputs: int
    """Outputs of all tiles: partial sums."""


def tile_energy(work: TileWork, hardware: HardwareConfig, config: EnergyConfig) -> Energy:
    """Energy of a product on tiles.

    Args:
        work: the operations.
        hardware: resolution of the converters.
        config: the constants.
    """
    dac_bits, adc_bits = hardware.dac_bits or config.ideal_bits, hardware.adc_bits or config.ideal_bits
    moved = (work.inputs * dac_bits + work.outputs * adc_bits) / 8
    return Energy(
        read=work.devices * config.read_phases * config.read_fj_per_device * FJ,
        dac=work.inputs * config.read_phases * dac_bits * config.dac_pj_per_bit * PJ,
        adc=work.bit_lines * config.read_phases * 2**adc_bits * config.adc_fj_per_step * FJ,
        digital=work.outputs * config.mac_pj * PJ,
        memory=2 * moved * config.near_pj_per_byte * PJ,
    )


def digital_energy(weights: int, config: EnergyConfig, latency: LatencyConfig, clusters: int = 1) -> Energy:
    """Energy of a product with digital weights: an adapter, a head, a layer that stays digital.

    Args:
        weights: their number; each is multiplied once for a token.
        config: the constants.
        latency: size of a number, and of the memory beside a tile.
        clusters: those that share the weights; what their memories cannot hold is fetched from afar each time.
    """
    moved = weights * latency.value_bytes
    near = moved <= clusters * latency.cluster_memory_kib * 1024
    price = config.near_pj_per_byte if near else config.far_pj_per_byte
    return Energy(digital=weights * config.mac_pj * PJ, memory=moved / config.tokens_per_weight_read * price * PJ)


def attention_energy(shape: AttentionShape, config: EnergyConfig, latency: LatencyConfig) -> Energy:
    """Energy of the attention of all blocks for a token."""
    others = latency.sequence_tokens
    macs = 2 * others * shape.query_width * shape.blocks
    moved = 2 * others * shape.key_width * shape.blocks * latency.value_bytes
    return Energy(digital=macs * config.mac_pj * PJ, memory=moved * config.near_pj_per_byte * PJ)


def layer_energy(inspection: Inspection, layer: PlacedLayer) -> Energy:
    """Energy of a layer's tiles and of the rotation of their inputs for a token, without its adapter."""
    blocks = inspection.blocks[layer.name]
    work = TileWork(
        devices=inspection.devices([layer]),
        inputs=sum(block.inputs for block in blocks),
        bit_lines=sum(block.bit_lines for block in blocks),
        outputs=sum(block.outputs for block in blocks),
    )
    hardware, config = inspection.config.hardware, inspection.config.energy
    # An addition is counted as a multiplication and an addition, the only digital operation with a price.
    rotation = Energy(digital=rotation_additions(hardware, layer.shape[1]) * config.mac_pj * PJ)
    return tile_energy(work, hardware, config) + rotation


def adapter_energy(inspection: Inspection, layer: PlacedLayer) -> Energy:
    """Energy of a layer's adapter for a token."""
    latency = inspection.config.latency
    weights = inspection.ranks.get(layer.name, 0) * sum(layer.shape)
    tiles = len(inspection.blocks.get(layer.name, []))
    clusters = max(1, tiles) if latency.clusters == "tile" else 1
    return digital_energy(weights, inspection.config.energy, latency, clusters)


@dataclass(frozen=True)
class ModelEnergy:
    """Energy of a token by part of the model."""

    tiles: Energy
    adapters: Energy
    attention: Energy
    digital_layers: Energy
    """Layers off the tiles that multiply: heads, and what the hardware section leaves digital."""
    tile_macs: int
    """Multiplications that the tiles carry out for a token."""

    @property
    def all(self) -> Energy:
        """The whole model."""
        return self.tiles + self.adapters + self.attention + self.digital_layers

    @property
    def digital_share(self) -> float:
        """Share of what is not the tiles, from 0 to 1."""
        return 1.0 - self.tiles.total / self.all.total if self.all.total else 0.0

    @property
    def tile_tops_per_watt(self) -> float:
        """Efficiency of the tiles alone, a multiplication and an addition counted as two operations."""
        return tops_per_watt(self.tile_macs, self.tiles)


def tops_per_watt(macs: int, energy: Energy) -> float:
    """Tera-operations a second and watt, without bound if nothing is taken."""
    return 2 * macs / energy.total / 1000 if energy.total else float("inf")


def model_energy(inspection: Inspection) -> ModelEnergy:
    """Energy of a token in a whole model."""
    config, latency = inspection.config.energy, inspection.config.latency
    analog = inspection.placement.analog
    off_tiles = [layer for layer in inspection.placement.layers if not layer.analog and layer.macs]
    attention = inspection.attention
    return ModelEnergy(
        tiles=sum((layer_energy(inspection, layer) for layer in analog), Energy()),
        adapters=sum((adapter_energy(inspection, layer) for layer in inspection.placement.layers), Energy()),
        attention=Energy() if attention is None else attention_energy(attention, config, latency),
        digital_layers=sum((digital_energy(layer.macs, config, latency) for layer in off_tiles), Energy()),
        tile_macs=inspection.cells(analog),
    )


def origins(config: EnergyConfig) -> dict[str, dict[str, object]]:
    """Constants with their values, by origin: published, fitted to a chip, an assumption, or the user's settings."""
    defaults = EnergyConfig()
    by_origin: dict[str, dict[str, object]] = {}
    for key, value in config.model_dump().items():
        origin = SOURCE[key][0] if value == getattr(defaults, key) else "set"
        by_origin.setdefault(origin, {})[key] = value
    return by_origin
