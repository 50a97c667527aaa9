"""Place the images of a task and write their annotations, in a format of the platform."""

from __future__ import annotations

import hashlib
import html
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.images import ImageError, ImageHeader, image_header, stored_boxes
from data.index_file import ORIGINAL_NAMES
from data.instances import Instances
from tools.sources import SourceImage
from utils.atomic import write_text

STORED_SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "BMP": "bmp"}
VOC = """\
<annotation><folder>folder</folder><filename>{path}</filename>
 <size><width>{width}</width><height>{height}</height><depth>3</depth></size>
 <segmented>0</segmented>
{objects}</annotation>
"""
VOC_OBJECT = """\
 <object><name>{name}</name>
  <pose>unknown</pose><truncated>unknown</truncated><occluded>0</occluded>
  <bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax>
   <rotate_angle>0.0000</rotate_angle></bndbox>
  <difficult>0</difficult><box_quality>-1.0000</box_quality><confidence>0.0000</confidence>
 </object>
"""


class TaskExporter:
    """Writes images and annotations of one task below the folder `root` (its in/)."""

    def __init__(
        self, root: Path, names: Sequence[str], form: str, columns: int, *, copy: bool
    ) -> None:
        self._root, self._names, self._format, self._columns = root, names, form, columns
        self._copy = copy
        self._lines: dict[str, str] = {}
        self._digests: dict[Path, str] = {}
        self._chosen: dict[str, SourceImage] = {}
        self._coco_file = root / "annotations" / "coco-annotations.json"
        lists = ("licenses", "images", "annotations", "categories")
        self._coco: dict[str, Any] = {"info": {}, **{name: [] for name in lists}}
        self._notes: list[str] = []
        self._remarks: Counter[str] = Counter()

    def choose(self, splits: Mapping[str, Sequence[SourceImage]]) -> None:
        """Choose one of the images with the same content: the first that has labels.

        Those with other labels, and those that two splits hold, are told by name.
        """
        homes: dict[str, tuple[str, Path]] = {}
        leaks: dict[tuple[str, str], dict[str, str]] = {}
        for split, image in ((name, one) for name, images in splits.items() for one in images):
            digest = hashlib.sha1(image.path.read_bytes()).hexdigest()
            self._digests[image.path] = digest
            home, path = homes.setdefault(digest, (split, image.path))
            if home != split:
                leaks.setdefault((home, split), {})[digest] = f"{path} and {image.path}"
            first = self._chosen.setdefault(digest, image)
            if _labels(first) != _labels(image):
                pair = (first, image)
                # The first of equals.
                kept = max(pair, key=lambda one: (len(one.boxes) > 0, len(one.crowds) > 0))
                left = pair[kept is first]
                self._chosen[digest] = kept
                both = len(left.boxes) or len(left.crowds)
                why = "it came first" if kept is first and both else "the other has none"
                self._notes.append(
                    f"{left.path} ({len(left.boxes)} boxes) is the same picture as {kept.path} "
                    f"({len(kept.boxes)} boxes), whose labels were kept because {why}"
                )
        for (home, split), pairs in leaks.items():
            self._notes.append(
                f"{len(pairs)} × pictures of {split} are in {home} too, such as "
                f"{next(iter(pairs.values()))}: figures of {split} then say too little about new "
                "pictures; keep each in one split"
            )

    def export(self, images: Sequence[SourceImage], *, labelled: bool) -> list[str]:
        """Place images (and annotations if `labelled`); returns the lines of their index file."""
        lines: dict[str, str] = {}
        for image in images:
            digest = self._digests[image.path]
            if digest in lines:
                remark = "images with the content of another one of their split were left out"
                self._remarks[remark] += 1
                continue
            if digest not in self._lines:
                self._lines[digest] = self._place(self._chosen[digest], digest, labelled=labelled)
            lines[digest] = self._lines[digest]
        return list(lines.values())

    def close(self) -> list[str]:
        """Write the table of original names, and the COCO file if that is the format.

        Returns sentences on what was changed.
        """
        self._write_names()
        if self._coco["images"]:
            used = sorted({box["category_id"] for box in self._coco["annotations"]})
            self._coco["categories"] = [{"id": i, "name": self._names[i]} for i in used]
            self._coco_file.write_text(json.dumps(self._coco, ensure_ascii=False), encoding="utf-8")
        remarks = [f"{count} × {text}" for text, count in self._remarks.items() if count]
        return [*self._notes, *remarks]

    def _write_names(self) -> None:
        """Write the original path of each image, below the folder that all have in common."""
        paths = {digest: os.path.abspath(self._chosen[digest].path) for digest in self._lines}
        if not paths:
            return
        common = os.path.commonpath([os.path.dirname(path) for path in paths.values()])
        rows = []
        for digest, path in paths.items():
            name = " ".join(os.path.relpath(path, common).splitlines()).replace("\t", " ")
            text = self._lines[digest].partition("\t")[0]
            rows.append(f"{text}\t{name}\n")
        write_text(self._root / ORIGINAL_NAMES, "".join(rows))

    def _place(self, image: SourceImage, digest: str, *, labelled: bool) -> str:
        """Put one image in its place and write its annotation; returns its index line."""
        suffix, header = _stored_form(image.path)
        asset = self._root / "assets" / digest[-2:] / f"{digest}.{suffix}"
        asset.parent.mkdir(exist_ok=True)
        if not self._copy:
            try:
                asset.symlink_to(image.path.resolve())
            except OSError:  # Windows allows links to some users only
                self._remarks["images were copied: no link can be made here"] += 1
        if not asset.is_symlink():
            shutil.copyfile(image.path, asset)
        shown = self._shown(asset)
        if not labelled:
            return str(shown)
        # The platform counts in stored pixels, whatever the orientation of a photograph.
        stored = stored_boxes(image.boxes, header)
        self._remarks["images are turned by EXIF; their boxes were turned back"] += (
            header.orientation > 1
        )
        boxes = stored if self._format == "coco" else np.round(stored)
        moved = (boxes != stored).any(axis=1)
        self._remarks["boxes were rounded to whole pixels"] += int(moved.sum())
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        self._remarks["boxes without area were dropped"] += int((~solid).sum())
        boxes, classes = boxes[solid], image.classes[solid].tolist()
        crowds = image.crowds.with_boxes(stored_boxes(image.crowds.boxes, header))
        if self._format == "coco":
            self._add_coco(asset.name, header.size, Instances(boxes, image.classes[solid]), crowds)
            return f"{shown}\t{self._shown(self._coco_file)}"
        remark = "crowd regions (iscrowd) were left out: only --format coco holds them"
        self._remarks[remark] += len(crowds)
        corners = (boxes - (0, 0, 1, 1)).astype(np.int64).tolist()
        if self._format == "ark":
            rows = [
                [index, *box, "-1.0", "0.0"] for index, box in zip(classes, corners, strict=True)
            ]
            text = "".join(", ".join(map(str, row[: self._columns])) + "\n" for row in rows)
        else:
            names = [html.escape(self._names[index], quote=False) for index in classes]
            objects = [VOC_OBJECT.format(*b, name=n) for n, b in zip(names, corners, strict=True)]
            height, width = header.size
            # XML has no place for bytes that are no text.
            name = html.escape(str(shown).encode("utf-8", "replace").decode(), quote=False)
            text = VOC.format(path=name, width=width, height=height, objects="".join(objects))
        suffix = {"ark": ".txt", "voc": ".xml"}[self._format]
        annotation = self._root / "annotations" / digest[-2:] / f"{digest}{suffix}"
        annotation.parent.mkdir(exist_ok=True)
        annotation.write_text(text, encoding="utf-8")
        return f"{shown}\t{self._shown(annotation)}"

    def _shown(self, path: Path) -> Path:
        return path.relative_to(self._root) if self._copy else path

    def _add_coco(
        self, name: str, size: tuple[int, int], objects: Instances, crowds: Instances
    ) -> None:
        images, annotations = self._coco["images"], self._coco["annotations"]
        image = {"id": len(images) + 1, "file_name": name, "width": size[1], "height": size[0]}
        images.append(image)
        # As the platform writes plain boxes: no area, an empty segmentation.
        plain = {"area": 0, "segmentation": {}, "confidence": 0.0}
        for crowd, found in enumerate((objects, crowds)):
            for box, index in zip(found.boxes.tolist(), found.classes.tolist(), strict=True):
                (x1, y1, x2, y2), number = box, len(annotations) + 1
                ids = {"id": number, "image_id": image["id"], "category_id": index}
                shape = {"bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": crowd}
                annotations.append({**ids, **shape, **plain})


def _labels(image: SourceImage) -> tuple[bytes, ...]:
    crowds = image.crowds
    arrays = (image.boxes, image.classes, crowds.boxes, crowds.classes)
    return tuple(array.tobytes() for array in arrays)


def _stored_form(path: Path) -> tuple[str, ImageHeader]:
    """Suffix by content, and the header; an empty one for a damaged image."""
    given = path.suffix.lstrip(".").lower()[:16] or "unknown"
    try:
        header = image_header(path)
    except ImageError:
        return given, ImageHeader((0, 0), "", 1)
    return STORED_SUFFIXES.get(header.kind, given), header
