"""Files of a detection run: annotated images, label files and crops, one JSON and one CSV file."""

from __future__ import annotations

import csv
import json
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from data.images import ImageError, read_image, write_image
from inference.predictions import Prediction
from settings.detect import OutputOptions
from utils.atomic import fitting_name, replace_text, write_text

log = logging.getLogger(__name__)

CROP_GAIN, CROP_MARGIN = 1.02, 10
"""A crop is its box times the gain, plus the margin in pixels (v7.0)."""
JPEG_QUALITY = 95

DrawBoxes = Callable[..., np.ndarray]
"""`reporting.drawing.draw_boxes`, which is above this package: an annotated copy of an image."""


class DetectionFiles:
    """Writer of each image's files below `folder`, named after the image's path below `base`.

    `upright`: detections and pictures are of the images turned as their orientation tags say.
    """

    def __init__(
        self,
        folder: Path,
        base: Path,
        class_names: Sequence[str],
        options: OutputOptions,
        draw: DrawBoxes | None = None,
        *,
        upright: bool = False,
    ) -> None:
        assert draw or not options.save_images
        self.folder, self.base, self.class_names = folder, base, class_names
        self.options, self._draw, self._upright = options, draw, upright
        self._taken: dict[Path, str] = {}

    def write(
        self,
        path: str,
        detections: np.ndarray,
        size: tuple[int, int],
        image: np.ndarray | None = None,
        *,
        picture: bool = True,
    ) -> np.ndarray | None:
        """Write the files of an image of `size` (height, width); return it annotated if it was
        drawn.

        `detections` [n, 6] are xyxy in its pixels, confidence, class, by falling confidence;
        `image` is BGR, None for that of the file. Without `picture` the annotated image is not
        saved. An image file that cannot be written, such as one too large for its format, is a
        warning.
        """
        options, name = self.options, self.name(path)
        if options.save_txt and len(detections):
            text = label_lines(detections, size, confidences=options.save_conf)
            write_text(_fitting(self.folder / "labels" / name, ".txt"), text)
        draw = options.save_images or options.view_img
        if not (draw or (options.save_crop and len(detections))):
            return None
        try:
            image = read_image(path, upright=self._upright) if image is None else image
        except ImageError as error:  # it was readable a moment ago
            log.warning("no image files for %s: %s", path, error.reason)
            return None
        if options.save_crop:
            self._write_crops(image, detections, name)
        if not (draw and self._draw):
            return None
        boxes, scores, classes = detections[:, :4], detections[:, 4], detections[:, 5]
        shown = None if options.hide_conf else scores
        style = {"thickness": options.line_thickness, "named": not options.hide_labels}
        drawn = self._draw(image, boxes, classes, self.class_names, shown, **style)
        if picture and options.save_images:
            _save(self.folder / name, drawn)
        return drawn

    def name(self, path: str) -> Path:
        """Return the image's path below the source, or its bare name; unique among all images."""
        given = Path(path)
        inside = given.is_relative_to(self.base) and self.base != Path()
        name = given.relative_to(self.base) if inside else Path(given.name)
        wanted, number = name, 2
        # By stem: a.jpg and a.png would share a.txt.
        while self._taken.setdefault(name.with_suffix(""), path) != path:
            name = wanted.with_stem(f"{wanted.stem}-{number}")
            number += 1
        return name

    def _write_crops(self, image: np.ndarray, detections: np.ndarray, name: Path) -> None:
        for number, row in enumerate(detections, start=1):
            crops = self.folder / "crops"
            class_name = re.sub(r"^\.+$|[/\0]", "-", self.class_names[int(row[5])])
            stem = name.with_suffix("").as_posix() + (str(number) if number > 1 else "")
            crop = crop_box(image, row[:4])
            if crop.size:
                _save(crops / fitting_name(crops, class_name) / f"{stem}.jpg", crop)


class DetectionTable:
    """Stream of detections to a JSON object by path, and a CSV file as upstream's; a context
    manager.

    Predictions that come early wait for those of smaller positions. The files are complete on exit,
    also on an exception: they then have the images predicted so far, if any could be read.
    """

    def __init__(
        self, path: Path, class_names: Sequence[str], csv_file: Path | None = None
    ) -> None:
        self._path, self._class_names, self._csv_file = path, class_names, csv_file
        self._stack = ExitStack()
        self._waiting: dict[int, Prediction] = {}
        self._written: set[str] = set()
        self._next = 0
        self.objects = self.readable = 0
        """Detections of all images so far, and images that could be read."""

    def __enter__(self) -> DetectionTable:
        self._file = self._stack.enter_context(replace_text(self._path))
        if self._csv_file:
            rows = self._stack.enter_context(replace_text(self._csv_file, newline=""))
            self._csv = csv.writer(rows)
            self._csv.writerow(("Image Name", "Prediction", "Confidence"))
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] and not self.readable:
            self._stack.__exit__(*error)
            return
        with self._stack:
            for position in sorted(self._waiting):
                self._write(self._waiting[position])
            self._file.write("\n}" if self._written else "{}")

    def add(self, prediction: Prediction) -> None:
        """Add one image; an unreadable one has no detections."""
        self.objects += len(prediction.detections)
        self.readable += prediction.size is not None
        self._waiting[prediction.position] = prediction
        while self._next in self._waiting:
            self._write(self._waiting.pop(self._next))
            self._next += 1

    def _write(self, prediction: Prediction) -> None:
        path, rows = prediction.path, prediction.detections.tolist()
        if path in self._written:  # a path listed twice counts once
            return
        objects = [
            {
                "box": [round(value, 2) for value in row[:4]],
                "score": round(row[4], 6),
                "class_name": self._class_names[int(row[5])],
            }
            for row in rows
        ]
        content = json.dumps(objects, indent=1).replace("\n", "\n ")
        self._file.write(f"{',' if self._written else '{'}\n {json.dumps(path)}: {content}")
        self._written.add(path)
        if self._csv_file:
            self._csv.writerows(
                (Path(path).name, found["class_name"], f"{row[4]:.2f}")
                for found, row in zip(objects, rows, strict=True)
            )


def label_lines(detections: np.ndarray, size: tuple[int, int], *, confidences: bool) -> str:
    """Return detections [n, 6] of an image of `size` (h, w) as lines `class cx cy w h [conf]`.

    Coordinates are normalised; the lowest confidence comes first, as in v7.0.
    """
    height, width = size
    lines = []
    for x1, y1, x2, y2, confidence, class_index in detections[::-1].tolist():
        values = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height]
        values += [(x2 - x1) / width, (y2 - y1) / height]
        values += [confidence] if confidences else []
        lines.append(f"{int(class_index)} " + " ".join(f"{value:g}" for value in values) + "\n")
    return "".join(lines)


def crop_box(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the part of a BGR image [h, w, 3] around a box, xyxy in its pixels, with a margin."""
    height, width = image.shape[:2]
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    half = half * CROP_GAIN + CROP_MARGIN / 2
    x1, y1 = np.maximum(np.floor(centre - half), 0).astype(int)
    x2, y2 = np.minimum(np.ceil(centre + half), (width, height)).astype(int)
    return image[y1:y2, x1:x2]


def _fitting(path: Path, suffix: str) -> Path:
    return path.with_name(fitting_name(path.parent, path.stem, suffix))


def _save(path: Path, image: np.ndarray) -> None:
    suffix = path.suffix if path.suffix.lower() in {".png", ".bmp", ".webp"} else ".jpg"
    path = _fitting(path, suffix)
    try:
        write_image(path, image, quality=JPEG_QUALITY)
    except ImageError as error:
        log.warning("not written: %s: %s", path, error.reason)
