"""Data sets as people keep them: one small set in many layouts, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.folders import open_dataset, read_splits
from data.images import ORIENTATION_TAG
from tools.sources import read_source
from utils.errors import Code, TaskError

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


LAYOUTS: list[Callable[[Path], Path]] = [
    *(voc2007, vott, flat_voc, voc_of_two_folders, voc_in_gb2312, roboflow_voc, roboflow_coco),
    *(roboflow_yolo, windows_yolo, cvat_yolo, cvat_coco, label_studio_coco, label_studio_yolo),
    *(labelimg_yolo, labelimg_beside, labelme),
]
DIVIDED = {"voc2007", "vott", "roboflow_voc", "roboflow_coco", "roboflow_yolo", "windows_yolo"}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda one: one.__name__)
def test_one_data_set_in_every_layout(layout: Callable[[Path], Path], tmp_path: Path) -> None:
    """Boxes, class names and splits are the same, whatever else lies in the folder."""
    root = layout(tmp_path / "set")
    for junk in (".ipynb_checkpoints/0-checkpoint.jpg", "._0.jpg", "__MACOSX/0.jpg"):
        for place in {path.parent for path in root.rglob("0.jpg")}:
            image_of = place / junk
            image_of.parent.mkdir(parents=True, exist_ok=True)
            image_of.write_bytes((place / "0.jpg").read_bytes())
    data = open_dataset(root)
    assert data.class_names == NAMES
    found = {}
    for split in ("train", "val", "test"):
        if not data.records[split]:
            continue
        index, report = data.read(split, max_bad_fraction=0, require_boxes=False)
        assert not report.other_sizes.count
        for number, path in enumerate(index.paths):
            assert "/Segmentation" not in path
            names = [NAMES[n] for n in index.classes_of(number)]
            boxes = [tuple(map(float, box)) for box in index.boxes_of(number).round(3)]
            found[Path(path).stem] = (
                split,
                [(n, *box) for n, box in zip(names, boxes, strict=True)],
            )
    assert {stem: boxes for stem, (_, boxes) in found.items()} == BOXES
    if layout.__name__ in DIVIDED:
        assert {stem: split for stem, (split, _) in found.items()} == SPLIT


def test_make_task_and_train_read_the_same(tmp_path: Path) -> None:
    root = roboflow_voc(tmp_path)
    source = read_source(root)
    for split, (index, _) in zip(
        ("train", "val"),
        read_splits(root, ("train", "val"), max_bad_fraction=0),
        strict=True,
    ):
        assert [image.path for image in source.splits[split]] == [Path(p) for p in index.paths]


def refusal(root: Path, *, split: str = "train", bad: float = 0.0) -> str:
    with pytest.raises(TaskError) as caught:
        open_dataset(root).read(split, max_bad_fraction=bad)
    assert caught.value.code == Code.DATASET
    return caught.value.sentence


def test_an_unknown_form_is_told_with_the_forms_and_the_places(tmp_path: Path) -> None:
    image(tmp_path / "pictures" / "0.jpg")
    write(tmp_path / "notes.txt", "x")
    said = refusal(tmp_path)
    assert "holds notes.txt, pictures" in said
    assert f"looked for {tmp_path / 'data.yaml'}" in said
    assert all(form in said for form in ("Pascal VOC", "COCO", "obj.data", "labelme"))
    image(tmp_path / "pictures" / "1.jpg")
    records = open_dataset(tmp_path, unlabelled=True).records
    assert {split: len(found) for split, found in records.items() if found} == {"test": 2}


def test_a_stem_of_several_images_is_told(tmp_path: Path) -> None:
    flat_voc(tmp_path)
    image(tmp_path / "0.png")
    open_dataset(tmp_path)  # filename says which
    write(tmp_path / "0.xml", xml("0").replace("<filename>0.jpg</filename>", ""))
    said = refusal(tmp_path)
    assert "0.xml fits" in said
    assert "0.jpg" in said
    assert "0.png" in said


def test_a_document_that_lists_a_name_twice(tmp_path: Path) -> None:
    cvat_coco(tmp_path)
    document = coco()
    document["images"].append({**document["images"][0], "id": 9})
    write(tmp_path / "annotations" / "instances_default.json", document)
    data = open_dataset(tmp_path)
    reports = [data.read(s, max_bad_fraction=1, require_boxes=False)[1] for s in ("train", "val")]
    told = [example for report in reports for example in report.bad_annotations.examples]
    assert len(told) == 1
    assert "it lists several images called 0.jpg" in told[0]


@pytest.mark.parametrize("there", ["backup/0.jpg", "val/0.jpg"])
def test_a_missing_image_is_not_replaced_by_a_namesake(there: str, tmp_path: Path) -> None:
    for stem in "123":
        image(tmp_path / "images" / "a" / f"{stem}.jpg")
    image(tmp_path / there)
    write(tmp_path / "train.json", coco(place="a/"))
    found = open_dataset(tmp_path)
    assert {Path(r.image).stem for part in found.records.values() for r in part} == set("123")
    assert any("a/0.jpg" in note for note in found.notes)


def test_ids_as_text_and_ids_that_match_nothing(tmp_path: Path) -> None:
    document = coco()
    for one in document["images"]:
        one["id"] = str(one["id"])
    for stem in BOXES:
        image(tmp_path / f"{stem}.jpg")
    write(tmp_path / "a.json", document)
    assert sum(len(read_source(tmp_path).splits[s]) for s in ("train", "val", "test")) == 4
    for one in document["images"]:
        one["id"] = f"x{one['id']}"
    write(tmp_path / "a.json", document)
    assert "no annotation belongs to an image that it lists" in refusal(tmp_path)


def test_crowd_regions_are_no_objects(tmp_path: Path) -> None:
    label_studio_coco(tmp_path)
    document = coco(place="images/", first=0)
    for one in document["annotations"]:
        one["iscrowd"] = 1
    write(tmp_path / "result.json", document)
    said = refusal(tmp_path)
    assert "marked as crowd regions (iscrowd: 1)" in said


def test_an_object_without_a_box_gets_that_of_its_polygon(tmp_path: Path) -> None:
    label_studio_coco(tmp_path)
    document = coco(place="images/", first=0)
    first = document["annotations"][0]
    del first["bbox"]
    first["segmentation"] = [[2, 16, 16, 20], [3, 30, 9, 17, 4, 18]]
    write(tmp_path / "result.json", document)
    source = read_source(tmp_path)
    images = {i.path.stem: i for s in source.splits.values() for i in s}
    np.testing.assert_array_equal(images["0"].boxes[0], [2, 16, 16, 30])


@pytest.mark.parametrize(
    ("content", "fatal"), [('{"images": [', True), ("{half", False)], ids=["coco", "foreign"]
)
def test_a_damaged_json(content: str, fatal: bool, tmp_path: Path) -> None:
    label_studio_coco(tmp_path)
    write(tmp_path / "other.json", content)
    if fatal:
        assert "other.json: not a readable JSON" in refusal(tmp_path)
    else:
        assert any("other.json" in note for note in open_dataset(tmp_path).notes)


@pytest.mark.parametrize("layout", [flat_voc, cvat_coco, labelme], ids=lambda one: one.__name__)
@pytest.mark.parametrize(("orientation", "count"), [(6, 0), (1, 4)])
def test_a_stated_size_is_that_of_the_upright_image(
    layout: Callable[[Path], Path],
    orientation: int,
    count: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Pictures stored lying agree with annotations of them upright, unless no tag says so."""
    layout(tmp_path)
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    for number, path in enumerate(tmp_path.rglob("*.jpg")):
        Image.new("RGB", (HEIGHT, WIDTH), (9 * number, 0, 0)).save(path, exif=exif)
    data = open_dataset(tmp_path)
    read = [data.read(s, max_bad_fraction=0, require_boxes=False) for s in ("train", "val", "test")]
    assert sum(report.other_sizes.count for _, report in read) == count
    assert caplog.text.count("have another size than") == (3 if count else 0)
    assert sum(report.turned for _, report in read) == (4 if orientation == 6 else 0)
    for index, _ in read:
        assert (index.sizes == ((HEIGHT, WIDTH) if orientation == 6 else (WIDTH, HEIGHT))).all()


@pytest.mark.parametrize("name", ["yes", "no", "on", "null", "1.0", "007", "~x", "2024-01-01"])
def test_class_names_stay_the_words_they_are(name: str, tmp_path: Path) -> None:
    root = roboflow_yolo(tmp_path)
    text = f"train: train/images\nval: valid/images\nnames: [{name}, pear]\n"
    write(root / "data.yaml", text)
    assert open_dataset(root).class_names == (name, "pear")


def test_a_description_in_another_encoding_is_refused(tmp_path: Path) -> None:
    root = roboflow_yolo(tmp_path)
    text = "train: train/images\nval: valid/images\nnames: [安全帽, 反光衣]\n"
    (root / "data.yaml").write_bytes(text.encode("gbk"))
    for read in (lambda: open_dataset(root), lambda: open_dataset(root / "data.yaml")):
        with pytest.raises(TaskError, match=r"data.yaml: not UTF-8 text .*GBK would fit"):
            read()


def test_linked_folders_are_entered_and_loops_end(tmp_path: Path) -> None:
    root = label_studio_yolo(tmp_path / "set")
    for part in ("images", "labels"):
        (tmp_path / part).symlink_to(root / part)
        (root / part / "round").symlink_to(root)
    data = open_dataset(tmp_path / "set")
    assert sum(map(len, data.records.values())) == 4
    store = tmp_path / "linked"
    store.mkdir()
    for part in ("images", "labels"):
        (store / part).symlink_to(root / part)
    assert sum(map(len, open_dataset(store).records.values())) == 4


def test_folders_of_no_split_are_left_out_with_a_word(tmp_path: Path) -> None:
    windows_yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    image(tmp_path / "images" / "new" / "5.jpg")
    data = open_dataset(tmp_path, NAMES)
    assert [len(data.records[s]) for s in ("train", "val", "test")] == [3, 1, 0]
    assert "images that lie in no folder of a split were left out" in data.notes
