"""A data set of a few small files, read as a training reads it, and how that ended."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from PIL import Image

from data.read_dataset import read_dataset
from tests.reliability.case import Ending, Fate
from utils.errors import TaskError

NAMES = ("helmet", "vest")
WIDTH, HEIGHT = 40, 24
GOOD = "0, 2, 3, 11, 12\n"


def picture() -> Image.Image:
    """A small picture that is not the same when it is turned."""
    image = Image.new("RGB", (WIDTH, HEIGHT), (200, 40, 90))
    image.paste((10, 220, 30), (0, 0, 12, 8))
    return image


def write_good(folder: Path, name: str = "good") -> None:
    """An image with one box."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture().save(path.with_suffix(".png"))
    path.with_suffix(".txt").write_text(GOOD, "utf-8")


def read(folder: Path, index: bytes = b"good.png\tgood.txt\ncase.png\tcase.txt\n") -> Ending:
    """Read a data set whose index has this content; facts are the figures of its report and
    `case_boxes`, the boxes of the last image.
    """
    (folder / "index.tsv").write_bytes(index.replace(b"{in}", str(folder).encode()))
    try:
        data, report = read_dataset(folder / "index.tsv", NAMES, root=folder, max_bad_fraction=0.9)
    except TaskError as error:
        return Ending(Fate.REFUSED, error.sentence, error.code)
    bad = report.bad_images.count + report.bad_annotations.count
    facts = asdict(report)
    facts["images"] = report.kept
    facts["case_boxes"] = data.boxes_of(len(data) - 1).tolist()
    return Ending(Fate.SKIPPED if bad else Fate.TAKEN, "\n".join(report.lines()), facts=facts)
