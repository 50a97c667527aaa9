"""Images and labels laid out below in/ the way the platform exports them.

Asset names are content hashes; annotations are ark text, Pascal VOC XML or one COCO JSON. Boxes
come in with an exclusive corner; ark and VOC hold integers with an inclusive one (xmax = x2 - 1).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from PIL import Image, UnidentifiedImageError

from tools.sources import SourceImage

FORMATS = ("ark", "voc", "coco")
STORED_SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "BMP": "bmp"}


class Exporter:
    """Writes images and annotations of one task below the folder `root` (its in/)."""

    def __init__(
        self,
        root: Path,
        class_names: Sequence[str],
        annotation_format: str,
        *,
        columns: int = 7,
        copy: bool = False,
    ) -> None:
        self._root = root
        self._class_names = class_names
        self._format = annotation_format
        self._columns = columns
        self._copy = copy
        self._lines: dict[str, str] = {}
        self._coco_images: list[dict[str, object]] = []
        self._coco_boxes: list[dict[str, object]] = []
        self._remarks: Counter[str] = Counter()

    def export(self, images: Sequence[SourceImage], *, labelled: bool) -> list[str]:
        """Place images (and annotations if `labelled`); returns the lines of their index file."""
        lines: dict[str, str] = {}
        for image in images:
            digest = hashlib.sha1(image.path.read_bytes()).hexdigest()
            if digest in lines:
                self._remarks[
                    "images with the content of another one of their split were left out"
                ] += 1
                continue
            if digest not in self._lines:
                self._lines[digest] = self._place(image, digest, labelled=labelled)
            lines[digest] = self._lines[digest]
        return list(lines.values())

    def close(self) -> list[str]:
        """Write the COCO file if that is the format; returns sentences on what was changed."""
        if self._coco_images:
            used = sorted({int(str(box["category_id"])) for box in self._coco_boxes})
            content = {
                "info": {},
                "licenses": [],
                "images": self._coco_images,
                "annotations": self._coco_boxes,
                "categories": [{"id": i, "name": self._class_names[i]} for i in used],
            }
            self._coco_file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return [f"{count} × {text}" for text, count in self._remarks.items()]

    @property
    def _coco_file(self) -> Path:
        return self._root / "annotations" / "coco-annotations.json"

    def _place(self, image: SourceImage, digest: str, *, labelled: bool) -> str:
        """Put one image in its place and write its annotation; returns its index line."""
        suffix, size = _stored_form(image.path)
        asset = self._root / "assets" / digest[-2:] / f"{digest}.{suffix}"
        asset.parent.mkdir(exist_ok=True)
        if self._copy:
            shutil.copyfile(image.path, asset)
        else:
            asset.symlink_to(image.path.resolve())
        if not labelled:
            return str(asset)
        boxes, classes = self._whole_boxes(image) if self._format != "coco" else _solid(image)
        self._remarks["boxes without area were dropped"] += len(image.boxes) - len(boxes)
        self._remarks += Counter()  # forgets entries that are zero
        if self._format == "coco":
            self._add_coco(asset, size, boxes, classes)
            return f"{asset}\t{self._coco_file}"
        extension = {"ark": ".txt", "voc": ".xml"}[self._format]
        annotation = self._root / "annotations" / digest[-2:] / f"{digest}{extension}"
        annotation.parent.mkdir(exist_ok=True)
        rows = zip(classes.tolist(), boxes.astype(np.int64).tolist(), strict=True)
        if self._format == "ark":
            text = "".join(self._ark_line(index, corners) for index, corners in rows)
        else:
            text = self._voc_text(asset, size, list(rows))
        annotation.write_text(text, encoding="utf-8")
        return f"{asset}\t{annotation}"

    def _whole_boxes(self, image: SourceImage) -> tuple[np.ndarray, np.ndarray]:
        """Boxes rounded to whole pixels, those left with an area, and their classes."""
        boxes = np.round(image.boxes)
        self._remarks["boxes were rounded to whole pixels"] += int(
            (boxes != image.boxes).any(axis=1).sum()
        )
        return _solid(SourceImage(image.path, boxes, image.classes))

    def _ark_line(self, index: int, corners: Sequence[int]) -> str:
        x1, y1, x2, y2 = corners
        values = [index, x1, y1, x2 - 1, y2 - 1, "-1.0", "0.0"]
        return ", ".join(str(value) for value in values[: self._columns]) + "\n"

    def _voc_text(
        self, asset: Path, size: tuple[int, int], rows: Sequence[tuple[int, Sequence[int]]]
    ) -> str:
        root = Element("annotation")
        SubElement(root, "folder").text = "folder"
        SubElement(root, "filename").text = str(asset)
        dimensions = SubElement(root, "size")
        for key, value in zip(("width", "height", "depth"), (*size[::-1], 3), strict=True):
            SubElement(dimensions, key).text = str(value)
        SubElement(root, "segmented").text = "0"
        for index, (x1, y1, x2, y2) in rows:
            item = SubElement(root, "object")
            SubElement(item, "name").text = self._class_names[index]
            for key, word in (("pose", "unknown"), ("truncated", "unknown"), ("occluded", "0")):
                SubElement(item, key).text = word
            box = SubElement(item, "bndbox")
            corners = {"xmin": x1, "ymin": y1, "xmax": x2 - 1, "ymax": y2 - 1}
            for key, value in corners.items():
                SubElement(box, key).text = str(value)
            SubElement(box, "rotate_angle").text = "0.0000"
            tail = (("difficult", "0"), ("box_quality", "-1.0000"), ("confidence", "0.0000"))
            for key, word in tail:
                SubElement(item, key).text = word
        indent(root, " ")
        return tostring(root, encoding="unicode") + "\n"

    def _add_coco(
        self, asset: Path, size: tuple[int, int], boxes: np.ndarray, classes: np.ndarray
    ) -> None:
        image_id = len(self._coco_images) + 1
        height, width = size
        self._coco_images.append(
            {"id": image_id, "file_name": asset.name, "width": width, "height": height}
        )
        for (x1, y1, x2, y2), index in zip(boxes.tolist(), classes.tolist(), strict=True):
            self._coco_boxes.append(
                {
                    "id": len(self._coco_boxes) + 1,
                    "image_id": image_id,
                    "category_id": index,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": 0,  # as the platform writes plain boxes
                    "segmentation": {},
                    "iscrowd": 0,
                    "confidence": 0.0,
                }
            )


def _solid(image: SourceImage) -> tuple[np.ndarray, np.ndarray]:
    """The boxes with a positive width and height, and their classes."""
    keep = (image.boxes[:, 2] > image.boxes[:, 0]) & (image.boxes[:, 3] > image.boxes[:, 1])
    return image.boxes[keep], image.classes[keep]


def _stored_form(path: Path) -> tuple[str, tuple[int, int]]:
    """Suffix by content, and (height, width) of the stored grid; (0, 0) for a damaged image."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            kind = STORED_SUFFIXES.get(picture.format or "")
            return kind or path.suffix.lstrip(".").lower() or "unknown", (height, width)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        return path.suffix.lstrip(".").lower() or "unknown", (0, 0)
