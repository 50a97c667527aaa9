"""Photographs cut into squares with few objects: a pool in which many candidates show nothing.

    python -m bench.crops --data path/to/bccd --out runs/crops --side 213 --classes WBC Platelets

For `bench/active_learning.py`: rare objects and empty images are what a platform's candidates are
made of, and crowded photographs have neither. The splits stay as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.yolo_folder import write_description, yolo_label
from data.images import read_image
from tools.source_formats import SPLITS
from tools.sources import SourceImage, read_source

LEAST_INSIDE = 0.5
"""Share of an object's box that must lie in a square to count there."""


def squares(
    image: SourceImage, side: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.int64]]]:
    """The whole squares of an image, row by row: pixels, boxes xyxy in pixels of it, classes."""
    pixels = read_image(str(image.path))
    size = image.boxes[:, 2:] - image.boxes[:, :2]
    for top in range(0, pixels.shape[0] - side + 1, side):
        for left in range(0, pixels.shape[1] - side + 1, side):
            boxes = (image.boxes - [left, top, left, top]).clip(0, side)
            inside = (boxes[:, 2:] - boxes[:, :2]).prod(1)
            kept = inside >= LEAST_INSIDE * size.prod(1)
            yield pixels[top : top + side, left : left + side], boxes[kept], image.classes[kept]


def write_crops(data: Path, out: Path, *, side: int, classes: Sequence[str]) -> None:
    """Write the squares of every split as a YOLO folder with the given classes."""
    source = read_source(data, classes)
    for split in SPLITS:
        pictures, labels = out / "images" / split, out / "labels" / split
        pictures.mkdir(parents=True)
        labels.mkdir(parents=True)
        for image in source.splits[split]:
            for number, (pixels, boxes, owners) in enumerate(squares(image, side)):
                name = f"{image.path.stem}_{number:03d}"
                if not cv2.imwrite(str(pictures / f"{name}.png"), pixels):
                    raise OSError(f"{pictures / name}.png could not be written")
                label = yolo_label(boxes, owners, (side, side))
                (labels / f"{name}.txt").write_text(label, encoding="utf-8")
    splits = {split: f"images/{split}" for split in SPLITS}
    write_description(out, splits, source.class_names)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the folder and say how many squares, and how many objects, each split has."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a VOC, COCO or YOLO folder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, not there yet")
    parser.add_argument("--side", type=int, default=213, help="pixels")
    parser.add_argument("--classes", nargs="+", required=True, help="the classes that count")
    options = parser.parse_args(arguments)
    if options.out.exists():
        parser.error(f"{options.out} is there already")
    write_crops(options.data, options.out, side=options.side, classes=options.classes)
    made = read_source(options.out)
    for split in SPLITS:
        images = made.splits[split]
        counts = np.bincount(
            np.concatenate([image.classes for image in images] or [np.zeros(0, np.int64)]),
            minlength=len(made.class_names),
        ).tolist()
        objects = ", ".join(map("{} {}".format, counts, made.class_names))
        empty = sum(not len(image.boxes) for image in images)
        print(f"{split}: {len(images)} squares, {empty} of them without objects; {objects}")


if __name__ == "__main__":
    main()
