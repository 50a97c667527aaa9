"""Whether mining's memory grows with the number of candidates: links to a few small pictures.

    python -m bench.mining_memory --data path/to/bccd --weights path/to/bccd_yolov5n.pt

A mining task as the platform would hand it over (`--with-inference`: both in one), whose candidates
are symbolic links to crops of the photographs in their own scale, so that the network finds objects
in most of them although they are small. Resident memory of this process against the images done
goes to `mining-memory.csv`; the growth is that of a straight line through the second half of the
images. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from bench.material import find_data, image_files
from bench.memory import resident_mib
from data.images import read_image
from tasks.run import ALMOST_ALL, run
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.logs import log_to_console
from utils.progress import Progress
from ymir.task import read_task

SAMPLES = 400
"""Looks at the memory over the whole run."""
PER = 10_000
"""Images that the growth is given for."""


@dataclass(frozen=True)
class Sample:
    """One look at the process: images done so far, seconds since the start, MiB resident."""

    images: int
    seconds: float
    resident: float


def growth(samples: Sequence[Sample]) -> float:
    """MiB by which memory grew per 10,000 images over the second half of them (least squares).

    0 when that half has fewer than two samples, or all of them after the same image.
    """
    if not samples:
        return 0.0
    middle = (samples[0].images + samples[-1].images) / 2
    late = [sample for sample in samples if sample.images >= middle]
    if len({sample.images for sample in late}) < 2:
        return 0.0
    done = np.array([sample.images for sample in late]) / PER
    return float(np.polyfit(done, [sample.resident for sample in late], 1)[0])


def summary(samples: Sequence[Sample]) -> str:
    """Memory after a tenth, a half and all of the images, the greatest, and the growth."""
    last = samples[-1]

    def after(share: float) -> float:
        return next(s.resident for s in samples if s.images >= share * last.images)

    return (
        f"{last.images} images in {last.seconds / 60:.1f} min; resident memory in MiB: "
        f"after a tenth {after(0.1):.0f}, after half {after(0.5):.0f}, "
        f"at the end {last.resident:.0f}, maximum {max(s.resident for s in samples):.0f}; "
        f"growth over the second half {growth(samples):+.2f} MiB per {PER} images"
    )


class Watch:
    """Takes a sample, told of progress, whenever another `total / SAMPLES` images are done."""

    def __init__(
        self,
        total: int,
        keep: Callable[[Sample], object],
        *,
        clock: Callable[[], float] = time.monotonic,
        resident: Callable[[], float] = resident_mib,
    ) -> None:
        self._total = total
        self._keep = keep
        self._clock = clock
        self._resident = resident
        self._started = clock()
        self._next = 0

    def __call__(self, fraction: float) -> None:
        """`fraction` is that of the whole task, of which writing the results is the last bit."""
        done = round(min(fraction / ALMOST_ALL, 1.0) * self._total)
        step = done * SAMPLES // self._total
        if step >= self._next:
            self._next = step + 1
            self._keep(Sample(done, self._clock() - self._started, self._resident()))


def write_crops(source: SourceDataset, folder: Path, *, count: int, side: int) -> list[Path]:
    """`count` squares of `side` pixels from random places of the photographs, as JPEG files."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    crops = []
    for number, path in enumerate(image_files(source, count)):
        image = read_image(path)
        height, width = image.shape[:2]
        top = int(generator.integers(max(height - side, 0) + 1))
        left = int(generator.integers(max(width - side, 0) + 1))
        crop = folder / f"crop{number:04d}.jpg"
        cv2.imwrite(str(crop), image[top : top + side, left : left + side])
        crops.append(crop)
    return crops


def link_candidates(task: Path, crops: Sequence[Path], count: int) -> None:
    """Make `count` links to the crops, in turn, the candidates of a task that stands already."""
    assets = task.absolute() / "in" / "assets" / "links"
    assets.mkdir(parents=True)
    targets = [crop.absolute() for crop in crops]
    names = [assets / f"{number:07d}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        os.symlink(targets[number % len(targets)], name)
    index = task / "in" / "candidate-index.tsv"
    index.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def measure(env_file: Path, total: int, table: Path) -> list[Sample]:
    """Run the task of `env_file`; its samples, each written to the CSV file `table` at once."""
    samples: list[Sample] = []
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="ascii") as file:
        rows = csv.writer(file)
        rows.writerow(["images", "seconds", "resident_mib"])

        def keep(sample: Sample) -> None:
            samples.append(sample)
            rows.writerow([sample.images, f"{sample.seconds:.1f}", f"{sample.resident:.2f}"])
            file.flush()

        run(read_task(env_file), Progress(Watch(total, keep)))
    return samples


def main(arguments: Sequence[str] | None = None) -> None:
    """Mine the links and print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a VOC, COCO or YOLO folder; default: drawn")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100_000, help="candidates")
    parser.add_argument("--files", type=int, default=300, help="pictures that the links lead to")
    parser.add_argument("--side", type=int, default=64, help="of a picture and of the network")
    parser.add_argument("--out", type=Path, default=Path("runs/mining-memory"))
    parser.add_argument("--with-inference", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    log_to_console()
    source = find_data(options.data)
    task = options.out / "task"
    env_file = write_task(
        source,
        task,
        kinds=("mining", "infer") if options.with_inference else ("mining",),
        settings={"img_size": options.side, **dict(pair.split("=", 1) for pair in options.set)},
        weights=[options.weights],
        limit=1,
        overwrite=True,
    )
    crops = write_crops(source, options.out / "crops", count=options.files, side=options.side)
    link_candidates(task, crops, options.count)
    samples = measure(env_file, options.count, options.out / "mining-memory.csv")
    print(summary(samples), flush=True)


if __name__ == "__main__":
    main()
