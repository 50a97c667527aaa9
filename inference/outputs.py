"""Detections of photographs as files for people and programs: pictures, label files, crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.images import read_image, write_image
from reporting.drawing import draw_boxes
from utils.atomic import write_text

CROP_GAIN, CROP_MARGIN = 1.02, 10
"""A crop is its box times the gain, plus the margin in pixels (v7.0)."""
JPEG_QUALITY = 95


@dataclass(frozen=True)
class FileChoice:
    """Which files are wanted, and how boxes are drawn.

    `thickness` is that of drawn boxes in pixels, None for one that suits the picture.
    """

    pictures: bool = True
    labels: bool = False
    confidences: bool = False
    crops: bool = False
    thickness: int | None = None
    hide_labels: bool = False
    hide_confidences: bool = False


class DetectionFiles:
    """Writes the files of a run below `folder`; names follow the images' paths below `base`."""

    def __init__(
        self, folder: Path, base: Path, class_names: Sequence[str], choice: FileChoice
    ) -> None:
        self.folder = folder
        self.base = base
        self.class_names = class_names
        self.choice = choice
        self._taken: dict[Path, str] = {}

    def write(self, path: str, detections: np.ndarray, size: tuple[int, int]) -> None:
        """The files of one image of `size` (h, w): detections [n, 6] are xyxy in its pixels,
        confidence, class, by falling confidence.
        """
        choice, name = self.choice, self._name(path)
        if choice.labels and len(detections):
            text = label_lines(detections, size, confidences=choice.confidences)
            write_text(self.folder / "labels" / name.with_suffix(".txt"), text)
        if not (choice.pictures or (choice.crops and len(detections))):
            return
        image = read_image(path)
        if choice.crops:
            self._crops(image, detections, name)
        if choice.pictures:
            drawn = draw_boxes(
                image,
                detections[:, :4],
                detections[:, 5],
                self.class_names,
                None if choice.hide_confidences else detections[:, 4],
                thickness=choice.thickness,
                named=not choice.hide_labels,
            )
            _save(self.folder / name, drawn)

    def _name(self, path: str) -> Path:
        """The image's path below the source, or its bare name; never that of another image."""
        given = Path(path)
        inside = given.is_relative_to(self.base) and self.base != Path()
        name = given.relative_to(self.base) if inside else Path(given.name)
        wanted, number = name, 2
        # By stem: a.jpg and a.png would share a.txt.
        while self._taken.setdefault(name.with_suffix(""), path) != path:
            name = wanted.with_stem(f"{wanted.stem}-{number}")
            number += 1
        return name

    def _crops(self, image: np.ndarray, detections: np.ndarray, name: Path) -> None:
        for number, row in enumerate(detections, start=1):
            class_name = self.class_names[int(row[5])].replace("/", "-")
            stem = name.with_suffix("").as_posix() + (str(number) if number > 1 else "")
            crop = crop_of(image, row[:4])
            if crop.size:
                _save(self.folder / "crops" / class_name / f"{stem}.jpg", crop)


def label_lines(detections: np.ndarray, size: tuple[int, int], *, confidences: bool) -> str:
    """Detections [n, 6] of an image of `size` (h, w) as lines `class cx cy w h [confidence]`.

    Coordinates are shares of the image; the least confident comes first, as in v7.0.
    """
    height, width = size
    lines = []
    for x1, y1, x2, y2, confidence, class_index in detections[::-1].tolist():
        values = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height]
        values += [(x2 - x1) / width, (y2 - y1) / height]
        values += [confidence] if confidences else []
        lines.append(f"{int(class_index)} " + " ".join(f"{value:g}" for value in values) + "\n")
    return "".join(lines)


def crop_of(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The part of a BGR image [h, w, 3] around a box, xyxy in its pixels, with a margin."""
    height, width = image.shape[:2]
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    half = half * CROP_GAIN + CROP_MARGIN / 2
    x1, y1 = np.maximum(np.floor(centre - half), 0).astype(int)
    x2, y2 = np.minimum(np.ceil(centre + half), (width, height)).astype(int)
    return image[y1:y2, x1:x2]


def _save(path: Path, image: np.ndarray) -> None:
    suffix = path.suffix if path.suffix.lower() in {".png", ".bmp", ".webp"} else ".jpg"
    write_image(path.with_suffix(suffix), image, quality=JPEG_QUALITY)
