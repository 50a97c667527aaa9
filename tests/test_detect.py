"""The stream of predictions: original pixels, bounded memory, the official detections."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import detect
from data.stream import DecodedImage
from inference import predictor as predictor_module
from inference.batching import WAITING_BATCHES
from inference.predictor import Prediction, Predictor, load_predictor
from inference.tta import augmented_rows
from models.checkpoint import CheckpointMetadata, load_checkpoint, save_checkpoint
from ops.letterbox import boxes_to_original
from ops.nms import NmsConfig, non_max_suppression
from settings.detect import InferSettings
from tests.mixed_example import small_predictor, write_mixed
from tools.sources import SourceDataset
from utils.errors import TaskError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def predictor(weights: Path) -> Predictor:
    return small_predictor(weights, NmsConfig(confidence=0.01))


@pytest.fixture(scope="module")
def paths(drawn: SourceDataset, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Photographs of several shapes, and a file that is none at position 4."""
    return write_mixed(drawn, tmp_path_factory.mktemp("mixed"))


def by_position(predictions: Iterator[Prediction]) -> list[Prediction]:
    return sorted(predictions, key=lambda p: p.position)


def test_a_batch_equals_its_single_images(predictor: Predictor, paths: list[str]) -> None:
    singles = by_position(predictor.stream(paths, batch_size=1, workers=1))
    batched = by_position(predictor.stream(paths, batch_size=4, workers=2))
    assert [p.path for p in batched] == [p.path for p in singles] == paths
    for one, other in zip(singles, batched, strict=True):
        assert one.size == other.size
        np.testing.assert_allclose(one.detections, other.detections, atol=1e-3)


def test_detections_lie_inside_their_own_image(predictor: Predictor, paths: list[str]) -> None:
    for prediction in predictor.stream(paths, batch_size=4, workers=1):
        if prediction.size is None:
            continue
        height, width = prediction.size
        boxes = prediction.detections[:, :4]
        assert (boxes >= 0).all()
        assert (boxes <= (width, height, width, height)).all()
        confidence = prediction.detections[:, 4]
        assert (np.diff(confidence) <= 0).all()


def test_an_unreadable_image_is_told_and_passed_over(
    predictor: Predictor, paths: list[str]
) -> None:
    bad = [p for p in predictor.stream(paths, batch_size=4, workers=1) if p.error]
    assert [p.position for p in bad] == [4]
    assert bad[0].size is None
    assert len(bad[0].detections) == 0


def test_views_are_the_network_input(predictor: Predictor, paths: list[str]) -> None:
    predictions = predictor.stream(paths[:1], batch_size=1, workers=1, keep_views=True)
    view = next(predictions).view
    assert view is not None
    assert view.image.shape == (3, 96, 96)
    assert view.image.dtype == torch.uint8
    assert view.class_probabilities.shape == (len(view.rows), 3)


def test_no_paths_give_nothing(predictor: Predictor) -> None:
    assert list(predictor.stream([], batch_size=4, workers=1)) == []


def test_memory_does_not_grow_with_the_number_of_images(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any time only a few images have been decoded and not yet been given out."""
    image = np.full((60, 80, 3), 200, np.uint8)
    decoded = most = given = 0

    def endless(
        names: Sequence[str], *, workers: int, prefetch: int, positions: None
    ) -> Iterator[DecodedImage]:
        nonlocal decoded
        for position, name in enumerate(names):
            decoded += 1
            yield DecodedImage(position, name, image)

    monkeypatch.setattr(predictor_module, "stream_images", endless)
    for _ in predictor.stream([str(n) for n in range(200)], batch_size=4, workers=1):
        given += 1
        most = max(most, decoded - given)
    assert given == 200
    assert most <= 4 * (WAITING_BATCHES + predictor.lanes.count + 1)


def test_the_command_line_writes_json(
    weights: Path, paths: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "found.json"
    detect.main(
        [
            "--weights",
            str(weights),
            "--source",
            str(Path(paths[0]).parent),
            "--output",
            str(output),
            "--img-size",
            "96",
            "--conf-thres",
            "0.01",
        ]
    )
    found = json.loads(output.read_text())
    assert sorted(found) == sorted(paths)
    assert "objects" in capsys.readouterr().out


def test_the_flags_of_v7_detect(weights: Path, paths: list[str], tmp_path: Path) -> None:
    words = ["--weights", str(weights), "--source", str(Path(paths[0]).parent), "--img", "96"]
    words += [
        "--conf-thres",
        "0.0005",
        "--max-det",
        "5",
        "--save-txt",
        "--save-conf",
        "--save-crop",
        "--hide-conf",
    ]
    words += ["--project", str(tmp_path), "--name", "exp", "--line-thickness", "2"]
    detect.main(words)
    detect.main([*words, "--nosave"])
    first, second = tmp_path / "exp", tmp_path / "exp2"
    found = json.loads((first / "detections.json").read_text())
    drawn = sorted(path.name for path in first.glob("*.png"))
    assert drawn == [Path(path).name for path in paths if Path(path).stem != "4"]
    assert not list(second.glob("*.png"))
    for path, objects in found.items():
        label = first / "labels" / f"{Path(path).stem}.txt"
        lines = label.read_text().splitlines() if label.is_file() else []
        assert len(lines) == len(objects)
        assert all(len(line.split()) == 6 for line in lines)
    assert len(list(first.glob("crops/*/*.jpg"))) == sum(map(len, found.values())) > 0


def test_three_looks_are_suppressed_together(weights: Path, paths: list[str]) -> None:
    """With `augment`, detections are what suppression leaves of all candidates of the three."""
    thresholds = NmsConfig(confidence=0.001)
    predictor = small_predictor(weights, thresholds, precision="float32", augment=True)
    parts = predictor.stream_parts(paths[3:4], batch_size=1, workers=1, keep_views=True)
    (found,) = parts
    assert found.view is not None
    images = found.view.image[None]
    rows = augmented_rows(
        predictor.looks.compiled.predict, images.float() / 255, stride=32, levels=3
    )
    (expected,) = non_max_suppression(rows, NmsConfig(confidence=0.001))
    np.testing.assert_allclose(
        found.detections, boxes_to_original(expected.rows, found.view.plan).numpy(), atol=1e-3
    )
    # Mining goes on from one look.
    (plain,) = predictor.suppress(predictor.forward(images)[1])
    assert torch.allclose(found.view.rows, plain.rows, atol=1e-3)
    assert not torch.equal(plain.rows, expected.rows)


def test_only_the_classes_asked_for(weights: Path, paths: list[str]) -> None:
    everything = InferSettings(img_size=96, conf_thres=0.001)
    some = replace(everything, classes=("platelet", "0"))
    all_classes, chosen = (
        {
            int(row[5])
            for prediction in load_predictor(weights, settings, CPU).stream(
                paths, batch_size=4, workers=1
            )
            for row in prediction.detections
        }
        for settings in (everything, some)
    )
    assert all_classes == {0, 1, 2}
    assert chosen == {0, 2}
    with pytest.raises(TaskError, match="names cat"):
        load_predictor(weights, replace(everything, classes=("cat",)), CPU)


def test_classes_suppress_each_other_when_asked(weights: Path) -> None:
    """Two equal boxes of two classes: one remains with `agnostic_nms`."""
    rows = torch.tensor([[[20.0, 20, 10, 10, 1, 0.9, 0, 0], [20.0, 20, 10, 10, 1, 0, 0.8, 0]]])
    settings = InferSettings(img_size=96)
    (apart,), (together,) = (
        load_predictor(weights, one, CPU).suppress(rows)
        for one in (settings, replace(settings, agnostic_nms=True))
    )
    assert apart.rows[:, 5].tolist() == [0, 1]
    assert together.rows[:, 5].tolist() == [0]


def test_half_on_a_cpu_is_a_sentence(weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = InferSettings(img_size=96, half=True, precision="float32")
    assert load_predictor(weights, settings, CPU).looks.precision == "float32"
    assert "half (float16) needs a GPU" in caplog.text
    assert predictor_module.chosen_precision(settings, torch.device("cuda")) == "float16"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param(InferSettings(img_size=96), False, id="as trained"),
        pytest.param(InferSettings(img_size=160), True, id="larger"),
        pytest.param(InferSettings(img_size=160, tile_size=96), False, id="tiles"),
    ],
)
def test_another_size_than_in_training_is_said(
    weights: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    settings: InferSettings,
    said: bool,
) -> None:
    path = tmp_path / "known.pt"
    save_checkpoint(
        path, replace(load_checkpoint(weights), metadata=CheckpointMetadata(img_size=96))
    )
    load_predictor(path, settings, CPU)
    assert ("note: the weights were trained at 96 px" in caplog.text) == said


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_half_on_a_gpu_finds_the_same(weights: Path, paths: list[str]) -> None:
    settings = InferSettings(img_size=96, conf_thres=0.01, precision="float32")
    cuda = torch.device("cuda")
    full, half = (
        by_position(load_predictor(weights, one, cuda).stream(paths, batch_size=4, workers=1))
        for one in (settings, replace(settings, half=True))
    )
    for one, other in zip(full, half, strict=True):
        count = min(len(one.detections), len(other.detections), 20)
        np.testing.assert_allclose(
            one.detections[:count, 4], other.detections[:count, 4], atol=0.01
        )


def test_the_command_line_takes_v7s_options(
    weights: Path, paths: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "found.json"
    common = ["--weights", str(weights), "--source", paths[0], "--output", str(output),
              "--img-size", "96", "--conf-thres", "0.001"]  # fmt: skip
    detect.main([*common, "--classes", "red_cell", "--augment", "--agnostic-nms", "--tile-size",
                "96"])  # fmt: skip
    (found,) = json.loads(output.read_text()).values()
    assert found
    assert {box["class_name"] for box in found} == {"red_cell"}


@pytest.mark.slow
def test_the_official_detections_are_found(shared: Path) -> None:
    """BCCD test split at 320 px: the rows of the official detect script (reference/README.md),
    within 1.5 px and 0.01, except under 1 % of rows that lie on a threshold.
    """
    expected = json.loads((shared / "reference/bccd_test_detections_320.json").read_text())
    if "images" in expected:
        expected = expected["images"]
    settings = InferSettings(img_size=320, max_det=1000, precision="float32")
    predictor = load_predictor(shared / "reference/bccd_yolov5n.pt", settings, CPU)
    images = shared / "data/bccd/JPEGImages"
    names = sorted(expected)
    paths = [str(images / f"{Path(name).stem}.jpg") for name in names]
    missed = surplus = total = 0
    for prediction in predictor.stream(paths, batch_size=16, workers=2):
        rows = np.array(expected[names[prediction.position]], float).reshape(-1, 6)
        ours = prediction.detections[:, [5, 0, 1, 2, 3, 4]].astype(float)
        close = (
            (rows[:, None, 0] == ours[None, :, 0])
            & (np.abs(rows[:, None, 1:5] - ours[None, :, 1:5]).max(2) <= 1.5)
            & (np.abs(rows[:, None, 5] - ours[None, :, 5]) <= 0.01)
        )
        missed += int((~close.any(1)).sum())
        surplus += int((~close.any(0)).sum())
        total += len(rows)
    assert total == 1346
    assert missed < 0.01 * total
    assert surplus < 0.01 * total
