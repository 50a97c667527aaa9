"""One drawn data set in every annotation format: the same boxes, weights, scores; and the judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.formats import Result, differences, equal_to_source, fingerprint, main, read_all
from tools.draw_dataset import draw_dataset
from tools.source_formats import SPLITS
from tools.sources import SourceDataset, read_source

ONE = Result("ark", 3, 9, 3, "a", "b", "c", "d", 5, ())


def test_alike_is_alike() -> None:
    assert differences([ONE, replace(ONE, form="voc"), replace(ONE, form="coco")]) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"images": 4}, "images differs", id="an image more"),
        pytest.param({"box_print": "e"}, "box_print differs", id="another box"),
        pytest.param({"weight_print": "e"}, "weight_print differs", id="other weights"),
        pytest.param({"ranking_print": "e"}, "ranking_print differs", id="another ranking"),
        pytest.param({"detection_print": "e"}, "detection_print differs", id="other detections"),
        pytest.param({"findings": ("tsv.order: x",)}, "voc: tsv.order: x", id="a finding"),
    ],
)
def test_what_is_not_alike_is_named(change: dict, says: str) -> None:
    found = differences([ONE, replace(ONE, form="voc", **change)])
    assert len(found) == 1
    assert says in found[0]


def test_a_fingerprint_sees_one_pixel() -> None:
    boxes = np.array([[1, 2, 3, 4]], np.float32)
    moved = boxes + np.array([0, 0, 1, 0], np.float32)
    assert fingerprint([boxes.tobytes()]) == fingerprint([boxes.tobytes()])
    assert fingerprint([boxes.tobytes()]) != fingerprint([moved.tobytes()])


@pytest.mark.parametrize("form", ["ark", "voc", "coco"])
def test_all_images_come_back_as_the_source_has_them(
    drawn: SourceDataset, tmp_path: Path, form: str
) -> None:
    images = [image for split in SPLITS for image in drawn.splits[split]]
    index = read_all(drawn, tmp_path, form)
    assert len(index) == len(images) == 24
    assert equal_to_source(index, images) == 24
    shifted = [replace(image, boxes=image.boxes + 1) for image in images]
    assert equal_to_source(index, shifted) == 0


@pytest.mark.slow
def test_the_whole_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_dataset(tmp_path / "data", images=24, size_wh=(160, 120), seed=1)
    words = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert main([*words, "--size", "64", "--epochs", "1"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[1:]] == ["| ark", "| voc", "| coco"]
    assert len({row.partition(" | ")[2] for row in rows[1:]}) == 1


@pytest.mark.slow
def test_all_of_bccd_in_three_formats(shared: Path, tmp_path: Path) -> None:
    """The boxes alone: `python -m bench.formats` trains with them, see docs/reliability.md."""
    source = read_source(shared / "data" / "bccd")
    indices = [read_all(source, tmp_path, form) for form in ("ark", "voc", "coco")]
    for one in indices:
        assert len(one) == 364
        for name in ("sizes", "boxes", "classes", "offsets"):
            assert np.array_equal(getattr(one, name), getattr(indices[0], name)), name
