"""A small drawn data set, and recorded runs of v7.0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data.dataset_index import DatasetIndex
from data.instances import Instances

SIZES = [(48, 64), (64, 48), (40, 64), (64, 64), (20, 50), (64, 30), (64, 64)]


@pytest.fixture
def index(tmp_path: Path) -> DatasetIndex:
    """Seven images with a white rectangle on black each, which is its box; the last one bare."""
    paths, boxes = [], []
    for number, (height, width) in enumerate(SIZES):
        image = np.zeros((height, width, 3), np.uint8)
        box = (4, 2, width // 2, height - 6)
        if number < len(SIZES) - 1:
            image[box[1] : box[3], box[0] : box[2]] = 255
            boxes.append(box)
        paths.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(paths[-1], image)
    instances = Instances(np.array(boxes), np.arange(len(boxes)) % 3)
    return DatasetIndex.build(paths, SIZES, instances, [1] * len(boxes) + [0], "abc")


@pytest.fixture(params=["extract", "full"])
def reference(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Any]:
    """Recorded runs of YOLOv5 v7.0 (perspective.json and .npz of the reference vectors)."""
    if request.param == "extract":
        folder = request.getfixturevalue("golden")("perspective.npz").parent
    else:
        folder = request.getfixturevalue("shared") / "golden"
    return (
        json.loads((Path(folder) / "perspective.json").read_text()),
        np.load(Path(folder) / "perspective.npz", allow_pickle=False),
    )
