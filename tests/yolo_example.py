"""A data set written in YOLO's layout, for tests of the command lines."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from data.images import image_size
from tools.sources import SourceDataset


def write_yolo(source: SourceDataset, folder: Path) -> Path:
    """Images and label files by split, and a data.yaml, whose path is returned."""
    for split, images in source.splits.items():
        for image in images:
            target = folder / "images" / split / image.path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image.path, target)
            height, width = image_size(image.path)
            lines = []
            for index, (x1, y1, x2, y2) in zip(image.classes, image.boxes, strict=True):
                centre = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
                size = (x2 - x1) / width, (y2 - y1) / height
                lines.append(f"{index} " + " ".join(f"{value:.9f}" for value in (*centre, *size)))
            label = folder / "labels" / split / f"{image.path.stem}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("\n".join(lines))
    description = folder / "data.yaml"
    content = {
        **{split: f"images/{split}" for split, images in source.splits.items() if images},
        "names": dict(enumerate(source.class_names)),
    }
    description.write_text(yaml.safe_dump(content))
    return description
