"""Classification of images in folders and tables, by a tiny vision transformer."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from analog_lora_cli.cli import main
from analog_lora_cli.config.schema import Config
from analog_lora_cli.errors import DataError, UsageError
from analog_lora_cli.models.training_inputs import batches_with_tokens
from analog_lora_cli.tasks import make_task
from analog_lora_cli.workflows.train import prepare, train
from tests.tasks.section import task_section

COLOURS = {"cold": (20, 40, 220), "good": (30, 200, 40), "warm": (230, 40, 30)}
SIZE = 16


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision transformer of 2 layers and hidden size 32 for images of 16 x 16 pixels, with random weights."""
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    folder = tmp_path_factory.mktemp("tiny-vit")
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=SIZE, patch_size=4
    )
    ViTModel(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def processor(tiny_vit: Path) -> Any:
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(tiny_vit, backend="pil")


def write_images(folder: Path, count: int = 4) -> str:
    """A folder of noisy images of several sizes and formats, each class of its own colour."""
    draw = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            noise = draw.normal(0, 30, (20 + number, 24, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.{('png', 'jpg')[number % 2]}")
    return str(folder)


def write_table(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "images.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def task(train_file: str | None, validation: str | None = None, **keys: Any) -> Any:
    names = {"train_file": train_file, "validation_file": validation or train_file}
    return make_task(task_section(name="image_classification", **names, **keys), seed=3)


def test_a_folder_from_files_to_score(processor: Any, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data")
    (tmp_path / "data" / "cold" / "notes.txt").write_text("no image")
    (tmp_path / "data" / ".cache").mkdir()
    chosen = task(folder)
    assert chosen.model_options()["id2label"] == dict(enumerate(COLOURS))
    features = chosen.train_features(processor)
    assert features["labels"][:] == [0] * 4 + [1] * 4 + [2] * 4
    batch = chosen.collator(processor)([features[row] for row in (0, 5)])
    assert batch["pixel_values"].shape == (2, 3, SIZE, SIZE) and batch["labels"].tolist() == [0, 1]
    with Image.open(f"{folder}/good/1.jpg") as image:
        expected = processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
    assert torch.equal(batch["pixel_values"][1], expected)
    (found,) = chosen.eval_sets(processor)
    assert found.score(list(np.eye(3)[[0] * 4 + [1] * 4 + [2] * 4])).metrics == {"accuracy": 100.0, "f1": 100.0}
    assert chosen.baseline_score()["accuracy"] == pytest.approx(100 / 3)


def test_a_table_names_the_same_images(processor: Any, tmp_path: Path) -> None:
    folder = Path(write_images(tmp_path / "data"))
    rows = [
        {"picture": str(path.relative_to(tmp_path)), "kind": path.parent.name} for path in sorted(folder.glob("*/*"))
    ]
    rows[0]["picture"] = str(tmp_path / rows[0]["picture"])
    table = task(write_table(tmp_path, rows), image_column="picture", label_column="kind")
    other = task(str(folder))
    assert table.train_features(processor)["labels"][:] == other.train_features(processor)["labels"][:]
    batches = [
        one.collator(processor)([one.train_features(processor)[row] for row in range(12)]) for one in (table, other)
    ]
    assert torch.equal(batches[0]["pixel_values"], batches[1]["pixel_values"])


def test_grey_transparent_and_turned_images_have_three_upright_colours(processor: Any, tmp_path: Path) -> None:
    for name, mode in (("a", "L"), ("b", "RGBA"), ("c", "P")):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new(mode, (8, 4)).save(tmp_path / "data" / name / "one.png")
    half = np.zeros((8, 8, 3), dtype=np.uint8)
    half[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # The camera was turned: what is left in the file is at the top of the picture.
    Image.fromarray(half).save(tmp_path / "data" / "a" / "two.jpg", exif=exif, quality=100)
    chosen = task(str(tmp_path / "data"))
    features = chosen.train_features(processor)
    batch = chosen.collator(processor)([features[row] for row in range(4)])["pixel_values"]
    assert batch.shape == (4, 3, SIZE, SIZE)
    assert batch[1, :, :4].mean() > 0.8 and batch[1, :, -4:].mean() < -0.8


def test_the_identity_of_the_data_is_that_of_the_pixels(tmp_path: Path) -> None:
    folder = Path(write_images(tmp_path / "data"))

    def identity() -> str:
        chosen = task(str(folder))
        digest: str = chosen.content_sha256("validation", chosen.data_files()["validation"])
        return digest

    first = identity()
    assert identity() == first
    Image.new("RGB", (4, 4)).save(folder / "cold" / "0.png")
    changed = identity()
    assert changed != first
    (folder / "cold" / "2.png").rename(folder / "warm" / "2b.png")
    assert identity() not in (first, changed)


def test_a_share_is_kept_apart(processor: Any, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data")
    section = task_section(name="image_classification", train_file=folder, validation_share=0.25)
    chosen = make_task(section, seed=3)
    trained = chosen.train_features(processor)["image"][:]
    measured = chosen.eval_sets(processor)[0].features["image"][:]
    assert len(measured) == 3 and len({*trained, *measured}) == 12
    assert chosen.data_files() == {"train": Path(folder), "validation": Path(folder)}


def test_wrong_folders(tmp_path: Path) -> None:
    folder = Path(write_images(tmp_path / "data"))
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: there is no image in this folder of a class"):
        task(str(folder)).settled()
    (folder / "empty").rmdir()
    Image.new("RGB", (4, 4)).save(folder / "lost.png")
    with pytest.raises(DataError, match=r"data: the image lost.png lies in no class; expected a subfolder"):
        task(str(folder)).settled()
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="none: there is no subfolder; expected a subfolder for each class"):
        task(str(tmp_path / "none")).settled()
    with pytest.raises(DataError, match=r"task.train_file: there is no file .*dta; is .*data meant\?"):
        task(str(tmp_path / "dta")).settled()
    with pytest.raises(UsageError, match="task.train_file: task image_classification has no data set of its own"):
        task(None).settled()


def test_images_that_are_none(processor: Any, tmp_path: Path) -> None:
    folder = Path(write_images(tmp_path / "data"))
    (folder / "good" / "bad.png").write_text("no image")
    with pytest.raises(DataError, match=r"good/bad.png: no image that Pillow can read"):
        task(str(folder)).settled()
    rows = [{"image": "data/good/0.png", "label": "a"}, {"image": "data/good/bad.png", "label": "b"}]
    with pytest.raises(
        DataError, match=r"images.csv, line 3: column 'image': .*bad.png: no image that Pillow can read"
    ):
        task(write_table(tmp_path, rows)).settled()
    rows[1]["image"] = "data/good/9.png"
    with pytest.raises(DataError, match=r"line 3: column 'image': there is no file .*9.png; paths are relative to"):
        task(write_table(tmp_path, rows)).settled()
    whole = (folder / "good" / "2.png").read_bytes()
    (folder / "good" / "bad.png").write_bytes(whole[: len(whole) // 2])
    chosen = task(str(folder))
    features = chosen.train_features(processor)
    with pytest.raises(DataError, match=r"good/bad.png: the image cannot be read"):
        chosen.collator(processor)([features[row] for row in range(len(features))])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("task.max_length=64", "task.max_length: unknown key"),
        ("task.text_columns=[a]", "task.text_columns: unknown key"),
        ("task.image_column=label", "the column 'label' stands twice among image_column and label_column"),
    ],
)
def test_wrong_keys(key: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = ["--output", str(tmp_path / "run")]
    kind = ["--set", "task={name: image_classification}", "--set", key]
    assert main(["train", "--preset", "smoke-squad-lora", *output, *kind]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


@pytest.fixture
def build(tiny_vit: Path, tmp_path: Path, make_config: Callable[..., Config]) -> Callable[..., Config]:
    """A configuration on generated images."""
    folder = write_images(tmp_path / "data", count=8)

    def build(**sections: Any) -> Config:
        content = make_config(drift={"chips": 2, "times": ["1y"]}, train={"max_steps": 6}).model_dump()
        content |= {"model": {"name": str(tiny_vit)}, "task": {"name": "image_classification", "train_file": folder}}
        return Config.model_validate(content | sections)

    return build


def test_the_layers_of_a_vision_transformer_lie_on_tiles(build: Callable[..., Config]) -> None:
    model = prepare(build()).model
    assert model.analog is not None
    names = {layer.name.rpartition(".")[2] for layer in model.analog.placement.analog}
    assert {"q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"} == names
    digital = {layer.name: layer.reason for layer in model.analog.placement.layers if not layer.analog}
    assert digital["classifier"] == "task head, trained"
    assert digital["vit.embeddings.patch_embeddings.projection"] == "Conv2d: not a linear layer"
    assert digital["vit.embeddings"] == "ViTEmbeddings: tokens and positions, added to the inputs"
    assert next(layer.macs for layer in model.analog.placement.layers if layer.name == "vit.embeddings") == 0
    # What calibration and recalibration read.
    batches = batches_with_tokens(model.loaded, 40)
    assert all(batch["pixel_values"].shape[1:] == (3, SIZE, SIZE) for batch in batches)


def test_an_image_processor_that_does_not_suit_the_model(build: Callable[..., Config], tmp_path: Path) -> None:
    import shutil

    config = build()
    folder = Path(shutil.copytree(config.model.name, tmp_path / "other"))
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["size"] = {"height": 20, "width": 16}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match=r"makes images of 20 x 16 pixels, the model takes 16"):
        prepare(build(model={"name": str(folder)}))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(UsageError, match="the image processor cannot be loaded"):
        prepare(build(model={"name": str(folder)}))


def test_trained_measured_over_drift_and_exported(build: Callable[..., Config], tmp_path: Path) -> None:
    result = train(build(), tmp_path / "run")
    assert result.drift is not None and list(result.drift.digital) == ["accuracy", "f1"]
    assert "- warm" in (tmp_path / "run/analora.yaml").read_text()
    drift = json.loads((tmp_path / "run/drift/default/drift.json").read_text())
    assert drift["times"][0]["metrics"]["accuracy"]["ci95"] is not None
    assert main(["inspect-tiles", str(tmp_path / "run"), "--errors", "--quiet"]) == 0
    merged = tmp_path / "merged"
    assert main(["export", str(tmp_path / "run"), "--format", "merged", "--output", str(merged), "--quiet"]) == 0
    readme = (merged / "README.md").read_text()
    assert "pipeline_tag: image-classification" in readme
    code = readme.partition("```python\n")[2].partition("```")[0].replace('folder = "."', f"folder = {str(merged)!r}")
    scope: dict[str, Any] = {"__name__": "example"}
    exec(code, scope)
    assert scope["outputs"].logits.shape == (1, 3)
    assert scope["model"].config.id2label == dict(enumerate(COLOURS))
