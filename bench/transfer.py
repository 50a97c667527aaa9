"""What pretrained weights are worth when classes change: fine-tuned beside a start from scratch.

    python -m bench.transfer --data path/to/bccd --seed 0 --out runs/transfer

First yolov5n is trained at 320 px for 50 epochs. Then one class is renamed and another is split in
two: its boxes of less than the median area get a class of their own. On those labels 20 epochs are
trained from the first weights and 20 from scratch, with the same seed and settings. The figures are
those of the best epoch on the validation split.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.read_dataset import read_dataset
from settings.parse import parse_settings
from settings.train import TrainSettings
from tools.make_task import write_task
from tools.sources import SourceDataset, SourceImage, read_source
from training.loop import TrainingJob, train
from utils.device import parse_gpu_ids, select_device
from utils.errors import Code, TaskError
from utils.logs import log_to_console
from utils.progress import Progress

log = logging.getLogger("transfer")

RECIPE = {"model": "yolov5n", "img_size": 320, "batch_size": 16, "onnx": False, "plots": False}
SMALL = "_small"


def changed_classes(source: SourceDataset, *, rename: tuple[str, str], split: str) -> SourceDataset:
    """The data set with one class under another name, and the smaller boxes of `split` apart.

    Boxes of `split` of less than the median area of its training boxes become `<split>_small`,
    the last class. Raises TaskError(CONFIG) for a class that is not there.
    """
    for name in (rename[0], split):
        if name not in source.class_names:
            raise TaskError(
                Code.CONFIG,
                f"the data set has no class {name!r}; it must be one of "
                f"{', '.join(source.class_names)}.",
            )
    whole = source.class_names.index(split)
    areas = [areas_of(image)[image.classes == whole] for image in source.splits["train"]]
    limit = float(np.median(np.concatenate(areas)))
    names = tuple(rename[1] if name == rename[0] else name for name in source.class_names)

    def changed(image: SourceImage) -> SourceImage:
        small = (image.classes == whole) & (areas_of(image) < limit)
        return replace(image, classes=np.where(small, len(names), image.classes))

    return replace(
        source,
        class_names=(*names, f"{names[whole]}{SMALL}"),
        splits={key: tuple(map(changed, images)) for key, images in source.splits.items()},
    )


def areas_of(image: SourceImage) -> np.ndarray:
    """Areas [n] of an image's boxes, in its own pixels."""
    sides: np.ndarray = image.boxes[:, 2:] - image.boxes[:, :2]
    return sides.prod(axis=1)


def run(
    source: SourceDataset, out: Path, settings: TrainSettings, *, gpu_id: str, weights: Path | None
) -> dict[str, float]:
    """Train once; mAP of the best epoch. A run whose summary is there already is only read."""
    done = out / "summary.json"
    if done.is_file():
        found: dict[str, float] = json.loads(done.read_text(encoding="utf-8"))
        return found
    write_task(source, out / "task", overwrite=True)
    splits = [
        read_dataset(
            out / "task" / "in" / f"{name}-index.tsv",
            source.class_names,
            root=out / "task",
            max_bad_fraction=0.0,
        )[0]
        for name in ("train", "val")
    ]
    best = train(
        TrainingJob(
            settings=settings,
            train=splits[0],
            validation=splits[1],
            device=select_device(parse_gpu_ids(gpu_id)),
            folder=out,
            stage_folder=lambda stage: out / stage,
            on_saved=lambda saved: None,
            weights=weights,
        ),
        Progress(lambda fraction: None),
    )
    scores = best.evaluation.scores
    summary = {"mAP50": scores.map50, "mAP50-95": scores.map50_95, "best epoch": best.epoch + 1}
    done.write_text(json.dumps(summary), encoding="utf-8")
    return summary


def table(rows: Mapping[str, tuple[int, Mapping[str, float]]]) -> str:
    """Runs by name, with their epochs and figures, as Markdown."""
    lines = ["| run | epochs | best epoch | mAP50 | mAP50-95 |", "|---|---|---|---|---|"]
    for name, (epochs, figures) in rows.items():
        lines.append(
            f"| {name} | {epochs} | {figures['best epoch']:.0f} | {figures['mAP50']:.3f} "
            f"| {figures['mAP50-95']:.3f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the three runs and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a VOC, COCO or YOLO folder")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=50, help="of the first training")
    parser.add_argument("--fine-epochs", type=int, default=20, help="of the two others")
    parser.add_argument("--rename", default="Platelets=Thrombocyte", metavar="OLD=NEW")
    parser.add_argument("--split", default="RBC", help="class whose small boxes become another")
    parser.add_argument("--gpu-id", default="", help="for example 0; empty for the CPU")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    log_to_console()
    overrides = {**dict(pair.split("=", 1) for pair in options.set), "seed": options.seed}
    source = read_source(options.data)
    old, _, new = options.rename.partition("=")
    other = changed_classes(source, rename=(old, new), split=options.split)
    first = options.out / "first"
    weights = first / "best" / "best.pt"
    plan = {
        "first training": (source, first, options.epochs, None),
        "other classes, fine-tuned": (other, options.out / "fine", options.fine_epochs, weights),
        "other classes, from scratch": (other, options.out / "scratch", options.fine_epochs, None),
    }
    rows = {}
    for name, (data, folder, epochs, start) in plan.items():
        log.info("%s: %s", name, ", ".join(data.class_names))
        settings, _ = parse_settings(TrainSettings, {**RECIPE, **overrides, "epochs": epochs})
        figures = run(data, folder, settings, gpu_id=options.gpu_id, weights=start)
        rows[name] = (epochs, figures)
    print(table(rows), flush=True)


if __name__ == "__main__":
    main()
