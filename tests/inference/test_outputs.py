"""Label files, crops and pictures of detections, by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data.images import read_image
from inference.outputs import DetectionFiles, FileChoice, crop_of, label_lines

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
    ("box", "shape"),
    [
        # 20 x 10 times 1.02, and 10 pixels more, outward to whole pixels
        pytest.param([20, 20, 40, 30], (22, 32), id="inside"),
        pytest.param([0, 0, 20, 10], (16, 26), id="cut at the corner"),
    ],
)
def test_crops_by_hand(box: list[float], shape: tuple[int, int]) -> None:
    crop = crop_of(np.zeros((60, 80, 3), np.uint8), np.array(box, np.float32))
    assert crop.shape[:2] == shape


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for name in ("a.png", "a.jpg", "deep/b.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((*SIZE, 3), 200, np.uint8))
    return tmp_path / "in"


def write(photographs: Path, choice: FileChoice, rows: np.ndarray = ROWS) -> dict[str, Path]:
    folder = photographs.parent / "out"
    files = DetectionFiles(folder, photographs, ("x", "a/b"), choice)
    for path in sorted(photographs.rglob("*.*g")):
        files.write(str(path), rows, SIZE)
    return {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}


def test_names_follow_the_source_and_never_collide(photographs: Path) -> None:
    written = write(photographs, FileChoice(labels=True))
    assert set(written) == {
        *("a.jpg", "a-2.png", "deep/b.png"),
        *("labels/a.txt", "labels/a-2.txt", "labels/deep/b.txt"),
    }


def test_crops_lie_by_class(photographs: Path) -> None:
    written = write(photographs, FileChoice(pictures=False, crops=True))
    assert {"crops/a-b/deep/b.jpg", "crops/x/deep/b2.jpg"} <= set(written)


def test_no_detections_give_a_picture_and_no_label_file(photographs: Path) -> None:
    written = write(photographs, FileChoice(labels=True, crops=True), ROWS[:0])
    assert set(written) == {"a.jpg", "a-2.png", "deep/b.png"}


def test_nothing_wanted_reads_nothing(tmp_path: Path) -> None:
    files = DetectionFiles(tmp_path / "out", tmp_path, ("x",), FileChoice(pictures=False))
    files.write(str(tmp_path / "gone.png"), ROWS, SIZE)
    assert not (tmp_path / "out").exists()


def test_what_is_drawn(photographs: Path) -> None:
    plain = write(photographs, FileChoice(hide_labels=True, thickness=3))["deep/b.png"]
    bare = read_image(plain)
    named = read_image(write(photographs, FileChoice(thickness=3))["deep/b.png"])
    without = read_image(
        write(photographs, FileChoice(hide_confidences=True, thickness=3))["deep/b.png"]
    )
    changed = [(image != 200).any(axis=2).sum() for image in (bare, without, named)]
    assert 0 < changed[0] < changed[1] < changed[2]
