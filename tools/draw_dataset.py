"""A drawn data set in VOC form: pictures like blood smears, for demos and tests without downloads.

python -m tools.draw_dataset OUT --images 240 --size 320 240 --seed 0
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import cv2
import numpy as np

from tools.draw_scene import CLASS_NAMES, Scene, draw_scene

# share of the pictures in each part; what is left over by rounding goes to training
SHARES = {"val": 0.15, "test": 0.15}


def draw_dataset(
    folder: Path, *, images: int = 240, size_wh: tuple[int, int] = (320, 240), seed: int = 0
) -> dict[str, int]:
    """Write `images` pictures of `size_wh` (width, height) with their boxes; the same for one seed.

    Gives JPEGImages/*.jpg, Annotations/*.xml (corners x1, y1, x2, y2, the second one exclusive,
    so that width = xmax - xmin), ImageSets/Main/{train,val,test}.txt and classes.txt.
    Returns the number of boxes per class. An existing folder is added to, same names replaced.
    """
    folder = Path(folder)
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    draw = partial(_draw_one, folder, size_wh, seed)
    with ThreadPoolExecutor() as pool:
        per_image = list(pool.map(draw, range(images)))
    _write_splits(folder / "ImageSets" / "Main", images, seed)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASS_NAMES))
    counts = np.sum(per_image, axis=0, dtype=np.int64, initial=0)
    return dict(zip(CLASS_NAMES, np.broadcast_to(counts, len(CLASS_NAMES)).tolist(), strict=True))


def _draw_one(folder: Path, size: tuple[int, int], seed: int, index: int) -> np.ndarray:
    """Draw and write one picture; its generator depends on seed and index alone."""
    generator = np.random.default_rng([seed, index])
    scene = draw_scene(*size, generator)
    quality = int(generator.integers(82, 96))
    name = _name(index)
    path = folder / "JPEGImages" / f"{name}.jpg"
    if not cv2.imwrite(str(path), scene.image, [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise OSError(f"{path} could not be written")
    _write_voc(folder / "Annotations" / f"{name}.xml", path.name, scene)
    return np.bincount(scene.classes, minlength=len(CLASS_NAMES))


def _name(index: int) -> str:
    return f"smear_{index:05d}"


def _write_voc(path: Path, image_name: str, scene: Scene) -> None:
    root = Element("annotation")
    SubElement(root, "filename").text = image_name
    size = SubElement(root, "size")
    for key, value in zip(("height", "width", "depth"), scene.image.shape, strict=True):
        SubElement(size, key).text = str(value)
    for corners, index in zip(scene.boxes.tolist(), scene.classes.tolist(), strict=True):
        item = SubElement(root, "object")
        SubElement(item, "name").text = CLASS_NAMES[index]
        SubElement(item, "difficult").text = "0"
        box = SubElement(item, "bndbox")
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            SubElement(box, key).text = str(value)
    indent(root)
    ElementTree(root).write(path, encoding="utf-8")


def _write_splits(folder: Path, images: int, seed: int) -> None:
    order = np.random.default_rng([seed, images]).permutation(images).tolist()
    parts = {}
    for split, share in SHARES.items():
        count = round(share * images)
        parts[split], order = order[:count], order[count:]
    for split, members in {"train": order, **parts}.items():
        lines = "".join(f"{_name(index)}\n" for index in sorted(members))
        (folder / f"{split}.txt").write_text(lines, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw a data set as the command line asks and say how many boxes it has."""
    parser = argparse.ArgumentParser(
        prog="tools.draw_dataset",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--images", type=int, default=240, help="number of pictures")
    parser.add_argument("--size", type=int, nargs=2, default=(320, 240), metavar=("W", "H"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.images < 1 or min(options.size) < 96:
        parser.error("--images must be at least 1 and --size at least 96 96")
    counts = draw_dataset(
        options.out, images=options.images, size_wh=tuple(options.size), seed=options.seed
    )
    boxes = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"{options.images} pictures in {options.out}: {boxes}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
