"""Data sets as people keep them: one small set in many layouts, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.folders import open_dataset, read_splits
from data.images import ORIENTATION_TAG
from data.index_file import SPLITS
from tests.data.layouts import (
    BOXES,
    DIVIDED,
    HEIGHT,
    LAYOUTS,
    NAMES,
    SPLIT,
    WIDTH,
    coco,
    cvat_coco,
    flat_voc,
    image,
    label_studio_coco,
    label_studio_yolo,
    labelimg_by_split,
    labelme,
    roboflow_voc,
    roboflow_yolo,
    vott,
    windows_yolo,
    write,
    xml,
)
from tools.sources import read_source
from utils.errors import Code, TaskError


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


@pytest.mark.parametrize(
    ("label", "kept"),
    [
        pytest.param("", 3, id="no-labels"),
        pytest.param("1 .5 .5 .5 .5", 3, id="other-labels"),
        pytest.param(None, 4, id="the-same"),
    ],
)
def test_one_of_equal_pictures_with_other_labels_is_read(
    label: str | None, kept: int, tmp_path: Path
) -> None:
    """A copy without labels that comes first by name, and a labelled one that comes later."""
    root = windows_yolo(tmp_path)
    images, labels = root / "images" / "train", root / "labels" / "train"
    copy = "0-a" if label == "" else "0copy"
    (images / f"{copy}.jpg").write_bytes((images / "0.jpg").read_bytes())
    text = (labels / "0.txt").read_text("utf-8-sig") if label is None else label
    write(labels / f"{copy}.txt", text)
    ((index, report),) = read_splits(root / "data.yaml", ["train"], max_bad_fraction=0)
    assert (len(index), report.kept, report.boxes) == (kept, kept, len(index.boxes))
    assert {Path(path).stem for path in index.paths} == {"0", "1", "2"} | {copy} - {
        copy if kept == 3 else ""
    }
    told = "\n".join(report.lines())
    assert (f"{copy}.jpg" in told) is (kept == 3)
    assert (f"is the same picture as {images / '0.jpg'}" in told) is (kept == 3)


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
    assert caplog.text.count("whose size is not the one") == (3 if count else 0)
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


def test_documents_that_share_an_image_are_told(tmp_path: Path) -> None:
    cvat_coco(tmp_path)
    write(tmp_path / "annotations" / "instances_again.json", coco("0"))
    said = refusal(tmp_path)
    assert "0.jpg is listed by" in said
    assert "instances_again.json" in said


def test_a_stated_size_decides_between_namesakes_only(tmp_path: Path) -> None:
    """An image that was resized is taken with a warning; of two the one that fits is."""
    document = coco()
    document["images"][0]["width"] = 99
    for stem in BOXES:
        image(tmp_path / "photographs" / f"{stem}.jpg")
    write(tmp_path / "a.json", document)
    read = [open_dataset(tmp_path).read(s, max_bad_fraction=0, require_boxes=False) for s in SPLITS]
    assert sum(len(index) for index, _ in read) == 4
    assert sum(report.other_sizes.count for _, report in read) == 1
    other = image(tmp_path / "large" / "1.jpg")
    Image.new("RGB", (200, 100)).save(other)
    listed = [r.image for part in open_dataset(tmp_path).records.values() for r in part]
    assert str(tmp_path / "photographs" / "1.jpg") in listed
    Image.new("RGB", (WIDTH, HEIGHT)).save(other)
    assert "a.json lists 1.jpg, which fits" in refusal(tmp_path)


def test_class_lists_that_differ_are_told(tmp_path: Path) -> None:
    labelimg_by_split(tmp_path)
    write(tmp_path / ".old" / "classes.txt", "plum\n")
    assert open_dataset(tmp_path).class_names == NAMES
    write(tmp_path / "labels" / "val" / "classes.txt", "pear\napple\n")
    assert "list different classes: put one classes.txt into" in refusal(tmp_path)


def test_a_listed_name_may_end_in_a_number(tmp_path: Path) -> None:
    vott(tmp_path)
    for stem in BOXES:
        for folder, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
            path = tmp_path / folder / (stem + suffix)
            path.rename(path.with_stem(f"{stem} 1"))
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "0 1\n1 1.jpg\n2 1\n")
    write(tmp_path / "ImageSets" / "Main" / "val.txt", "3 1\n")
    write(tmp_path / "ImageSets" / "Main" / "test.txt", "7\n")
    data = open_dataset(tmp_path)
    assert [len(data.records[split]) for split in SPLITS] == [3, 1, 0]
    assert "test images without annotations were left out" in data.notes


def test_bytes_of_an_undeclared_encoding_are_named(tmp_path: Path) -> None:
    flat_voc(tmp_path)
    write(tmp_path / "0.xml", xml("0").replace("apple", "苹果"), "gbk")
    data = open_dataset(tmp_path)
    read = [data.read(s, max_bad_fraction=1, require_boxes=False)[1] for s in SPLITS]
    (said,) = [example for report in read for example in report.bad_annotations.examples]
    assert "0.xml: not UTF-8 text (byte 0xb9 at position" in said
    assert "GBK would fit" in said


def test_a_second_description_is_told(tmp_path: Path) -> None:
    roboflow_yolo(tmp_path)
    text = (tmp_path / "data.yaml").read_text()
    write(tmp_path / "all.yaml", text.replace("apple", "fruit"))
    data = open_dataset(tmp_path)
    assert data.class_names == NAMES
    assert "data.yaml describes the data set, all.yaml was passed over" in data.notes
