"""Evaluate weights on a labelled split: metrics per class and object size.

python val.py --weights best.pt --data data.yaml [--task test]
python val.py --weights best.pt --index task/in/val-index.tsv
"""

from __future__ import annotations

if __name__ == "__main__":
    from cli.parsers import val_parser
    from utils.shutdown import listen_for_interrupts

    listen_for_interrupts()  # before the seconds that the imports take
    val_parser().read()  # so that help and a mistyped flag do not wait for them either

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cli.options import language_of, log_next
from cli.val import parse_val_command
from data.index_file import read_original_names
from evaluation.coco import COCO_IDS, coco_available, coco_metrics, write_coco_json
from evaluation.evaluate import evaluate_split
from evaluation.tables import class_table, coco_table, size_table, write_tables
from inference.outputs import DetectionFiles
from inference.predictor import load_predictor
from models.checkpoint import load_checkpoint
from reporting.evaluation_report import write_evaluation_report
from reporting.page import PAGE
from settings.detect import OutputOptions
from utils.atomic import fitting_name
from utils.command import run_command
from utils.device import inference_precision, parse_device
from utils.errors import best_effort
from utils.logs import counted, log_to_console

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate weights on labelled images; log the tables, and write them with a report."""
    log_to_console(language=language_of(arguments))
    command = parse_val_command(arguments)
    checkpoint = load_checkpoint(command.weights)
    index, report = command.read_data(checkpoint.class_names)
    device, settings = parse_device(command.device), command.settings
    precision = inference_precision(device, settings.precision, evaluates=True)
    predictor = load_predictor(
        checkpoint,
        replace(settings, precision=precision),
        device,
        images=index.paths,
        single_class=command.single_class,
        upright=index.upright,
    )
    classes = predictor.config.nms.classes
    if command.single_class:
        index = index.single_class()
    elif classes is not None:
        index = index.only(classes)
    found: list[tuple[int, np.ndarray]] = []
    shows_coco = command.coco or coco_available()
    keep = shows_coco or command.save_labels or command.save_json
    evaluation = evaluate_split(
        predictor, index, on_image=(lambda *image: found.append(image)) if keep else None
    )
    names = index.class_names
    coco = coco_metrics(found, index) if shows_coco else None
    by_class = class_table(evaluation, names, language=settings.language)
    tables = [by_class, size_table(evaluation, names, language=settings.language)]
    tables += [coco_table(coco)] if coco else []
    log.info("%s\n%s", "\n".join(report.lines()), "\n\n".join(tables))
    if command.run is None:
        return
    folder = command.run.make()
    write_tables(folder, evaluation, names, coco)
    if command.save_labels:
        options = OutputOptions(
            save_images=False, save_txt=True, save_conf=command.save_confidences
        )
        files = DetectionFiles(folder, Path(), names, options)
        for position, rows in found:
            height, width = index.sizes[position].tolist()
            files.write(index.paths[position], rows, (height, width))
    if command.save_json:
        path = folder / fitting_name(folder, command.weights.stem, "_predictions.json")
        count = write_coco_json(path, found, index, COCO_IDS if command.is_coco else None)
        saved = counted(count, "%s detection", "%s detections")
        log.info("%s in COCO's format: %s", saved, path)
    log.info("results: %s", folder)
    if command.settings.plots:
        with best_effort(PAGE, log):
            lines = [*report.lines(), *filter(None, [report.size_warning()])]
            page = write_evaluation_report(
                *(folder, evaluation, index, lines, command.weights),
                names=read_original_names(command.index_file.parent) if command.index_file else {},
                language=command.settings.language,
            )
            log.info("report: %s", page)
    size = ("--imgsz", command.settings.img_size)
    words = ("python", "detect.py", "--weights", command.weights, "--source", "IMAGES", *size)
    log_next("detect in images of your own", *words)


if __name__ == "__main__":
    sys.exit(run_command(main))
