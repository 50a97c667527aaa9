"""One small data set in the layouts of many tools."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

NAMES = ("apple", "pear")
WIDTH, HEIGHT = 64, 48
BOXES = {
    "0": [("apple", 2, 16, 16, 30), ("pear", 30, 22, 44, 34)],
    "1": [("pear", 8, 4, 40, 36)],
    "2": [],
    "3": [("apple", 0, 0, 64, 48)],
}
SPLIT = {"0": "train", "1": "train", "2": "train", "3": "val"}


def image(path: Path) -> Path:
    """Save an image whose shade is its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = 40 * int(path.stem[:1]) + 20
    assert cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), shade, np.uint8))
    return path


def write(path: Path, content: str | object, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding=encoding)
    return path


def xml(stem: str, suffix: str = "jpg", head: str = "") -> str:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2 in BOXES[stem]
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    filename = f"<filename>{stem}.{suffix}</filename>"
    return f"{head}<annotation>{filename}{size}{objects}</annotation>"


def txt(stem: str) -> str:
    rows = ""
    for name, x1, y1, x2, y2 in BOXES[stem]:
        values = ((x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT)
        values += ((x2 - x1) / WIDTH, (y2 - y1) / HEIGHT)
        rows += f"{NAMES.index(name)} {' '.join(map(str, values))}\n"
    return rows


def coco(stems: str = "0123", place: str = "", first: int = 1) -> dict[str, list]:
    """A document whose category ids start at `first`."""
    images = [
        {"id": int(stem), "file_name": f"{place}{stem}.jpg", "width": WIDTH, "height": HEIGHT}
        for stem in stems
    ]
    annotations = [
        {
            **{"id": 10 * int(stem) + n, "image_id": int(stem), "iscrowd": 0},
            **{"category_id": NAMES.index(name) + first, "bbox": [x1, y1, x2 - x1, y2 - y1]},
        }
        for stem in stems
        for n, (name, x1, y1, x2, y2) in enumerate(BOXES[stem])
    ]
    categories = [{"id": n, "name": name} for n, name in enumerate(NAMES, start=first)]
    return {"images": images, "annotations": annotations, "categories": categories}


def voc2007(root: Path) -> Path:
    base = root / "VOCdevkit" / "VOC2007"
    for stem in BOXES:
        image(base / "JPEGImages" / f"{stem}.jpg")
        image(base / "SegmentationClass" / f"{stem}.png")
        write(base / "Annotations" / f"{stem}.xml", xml(stem))
    for split in ("train", "val"):
        stems = [stem for stem, part in SPLIT.items() if part == split]
        write(base / "ImageSets" / "Main" / f"{split}.txt", "\n".join(stems))
        write(
            base / "ImageSets" / "Main" / f"apple_{split}.txt", "".join(f"{s} -1\n" for s in stems)
        )
    return root


def vott(root: Path) -> Path:
    for stem in BOXES:
        image(root / "JPEGImages" / f"{stem}.jpg")
        write(root / "Annotations" / f"{stem}.xml", xml(stem))
    for split in ("train", "val"):
        stems = [stem for stem, part in SPLIT.items() if part == split]
        for name in NAMES:
            lines = "".join(f"{stem}.jpg 1\n" for stem in stems)
            write(root / "ImageSets" / "Main" / f"{name}_{split}.txt", lines)
    return root


def flat_voc(root: Path) -> Path:
    for stem in BOXES:
        image(root / f"{stem}.jpg")
        write(root / f"{stem}.xml", xml(stem))
    write(root / "annotations.xml", "<annotations><version>1.1</version></annotations>")
    return root


def voc_of_two_folders(root: Path) -> Path:
    for stem in BOXES:
        image(root / "images" / f"{stem}.jpg")
        write(
            root / "annotations" / "day" / f"{stem}.xml"
            if stem == "9"
            else root / "annotations" / f"{stem}.xml",
            xml(stem),
        )
    return root


def voc_in_gb2312(root: Path) -> Path:
    for stem in BOXES:
        image(root / "JPEGImages" / "day2" / f"{stem}.jpg")
        text = xml(stem, head="<?xml version='1.0' encoding='gb2312'?>\n")
        write(root / "Annotations" / "day2" / f"{stem}.xml", text, "gb2312")
    return root


def roboflow_voc(root: Path) -> Path:
    for stem, split in SPLIT.items():
        folder = root / {"train": "train", "val": "valid"}[split]
        image(folder / f"{stem}.jpg")
        write(folder / f"{stem}.xml", xml(stem))
    return root


def roboflow_coco(root: Path) -> Path:
    for split, folder in (("train", "train"), ("val", "valid")):
        stems = "".join(stem for stem, part in SPLIT.items() if part == split)
        document = coco(stems)
        fruit = [{"id": 0, "name": "fruit", "supercategory": "none"}]
        real = [{**one, "supercategory": "fruit"} for one in document["categories"]]
        write(root / folder / "_annotations.coco.json", {**document, "categories": fruit + real})
        for stem in stems:
            image(root / folder / f"{stem}.jpg")
    write(root / "README.roboflow.txt", "x")
    return root


def roboflow_yolo(root: Path) -> Path:
    for stem, split in SPLIT.items():
        folder = root / {"train": "train", "val": "valid"}[split]
        image(folder / "images" / f"{stem}.jpg")
        write(folder / "labels" / f"{stem}.txt", txt(stem))
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    write(root / "data.yaml", text + "nc: 2\nnames: ['apple', 'pear']\n")
    return root


def windows_yolo(root: Path) -> Path:
    for stem, split in SPLIT.items():
        image(root / "images" / split / f"{stem}.jpg")
        write(root / "labels" / split / f"{stem}.txt", txt(stem), "utf-8-sig")
    text = "train: images\\train\nval: images\\val\nnames: [apple, pear]\n"
    write(root / "data.yaml", text, "utf-16")
    return root


def cvat_yolo(root: Path) -> Path:
    for stem in BOXES:
        image(root / "obj_train_data" / f"{stem}.jpg")
        write(root / "obj_train_data" / f"{stem}.txt", txt(stem))
    write(root / "obj.names", "apple\npear\n")
    write(root / "train.txt", "".join(f"data/obj_train_data/{stem}.jpg\n" for stem in BOXES))
    lines = "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    write(root / "obj.data", lines)
    return root


def cvat_coco(root: Path) -> Path:
    for stem in BOXES:
        image(root / "images" / f"{stem}.jpg")
    write(root / "annotations" / "instances_default.json", coco())
    write(root / "annotations" / "person_keypoints_default.json", coco())
    write(root / "notes.json", "{not JSON")
    return root


def label_studio_coco(root: Path) -> Path:
    for stem in BOXES:
        image(root / "images" / f"{stem}.jpg")
    write(root / "result.json", coco(place="images\\", first=0))
    return root


def label_studio_yolo(root: Path) -> Path:
    for stem in BOXES:
        image(root / "images" / f"{stem}.jpg")
        write(root / "labels" / f"{stem}.txt", txt(stem))
    write(root / "classes.txt", "apple\npear\n")
    write(root / "notes.json", {"categories": [{"id": 0, "name": "apple"}], "info": {}})
    return root


def labelimg_yolo(root: Path) -> Path:
    label_studio_yolo(root)
    (root / "classes.txt").rename(root / "labels" / "classes.txt")
    return root


def labelimg_beside(root: Path) -> Path:
    for stem in BOXES:
        image(root / f"{stem}.jpg")
        write(root / f"{stem}.txt", txt(stem))
    write(root / "classes.txt", "apple\npear\n")
    return root


def labelme(root: Path) -> Path:
    for stem, objects in BOXES.items():
        image(root / f"{stem}.jpg")
        shapes = [
            {"label": name, "shape_type": "rectangle", "points": [[x2, y2], [x1, y1]]}
            for name, x1, y1, x2, y2 in objects
        ]
        size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
        write(root / f"{stem}.json", {"shapes": shapes, "imagePath": f"..\\x\\{stem}.jpg", **size})
    return root


def archives_of_voc(root: Path) -> Path:
    """Kaggle's: two archives unpacked side by side, one of them for testing."""
    for archive, listing, stems in (("trainval", "trainval", "012"), ("test", "test", "3")):
        base = root / f"VOC{archive}_06-Nov-2007" / "VOCdevkit" / "VOC2007"
        for stem in stems:
            image(base / "JPEGImages" / f"{stem}.jpg")
            write(base / "Annotations" / f"{stem}.xml", xml(stem))
        write(base / "ImageSets" / "Main" / f"{listing}.txt", "\n".join(stems))
    return root


def voc_by_split(root: Path) -> Path:
    for stem, split in SPLIT.items():
        image(root / split / "images" / f"{stem}.jpg")
        write(root / split / "annotations" / f"{stem}.xml", xml(stem))
    return root


def pets(root: Path) -> Path:
    for stem in BOXES:
        image(root / "images" / f"{stem}.jpg")
        image(root / "annotations" / "trimaps" / f"{stem}.png")
        write(root / "annotations" / "xmls" / f"{stem}.xml", xml(stem, suffix="png"))
    write(root / "annotations" / "list.txt", "0 1 1 1\n")
    return root


def coco2017(root: Path) -> Path:
    for split in ("train", "val"):
        stems = "".join(stem for stem, part in SPLIT.items() if part == split)
        document, notes = coco(stems), root / "annotations"
        for stem in stems:
            image(root / f"{split}2017" / f"{stem}.jpg")
        for kind in ("instances", "person_keypoints", "stuff"):
            write(notes / f"{kind}_{split}2017.json", document)
        captions = [{"id": 1, "image_id": int(stems[0]), "caption": "fruit"}]
        listed = {"images": document["images"], "annotations": captions}
        write(notes / f"captions_{split}2017.json", listed)
    write(root / "annotations" / "image_info_test2017.json", {**coco(), "annotations": None})
    return root


def coco_of_valves(root: Path) -> Path:
    """`valves` says no split, and the folder is none of the usual ones."""
    for stem in BOXES:
        image(root / "photographs" / f"{stem}.jpg")
    write(root / "valves.json", coco())
    return root


def coco_by_upload(root: Path) -> Path:
    label_studio_coco(root)
    place = "../../label-studio/data/media/upload/1/"
    write(root / "result.json", coco(place=place, first=0))
    return root


def yolov8(root: Path) -> Path:
    roboflow_yolo(root)
    text = "path: .\ntrain: train/images\nval: valid/images\ntest:\nnames:\n"
    write(root / "data.yaml", text + "  0: apple\n  1: pear\ndownload: https://example.org/a.zip\n")
    return root


def yolo_of_polygons(root: Path) -> Path:
    label_studio_yolo(root)
    for stem, objects in BOXES.items():
        rows = ""
        for name, x1, y1, x2, y2 in objects:
            corners = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
            outline = " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in corners)
            rows += f"{NAMES.index(name)} {outline}\n"
        write(root / "labels" / f"{stem}.txt", rows)
    return root


def labelimg_by_split(root: Path) -> Path:
    for stem, split in SPLIT.items():
        image(root / "images" / split / f"{stem}.jpg")
        write(root / "labels" / split / f"{stem}.txt", txt(stem))
        write(root / "labels" / split / "classes.txt", "apple\r\npear\r\n", "utf-8-sig")
    return root


def roboflow_darknet(root: Path) -> Path:
    for stem, split in SPLIT.items():
        folder = root / {"train": "train", "val": "valid"}[split]
        image(folder / f"{stem}.jpg")
        write(folder / f"{stem}.txt", txt(stem))
        write(folder / "_darknet.labels", "apple\npear\n")
    return root


def project_in_a_folder(root: Path) -> Path:
    label_studio_yolo(root / "project-1-at-2024-05-01")
    return root


def labelme_apart(root: Path) -> Path:
    labelme(root / "images")
    for stem in BOXES:
        path = root / "images" / f"{stem}.json"
        document = {**json.loads(path.read_text()), "imagePath": f"../images/{stem}.jpg"}
        write(root / "labels" / f"{stem}.json", document)
        path.unlink()
    return root


LAYOUTS: list[Callable[[Path], Path]] = [
    *(voc2007, archives_of_voc, vott, flat_voc, voc_of_two_folders, voc_by_split, pets),
    *(voc_in_gb2312, roboflow_voc, roboflow_coco, coco2017, coco_of_valves, coco_by_upload),
    *(roboflow_yolo, yolov8, yolo_of_polygons, windows_yolo, cvat_yolo, cvat_coco),
    *(label_studio_coco, label_studio_yolo, project_in_a_folder, labelimg_yolo),
    *(labelimg_by_split, labelimg_beside, roboflow_darknet, labelme, labelme_apart),
]
DIVIDED = {
    *("voc2007", "vott", "voc_by_split", "roboflow_voc", "roboflow_coco", "coco2017"),
    *("roboflow_yolo", "yolov8", "windows_yolo", "labelimg_by_split", "roboflow_darknet"),
}
