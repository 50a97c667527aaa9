"""The detector in a program: what it takes, what it refuses, what it ranks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import export
from api.detector import Detector
from mining.registry import ALGORITHMS
from mining.scores import ScoringContext, in_order
from settings.detect import MiningSettings
from utils.errors import TaskError

LOW = {"img_size": 96, "conf_thres": 0.0, "max_det": 5, "precision": "float32"}


@pytest.fixture(scope="module")
def detector(untrained: Path) -> Detector:
    return Detector(untrained, device="cpu", **LOW)


def test_every_kind_of_image_gives_the_same(detector: Detector, pictures: list[str]) -> None:
    path = pictures[0]
    rgb = cv2.imread(path)[..., ::-1]
    alpha = np.concatenate([rgb, np.zeros_like(rgb[..., :1])], axis=2)
    with Image.open(path) as opened:
        results = detector([path, Path(path), rgb, alpha, rgb.transpose(2, 0, 1), opened])
    (alone,) = detector(path).xyxy
    assert len(alone) == 5
    assert all(torch.equal(one, alone) for one in results.xyxy)
    assert results.files == [
        "0.jpg",
        "0.jpg",
        "image2.jpg",
        "image3.jpg",
        "image4.jpg",
        "image5.jpg",
    ]
    assert not torch.equal(detector(rgb[..., ::-1]).xyxy[0], alone)
    with Image.open(path) as opened:
        assert torch.equal(detector(opened.rotate(90, expand=True)).xyxy[0], detector(
            np.rot90(rgb)).xyxy[0])  # fmt: skip


def test_grey_arrays_are_grey_pictures(detector: Detector) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (64, 96), np.uint8)
    flat, one_channel, coloured = detector([grey, grey[..., None], np.stack([grey] * 3, 2)]).xyxy
    assert torch.equal(flat, coloured)
    assert torch.equal(one_channel, coloured)


def test_a_turned_photograph_is_seen_upright(detector: Detector, pictures: list[str]) -> None:
    turned, exif = Path(pictures[0]).with_name("turned.png"), Image.Exif()
    exif[0x0112] = 6
    with Image.open(pictures[0]) as image:
        image.save(turned, exif=exif)
        expected = detector(np.rot90(np.asarray(image), -1)).xyxy[0]
    with Image.open(turned) as image:
        assert torch.equal(detector(image).xyxy[0], expected)
    results = detector(turned)
    assert torch.equal(results.xyxy[0], expected)
    assert results.render()[0].shape[:2] == (64, 96)


def test_a_folder_stands_for_its_images(detector: Detector, pictures: list[str]) -> None:
    results = detector(Path(pictures[0]).parent)
    assert results.paths == pictures
    assert all(map(torch.equal, results.xyxy, detector(pictures).xyxy))
    assert len(detector([])) == 0


def test_settings_of_a_call(detector: Detector, pictures: list[str]) -> None:
    found = detector(pictures[0], max_det=3, classes=["white"]).xyxy[0]
    assert found[:, 5].tolist() == [1, 1, 1]
    assert len(detector(pictures[0], imgsz=64).xyxy[0]) == 5
    both = detector(pictures[0], multi_label=True, max_det=1000).xyxy[0]
    assert len(both) > len(detector(pictures[0], max_det=1000).xyxy[0])


@pytest.mark.parametrize(
    ("image", "words"),
    [
        pytest.param(np.zeros((8, 8, 3)), "float64, not uint8", id="floats"),
        pytest.param(np.zeros((8, 8, 2), np.uint8), r"shape \[8, 8, 2\]", id="two channels"),
        pytest.param(np.zeros((0, 8, 3), np.uint8), r"shape \[0, 8, 3\]", id="no pixels"),
        pytest.param(torch.zeros(1, 3, 8, 8), "a tensor", id="tensor"),
        pytest.param([torch.zeros(3, 8, 8)], "of the type Tensor", id="list of tensors"),
        pytest.param(None, "of the type NoneType", id="nothing"),
        pytest.param(b"a.jpg", "of the type bytes", id="bytes"),
        pytest.param("missing.jpg", "missing.jpg does not exist", id="missing"),
        pytest.param(["missing.jpg"], "missing.jpg does not exist", id="missing in a list"),
        pytest.param("https://example.org/a.jpg", "is an address in a network", id="address"),
    ],
)
def test_what_is_no_image_is_refused(detector: Detector, image: object, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        detector(image)


def test_a_file_that_cannot_be_read(
    detector: Detector, pictures: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    bad = Path(pictures[0]).with_name("bad.png")
    bad.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    results = detector([pictures[0], bad])
    assert [len(rows) for rows in results.xyxyn] == [5, 0]
    assert f"skipped {bad}: not a readable image file" in caplog.text
    assert str(results).endswith("bad.png: skipped, not a readable image file")
    assert [one.position for one in detector.mine([bad, pictures[0]], "random")] == [1, 0]
    for use in (detector, detector.mine):
        with pytest.raises(TaskError, match=r"no image can be read \(.*bad.png: not a readable"):
            use([bad])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"confthres": 0.3}, "confthres is no setting here: there are agnostic_nms"),
        ({"weights": "other.pt"}, "weights is no setting here"),
        ({"conf_thres": 3}, "conf_thres"),
        ({"classes": ["dog"]}, "names dog"),
        ({"precision": "bfloat16"}, r"precision cannot change .* precision='bfloat16'\)"),
    ],
)
def test_settings_that_are_refused(
    detector: Detector, pictures: list[str], settings: dict[str, object], words: str
) -> None:
    with pytest.raises(TaskError, match=words):
        detector(pictures[0], **settings)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_ranking_is_that_of_the_algorithm(
    detector: Detector, pictures: list[str], algorithm: str
) -> None:
    ranked = detector.mine(pictures, algorithm, seed=3)
    settings = MiningSettings(seed=3, mining_algorithm=algorithm, **LOW)
    steps, predictor = ALGORITHMS[algorithm], detector._predictor
    context = ScoringContext(predictor, settings, len(pictures))
    stream = predictor.stream_tiles(pictures, keep_inputs=True)
    expected = dict(in_order(steps.rank(steps.score(stream, context), context), pictures))
    assert [one.score for one in ranked] == sorted(expected.values(), reverse=True)
    assert {one.path: one.score for one in ranked} == expected
    assert [pictures[one.position] for one in ranked] == [one.path for one in ranked]


def test_arrays_are_ranked_as_their_files(detector: Detector, pictures: list[str]) -> None:
    arrays = [cv2.imread(path)[..., ::-1] for path in pictures]
    ranked, of_files = (detector.mine(given, "entropy") for given in (arrays, pictures))
    assert [one[1:] for one in ranked] == [one[1:] for one in of_files]
    assert {one.path for one in ranked} == {"image0.jpg", "image1.jpg", "image2.jpg"}


def test_an_unknown_algorithm_is_refused(detector: Detector, pictures: list[str]) -> None:
    with pytest.raises(TaskError, match=r"best.*cald"):
        detector.mine(pictures, "best")


def test_an_exported_file(
    untrained: Path, pictures: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, weights = tmp_path / "best.onnx", str(untrained)
    words = ["--weights", weights, "--include", "onnx", "--imgsz", "96", "--output", str(path)]
    assert export.main(words) == 0
    detector = Detector(path, device="cpu", **LOW)
    found = detector(pictures, img_size=64, conf_thres=0.1).xyxy
    assert f"note: {path} takes images of 96 x 96 only: img_size 64 has no effect" in caplog.text
    assert all(len(rows) for rows in found)
    assert {one.path for one in detector.mine(pictures, "random")} == set(pictures)
    with pytest.raises(TaskError, match=r"mining by aldd needs the network .*give the \.pt file"):
        detector.mine(pictures, "aldd")
