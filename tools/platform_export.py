"""Write images and labels below in/ as the platform exports them: ark text, Pascal VOC or COCO.

Asset names are content hashes. Boxes come in with an exclusive corner; ark and VOC hold integers
with an inclusive one (xmax = x2 - 1).
"""

from __future__ import annotations

import hashlib
import html
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from tools.sources import SourceImage

FORMATS = ("ark", "voc", "coco")
STORED_SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "BMP": "bmp"}
VOC = """\
<annotation>
 <folder>folder</folder>
 <filename>{path}</filename>
 <size><width>{width}</width><height>{height}</height><depth>3</depth></size>
 <segmented>0</segmented>
{objects}</annotation>
"""
VOC_OBJECT = """\
 <object>
  <name>{name}</name><pose>unknown</pose><truncated>unknown</truncated><occluded>0</occluded>
  <bndbox>
   <xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax>
   <rotate_angle>0.0000</rotate_angle>
  </bndbox>
  <difficult>0</difficult><box_quality>-1.0000</box_quality><confidence>0.0000</confidence>
 </object>
"""


class Exporter:
    """Writes images and annotations of one task below the folder `root` (its in/)."""

    def __init__(
        self, root: Path, names: Sequence[str], form: str, columns: int, *, copy: bool
    ) -> None:
        self._root, self._names, self._format, self._columns = root, names, form, columns
        self._copy = copy
        self._lines: dict[str, str] = {}
        self._coco_file = root / "annotations" / "coco-annotations.json"
        self._coco_images: list[dict[str, object]] = []
        self._coco_boxes: list[dict[str, object]] = []
        self._remarks: Counter[str] = Counter()

    def export(self, images: Sequence[SourceImage], *, labelled: bool) -> list[str]:
        """Place images (and annotations if `labelled`); returns the lines of their index file."""
        lines: dict[str, str] = {}
        for image in images:
            digest = hashlib.sha1(image.path.read_bytes()).hexdigest()
            if digest in lines:
                remark = "images with the content of another one of their split were left out"
                self._remarks[remark] += 1
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
                "categories": [{"id": i, "name": self._names[i]} for i in used],
            }
            self._coco_file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return [f"{count} × {text}" for text, count in self._remarks.items() if count]

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
        boxes = image.boxes if self._format == "coco" else np.round(image.boxes)
        moved = (boxes != image.boxes).any(axis=1)
        self._remarks["boxes were rounded to whole pixels"] += int(moved.sum())
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        self._remarks["boxes without area were dropped"] += int((~solid).sum())
        boxes, classes = boxes[solid], image.classes[solid].tolist()
        if self._format == "coco":
            self._add_coco(asset.name, size, boxes.tolist(), classes)
            return f"{asset}\t{self._coco_file}"
        corners = (boxes - (0, 0, 1, 1)).astype(np.int64).tolist()
        if self._format == "ark":
            rows = [
                [index, *box, "-1.0", "0.0"] for index, box in zip(classes, corners, strict=True)
            ]
            text = "".join(", ".join(map(str, row[: self._columns])) + "\n" for row in rows)
        else:
            names = [html.escape(self._names[index], quote=False) for index in classes]
            objects = [VOC_OBJECT.format(*b, name=n) for n, b in zip(names, corners, strict=True)]
            height, width = size
            text = VOC.format(path=asset, width=width, height=height, objects="".join(objects))
        suffix = {"ark": ".txt", "voc": ".xml"}[self._format]
        annotation = self._root / "annotations" / digest[-2:] / f"{digest}{suffix}"
        annotation.parent.mkdir(exist_ok=True)
        annotation.write_text(text, encoding="utf-8")
        return f"{asset}\t{annotation}"

    def _add_coco(
        self, name: str, size: tuple[int, int], boxes: list[list[float]], classes: list[int]
    ) -> None:
        image_id = len(self._coco_images) + 1
        self._coco_images.append(
            {"id": image_id, "file_name": name, "width": size[1], "height": size[0]}
        )
        # As the platform writes plain boxes: no area, an empty segmentation.
        plain = {"area": 0, "segmentation": {}, "iscrowd": 0, "confidence": 0.0}
        for (x1, y1, x2, y2), index in zip(boxes, classes, strict=True):
            box = {"id": len(self._coco_boxes) + 1, "image_id": image_id, "category_id": index}
            self._coco_boxes.append({**box, "bbox": [x1, y1, x2 - x1, y2 - y1], **plain})


def _stored_form(path: Path) -> tuple[str, tuple[int, int]]:
    """Suffix by content, and (height, width) of the stored grid; (0, 0) for a damaged image."""
    given = path.suffix.lstrip(".").lower() or "unknown"
    try:
        with Image.open(path) as picture:
            return STORED_SUFFIXES.get(picture.format or "", given), picture.size[::-1]
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        return given, (0, 0)
