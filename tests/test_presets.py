"""Every preset: it loads, resolves, carries the paper's numbers, builds with a tiny model, and is in the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from analog_lora_cli.config.flat import flatten
from analog_lora_cli.config.load import load_config
from analog_lora_cli.config.presets import preset_folder, preset_names
from analog_lora_cli.config.schema import Config
from analog_lora_cli.workflows.train import prepare

PAPER_TIMES = ["0s", "1h", "1d", "1w", "30d", "1y", "10y"]
GLUE = ["cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli"]
ABLATIONS = [
    *(f"rank{rank}" for rank in (1, 2, 4, 16)), "qkv", "ffn", "lr5e-6", "lr5e-5", "lr8e-4",
    *(f"noise{noise}" for noise in ("0.02", "0.0377", "0.075", "0.09", "0.12")), "clip2.5", "clip2", "clip-fixed1",
    "bert-base", "bert-large",
]  # fmt: skip
RUNS = [
    "squad-lora",
    "squad-hwa",
    "adapt-6bit-paper",
    *(f"glue-{t}-lora" for t in GLUE),
    *(f"squad-lora-{a}" for a in ABLATIONS),
]
OWN = [
    "quickstart",
    "adapt-6bit",
    "adapt-aged-chip",
    "recalibrate-chip",
    "smoke-squad-lora",
    "smoke-squad-hwa",
    "smoke-glue-lora",
    "analog-foundation-models",
    "own-classification",
    "own-token-classification",
    *(f"glue-{t}-best" for t in GLUE if t != "wnli"),
]
ENCODERS = [name for name in preset_names() if not load_config(preset=name).task.pretrained_head]
"""Presets of encoders; those of language models: test_language_presets."""


def tiny_variant(config: Config, folder: Path, files: dict[str, str]) -> Config:
    """The same configuration on a tiny model of the same architecture and on local data."""
    short = {**files, "max_length": 48, "max_train_samples": None}
    if "doc_stride" in type(config.task).model_fields:
        short["doc_stride"] = 8
    model = config.model.model_copy(update={"name": str(folder), "revision": None})
    return config.model_copy(update={"model": model, "task": config.task.model_copy(update=short)})


@pytest.fixture(scope="session")
def architectures(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Path]:
    """Tiny models with the layer names of MobileBERT and of BERT."""
    from transformers import AutoTokenizer, MobileBertConfig, MobileBertModel

    folder = tmp_path_factory.mktemp("tiny-mobilebert")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    config = MobileBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        intra_bottleneck_size=16,
        embedding_size=16,
        max_position_embeddings=64,
        num_feedforward_networks=2,
    )
    MobileBertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"mobilebert": folder, "bert": tiny_model}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, squad_files: tuple[Path, Path]) -> dict[str, dict[str, str]]:
    """A few rows for each task."""
    from analog_lora_cli.tasks.glue.data import GLUE as TASKS

    folder = tmp_path_factory.mktemp("glue")
    made = {"squad": {"train_file": str(squad_files[0]), "validation_file": str(squad_files[1])}}
    own = folder / "own.csv"
    own.write_text("text,label\n" + "".join(f"the tile,{kind}\n" for kind in ("good", "bad") * 8))
    made["classification"] = {"train_file": str(own)}
    tagged = folder / "own.conll"
    tagged.write_text("the O\ntile B-PART\n\n" * 8)
    made["token_classification"] = {"train_file": str(tagged)}
    for name, task in TASKS.items():
        file = folder / f"{name}.csv"
        file.write_text(
            "\n".join(
                [
                    ",".join([*task.columns, "label"]),
                    *(",".join(["the tile"] * len(task.columns) + [str(i % 2)]) for i in range(4)),
                ]
            )
        )
        made[name] = {"train_file": str(file), "validation_file": str(file)}
    return made


def test_every_run_of_the_paper_has_a_preset() -> None:
    assert set(RUNS + OWN) <= set(preset_names())


@pytest.mark.parametrize("name", ENCODERS)
def test_preset_builds(name: str, architectures: dict[str, Path], data: dict[str, dict[str, str]]) -> None:
    config = load_config(preset=name)
    assert config.description
    folder = architectures["mobilebert" if "mobilebert" in config.model.name else "bert"]
    model = prepare(tiny_variant(config, folder, data[config.task.name])).model
    assert model.loaded.trainable_parameters > 0
    assert (model.analog is not None) == (config.method != "digital")


@pytest.mark.parametrize("name", preset_names())
def test_variants_stay_short(name: str) -> None:
    text = (preset_folder() / f"{name}.yaml").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    settings = " ".join(lines).partition("reference:")[0]
    if "extends:" in text:
        assert len(settings) < 1100, "a variant says only what is different"


@pytest.mark.parametrize("name", [name for name in ENCODERS if name not in OWN])
def test_presets_of_the_paper_evaluate_as_the_paper_does(name: str) -> None:
    config = load_config(preset=name)
    assert config.drift.times == PAPER_TIMES
    assert config.drift.chips == 10
    assert config.train.seed == 42
    assert (config.train.per_device_train_batch_size, config.train.per_device_eval_batch_size) == (32, 128)
    hardware = config.hardware
    assert (hardware.device, hardware.conductance_range, hardware.output_noise) == ("pcm", (0.0, 25.0), 0.04)
    if name != "glue-wnli-lora":
        assert config.reference is not None
        assert config.reference.source


@pytest.mark.parametrize("task", [task for task in GLUE if task != "wnli"])
def test_the_own_recipe_differs_from_the_papers_in_noise_and_rotation_only(task: str) -> None:
    papers, own, quickstart = (load_config(name) for name in (f"glue-{task}-lora", f"glue-{task}-best", "quickstart"))
    before, after = (
        flatten(one.model_dump(mode="json", exclude={"description", "reference"})) for one in (papers, own)
    )
    recipe = {"weight_noise", "weight_noise_ramp", "input_rotation"}
    assert {key for key in before if before[key] != after[key]} == {f"hardware.{key}" for key in recipe}
    assert own.hardware.model_dump(include=recipe) == quickstart.hardware.model_dump(include=recipe), "one recipe"
    assert papers.reference is not None and own.reference is None, "the paper's numbers are of another training"


@pytest.mark.parametrize(
    ("name", "metric", "time", "value"),
    [
        ("squad-lora", "f1", "10y", 85.36),
        ("squad-lora", "exact_match", "0s", 81.93),
        ("squad-hwa", "f1", "1y", 86.59),
        ("squad-lora-noise0.02", "f1", "10y", 74.97),
        ("squad-lora-clip2.5", "f1", "10y", 86.01),
        ("squad-lora-lr5e-5", "f1", "1h", 86.30),
        ("glue-sst2-lora", "accuracy", "10y", 90.0),
        ("glue-mnli-lora", "accuracy_mismatched", "0s", 83.3),
        ("glue-cola-lora", "matthews_correlation", "1w", 40.6),
        ("glue-stsb-lora", "pearson", "30d", 86.7),
        ("adapt-6bit-paper", "f1", "10y", 74.23),
    ],
)
def test_reference_numbers_are_those_of_the_paper(name: str, metric: str, time: str, value: float) -> None:
    reference = load_config(preset=name).reference
    assert reference is not None
    assert reference.drift[metric][time] == value


@pytest.mark.parametrize(
    ("preset", "overrides", "millions"),
    [
        ("squad-lora", ["adapter.train_head=false"], 1.633296),
        ("squad-lora-rank1", ["adapter.train_head=false"], 0.20),
        ("squad-lora-rank2", ["adapter.train_head=false"], 0.41),
        ("squad-lora-rank4", ["adapter.train_head=false"], 0.82),
        ("squad-lora-rank16", ["adapter.train_head=false"], 3.27),
        ("squad-lora-qkv", ["adapter.train_head=false"], 0.22),
        ("squad-lora-ffn", ["adapter.train_head=false"], 1.40),
    ],
)
def test_trainable_parameters_are_those_of_the_paper(preset: str, overrides: list[str], millions: float) -> None:
    """On MobileBERT's architecture; the weights do not matter, so they stay on the meta device."""
    import torch
    from transformers import MobileBertConfig, MobileBertForQuestionAnswering

    from analog_lora_cli.models.adapters import add_adapter
    from analog_lora_cli.tasks import make_task

    config = load_config(preset=preset, overrides=overrides)
    with torch.device("meta"):
        model: Any = MobileBertForQuestionAnswering(MobileBertConfig())
        wrapped = add_adapter(model, config, make_task(config.task, 0), ["qa_outputs"])
    trainable = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    assert trainable / 1e6 == pytest.approx(millions, abs=0 if millions == 1.633296 else 0.006)


@pytest.mark.parametrize(
    ("preset", "task", "names", "modules", "trainable"),
    [
        ("squad-lora", "QuestionAnswering", "dense query key value embedding_transformation", 361, 1_630_210),
        ("glue-sst2-lora", "SequenceClassification", "dense query key value embedding_transformation", 362, 1_638_402),
    ],
)
def test_null_targets_are_all_linear_layers_of_mobilebert(
    preset: str, task: str, names: str, modules: int, trainable: int
) -> None:
    """361 layers of the encoder, for GLUE the pooler, and the head in digital: what a list of their names gives."""
    import torch
    import transformers

    from analog_lora_cli.models.adapters import add_adapter
    from analog_lora_cli.models.families import family_of
    from analog_lora_cli.tasks import make_task

    def adapted(targets: str) -> tuple[set[str], int]:
        config = load_config(preset, overrides=[f"adapter.targets={targets}"])
        with torch.device("meta"):
            model: Any = getattr(transformers, f"MobileBertFor{task}")(transformers.MobileBertConfig())
            wrapped: Any = add_adapter(
                model, config, make_task(config.task, 0), family_of(model.config).head_modules(model)
            )
        parameters = dict(wrapped.named_parameters())
        found = {name.partition(".lora_A")[0] for name in parameters if ".lora_A" in name}
        return found, sum(p.numel() for p in parameters.values() if p.requires_grad)

    assert load_config(preset).adapter.targets is None
    every = adapted("null")
    assert every == adapted(f"[{names.replace(' ', ', ')}]")
    assert (len(every[0]), every[1]) == (modules, trainable)


def test_the_wheel_holds_every_preset_and_the_data(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parent.parent
    build_command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        str(root),
    ]
    subprocess.run(build_command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for preset in preset_folder().glob("*.yaml"):
        assert f"analog_lora_cli/presets/{preset.name}" in names
    for file in (root / "analog_lora_cli" / "data").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert file.relative_to(root).as_posix() in names
