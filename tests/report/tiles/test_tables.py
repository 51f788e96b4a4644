"""The tables, files and pictures of `inspect-tiles` as a person sees them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from analog_lora_cli.config.schema import Config
from analog_lora_cli.figures.tile_map import tile_map
from analog_lora_cli.figures.tiles import tile_plot
from analog_lora_cli.inspection.files import inspection_csv, inspection_json
from analog_lora_cli.inspection.inspect import Inspection, InspectionRequest, inspect
from analog_lora_cli.inspection.source import Source
from analog_lora_cli.report.tiles.energy import energy_table
from analog_lora_cli.report.tiles.latency import latency_table
from analog_lora_cli.report.tiles.quality import error_table, further_table, statistics_table
from analog_lora_cli.report.tiles.ranges import range_table
from analog_lora_cli.report.tiles.tables import digital_table, short, tile_table, totals_table

MakeConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def measured(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    """Two layers on several tiles each, measured, in shared arrays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        config = make_config(hardware={"tile_rows": 40, "tile_columns": 72}, drift={"times": ["1d", "10y"], "chips": 2})
        return inspect(Source("tiny", config), InspectionRequest(errors=True, pack=True))


@pytest.fixture(scope="module")
def mobilebert(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    from transformers import MobileBertConfig

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("mobilebert")
        MobileBertConfig().save_pretrained(folder)
        return inspect(
            Source("mobilebert", Config.model_validate({"model": {"name": str(folder)}})), InspectionRequest()
        )


def shown(table: Table, width: int) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=width).print(table)
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text.getvalue() and "\x1b" not in text.getvalue()
    return lines


def row(lines: list[str], start: str) -> list[str]:
    (found,) = [line for line in lines if line.strip().startswith(start)]
    return found.split()


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("every", [False, True])
def test_all_tables_fit(width: int, every: bool, measured: Inspection, mobilebert: Inspection) -> None:
    for found in (measured, mobilebert):
        for table in (tile_table(found, every), digital_table(found), totals_table(found), latency_table(found)):
            shown(table, width)
    shown(statistics_table(measured, every), width)
    shown(error_table(measured, every), width)


def test_the_cost_of_input_ranges(make_config: MakeConfig) -> None:
    hardware = {"input_range": "static", "input_range_value": 90.0, "tile_rows": 24}
    config = make_config(hardware=hardware, drift={"chips": 1, "times": ["1d", "1y", "10y"]})
    inspection = inspect(Source("tiny", config), InspectionRequest(errors=True, real_inputs=True))
    for every in (False, True):
        lines = shown(range_table(inspection, every), 80)
        *_, beyond, dynamic, static = row(lines, "0.intermediate" if every else "*.intermediate")
        assert 5 < float(beyond.removesuffix("%")) < 15
        assert float(static) > 1.5 * float(dynamic)
    content = inspection_json(inspection)["layers"][0]["errors"]["input_range"]
    assert len(content["ranges"]) == 2 and 0.05 < content["beyond"] < 0.15
    assert "inputs_beyond_range" in inspection_csv(inspection).splitlines()[0]


def test_kinds_of_layers_with_their_sums(mobilebert: Inspection) -> None:
    lines = shown(tile_table(mobilebert, show_all=False), 100)
    expected = ["*.ffn.*.output.dense", "72", "128x512", "1x1", "9.44M", "25.0%", "8", "369k"]
    assert row(lines, "*.ffn.*.output") == expected
    assert row(lines, "*: numbers")[-1] == "mobilebert.encoder.layer.*"
    every = shown(tile_table(mobilebert, show_all=True), 100)
    assert row(every, "13.ffn.1.output.dense")[1:4] == ["1", "128x512", "1x1"]
    digital = shown(digital_table(mobilebert), 80)
    assert row(digital, "qa_outputs") == ["qa_outputs", "task", "head,", "trained", "1", "1.03k", "-"]
    totals = shown(totals_table(mobilebert), 80)
    assert row(totals, "on tiles")[2:5] == ["20,250,624", "of", "24,582,914"]


def test_saving_by_sharing(measured: Inspection) -> None:
    line = row(shown(totals_table(measured), 80), "shared")
    assert line[1] == str(measured.arrays) and int(line[1]) < measured.tiles
    assert line[5] == str(measured.tiles - measured.arrays)


def test_latency_says_what_is_published_fitted_assumed_and_set(mobilebert: Inspection, measured: Inspection) -> None:
    text = "\n".join(shown(latency_table(mobilebert), 80))
    assert "fitted: macs_per_ns 15.62, startup_ns 247" in text and "assumed: clusters tile" in text
    assert "paper: integration_times_ns 128/256/512" in text and "set:" not in text
    assert row(text.splitlines(), "128x128") == "128x128 72 128 41.0 128 1.04 1.04 32 20.5 48.5 1.18".split()
    latency = measured.config.latency.model_copy(update={"startup_ns": 100.0, "integration_times_ns": [64.0]})
    config = measured.config.model_copy(update={"latency": latency})
    other = replace(measured, source=Source("tiny", config), weights={}, errors={}, packed=None)
    text = "\n".join(shown(latency_table(other), 80))
    assert "fitted: macs_per_ns 15.62" in text and "set: integration_times_ns 64, startup_ns 100" in text
    assert "as published" not in text


def test_the_most_fragile_layer_comes_first_and_is_marked(measured: Inspection) -> None:
    worst = max(measured.errors, key=lambda name: measured.errors[name].worst)
    least = min(measured.errors, key=lambda name: measured.errors[name].worst)
    lines = shown(error_table(measured, show_all=True), 120)
    rows = lines[4 : 4 + len(measured.errors)]
    assert worst.endswith(rows[0].split()[0]) and least.endswith(rows[-1].split()[0])
    assert float(rows[0].split()[6].rstrip("!")) == pytest.approx(100 * measured.errors[worst].worst, abs=0.06)
    assert not any("!" in line for line in rows), "no layer of this random model is fragile"
    from dataclasses import replace

    effects = measured.errors[worst].effects
    broken = replace(measured.errors[worst], effects=[*effects[:-1], replace(effects[-1], error=2.0)])
    changed = Inspection(**{**vars(measured), "errors": {**measured.errors, worst: broken}})
    marked = [line for line in shown(error_table(changed, show_all=True), 120) if "200.0!" in line]
    assert len(marked) == 1 and worst.endswith(marked[0].split()[0])


def test_a_biased_compensation_is_marked(measured: Inspection) -> None:
    for kind in ("global", "least-squares"):
        hardware = measured.config.hardware.model_copy(update={"adc_bits": 6, "drift_compensation": kind})
        config = measured.config.model_copy(update={"hardware": hardware})
        changed = Inspection(**{**vars(measured), "source": Source("tiny", config)})
        text = " ".join(" ".join(shown(error_table(changed, show_all=False), 80)).split())
        assert ("! biased drift compensation: hardware.drift_compensation=global" in text) == (kind == "global")


def test_effects_that_not_all_hardware_has(measured: Inspection, make_config: MakeConfig) -> None:
    assert further_table(measured, show_all=False) is None
    keys = ("read_noise_per_product", "ir_drop", "stuck_low", "dead_columns", "adc_offset_mismatch")
    config = make_config(hardware={"layers": ["query"], **dict.fromkeys(keys, 0.1)}, drift={"times": ["10y"]})
    found = inspect(Source("tiny", config), InspectionRequest(errors=True))
    table = further_table(found, show_all=True)
    assert table is not None
    lines = shown(table, 80)
    assert row(lines, "layers") == ["layers", "short", "IR", "stuck", "dead", "ADC"]
    assert "short, IR, stuck, dead, ADC" in " ".join(shown(error_table(found, show_all=True), 80))


def test_json_is_complete_and_plain(measured: Inspection) -> None:
    content = json.loads(json.dumps(inspection_json(measured), allow_nan=False))
    assert content["format"] == 1
    assert content["totals"]["tiles"] == sum(len(layer["tiles"]) for layer in content["layers"])
    assert content["totals"]["parameters_on_tiles"] == measured.cells(measured.placement.analog)
    assert {placed["array"] for placed in content["packing"]} == set(range(content["totals"]["arrays"]))
    assert content["errors_measured_on"]["chips"] == [0, 1]
    layer = content["layers"][0]
    assert [effect["name"] for effect in layer["errors"]["effects"]][-1] == "10y"
    assert len(layer["errors"]["effects"][0]["tiles"]) == layer["grid"][0]
    assert [device["name"] for device in layer["conductances"]] == ["G+", "G-"]
    energy = content["energy"]
    parts = [energy[name] for name in ("tiles", "adapters", "attention", "digital_layers")]
    assert energy["model"]["total"] == pytest.approx(sum(part["total"] for part in parts))
    assert energy["tiles"]["adc"] == pytest.approx(sum(one["energy"]["tiles"]["adc"] for one in content["layers"]))
    latency = content["latency"]
    assert {len(one["batches"]) for one in latency["layers"]} == {5}
    assert sum(one["layers"] for one in latency["layers"]) == 3 * content["totals"]["layers"]


def test_csv_has_a_line_for_each_layer(measured: Inspection, mobilebert: Inspection) -> None:
    rows = list(csv.DictReader(io.StringIO(inspection_csv(measured))))
    parts = ("read", "dac", "adc", "digital", "memory")
    for row in rows:
        assert float(row["energy_total_nJ"]) == pytest.approx(sum(float(row[f"energy_{part}_nJ"]) for part in parts))
        assert float(row["energy_adapter_nJ"]) > 0
    assert [line["layer"] for line in rows] == [layer.name for layer in measured.placement.analog]
    for line in rows:
        assert float(line["error_10y"]) == measured.errors[line["layer"]].worst
        assert float(line["G+_mean_uS"]) > 0 and int(line["adapter_rank"]) == 8
        assert all(value != "" for value in line.values())
    bare = list(csv.DictReader(io.StringIO(inspection_csv(mobilebert))))
    assert (
        len(bare) == 361
        and "error_10y" not in bare[0]
        and float(bare[1]["ratio_128ns"]) == pytest.approx(1.04, abs=0.02)
    )


@pytest.mark.parametrize("shared", [True, False])
def test_the_map_has_every_tile_in_a_place_of_its_own(shared: bool, measured: Inspection) -> None:
    found = measured if shared else Inspection(**{**vars(measured), "packed": None})
    laid_out = tile_map(found)
    assert len(laid_out.tiles) == found.tiles and len(laid_out.arrays) == found.arrays
    places = [(tile.used.x, tile.used.y) for tile in laid_out.tiles]
    assert len(set(places)) == len(places)
    for tile in laid_out.tiles:
        used, whole = tile.used, tile.outline
        assert whole.x <= used.x and used.x + used.width <= whole.x + 1 + 1e-9
        assert whole.y <= used.y and used.y + used.height <= whole.y + 1 + 1e-9
        assert used.width * used.height == pytest.approx(tile.block.inputs * tile.block.outputs / (40 * 72))
        assert 0 <= whole.x <= laid_out.width and 0 <= whole.y <= laid_out.height


def test_pictures(measured: Inspection, mobilebert: Inspection, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {}
    for name, found in (("measured", measured), ("shapes", mobilebert)):
        tile_plot(found, tmp_path / name)
        content = (tmp_path / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        sizes[name] = len(content)
    assert sizes["measured"] > 40_000 and sizes["shapes"] > 20_000


def test_counts_in_few_characters() -> None:
    assert [short(n) for n in (0, 921, 1000, 12_345, 999_999, 4_700_000, 3 * 10**9)] == (
        ["0", "921", "1k", "12.3k", "1M", "4.7M", "3G"]
    )


@pytest.mark.parametrize("width", [80, 140])
def test_the_energy_table(width: int, mobilebert: Inspection, measured: Inspection) -> None:
    for found in (mobilebert, measured):
        lines = shown(energy_table(found), width)
        assert next(line for line in lines if line.strip().startswith("model ")).split()[-1] == "100.0"
        for part in ("adapters", "attention", "digital layers"):
            assert any(line.strip().startswith(part) for line in lines), part
    text = "\n".join(shown(energy_table(mobilebert), width))
    assert "Energy of a token in uJ" in text and "fitted: adc_fj_per_step 121" in text
    energy = measured.config.energy.model_copy(update={"mac_pj": 3.0})
    source = Source("tiny", measured.config.model_copy(update={"energy": energy}))
    other = replace(measured, source=source)
    assert "set: mac_pj 3" in "\n".join(shown(energy_table(other), width))
