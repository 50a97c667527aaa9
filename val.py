"""How good a network is: its detections on a labelled split, held against the labels.

python val.py --weights best.pt --data data.yaml [--task test]
python val.py --weights best.pt --index task/in/val-index.tsv
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cli.val import ValCommand, parse_val_command
from data.dataset_index import DatasetIndex
from evaluation.coco import coco_metrics
from evaluation.coco_json import COCO_IDS, write_detections
from evaluation.evaluate import evaluate_split
from evaluation.tables import class_table, coco_table, size_table, write_tables
from inference.outputs import DetectionFiles, FileChoice
from inference.predictor import load_predictor
from inference.single_class import NAME as ONE_CLASS
from utils.device import parse_device
from utils.logs import log_to_console
from utils.shutdown import run_command

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate weights on labelled images: tables, and the files asked for."""
    log_to_console()
    command = parse_val_command(sys.argv[1:] if arguments is None else arguments)
    for note in command.notes:
        log.warning("note: %s", note)
    settings = command.settings
    predictor = load_predictor(command.weights, settings, parse_device(command.device))
    names = predictor.class_names
    index, report = command.read_data(names)
    if command.single_class:
        names = (ONE_CLASS,)
        index = index.with_classes(np.zeros_like(index.classes), names)
        predictor.single_class = True
    elif predictor.thresholds.classes is not None:
        index = index.only(predictor.thresholds.classes)
    predictor.use_engine(settings.engine, index.paths, batch_size=settings.batch_size)
    found: list[tuple[int, np.ndarray]] = []
    evaluation = evaluate_split(
        predictor,
        index,
        batch_size=settings.batch_size,
        workers=settings.workers,
        watch=(lambda *image: found.append(image)) if command.run or command.coco else None,
    )
    coco = coco_metrics(found, index) if command.coco else None
    tables = [class_table(evaluation, names), size_table(evaluation, names)]
    tables += [coco_table(coco)] if coco else []
    log.info("%s\n%s", "\n".join(report.lines()), "\n\n".join(tables))
    if command.report:
        write_tables(command.report, evaluation, names, coco)
    write_files(command, index, found)


def write_files(
    command: ValCommand, index: DatasetIndex, found: Sequence[tuple[int, np.ndarray]]
) -> None:
    """The files that a command asks for, from (position, detections [n, 6]) of each image."""
    if command.run is None:
        return
    folder = command.run.make()
    if command.save_labels:
        choice = FileChoice(pictures=False, labels=True, confidences=command.save_confidences)
        files = DetectionFiles(folder, Path(), index.class_names, choice)
        for position, rows in found:
            height, width = index.sizes[position].tolist()
            files.write(index.paths[position], rows, (height, width))
    if command.save_json:
        target = folder / f"{command.weights.stem}_predictions.json"
        count = write_detections(
            target,
            ((index.paths[position], rows) for position, rows in found),
            category_ids=COCO_IDS if command.is_coco else None,
        )
        log.info("%d detections in COCO's form: %s", count, target)
    log.info("files are in %s", folder)


if __name__ == "__main__":
    sys.exit(run_command(main))
