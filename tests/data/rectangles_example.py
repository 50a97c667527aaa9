"""Seven small drawn images with one box each, for the tests of what reads and hands out images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from data.dataset_index import DatasetIndex

SIZES = [(48, 64), (64, 48), (40, 64), (64, 64), (20, 50), (64, 30), (64, 64)]


def draw_rectangles(folder: Path) -> DatasetIndex:
    """Seven drawn images with a white rectangle on black each, which is its box; the last bare."""
    paths, boxes = [], []
    for number, (height, width) in enumerate(SIZES):
        image = np.zeros((height, width, 3), np.uint8)
        box = (4, 2, width // 2, height - 6)
        if number < len(SIZES) - 1:
            image[box[1] : box[3], box[0] : box[2]] = 255
            boxes.append(box)
        paths.append(str(folder / f"{number}.png"))
        cv2.imwrite(paths[-1], image)
    counts = [1] * len(boxes) + [0]
    return DatasetIndex.build(paths, SIZES, boxes, np.arange(len(boxes)) % 3, counts, "abc")
