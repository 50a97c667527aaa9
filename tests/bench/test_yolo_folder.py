"""Label texts and the data file of a YOLO folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from bench.yolo_folder import write_description, yolo_label


def test_a_line_a_box_in_shares_of_the_image() -> None:
    boxes = np.array([[10.0, 5.0, 30.0, 15.0], [-4.0, 0.0, 50.0, 20.0]])
    text = yolo_label(boxes, np.array([2, 0]), (20, 40))
    # (10 + 30) / 2 / 40, (5 + 15) / 2 / 20, 20 / 40, 10 / 20; the second one is cut to the image.
    assert text.splitlines() == [
        "2 0.50000000 0.50000000 0.50000000 0.50000000",
        "0 0.50000000 0.50000000 1.00000000 1.00000000",
    ]
    assert yolo_label(np.zeros((0, 4)), np.zeros(0, np.int64), (20, 40)) == ""


def test_the_data_file(tmp_path: Path) -> None:
    written = write_description(tmp_path, {"train": "images/train"}, ("a", "b"))
    assert yaml.safe_load(written.read_text()) == {
        "path": str(tmp_path.absolute()),
        "train": "images/train",
        "nc": 2,
        "names": ["a", "b"],
    }
