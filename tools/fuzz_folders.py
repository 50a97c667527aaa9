"""Whole data folders for the fuzzer: small sets in several formats, renamed, nested, linked, cut,
re-encoded and mixed. Every command reads a folder right, or refuses it by a TaskError.
"""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from data.dataset_index import DatasetIndex
from data.folders import open_dataset, read_splits
from data.index_file import SPLITS
from data.read_dataset import read_dataset
from data.sources import find_sources
from tools.make_task import write_task
from tools.sources import read_source
from utils.errors import TaskError

NAMES = ("cat", "dog")
WIDTH, HEIGHT = 64, 48
BOXES = (
    (("cat", 2, 16, 16, 30), ("dog", 30, 22, 44, 34)),
    (("dog", 8, 4, 40, 36),),
    (),
    (("cat", 0, 0, 64, 48), ("cat", 10, 10, 20, 20)),
)
"""Of each picture: class, xyxy. All its pixels tell which picture it is."""
AWKWARD = (
    *("图 1", " a b ", ".hidden", "x" * 240, "\udcff\udcfe", "-rf", "*", "[a]", "%s", "Ärger"),
    *("train", "val", "labels", "images", "Annotations", "0", "a.b.c", "a\\b", "a\nb", "a\tb"),
)
FOREIGN = {
    **{"notes.json": b"{}", "other.yaml": b"a: [1]", "Thumbs.db": b"\0", "._0.png": b"\0"},
    **{"empty.xml": b"", "list.txt": b"", "classes.txt": b"cat\ndog\n", "bad.json": b'{"images":'},
    **{"data.yml": b"names: {0: cat", "readme.md": b"# x", "x.png": b"no image", "obj.names": b""},
    **{".ipynb_checkpoints/0-checkpoint.txt": b"0 1 1 1 1", "train.txt": b"images/0.png\n"},
}
ENCODINGS = ("utf-16", "utf-8-sig", "gb18030", "utf-32", "cp037")


def read_everywhere(folder: Path, content: bytes) -> object:
    """Make the folder that `content` stands for below `folder`, and read it as each command does.

    Raises AssertionError where boxes are read that the picture does not have.
    """
    chance = random.Random(content)
    root, task = folder / "set", folder / "task"
    shutil.rmtree(folder, ignore_errors=True)
    for form in chance.sample(FORMS, chance.choice((1, 1, 2))):
        form(root)
    true = True
    for edit in chance.choices(EDITS, k=chance.randrange(6)):
        edit(chance, root)
        true = true and edit is not _cut
    readings = 0
    for read in (_as_folder, _as_data_yaml, _as_task, _as_sources):
        try:
            for index in read(root, task):
                readings += 1
                if true:
                    _check(index)
        except TaskError:
            continue
    return readings


def _as_folder(root: Path, task: Path) -> Iterable[DatasetIndex]:
    data = open_dataset(root)
    for split in SPLITS:
        if data.records[split]:
            yield data.read(split, max_bad_fraction=1.0, require_boxes=False)[0]


def _as_data_yaml(root: Path, task: Path) -> Iterable[DatasetIndex]:
    for path in sorted(root.glob("*.y*ml")):
        yield from (index for index, _ in read_splits(path, ("train", "val"), max_bad_fraction=1.0))


def _as_task(root: Path, task: Path) -> Iterable[DatasetIndex]:
    write_task(read_source(root, labelled=False), task, kinds=("infer",), overwrite=True)
    source = read_source(root, max_bad_fraction=1.0)
    into = write_task(source, task, copy=True, annotation_format="coco", overwrite=True).parent
    for split in ("train", "val"):
        index = into / f"{split}-index.tsv"
        yield read_dataset(index, source.class_names, root=into, max_bad_fraction=0.0)[0]


def _as_sources(root: Path, task: Path) -> Iterable[DatasetIndex]:
    find_sources(root)
    return ()


def _check(index: DatasetIndex) -> None:
    """Each picture has all its boxes or none, since its label file may be away."""
    for number, path in enumerate(index.paths):
        with Image.open(path) as image:
            shade = image.convert("L").getpixel((0, 0))
        assert isinstance(shade, int)
        names = [index.class_names[c] for c in index.classes_of(number)]
        boxes = index.boxes_of(number).round(1).tolist()
        found = sorted((n, *box) for n, box in zip(names, boxes, strict=True))
        true = sorted(BOXES[shade // 60])
        if not set(names) <= set(NAMES):  # the file with the names may be away too
            found, true = ([(*one[1:],) for one in many] for many in (found, true))
        assert not found or sorted(found) == sorted(true), f"{path}: {found} instead of {true}"


def _picture(number: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((HEIGHT, WIDTH), 60 * number, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


PICTURES = tuple(map(_picture, range(len(BOXES))))


def _put(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _yolo(root: Path) -> None:
    for number, (picture, rows) in enumerate(zip(PICTURES, BOXES, strict=True)):
        split = "val" if number == 3 else "train"
        _put(root / "images" / split / f"{number}.png", picture)
        text = ""
        for name, x1, y1, x2, y2 in rows:
            centre = ((x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT)
            values = (*centre, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT)
            text += f"{NAMES.index(name)} {' '.join(map(str, values))}\n"
        _put(root / "labels" / split / f"{number}.txt", text)
    _put(root / "data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog]\n")


def _voc(root: Path) -> None:
    for number, (picture, rows) in enumerate(zip(PICTURES, BOXES, strict=True)):
        _put(root / "JPEGImages" / f"{number}.png", picture)
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for name, x1, y1, x2, y2 in rows
        )
        document = f"<annotation><filename>{number}.png</filename>{objects}</annotation>"
        _put(root / "Annotations" / f"{number}.xml", document)
    _put(root / "ImageSets" / "Main" / "train.txt", "0\n1\n2\n")
    _put(root / "ImageSets" / "Main" / "val.txt", "3\n")


def _coco(root: Path) -> None:
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, (picture, rows) in enumerate(zip(PICTURES, BOXES, strict=True)):
        _put(root / "images" / f"{number}.png", picture)
        size = {"width": WIDTH, "height": HEIGHT}
        images.append({"id": number, "file_name": f"{number}.png", **size})
        for name, x1, y1, x2, y2 in rows:
            ids = {"id": len(annotations), "image_id": number, "category_id": NAMES.index(name)}
            annotations.append({**ids, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    _put(root / "annotations" / "instances.json", json.dumps(document))


def _labelme(root: Path) -> None:
    for number, (picture, rows) in enumerate(zip(PICTURES, BOXES, strict=True)):
        _put(root / f"{number}.png", picture)
        shapes = [
            {"label": name, "shape_type": "rectangle", "points": [[x1, y1], [x2, y2]]}
            for name, x1, y1, x2, y2 in rows
        ]
        size = {"imageHeight": HEIGHT, "imageWidth": WIDTH, "imagePath": f"{number}.png"}
        _put(root / f"{number}.json", json.dumps({"shapes": shapes, **size}))


FORMS: tuple[Callable[[Path], None], ...] = (_yolo, _voc, _coco, _labelme)


def _any(chance: random.Random, root: Path, *, file: bool = False) -> Path | None:
    """Return a path below `root`, or None in an empty folder."""
    there = sorted(path for path in root.rglob("*") if path.is_file() or not file)
    return chance.choice(there) if there else None


def _free(chance: random.Random, place: Path, suffix: str) -> Path:
    """Return a path beside `place` that nothing has, by an awkward name."""
    found = place.with_name(chance.choice(AWKWARD)[: 250 - len(suffix)] + suffix)
    while found.exists() or found.is_symlink():
        found = found.with_name(f"{chance.randrange(10**6)}{suffix}")
    return found


def _rename(chance: random.Random, root: Path) -> None:
    if path := _any(chance, root):
        path.rename(_free(chance, path, path.suffix if chance.random() < 0.8 else ""))


def _nest(chance: random.Random, root: Path) -> None:
    if path := _any(chance, root):
        deeper = _free(chance, path, "")
        deeper.mkdir()
        path.rename(deeper / path.name)


def _link(chance: random.Random, root: Path) -> None:
    """Link a path from elsewhere, to itself, to the whole folder, or to nothing."""
    if path := _any(chance, root):
        away = root.with_name("away") / str(chance.randrange(10**9))
        away.parent.mkdir(exist_ok=True)
        shutil.rmtree(away, ignore_errors=True)
        path.rename(away)
        path.symlink_to(chance.choice((away, away, path, root, root / "nothing")))


def _copy(chance: random.Random, root: Path) -> None:
    """Keep a file twice, the second time in another folder by the same name."""
    if (path := _any(chance, root, file=True)) and (place := _any(chance, root)):
        target = (place if place.is_dir() else place.parent) / path.name
        if not target.exists() and not target.is_symlink():
            shutil.copyfile(path, target)


def _remove(chance: random.Random, root: Path) -> None:
    if path := _any(chance, root, file=True):
        path.unlink()
        if chance.random() < 0.3:
            path.mkdir()


def _cut(chance: random.Random, root: Path) -> None:
    if path := _any(chance, root, file=True):
        content = path.read_bytes()
        path.write_bytes(content[: chance.randrange(len(content) + 1)])


def _encode(chance: random.Random, root: Path) -> None:
    path = _any(chance, root, file=True)
    if path and path.suffix in (".txt", ".yaml", ".json", ".xml"):
        text = path.read_bytes().decode("utf-8", "replace")
        path.write_bytes(text.encode(chance.choice(ENCODINGS), "replace"))


def _mix(chance: random.Random, root: Path) -> None:
    name = chance.choice(sorted(FOREIGN))
    place = _any(chance, root) or root / "x"
    target = (place if place.is_dir() else place.parent) / name
    if not target.exists() and target.parent.parent.is_dir():
        _put(target, FOREIGN[name])


EDITS: tuple[Callable[[random.Random, Path], None], ...] = (
    *(_rename, _rename, _nest, _link, _copy, _remove, _cut, _encode, _encode, _mix, _mix),
)
