"""Make pools that differ for mining: of a labelled YOLO folder of clips, and drawn ones.

    python -m bench.pools --data path/to/fod --out runs/pools
    python -m bench.pools --pools drawn --out runs/pools

`meta.json` of the folder names the clip of each image: {"train": {stem: [clip, class]}}. Of the
training split each pool takes other frames; the validation split stays whole.

long-tail: of the classes, in their order, `TAIL` clips each.
empty:     the first clips of the `--wanted` classes (the last third of them all), and all of the
           others, unlabelled.
dull:      two clips a class whole, of the others every seventh frame.
drawn:     scenes of shapes, of which seven of ten are empty and each class is rarer than the one
           before; every second one for validation has a shape, of any class alike. Needs no data.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import yaml

from data.data_yaml import read_data_yaml
from tools import command_parser
from utils.command import run_command
from utils.errors import Code, TaskError

TAIL = (12, 12, 10, 8, 6, 5, 4, 3, 2, 2, 1, 1)
WANTED_CLIPS, WHOLE_CLIPS, EVERY = 3, 2, 7

Clips = Mapping[str, Sequence[Sequence[str]]]
"""By class, in the order of the classes: its clips, each the stems of its frames."""


def long_tail(clips: Clips) -> list[str]:
    """Return the frames of a pool with a long tail of classes."""
    pairs = zip(clips.values(), TAIL, strict=False)
    return [frame for own, count in pairs for clip in own[:count] for frame in clip]


def wanted_classes(class_names: Sequence[str]) -> list[str]:
    """Return the classes that have labels in the pool `empty` unless the user names others."""
    return list(class_names)[-max(len(class_names) // 3, 1) :]


def mostly_empty(clips: Clips, wanted: Sequence[str]) -> list[str]:
    """Return the frames of a pool in which few images show a wanted class."""
    kept = {name: own[:WANTED_CLIPS] if name in wanted else own for name, own in clips.items()}
    return [frame for own in kept.values() for clip in own for frame in clip]


def dull(clips: Clips) -> list[str]:
    """Return the frames of a pool with a few long clips among glimpses of others."""
    whole = [frame for own in clips.values() for clip in own[:WHOLE_CLIPS] for frame in clip]
    rest = [frame for own in clips.values() for clip in own[WHOLE_CLIPS:] for frame in clip]
    return whole + rest[::EVERY]


POOLS = ("long-tail", "empty", "dull")


SHAPES: Mapping[str, Sequence[tuple[float, float]]] = {
    "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "bar": ((-1, -0.3), (1, -0.3), (1, 0.3), (-1, 0.3)),
    "triangle": ((0, -1), (0.9, 0.7), (-0.9, 0.7)),
    "kite": ((0, -1), (0.6, -0.3), (0, 1), (-0.6, -0.3)),
    "arrow": ((-1, -0.25), (0.2, -0.25), (0.2, -0.7), (1, 0), (0.2, 0.7), (0.2, 0.25), (-1, 0.25)),
    "corner": ((-1, -1), (-0.3, -1), (-0.3, 0.3), (1, 0.3), (1, 1), (-1, 1)),
    "cup": ((-1, -1), (-0.4, -1), (-0.4, 0.4), (0.4, 0.4), (0.4, -1), (1, -1), (1, 1), (-1, 1)),
    "bow": ((-1, -0.8), (0, -0.2), (1, -0.8), (1, 0.8), (0, 0.2), (-1, 0.8)),
}
"""Outlines (x, y) by class, the most frequent first."""
DRAWN_SIZE = (240, 320)
DRAWN = {"train": 1200, "val": 300}
FILLED = {"train": 0.3, "val": 0.5}
"""Share of the scenes that have shapes."""
TAIL_OF_SHAPES = 0.6
"""How often a class is drawn, of the one before it."""


def draw_shapes(
    generator: np.random.Generator, classes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return a scene uint8 [h, w, 3] with blots, which are no objects, and shapes: boxes [n, 4]."""
    height, width = DRAWN_SIZE
    coarse = generator.uniform(60, 190, (6, 8, 3)).astype(np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(generator.integers(2, 9))):
        centre = tuple(int(side) for side in generator.uniform((0, 0), (width, height)))
        axes = tuple(int(side) for side in generator.uniform(4, 30, 2))
        colour = generator.uniform(20, 230, 3).tolist()
        angle = float(generator.uniform(0, 180))
        cv2.ellipse(image, centre, axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
    boxes = np.zeros((len(classes), 4))
    for row, kind in zip(boxes, classes, strict=True):
        radius, turn = generator.uniform(8, 32), generator.uniform(0, 2 * np.pi)
        matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        points = radius * np.array(list(SHAPES.values())[kind]) @ matrix
        points += generator.uniform((40, 40), (width - 40, height - 40))
        colour = generator.uniform(20, 230, 3).tolist()
        cv2.fillPoly(image, [np.rint(points).astype(np.int32)], colour, cv2.LINE_AA)
        row[:] = *points.min(0), *points.max(0)
    image = cv2.GaussianBlur(image, (0, 0), generator.uniform(0.6, 1.6))
    image = image + generator.normal(0, generator.uniform(3, 12), image.shape)
    return image.clip(0, 255).astype(np.uint8), boxes


def write_drawn(out: Path, seed: int = 0) -> None:
    """Write a YOLO folder of drawn scenes."""
    height, width = DRAWN_SIZE
    for stream, (split, count) in enumerate(DRAWN.items()):
        frequency = np.full(len(SHAPES), TAIL_OF_SHAPES if split == "train" else 1.0)
        frequency = np.cumprod(frequency) / np.cumprod(frequency).sum()
        for part in ("images", "labels"):
            (out / part / split).mkdir(parents=True)
        for n in range(count):
            generator = np.random.default_rng([seed, stream, n])
            number = int(generator.integers(1, 4)) * int(generator.random() < FILLED[split])
            classes = generator.choice(len(SHAPES), number, p=frequency).tolist()
            image, boxes = draw_shapes(generator, classes)
            cv2.imwrite(str(out / "images" / split / f"{n:04}.jpg"), image)
            middle = (boxes[:, :2] + boxes[:, 2:]) / 2 / (width, height)
            sides = (boxes[:, 2:] - boxes[:, :2]) / (width, height)
            rows = [
                " ".join([str(kind), *(f"{value:.6f}" for value in row)])
                for kind, row in zip(classes, np.concatenate([middle, sides], 1), strict=True)
            ]
            text = "".join(f"{row}\n" for row in rows)
            (out / "labels" / split / f"{n:04}.txt").write_text(text)
    write_description(out, list(SHAPES))


def write_description(out: Path, names: Sequence[str]) -> None:
    """Write data.yaml."""
    described = {"train": "images/train", "val": "images/val", "names": list(names)}
    (out / "data.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")


def read_clips(path: Path, class_names: Sequence[str]) -> Clips:
    """Read the clips of the training split; or TaskError(DATASET)."""
    clips: dict[str, dict[str, list[str]]] = {name: {} for name in class_names}
    try:
        for stem, (clip, name) in json.loads(path.read_text("utf-8"))["train"].items():
            clips[name].setdefault(clip, []).append(stem)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TaskError(
            Code.DATASET,
            f"{path} does not give clip and class of each training image "
            f'({error!r}); write {{"train": {{stem: [clip, class]}}}}.',
        ) from error
    return {name: list(own.values()) for name, own in clips.items()}


def write_pool(
    data: Path, out: Path, frames: Sequence[str], names: Sequence[str], wanted: Sequence[str]
) -> None:
    """Write a YOLO folder with `frames` for training, and labels of the `wanted` classes alone."""
    number = {str(names.index(name)): str(new) for new, name in enumerate(wanted)}
    validation = sorted(path.stem for path in (data / "labels" / "val").glob("*.txt"))
    for split, stems in (("train", frames), ("val", validation)):
        images = {path.stem: path for path in (data / "images" / split).iterdir()}
        for part in ("images", "labels"):
            (out / part / split).mkdir(parents=True)
        for stem in stems:
            shutil.copy(images[stem], out / "images" / split)
            label = f"{split}/{stem}.txt"
            rows = [row.split() for row in (data / "labels" / label).read_text().splitlines()]
            kept = [" ".join([number[row[0]], *row[1:]]) for row in rows if row[0] in number]
            (out / "labels" / label).write_text("".join(f"{row}\n" for row in kept))
    write_description(out, wanted)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the pools that are asked for, each a folder below `--out`."""
    parser = command_parser("bench.pools", __doc__)
    parser.add_argument("--data", type=Path, help="YOLO folder with meta.json")
    parser.add_argument("--out", type=Path, default=Path("runs/pools"))
    parser.add_argument("--pools", nargs="+", choices=[*POOLS, "drawn"], default=list(POOLS))
    parser.add_argument("--wanted", nargs="+", help="classes that have labels in the pool empty")
    options = parser.parse_args(arguments)
    if options.data is None and options.pools != ["drawn"]:
        parser.error("--data is needed for all pools but drawn")
    for pool in options.pools:
        out = options.out / pool
        if out.exists():
            raise TaskError(Code.CONFIG, f"{out} exists; remove it, or name another --out.")
        if pool == "drawn":
            write_drawn(out)
            continue
        names = read_data_yaml(options.data / "data.yaml").class_names
        clips = read_clips(options.data / "meta.json", names)
        wanted: Sequence[str] = names
        if pool == "empty":
            wanted = options.wanted or wanted_classes(names)
            if unknown := sorted({*wanted} - {*names}):
                sentence = f"{options.data} has no class {unknown[0]}; it has {', '.join(names)}."
                raise TaskError(Code.CONFIG, sentence)
            frames = mostly_empty(clips, wanted)
        else:
            frames = long_tail(clips) if pool == "long-tail" else dull(clips)
        write_pool(options.data, out, frames, names, wanted)
        print(f"{out}: {len(frames)} images, {len(wanted)} classes")


if __name__ == "__main__":
    sys.exit(run_command(main))
