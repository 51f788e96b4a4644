"""The page of `analora report`: its numbers, what is in it for hostile names, and that it needs nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analog_lora_cli import cli
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import EXIT_USAGE
from analog_lora_cli.report.html.charts import decades, nice_ticks
from analog_lora_cli.report.tables import latex_text, markdown_text
from analog_lora_cli.runtime import console
from analog_lora_cli.workflows.drift import evaluate_drift
from analog_lora_cli.workflows.seeds import train_seeds

Captured = pytest.CaptureFixture[str]
HOSTILE = "<script>alert(\"1\")</script> & 'x'"
VOID = {"meta", "br", "link", "img"}


@pytest.fixture(autouse=True)
def fresh_console(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    console.messages.cache_clear()
    console.results.cache_clear()
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def seeds(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    reference = {"source": HOSTILE, "digital": {"accuracy": 93.5}, "drift": {"accuracy": {"1y": 91.25}}}
    folder = tmp_path_factory.mktemp("report") / "seeds"
    train_seeds(make_config(description=HOSTILE, reference=reference), folder, 2)
    return folder


class Page(HTMLParser):
    """The elements of a page, its text, and the rows of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.tables: list[set[str]] = []
        self.feed(text)
        self.close()
        assert self.open == [], "each element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append(set())
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self.tables[-1] |= {f"{tag} {dict(attrs).get('scope')}"} if tag == "th" else set()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return "".join(self.words)

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == first)


def page(*runs: Path, output: str = "report.html") -> Page:
    assert cli.main(["report", *map(str, runs), "--output", output, "--overwrite", "--quiet"]) == 0
    return Page(Path(output).read_text(encoding="utf-8"))


def test_the_numbers_are_those_of_drift_json(seeds: Path) -> None:
    run = seeds / "seed-0"
    found = page(run)
    content = json.loads((run / "drift/default/drift.json").read_text())
    for entry in content["times"]:
        one = entry["metrics"]["accuracy"]
        drop = content["digital"]["accuracy"] - one["mean"]
        paper = "91.25" if entry["label"] == "1y" else "-"
        expected = [
            entry["label"], f"{one['mean']:.2f}", f"{one['std']:.2f}", "{:.2f} .. {:.2f}".format(*one["ci95"]),
            f"{one['worst']:.2f}", f"{drop:.2f}", paper,
        ]  # fmt: skip
        assert found.row(entry["label"])[:7] == expected
        parts = [one["components"][key] for key in ("chip", "read", "samples")]
        assert [entry["label"], *("-" if part is None else f"{part:.2f}" for part in parts)] in found.rows
    assert found.row("digital")[1] == f"{content['digital']['accuracy']:.2f}" and "93.50" in found.row("digital")
    for index, chip in enumerate(content["chips"]):
        values = [entry["metrics"]["accuracy"]["values"][index] for entry in content["times"]]
        assert [str(chip), *(f"{value:.2f}" for value in values)] in found.rows
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["base_sha256"] in found.text and manifest["data"]["train"]["sha256"] in found.text


def test_energy_is_that_of_inspect_tiles(seeds: Path) -> None:
    found = page(seeds / "seed-0")
    assert cli.main(["inspect-tiles", str(seeds / "seed-0"), "--json", "tiles.json", "--quiet"]) == 0
    energy = json.loads(Path("tiles.json").read_text())["energy"]
    rows = {row[0]: row for row in found.rows if len(row) == 8}
    for name in ("adapters", "attention", "model"):
        values = [energy[name][key] for key in ("read", "dac", "adc", "digital", "memory", "total")]
        assert rows[name][2:] == [f"{value:.1f}" if value else "-" for value in values]
    assert "adc_fj_per_step 121" in found.text


def test_nothing_comes_from_elsewhere(seeds: Path) -> None:
    found = page(seeds)
    text = Path("report.html").read_text(encoding="utf-8")
    loading = {"script", "link", "img", "iframe", "object", "embed", "base", "form", "audio", "video", "use", "image"}
    assert not loading & {tag for tag, _ in found.elements}
    for _, attributes in found.elements:
        assert not any(name.startswith("on") or name in ("src", "xlink:href") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert "prefers-color-scheme: dark" in style and "@media print" in style
    assert not re.search(r"url\(|@import|https?:", style)
    policy = next(one for tag, one in found.elements if one.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none'")


def test_hostile_names_are_text(seeds: Path, tmp_path: Path) -> None:
    name = "<script>alert(1)<img src=x onerror=alert(2)>\"'&{{7*7}}"
    shutil.copytree(seeds / "seed-0", tmp_path / name)
    found = page(tmp_path / name)
    assert {"script", "img"} & {tag for tag, _ in found.elements} == set()
    assert name in found.text and HOSTILE in found.text
    assert any(name in str(attributes.get("aria-label")) for _, attributes in found.elements)


def test_what_is_drawn_and_listed_can_be_read_aloud(seeds: Path) -> None:
    found = page(seeds / "seed-0", seeds / "seed-1")
    pictures = [attributes for tag, attributes in found.elements if tag == "svg" and "aria-hidden" not in attributes]
    assert len(pictures) >= 7 and all(one["role"] == "img" and one["aria-label"] for one in pictures)
    assert len(found.tables) > 10 and all({"th col"} <= kinds for kinds in found.tables)
    identifiers = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    targets = {str(attributes["href"])[1:] for tag, attributes in found.elements if tag == "a"}
    assert targets <= set(identifiers) and "comparison" in targets


def test_a_folder_of_seeds_has_the_seed_as_its_unit(seeds: Path) -> None:
    found = page(seeds)
    content = json.loads((seeds / "seeds.json").read_text())
    last = content["times"][-1]["metrics"]["accuracy"]
    assert found.row("1y")[1:4] == [
        f"{last['mean']:.2f}", f"{last['std']:.2f}", "{:.2f} .. {:.2f}".format(*last["ci95"])
    ]  # fmt: skip
    assert "2 training seeds, 2 chips, 24 samples" in found.text
    assert [row[0] for row in found.rows if row and row[0] in ("seed-0", "seed-1")] == ["seed-0", "seed-1"]


def test_a_comparison_shows_its_paired_differences(seeds: Path, tmp_path: Path) -> None:
    runs = [seeds / "seed-0", seeds / "seed-1"]
    evaluate_drift(runs, output=tmp_path / "both")
    content = json.loads((tmp_path / "both/comparison.json").read_text())
    difference = content["differences"]["seed-1"]["1y"]
    found = page(*runs, tmp_path / "both")
    expected = ["1y", f"{difference['mean']:+.2f}", "{:.2f} .. {:.2f}".format(*difference["ci95"])]
    assert expected in found.rows
    assert "2 runs: seed-0, seed-1" in found.text
    assert "Results alone" in page(tmp_path / "both").text


def test_results_of_other_hardware_are_results_of_their_own(seeds: Path, tmp_path: Path) -> None:
    runs = [seeds / "seed-0", seeds / "seed-1"]
    for bits in (8, 6):
        overrides = [f"hardware.adc_bits={bits}", "hardware.drift_compensation=least-squares"]
        evaluate_drift(runs, output=tmp_path / f"cmp{bits}", times="1y", chips=1, overrides=overrides)
    found = page(tmp_path / "cmp8", tmp_path / "cmp6")
    assert all(name in found.text for name in ("seed-0", "seed-1", "cmp6/seed-0", "cmp6/seed-1"))
    assert "--output comparison" not in found.text, "folders of results alone cannot be measured"
    evaluate_drift(runs, output=tmp_path / "same", times="1y", chips=1)
    assert "same/seed-0" not in page(*runs, tmp_path / "same").text


def test_errors_by_layer_are_shown_once_they_are_measured(seeds: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(seeds / "seed-0", run)
    command = f"analora inspect-tiles {run} --errors --json {run}/tiles.json"
    assert command in page(run).text
    assert cli.main([*command.split()[1:], "--quiet", "--inputs", "random"]) == 0
    found = page(run)
    layers = json.loads((run / "tiles.json").read_text())["layers"]
    worst = max(layers, key=lambda layer: layer["errors"]["effects"][-1]["error"])
    assert found.row(worst["name"])[-1] == f"{100 * worst['errors']['effects'][-1]['error']:.1f}"
    assert command not in found.text


def test_tables_for_a_paper(seeds: Path, capsys: Captured) -> None:
    content = json.loads((seeds / "seed-0/drift/default/drift.json").read_text())
    one = content["times"][-1]["metrics"]["accuracy"]
    low, high = one["ci95"]
    assert cli.main(["report", str(seeds / "seed-0"), "--markdown", "-", "--latex", "t.tex"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == "|  | seed-0 | paper |" and lines[1] == "| --- | ---: | ---: |"
    assert f"| 1y | {one['mean']:.2f} ({low:.2f} .. {high:.2f}) | 91.25 |" in lines
    assert "<script>" not in captured.out and "written: t.tex" in captured.err
    text = Path("t.tex").read_text()
    assert rf"1y & {one['mean']:.2f} ({low:.2f} -- {high:.2f}) & 91.25 \\" in text
    assert r"accuracy (\%)" in text and r"\textless{}script\textgreater{}" in text


def test_escapes() -> None:
    assert markdown_text("a|b\n<i> *x* [y](z)") == r"a\|b \<i\> \*x\* \[y\](z)"
    assert latex_text("50% of $x_1$ \\input{y} ~") == (r"50\% of \$x\_1\$ \textbackslash{}input\{y\} \textasciitilde{}")


def test_what_cannot_be_reported_says_the_command(seeds: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "empty").mkdir()
    unmeasured = tmp_path / "unmeasured"
    shutil.copytree(seeds / "seed-0", unmeasured, ignore=shutil.ignore_patterns("drift"))
    several = tmp_path / "several"
    shutil.copytree(seeds, several, ignore=shutil.ignore_patterns("seeds.json"))
    (tmp_path / "there.html").write_text("mine")
    out = ["--output", "new.html"]
    for arguments, message in [
        (["none", *out], "none: there is no such folder"),
        (["empty", *out], "empty: holds no run"),
        (["unmeasured", *out], "analora evaluate-drift unmeasured writes one"),
        (["several", *out], "analora evaluate-drift several writes it"),
        ([str(seeds)], "nothing to write: give --output report.html"),
        ([str(seeds), "--output", "there.html"], "there.html: exists already; replace it with --overwrite"),
        ([str(seeds), "--output", "-"], "--output -: a page does not go to stdout"),
        ([str(seeds), "--markdown", "-", "--latex", "-"], "only one of them can go to stdout"),
        ([str(seeds), "--markdown", "x", "--latex", "x"], "must name different files"),
        ([], "Missing argument"),
    ]:
        assert cli.main(["report", *arguments]) == EXIT_USAGE, message
        captured = capsys.readouterr()
        assert captured.out == "" and message in " ".join(captured.err.split()), captured.err
    assert not (tmp_path / "new.html").exists() and (tmp_path / "there.html").read_text() == "mine"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (56.7, 56.7), (-6.3, 23.8), (66.2, 72.6), (0.0, 0.0)])
def test_ticks_surround_the_values(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 8
    assert ticks == sorted(ticks)


def test_decades_surround_the_values() -> None:
    assert decades(1.2, 58.7) == [1, 2, 5, 10, 20, 50, 100]
    assert decades(0.7, 5544.0) == [0.1, 1, 10, 100, 1000, 10000]
