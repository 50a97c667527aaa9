"""The same two objects in every format."""

from __future__ import annotations

import json

from data.formats.base import Annotation, ClassLookup

CLASSES = ClassLookup(["helmet", "Vest"])
HELMET = (0, 30.0, 41.0, 80.0, 105.0)  # x 30, y 41, w 50, h 64: exclusive right and bottom
VOC = """<annotation><filename>/in/assets/9c/3f.jpg</filename><cks/>
 <size><width>0</width><height>0</height></size>
 <object><name>{name}</name><truncated>unknown</truncated><bndbox><xmin>30</xmin><ymin>41</ymin>
 <xmax>79</xmax><ymax>104</ymax><rotate_angle>{angle}</rotate_angle></bndbox>
 <difficult>0</difficult></object>{more}</annotation>"""


def voc(name: str = "helmet", angle: str = "0.0000", more: str = "") -> bytes:
    """A VOC document with a helmet."""
    return VOC.format(name=name, angle=angle, more=more).encode()


def coco(**changes: object) -> bytes:
    """A COCO document with a helmet in 3f.jpg."""
    helmet = {"id": 1, "image_id": 1, "category_id": 0, "bbox": [30, 41, 50, 64]}
    document: dict[str, object] = {
        "images": [{"id": 1, "file_name": "3f.jpg"}, {"id": 2, "file_name": "empty.jpg"}],
        "categories": [{"id": 0, "name": "helmet"}, {"id": 1, "name": "vest"}],
        "annotations": [{**helmet, "area": 0, "iscrowd": 0, "segmentation": {}, "confidence": 0}],
    }
    return json.dumps({**document, **changes}).encode()


def rows_of(annotation: Annotation) -> list[tuple[float, ...]]:
    """(class, x1, y1, x2, y2) of each object."""
    found = annotation.instances
    return [(c, *box) for c, box in zip(found.classes.tolist(), found.boxes.tolist(), strict=True)]
