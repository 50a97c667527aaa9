"""Data sets read from index files: equal boxes from every format, bad files named and counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from data.dataset_index import DatasetIndex
from data.instances import Instances
from data.read_dataset import clean_instances, read_dataset
from data.report import DataReport
from utils.errors import Code, TaskError
from utils.progress import Progress

NAMES = ("helmet", "vest")
# Per image: width, height, and boxes as class, x, y, w, h in whole pixels.
SCENES = {
    "9c/first image.png": ((40, 30), [(0, 3, 4, 10, 6), (1, 0, 0, 1, 1)]),
    "01/background.png": ((16, 24), []),
    "fa/third.png": ((33, 17), [(1, 30, 10, 3, 7)]),
}


def draw(root: Path) -> None:
    for name, (size, _) in SCENES.items():
        path = root / "assets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (9, 90, 9)).save(path)


def ark_text(boxes: Sequence[tuple[int, ...]]) -> str:
    return "\n".join(f"{c}, {x}, {y}, {x + w - 1}, {y + h - 1}, -1.0" for c, x, y, w, h in boxes)


def voc_text(boxes: Sequence[tuple[int, ...]]) -> str:
    objects = "".join(
        f"<object><name>{NAMES[c].upper()}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
        f"<xmax>{x + w - 1}</xmax><ymax>{y + h - 1}</ymax></bndbox></object>"
        for c, x, y, w, h in boxes
    )
    return f"<annotation><size><width>0</width></size>{objects}</annotation>"


def write_annotations(root: Path, form: str) -> Path:
    """All of SCENES with annotations of one form; returns the index file."""
    draw(root)
    lines = []
    coco: dict[str, list] = {"images": [], "annotations": [], "categories": []}
    for number, (name, (_, boxes)) in enumerate(SCENES.items(), start=1):
        annotation = (root / "annotations" / name).with_suffix(".xml" if form == "voc" else ".txt")
        if form == "coco":
            annotation = root / "annotations" / "coco-annotations.json"
            coco["images"].append({"id": number, "file_name": Path(name).name})
            coco["annotations"] += [
                {"image_id": number, "category_id": c, "bbox": [x, y, w, h], "area": 0}
                for c, x, y, w, h in boxes
            ]
        annotation.parent.mkdir(parents=True, exist_ok=True)
        text = {"ark": ark_text, "voc": voc_text}.get(form, lambda _: json.dumps(coco))(boxes)
        annotation.write_text(text, encoding="utf-8")
        lines.append(f"{root / 'assets' / name}\t{annotation}")
    index_file = root / "train-index.tsv"
    index_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return index_file


@pytest.mark.parametrize("form", ["ark", "voc", "coco"])
def test_every_format_gives_the_same_data_set(tmp_path: Path, form: str) -> None:
    index_file = write_annotations(tmp_path, form)
    index, report = read_dataset(index_file, NAMES, root=tmp_path, max_bad_fraction=0)
    assert [Path(path).name for path in index.paths] == [Path(name).name for name in SCENES]
    assert index.sizes.tolist() == [[h, w] for (w, h), _ in SCENES.values()]
    assert index.boxes.tolist() == [[3, 4, 13, 10], [0, 0, 1, 1], [30, 10, 33, 17]]
    assert index.boxes.dtype == np.float32
    assert index.classes.tolist() == [0, 1, 1]
    assert index.offsets.tolist() == [0, 2, 2, 3]
    assert index.counts().tolist() == [1, 2]
    assert (report.kept, report.boxes, report.backgrounds) == (3, 3, 1)
    assert len(report.lines()) == 1


@pytest.mark.parametrize("form", ["voc", "coco"])
def test_a_stated_size_that_is_not_the_files_is_a_warning(
    tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As of photographs that were labelled turned; ark states no size."""
    index_file = write_annotations(tmp_path, form)
    for path in (tmp_path / "annotations").rglob("*.*"):
        if form == "coco":
            document = json.loads(path.read_text())
            document["images"][0] |= {"width": 30, "height": 40}
            document["images"][1] |= {"width": 16, "height": 24}
            path.write_text(json.dumps(document))
        else:
            size = "30</width><height>40</height>"
            path.write_text(path.read_text().replace("0</width>", size))
    index, report = read_dataset(index_file, NAMES, root=tmp_path, max_bad_fraction=0)
    count = {"voc": 3, "coco": 1}[form]
    assert (len(index), report.other_sizes.count) == (3, count)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert (
        f"images of {index_file} whose size is not the one that their annotations state: {count};"
        in record.getMessage()
    )
    assert "first image.png: 40x30, stated 30x40" in record.getMessage()


def test_crowd_regions_lie_apart_from_the_objects(tmp_path: Path) -> None:
    """Clipped, without area left out; they are no boxes, so none of theirs is counted as bad."""
    index_file = write_annotations(tmp_path, "coco")
    document = tmp_path / "annotations" / "coco-annotations.json"
    content = json.loads(document.read_text())
    content["annotations"] += [
        {"image_id": image, "category_id": 1, "bbox": box, "iscrowd": 1}
        for image, box in ((3, [-5, 2, 60, 4]), (1, [2, 3, 20, 9]), (1, [2, 3, 0, 9]))
    ]
    document.write_text(json.dumps(content))
    index, report = read_dataset(index_file, NAMES, root=tmp_path, max_bad_fraction=0)
    assert index.boxes.tolist() == [[3, 4, 13, 10], [0, 0, 1, 1], [30, 10, 33, 17]]
    assert index.crowds.boxes.tolist() == [[2, 3, 22, 12], [0, 2, 33, 6]]
    assert index.crowds.classes.tolist() == [1, 1]
    assert index.crowd_images.tolist() == [0, 2]
    said = "3 crowd regions (iscrowd): no objects to train on, ignored in evaluations"
    assert report.lines()[1:] == [said]


def read_text(
    tmp_path: Path, texts: Sequence[str | None], *, bad: float = 1.0, images: Sequence[bytes] = ()
) -> tuple[DatasetIndex, object]:
    """A data set of 20 x 10 images with one ark text each; None leaves the file out."""
    lines = []
    for number, text in enumerate(texts):
        image, annotation = tmp_path / f"{number}.png", tmp_path / f"{number}.txt"
        Image.new("RGB", (20, 10)).save(image)
        if number < len(images):
            image.write_bytes(images[number])
        if text is not None:
            annotation.write_text(text, encoding="utf-8")
        lines.append(f"{image}\t{annotation}\n")
    (tmp_path / "index.tsv").write_text("".join(lines), encoding="utf-8")
    return read_dataset(tmp_path / "index.tsv", NAMES, root=tmp_path, max_bad_fraction=bad)


@pytest.mark.parametrize(
    ("texts", "images", "bad", "code", "said"),
    [
        (["0, 1, 1, 2, 2\n2, 1, 1, 2, 2"], [], 1.0, Code.DATASET, "0.txt line 2: class index 2 is"),
        ([None, None], [], 1.0, Code.DATASET, "index.tsv: 2 of 2, "),
        (["", ""], [b"x", b"y"], 1.0, Code.IMAGE_FORMAT, "can be read (2 listed)"),
        (["0, 1, 1, 2, 2", "x", "x"], [], 0.5, Code.DATASET, "index.tsv: 2 of 3 (max_bad_fraction"),
        (["", ""], [], 1.0, Code.DATASET, "hold no object"),
    ],
    ids=["no class", "no annotation", "no image", "more bad than allowed", "only backgrounds"],
)
def test_refusals(
    tmp_path: Path, texts: list[str | None], images: list[bytes], bad: float, code: Code, said: str
) -> None:
    with pytest.raises(TaskError) as caught:
        read_text(tmp_path, texts, bad=bad, images=images)
    assert caught.value.code == code
    assert said in caught.value.sentence
    assert "index.tsv" in caught.value.sentence


def test_classes_that_never_match_are_told_with_both_lists(tmp_path: Path) -> None:
    draw(tmp_path)
    (tmp_path / "a.xml").write_text(voc_text([(0, 1, 1, 2, 2)]).replace("HELMET", "glove"))
    (tmp_path / "index.tsv").write_text("assets/9c/first image.png\ta.xml\n", encoding="utf-8")
    with pytest.raises(TaskError, match=r"glove.*helmet, vest"):
        read_dataset(tmp_path / "index.tsv", NAMES, root=tmp_path, max_bad_fraction=1)
    (tmp_path / "b.txt").write_text("0, 1, 1, 2, 2")
    with open(tmp_path / "index.tsv", "a") as file:
        file.write("assets/fa/third.png\tb.txt\n")
    index, report = read_dataset(tmp_path / "index.tsv", NAMES, root=tmp_path, max_bad_fraction=0)
    assert (len(index), report.unknown_classes) == (2, {"glove": 1})
    assert "1 box of another class left out: glove (1)" in report.lines()


@pytest.mark.parametrize("waits", [True, False], ids=["by-threads", "by-one"])
def test_the_order_is_that_of_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """Chunks of one record, in slabs of four: whoever reads them, the data set is the same."""
    monkeypatch.setattr("data.read_dataset.SLAB", 4)
    monkeypatch.setattr("data.read_dataset.CHUNK", 1)
    monkeypatch.setattr("data.read_dataset._waits", lambda seconds, computing: waits)
    texts = [f"0, 1, 1, {side}, {side}" if side % 5 else "words" for side in range(2, 13)]
    index, report = read_text(tmp_path, texts, bad=0.5)
    assert index.boxes[:, 2].tolist() == [side + 1 for side in range(2, 13) if side % 5]
    assert [Path(path).stem for path in index.paths] == [str(n) for n in range(11) if (n + 2) % 5]
    faults = report.bad_annotations.examples
    assert [Path(fault.split(" line")[0]).name for fault in faults] == ["3.txt", "8.txt"]


def test_progress_moves_while_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.read_dataset.SLAB", 2)
    told: list[float] = []
    index_file = write_annotations(tmp_path, "ark")
    read_dataset(
        index_file, NAMES, root=tmp_path, max_bad_fraction=0, progress=Progress(told.append)
    )
    assert told == pytest.approx([2 / 3, 1])


SIZES = np.array([[10, 20], [30, 5], [8, 8], [64, 64]], np.int32)


def clean_by_loop(
    table: npt.NDArray[np.float64], owners: npt.NDArray[np.int64]
) -> tuple[list[list[float]], list[int], list[int], tuple[int, int, int]]:
    """One box after the other."""
    boxes, classes, images, seen = [], [], [], set()
    clipped = without_area = twice = 0
    for (index, *corners), image in zip(table.tolist(), owners.tolist(), strict=True):
        height, width = SIZES[image].tolist()
        limits = (width, height, width, height)
        box = [min(max(c, 0.0), limit) for c, limit in zip(corners, limits, strict=True)]
        if box[2] <= box[0] or box[3] <= box[1]:
            without_area += 1
            continue
        clipped += box != corners
        if (image, index, *box) in seen:
            twice += 1
            continue
        seen.add((image, index, *box))
        boxes.append(box)
        classes.append(int(index))
        images.append(image)
    return boxes, classes, images, (clipped, without_area, twice)


def test_cleaning_equals_a_slow_loop() -> None:
    """Few different corners, so that many boxes are given again, also in other images."""
    generator = np.random.default_rng(0)
    table = generator.integers(-2, 12, (400, 5)).astype(np.float64)
    table[:, 0] = generator.integers(0, 2, 400)
    table[::3, 3:] += 0.5
    table[5] = table[390] = [0, -0.0, 1, 3, 3]
    before = table.copy()
    owners = np.sort(generator.integers(0, len(SIZES), 400))
    report = DataReport("x")
    clean, kept = clean_instances(
        Instances(table[:, 1:], table[:, 0].astype(np.int32)), owners, SIZES, report
    )
    boxes, classes, images, counts = clean_by_loop(table, owners)
    assert clean.boxes.tolist() == boxes
    assert clean.boxes.dtype == np.float32
    assert clean.classes.tolist() == classes
    assert kept.tolist() == images
    assert (report.clipped, report.without_area, report.duplicate_boxes) == counts
    assert all(counts)
    np.testing.assert_array_equal(table, before)
