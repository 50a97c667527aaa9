"""The drawn data set: repeatable, boxes where the objects are, every class in every part."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from defusedxml.ElementTree import parse

from tools.draw_dataset import CLASS_NAMES, MIXED_NAMES, draw_dataset, draw_scene, main
from tools.sources import read_source


def test_one_seed_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        draw_dataset(tmp_path / name, images=4, size_wh=(160, 120), seed=3)
    files = [p.relative_to(tmp_path / "first") for p in (tmp_path / "first").rglob("*.*")]
    assert len(files) == 4 + 4 + 3 + 1
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


@pytest.mark.parametrize("index", range(6))
def test_boxes_lie_inside_and_are_large_enough(index: int) -> None:
    scene = draw_scene(320, 240, np.random.default_rng([0, index]))
    x1, y1, x2, y2 = scene.boxes.T
    assert (scene.image.shape, scene.image.dtype) == ((240, 320, 3), np.uint8)
    assert (scene.boxes >= 0).all()
    assert (scene.boxes <= (320, 240, 320, 240)).all()
    whole = (x1 > 0) & (y1 > 0) & (x2 < 320) & (y2 < 240)
    platelet = scene.classes == CLASS_NAMES.index("platelet")
    sides = np.minimum(x2 - x1, y2 - y1)
    assert (sides[whole & platelet] >= 11).all()
    assert (sides[whole & ~platelet] >= 20).all()


def test_classes_are_balanced_as_promised(tmp_path: Path) -> None:
    scenes = [draw_scene(192, 144, np.random.default_rng([0, index])) for index in range(60)]
    counts = np.bincount(np.concatenate([s.classes for s in scenes]), minlength=3)
    shares = dict(zip(CLASS_NAMES, counts / counts.sum(), strict=True))
    assert shares["red_cell"] > 0.7
    assert 0.05 < shares["platelet"] < 0.12
    assert shares["platelet"] < shares["white_cell"]


def test_voc_files_and_splits_agree_with_the_pictures(tmp_path: Path) -> None:
    counts = draw_dataset(tmp_path, images=20, size_wh=(160, 120), seed=1)
    source = read_source(tmp_path)
    assert source.class_names == CLASS_NAMES
    sizes = {split: len(images) for split, images in source.splits.items()}
    assert sizes == {"train": 14, "val": 3, "test": 3}
    found = [c for images in source.splits.values() for image in images for c in image.classes]
    assert np.bincount(found, minlength=3).tolist() == list(counts.values())
    first = parse(tmp_path / "Annotations" / "smear_00000.xml")
    assert first.findtext("size/width") == "160"
    scene = draw_scene(160, 120, np.random.default_rng([1, 0]))
    by_name = {i.path.stem: i for images in source.splits.values() for i in images}
    np.testing.assert_array_equal(by_name["smear_00000"].boxes, scene.boxes)
    assert cv2.imread(str(by_name["smear_00000"].path)).shape == (120, 160, 3)


def test_a_mixed_set_is_as_users_have_it(tmp_path: Path) -> None:
    """Sizes and shapes, a long and a Chinese name, crowded and empty scenes."""
    counts = draw_dataset(tmp_path, images=60, size_wh=(160, 120), seed=0, mixed=True)
    source = read_source(tmp_path)
    assert source.class_names == tuple(counts) == MIXED_NAMES
    assert min(counts.values()) > 20
    images = [image for own in source.splits.values() for image in own]
    sizes = {cv2.imread(str(image.path)).shape[:2] for image in images}
    assert {(120, 160), (240, 320), (160, 120), (84, 112)} <= sizes
    objects = sorted(len(image.classes) for image in images)
    assert objects[0] == 0
    assert objects[-1] > 30


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "set"), "--images", "2", "--size", "128", "96", "--mixed"]) == 0
    assert "2 pictures" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([str(tmp_path / "set"), "--images", "0"])
