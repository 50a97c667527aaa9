"""Label files, crops and pictures of detections, by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.images import read_image
from inference.outputs import DetectionFiles, DetectionTable, crop_box, label_lines
from inference.predictions import Prediction
from reporting.drawing import draw_boxes
from settings.detect import OutputOptions

ROWS = np.array([[10, 10, 30, 20, 0.75, 1], [0, 0, 50, 40, 0.5, 0]], np.float32)
SIZE = (40, 50)


@pytest.mark.parametrize(
    ("confidences", "expected"),
    [
        (False, "0 0.5 0.5 1 1\n1 0.4 0.375 0.4 0.25\n"),
        (True, "0 0.5 0.5 1 1 0.5\n1 0.4 0.375 0.4 0.25 0.75\n"),
    ],
)
def test_lines_by_hand(confidences: bool, expected: str) -> None:
    assert label_lines(ROWS, SIZE, confidences=confidences) == expected


@pytest.mark.parametrize(
    ("box", "shape"), [([20, 20, 40, 30], (22, 32)), ([0, 0, 20, 10], (16, 26))]
)
def test_crops_by_hand(box: list[float], shape: tuple[int, int]) -> None:
    """20 x 10 times 1.02, and 10 pixels more, outward to whole pixels; cut at the corner."""
    crop = crop_box(np.zeros((60, 80, 3), np.uint8), np.array(box, np.float32))
    assert crop.shape[:2] == shape


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for name in ("a.png", "a.jpg", "deep/b.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((*SIZE, 3), 200, np.uint8))
    return tmp_path / "in"


def write(photographs: Path, options: OutputOptions, rows: np.ndarray = ROWS) -> dict[str, Path]:
    folder = photographs.parent / "out"
    files = DetectionFiles(folder, photographs, ("x", "a/b"), options, draw_boxes)
    for path in sorted(photographs.rglob("*.*g")):
        files.write(str(path), rows, SIZE)
    return {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}


def test_names_as_long_as_they_can_be(photographs: Path) -> None:
    """A second stem of the same name, crops and the label file have longer names."""
    for name in ("x" * 251 + ".png", "x" * 250 + ".jpeg", "\udcff" * 251 + ".png"):
        shutil.copy(photographs / "a.png", photographs / name)
    options = OutputOptions(save_txt=True, save_crop=True)
    rows = np.repeat(ROWS, 6, 0)
    folder = photographs.parent / "out"
    files = DetectionFiles(folder, photographs, ("y" * 300, ".."), options, draw_boxes)
    for path in sorted(photographs.glob("*.*g")):
        files.write(str(path), rows, SIZE)
    for place, count in (("", 5), ("labels", 5), ("crops/*", 60)):
        found = [path for path in folder.glob(f"{place}/*" if place else "*") if path.is_file()]
        assert len(found) == count
    assert len(list(folder.glob("crops/*"))) == 2


def test_names_follow_the_source_and_never_collide(photographs: Path) -> None:
    written = write(photographs, OutputOptions(save_txt=True))
    assert set(written) == {
        *("a.jpg", "a-2.png", "deep/b.png"),
        *("labels/a.txt", "labels/a-2.txt", "labels/deep/b.txt"),
    }


def test_crops_lie_by_class(photographs: Path) -> None:
    written = write(photographs, OutputOptions(save_images=False, save_crop=True))
    assert {"crops/a-b/deep/b.jpg", "crops/x/deep/b2.jpg"} <= set(written)


def test_no_detections_give_a_picture_and_no_label_file(photographs: Path) -> None:
    written = write(photographs, OutputOptions(save_txt=True, save_crop=True), ROWS[:0])
    assert set(written) == {"a.jpg", "a-2.png", "deep/b.png"}


def test_nothing_wanted_reads_nothing(tmp_path: Path) -> None:
    files = DetectionFiles(tmp_path / "out", tmp_path, ("x",), OutputOptions(save_images=False))
    files.write(str(tmp_path / "gone.png"), ROWS, SIZE)
    assert not (tmp_path / "out").exists()


def test_what_is_drawn(photographs: Path) -> None:
    changed = [0]
    for hidden in ({"hide_labels": True}, {"hide_conf": True}, {}):
        written = write(photographs, OutputOptions(line_thickness=3, **hidden))
        changed.append((read_image(written["deep/b.png"]) != 200).any(axis=2).sum())
    assert sorted(set(changed)) == changed


def test_an_image_too_large_for_its_format_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """JPEG ends at 65,500 pixels a side: the picture and the wide crop are missing, no more."""
    path = tmp_path / "in" / "wide.tif"
    path.parent.mkdir()
    cv2.imwrite(str(path), np.full((8, 65_501, 3), 200, np.uint8))
    options = OutputOptions(save_crop=True)
    files = DetectionFiles(tmp_path / "out", path.parent, "xy", options, draw_boxes)
    rows = np.array([[0, 0, 65_501, 8, 0.9, 0], [5, 0, 20, 8, 0.8, 1]], np.float32)
    files.write(str(path), rows, (8, 65_501))
    written = {str(p.relative_to(tmp_path / "out")) for p in tmp_path.glob("out/**/*.*")}
    assert written == {"crops/y/wide2.jpg"}
    for message, name in zip(
        caplog.messages, ("out/crops/x/wide.jpg", "out/wide.jpg"), strict=True
    ):
        assert f"{name}: " in message
        assert "65501x8 is too large for .jpg" in message


PATHS = ["b.jpg", "a.jpg", "b.jpg", "c.jpg"]


def prediction(position: int) -> Prediction:
    return Prediction(position, PATHS[position], SIZE, ROWS[:position])


def stream(path: Path, positions: list[int], error: Exception | None = None) -> None:
    with DetectionTable(path, ("x", "y"), path.with_suffix(".csv")) as found:
        for position in positions:
            found.add(prediction(position))
        assert found.objects == sum(positions) - (3 in positions)
        assert found.readable == len(positions)
        if error:
            raise error


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 2, 0], [2, 3, 0, 1]])
def test_the_json_file_has_the_order_of_the_paths(tmp_path: Path, order: list[int]) -> None:
    stream(tmp_path / "found.json", order)
    objects = [
        {"box": [10.0, 10.0, 30.0, 20.0], "score": 0.75, "class_name": "y"},
        {"box": [0.0, 0.0, 50.0, 40.0], "score": 0.5, "class_name": "x"},
    ]
    expected = {"b.jpg": [], "a.jpg": objects[:1], "c.jpg": objects}
    assert (tmp_path / "found.json").read_text() == json.dumps(expected, indent=1)
    rows = ["Image Name,Prediction,Confidence", "a.jpg,y,0.75", "c.jpg,y,0.75", "c.jpg,x,0.50"]
    assert (tmp_path / "found.csv").read_text().splitlines() == rows


@pytest.mark.parametrize(
    ("positions", "paths"), [([], None), ([3], ["c.jpg"]), ([3, 0], ["b.jpg", "c.jpg"])]
)
def test_the_json_file_is_complete_after_an_error(
    tmp_path: Path, positions: list[int], paths: list[str] | None
) -> None:
    """Without any image there is no file, and those of an earlier run stay."""
    with pytest.raises(RuntimeError, match="interrupted"):
        stream(tmp_path / "found.json", positions, RuntimeError("interrupted"))
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == (["found.csv", "found.json"] if paths else [])
    if paths:
        assert list(json.loads((tmp_path / "found.json").read_text())) == paths
