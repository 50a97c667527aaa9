"""Make pools that differ for mining of a labelled YOLO folder whose images come from clips.

    python -m bench.clip_pools --data path/to/fod --out runs/pools

`meta.json` of the folder names the clip of each image: {"train": {stem: [clip, class]}}. Of the
training split each pool takes other frames; the validation split stays whole.

long-tail: of the classes, in their order, `TAIL` clips each.
empty:     the first clips of the last third of the classes, and all of the others, unlabelled.
dull:      two clips a class whole, of the others every seventh frame.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

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


def wanted_classes(clips: Clips) -> list[str]:
    """Return the classes that have labels in the pool `empty`."""
    return list(clips)[-max(len(clips) // 3, 1) :]


def mostly_empty(clips: Clips) -> list[str]:
    """Return the frames of a pool in which few images show a wanted class."""
    wanted = wanted_classes(clips)
    kept = {name: own[:WANTED_CLIPS] if name in wanted else own for name, own in clips.items()}
    return [frame for own in kept.values() for clip in own for frame in clip]


def dull(clips: Clips) -> list[str]:
    """Return the frames of a pool with a few long clips among glimpses of others."""
    whole = [frame for own in clips.values() for clip in own[:WHOLE_CLIPS] for frame in clip]
    rest = [frame for own in clips.values() for clip in own[WHOLE_CLIPS:] for frame in clip]
    return whole + rest[::EVERY]


POOLS: Mapping[str, Callable[[Clips], list[str]]] = {
    "long-tail": long_tail,
    "empty": mostly_empty,
    "dull": dull,
}


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
    described = {"train": "images/train", "val": "images/val", "names": list(wanted)}
    (out / "data.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the pools that are asked for, each a folder below `--out`."""
    parser = command_parser("bench.clip_pools", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="YOLO folder with meta.json")
    parser.add_argument("--out", type=Path, default=Path("runs/pools"))
    parser.add_argument("--pools", nargs="+", choices=POOLS, default=list(POOLS))
    options = parser.parse_args(arguments)
    names = read_data_yaml(options.data / "data.yaml").class_names
    clips = read_clips(options.data / "meta.json", names)
    for pool in options.pools:
        frames, wanted = POOLS[pool](clips), wanted_classes(clips) if pool == "empty" else names
        if (options.out / pool).exists():
            raise TaskError(
                Code.CONFIG, f"{options.out / pool} exists; remove it, or name another --out."
            )
        write_pool(options.data, options.out / pool, frames, names, wanted)
        print(f"{options.out / pool}: {len(frames)} images, {len(wanted)} classes")


if __name__ == "__main__":
    sys.exit(run_command(main))
