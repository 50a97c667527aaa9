"""The predictor's stream, and the files of `detect.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import detect
from data.stream import DecodedImage
from data.videos import Video, write_video
from inference import predictor as predictor_module
from inference.batching import WAITING_BATCHES
from inference.network import resolve_precision
from inference.predictions import Tile, class_indices
from inference.predictor import Prediction, Predictor, load_predictor
from inference.tta import augmented_rows
from models.checkpoint import CheckpointMetadata, load_checkpoint, save_checkpoint
from ops.letterbox import boxes_to_original
from ops.nms import NmsConfig, non_max_suppression
from settings.detect import InferSettings
from tests.conftest import needs_gpu
from tests.mixed_example import small_predictor, write_mixed
from tools.sources import SourceDataset
from utils.errors import Code, TaskError

CPU = torch.device("cpu")
SETTINGS = InferSettings(img_size=96, conf_thres=0.001, batch_size=4, precision="float32")


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
    """Boxes are in pixels of their image, by falling confidence; an unreadable image is named."""
    one_by_one = replace(predictor, config=replace(predictor.config, batch_size=1, workers=1))
    singles, batched = (by_position(one.stream(paths)) for one in (one_by_one, predictor))
    assert [p.path for p in batched] == [p.path for p in singles] == paths
    for one, other in zip(singles, batched, strict=True):
        assert one.size == other.size
        np.testing.assert_allclose(one.detections, other.detections, atol=1e-3)
        height, width = one.size or (0, 0)
        assert (one.detections[:, :4] >= 0).all()
        assert (one.detections[:, :4] <= (width, height, width, height)).all()
        assert (np.diff(one.detections[:, 4]) <= 0).all()
    assert [p.position for p in batched if p.error and p.size is None] == [4]
    assert list(predictor.stream([])) == []


def test_memory_does_not_grow_with_the_number_of_images(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any time only a few images have been decoded and not yet been given out."""
    image = np.full((60, 80, 3), 200, np.uint8)
    decoded = most = given = 0

    def endless(
        names: Sequence[str],
        prepare: Callable[[DecodedImage], list[Tile]],
        *,
        workers: int,
        prefetch: int,
        **_: None,
    ) -> Iterator[list[Tile]]:
        nonlocal decoded
        for position, name in enumerate(names):
            decoded += 1
            yield prepare(DecodedImage(position, name, image))

    monkeypatch.setattr(predictor_module, "stream_prepared", endless)
    for _ in predictor.stream([str(n) for n in range(100)]):
        given += 1
        most = max(most, decoded - given)
    assert given == 100
    assert most <= 4 * (WAITING_BATCHES + predictor.pool.count + 1)


def test_tta_is_suppressed_once(weights: Path, paths: list[str]) -> None:
    """Detections with `augment` are what NMS keeps of the rows of all views."""
    predictor = small_predictor(
        weights, NmsConfig(confidence=0.001), precision="float32", augment=True
    )
    (found,) = predictor.stream_tiles(paths[3:4], keep_inputs=True)
    shown = found.network_input
    assert shown is not None
    assert (shown.image.shape, shown.image.dtype) == ((3, 96, 96), torch.uint8)
    assert shown.class_probabilities.shape == (len(shown.rows), 3)
    images = shown.image[None]
    forward = predictor.network.compiled.predict
    pixels = images.float() / 255
    rows = augmented_rows(forward, pixels, forward(pixels), stride=32, levels=3)
    (expected,) = non_max_suppression(rows, NmsConfig(confidence=0.001))
    np.testing.assert_allclose(
        found.detections, boxes_to_original(expected.rows, shown.letterbox).numpy(), atol=1e-3
    )
    # Mining continues from one forward pass.
    (plain,) = predictor.suppress(predictor.forward(images)[1])
    assert torch.allclose(shown.rows, plain.rows, atol=1e-3)
    assert not torch.equal(plain.rows, expected.rows)


def test_class_indices() -> None:
    names = ["cat", "dog", "3"]
    assert class_indices((), names) is None
    assert class_indices(("dog", "1"), names) == (1,)
    assert class_indices(("2", "0"), names) == (0, 2)
    assert class_indices(("3",), names) == (2,)  # a name that is a number
    with pytest.raises(TaskError, match=r"names cow, 7; .*: cat, dog \(0 to 1\)") as caught:
        class_indices(["cow", "cat", "7"], ["cat", "dog"])
    assert caught.value.code == Code.CONFIG


def test_nms_over_all_classes(weights: Path) -> None:
    """Of two equal boxes of two classes one remains if classes count as one or suppress others."""
    rows = torch.tensor([[[20.0, 20, 10, 10, 1, 0.9, 0, 0], [20.0, 20, 10, 10, 1, 0, 0.8, 0]]])
    for agnostic, single, classes in (
        (False, False, [0, 1]),
        (True, False, [0]),
        (False, True, [0]),
    ):
        nms = NmsConfig(class_agnostic=agnostic)
        (found,) = small_predictor(weights, nms, single_class=single).suppress(rows)
        assert found.rows[:, 5].tolist() == classes
    assert found.rows[:, 4].tolist() == pytest.approx([0.9])  # of the most probable class


def test_half_on_a_cpu_is_a_warning(weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = replace(SETTINGS, half=True)
    assert load_predictor(weights, settings, CPU).config.precision == "float32"
    assert "half (float16) needs a GPU" in caplog.text
    assert resolve_precision(settings, torch.device("cuda")) == "float16"


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        pytest.param(InferSettings(img_size=96), False, id="as trained"),
        pytest.param(InferSettings(img_size=160), True, id="larger"),
        pytest.param(InferSettings(img_size=160, tile_size=96), False, id="tiles"),
    ],
)
def test_another_size_than_in_training_is_a_warning(
    weights: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    settings: InferSettings,
    warned: bool,
) -> None:
    path, known = tmp_path / "known.pt", CheckpointMetadata(img_size=96)
    save_checkpoint(path, replace(load_checkpoint(weights), metadata=known))
    load_predictor(path, settings, CPU)
    assert ("note: the weights were trained at 96 px" in caplog.text) == warned


@needs_gpu
def test_half_on_a_gpu_finds_the_same(weights: Path, paths: list[str]) -> None:
    settings = replace(SETTINGS, conf_thres=0.01)
    cuda = torch.device("cuda")
    full, half = (
        by_position(load_predictor(weights, one, cuda).stream(paths))
        for one in (settings, replace(settings, half=True))
    )
    for found in zip(full, half, strict=True):
        count = min(20, *(len(one.detections) for one in found))
        scores = [one.detections[:count, 4] for one in found]
        np.testing.assert_allclose(*scores, atol=0.01)


def run(weights: Path, source: str | Path, words: str) -> None:
    detect.main(["--weights", str(weights), "--source", str(source), "--img", "96", *words.split()])


def test_the_flags_of_v7_detect(weights: Path, paths: list[str], tmp_path: Path) -> None:
    words = "--conf-thres 0.0005 --max-det 5 --save-txt --save-conf --save-crop --hide-conf"
    words += f" --project {tmp_path} --name exp --line-thickness 2"
    run(weights, Path(paths[0]).parent, words)
    run(weights, paths[0], f"{words} --nosave")
    first, second = tmp_path / "exp", tmp_path / "exp2"
    found = json.loads((first / "detections.json").read_text())
    assert list(found) == paths
    drawn = sorted(path.name for path in first.glob("*.png"))
    assert drawn == [Path(path).name for path in paths if Path(path).stem != "4"]
    assert not list(second.glob("*.png"))
    for path, objects in found.items():
        label = first / "labels" / f"{Path(path).stem}.txt"
        lines = label.read_text().splitlines() if label.is_file() else []
        assert len(lines) == len(objects)
        assert all(len(line.split()) == 6 for line in lines)
    assert len(list(first.glob("crops/*/*.jpg"))) == sum(map(len, found.values())) > 0


def test_settings_are_options_too(
    weights: Path, paths: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "found.json"
    words = "--conf-thres 0.001 --classes red_cell --augment --agnostic-nms --tile-size 96"
    run(weights, paths[0], f"{words} --output {output}")
    (found,) = json.loads(output.read_text()).values()
    assert {box["class_name"] for box in found} == {"red_cell"}
    assert f"1 image, {len(found)} objects: {output}" in capsys.readouterr().out


def test_an_image_too_wide_for_a_picture_costs_nothing_else(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """JPEG ends at 65,500 pixels a side."""
    source = tmp_path / "in"
    source.mkdir()
    for name, width in (("a.tif", 80), ("b.tif", 65_501)):
        cv2.imwrite(str(source / name), np.full((8, width, 3), 200, np.uint8))
    run(weights, source, f"--project {tmp_path}")
    assert (tmp_path / "exp" / "a.jpg").is_file()
    assert not (tmp_path / "exp" / "b.jpg").exists()
    assert len(json.loads((tmp_path / "exp/detections.json").read_text())) == 2
    assert "b.jpg: 65501x8 is too large for .jpg" in capsys.readouterr().out


@pytest.fixture(scope="module")
def film(paths: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph five times at five frames a second."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    frame = cv2.resize(cv2.imread(paths[0]), (160, 128))
    with write_video(path, (128, 160), 5) as writer:
        for _ in range(5):
            writer.write(frame)
    return path


@pytest.mark.parametrize(("stride", "count"), [(1, 5), (2, 2)])
def test_a_video(
    weights: Path,
    film: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    stride: int,
    count: int,
) -> None:
    """Label files by frame, and an annotated film of the same rate."""
    words = f"--conf-thres 0.0005 --max-det 3 --save-txt --save-csv --project {tmp_path}"
    run(weights, film, f"{words} --batch-size 1 --vid-stride {stride} --view-img")
    folder, numbers = tmp_path / "exp", range(1, count + 1)
    found = json.loads((folder / "detections.json").read_text())
    assert list(found) == [f"{film}#{n}" for n in numbers]
    labels = {path.name: path.read_text() for path in folder.glob("labels/*")}
    assert set(labels) == {f"film_{n}.txt" for n in numbers}
    assert len((folder / "predictions.csv").read_text().splitlines()) == 1 + 3 * count
    written = Video(str(folder / "film.mp4"))
    assert (written.rate, written.total) == (5, count)
    assert {frame.shape for frame in written.frames()} == {(128, 160, 3)}
    said = capsys.readouterr().out
    assert f"0 images, {count} frames, {3 * count} objects: {folder}" in said
    assert f"report: {folder}/report.html" in said
    assert "--view-img shows nothing: " in said


def test_a_video_that_is_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (128, 160, 3), np.uint8)
    whole, part = tmp_path / "whole.avi", tmp_path / "part.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 5, (160, 128))
    for _ in range(6):
        writer.write(frame)
    writer.release()
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert 0 < len(list(Video(str(part)).frames())) < 5
    assert "part.avi ends after" in caplog.text


def test_what_cannot_be_read_at_all_is_an_error(weights: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "a.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(TaskError, match=r"no image of --source .* can be read \(.*a.mp4: "):
        run(weights, tmp_path, f"--project {tmp_path}/runs")


def test_a_network_input_of_height_and_width(predictor: Predictor) -> None:
    """256 x 300 is bound by the height 100, which is 128 in multiples of the stride."""
    shaped = replace(predictor, config=replace(predictor.config, shape=(100, 640)))
    plan = shaped.plan((256, 300))
    assert (plan.resized, plan.shape) == ((128, 150), (128, 160))


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
    for prediction in predictor.stream(paths):
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
    assert max(missed, surplus) < 0.01 * total
