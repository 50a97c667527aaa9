"""Whether one data set trains alike in each of the protocol's annotation formats, and mines alike.

    python -m bench.formats --data path/to/bccd

Every image goes into tasks of each format, as the platform exports them; the boxes that the trainer
gets are compared with each other, number by number, and with the source. Then a yolov5n is trained
on the training and validation parts, and its weights mine and infer on the candidates: from the
same boxes and seed come the same weights, scores and detections. Prints a table; status 1 if
anything differs or breaks the protocol. The tasks stay in the folder `--out`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import start
from data.dataset_index import DatasetIndex
from data.read_dataset import read_dataset
from models.checkpoint import load_checkpoint
from tools.check_out import check_out
from tools.make_task import write_task
from tools.platform_export import FORMATS
from tools.source_formats import SPLITS
from tools.sources import SourceDataset, SourceImage, read_source

LOOKING = {"img_size": "128", "batch_size": "16", "conf_thres": "0.001"}
HEAD = (
    "| annotations | images | boxes | as in the source | boxes | weights after {epochs} epochs | "
    "`result.tsv` | `infer-result.json` | detections | findings |"
)


@dataclass(frozen=True)
class Result:
    """What came of one format: counts, fingerprints, and all that was wrong.

    `as_source` are the images whose boxes and classes are those of the source to the last bit.
    """

    form: str
    images: int
    boxes: int
    as_source: int
    box_print: str
    weight_print: str
    ranking_print: str
    detection_print: str
    detections: int
    findings: tuple[str, ...]

    def row(self) -> str:
        """Its line of the table."""
        counts = f"{self.images} | {self.boxes:,} | {self.as_source}"
        prints = f"{self.box_print} | {self.weight_print} | {self.ranking_print}"
        end = f"{self.detection_print} | {self.detections:,} | {len(self.findings)}"
        return f"| {self.form} | {counts} | {prints} | {end} |"


def fingerprint(parts: Iterable[bytes]) -> str:
    """Ten hexadecimal digits that differ as soon as one bit does."""
    digest = hashlib.sha1()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:10]


def read_all(source: SourceDataset, out: Path, form: str) -> DatasetIndex:
    """Every image of the source through one format, as the trainer gets it."""
    images = tuple(image for split in SPLITS for image in source.splits[split])
    whole = replace(source, splits={**dict.fromkeys(SPLITS, ()), "train": images})
    env_file = write_task(whole, out / f"{form}-all", annotation_format=form, overwrite=True)
    root = env_file.parent
    names = source.class_names
    return read_dataset(root / "train-index.tsv", names, root=root, max_bad_fraction=0.0)[0]


def box_parts(index: DatasetIndex) -> Iterable[bytes]:
    """All that makes a data set, without the folder in which it lies."""
    yield "\n".join(Path(path).name for path in index.paths).encode()
    for array in (index.sizes, index.boxes, index.classes, index.offsets):
        yield array.tobytes()


def equal_to_source(index: DatasetIndex, images: Iterable[SourceImage]) -> int:
    """Images whose boxes and classes are those of the source, in its order."""
    places = {Path(path).resolve(): number for number, path in enumerate(index.paths)}
    equal = 0
    for image in images:
        place = places.get(image.path.resolve())
        if place is not None:
            equal += np.array_equal(index.boxes_of(place), image.boxes) and np.array_equal(
                index.classes_of(place), image.classes
            )
    return equal


def run_task(env_file: Path) -> list[str]:
    """Run a task; what is wrong with its end and its outputs."""
    status = start.main(["--env", str(env_file)])
    wrong = [f"{one.rule}: {one.sentence}" for one in check_out(env_file.parent.parent)]
    return wrong + ([f"{env_file} ended with {status}"] if status else [])


def try_format(source: SourceDataset, out: Path, form: str, settings: dict[str, str]) -> Result:
    """Train, mine and infer by one format."""
    index = read_all(source, out, form)
    task = out / form
    wrong = run_task(
        write_task(source, task, annotation_format=form, settings=settings, overwrite=True)
    )
    weights = load_checkpoint(task / "out" / "models" / "last" / "last.pt").state
    best = task / "out" / "models" / "best" / "best.pt"
    looking = {**LOOKING, "img_size": settings["img_size"]}
    looked = out / f"{form}-looked"
    kinds = ("mining", "infer")
    wrong += run_task(
        write_task(source, looked, kinds=kinds, settings=looking, weights=[best], overwrite=True)
    )
    lines = (looked / "out" / "result.tsv").read_text("utf-8").splitlines()
    detection = (looked / "out" / "infer-result.json").read_bytes()
    found = json.loads(detection)["detection"].values()
    return Result(
        form=form,
        images=len(index),
        boxes=len(index.boxes),
        as_source=equal_to_source(index, (one for s in SPLITS for one in source.splits[s])),
        box_print=fingerprint(box_parts(index)),
        weight_print=fingerprint(weights[name].numpy().tobytes() for name in sorted(weights)),
        ranking_print=fingerprint(line.rpartition("/")[2].encode() for line in lines),
        detection_print=fingerprint([detection]),
        detections=sum(len(record["boxes"]) for record in found),
        findings=tuple(wrong),
    )


def differences(results: Sequence[Result]) -> list[str]:
    """Whatever is not alike in all formats, or wrong in one."""
    wrong = [f"{one.form}: {finding}" for one in results for finding in one.findings]
    for name in ("images", "boxes", "box_print", "weight_print", "ranking_print"):
        wrong += _unlike(results, name)
    return wrong + _unlike(results, "detection_print")


def _unlike(results: Sequence[Result], name: str) -> list[str]:
    values = {one.form: getattr(one, name) for one in results}
    return [f"{name} differs: {values}"] if len(set(values.values())) > 1 else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Try every format, print the table; status 1 if they are not alike."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a labelled folder")
    parser.add_argument("--size", type=int, default=128, help="training size in pixels")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/formats"))
    options = parser.parse_args(arguments)
    source = read_source(options.data)
    settings = {
        "model": "yolov5n",
        "img_size": str(options.size),
        "epochs": str(options.epochs),
        "onnx": "no",
        "plots": "no",
    }
    out = options.out.resolve()
    results = [try_format(source, out, form, settings) for form in FORMATS]
    rows = [HEAD.format(epochs=options.epochs), "|---" * 10 + "|", *(one.row() for one in results)]
    print("\n".join(["", *rows]), flush=True)
    for sentence in (wrong := differences(results)):
        print(sentence, flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
