"""The report of a training: figures and pictures as it goes, and one HTML page."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from time import monotonic

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from data.dataset_index import DatasetIndex
from data.images import read_image, write_image
from evaluation.evaluator import Evaluation, ground_truth
from evaluation.metrics import found_labels
from models.anchors import label_sizes
from models.detector import Detector
from reporting import plots
from reporting.callbacks import Callback, EpochResult
from reporting.drawing import (
    ACCENT,
    ALERT,
    Tile,
    annotated_tile,
    batch_tiles,
    box_labels,
    contact_sheet,
    fit,
    outline,
    read_if_possible,
    shorten,
)
from reporting.page import PAGE, SHEET_QUALITY, write_page
from reporting.tensorboard import TensorBoardLogger
from reporting.training_page import Missed, ReportData, page_context
from utils.errors import best_effort

log = logging.getLogger(__name__)

BATCHES_SHOWN = 3
SHARE_OF_TIME = 0.02
"""Share of a training's time that early reports may take."""
WORST_SHOWN = 12
"""Images with missed objects in the gallery."""
COMPARED = 8
"""Images of the validation split with labels and detections side by side."""


class TrainingReport(Callback):
    """Draw figures and write `report.html` into `folder`, and add the pictures to TensorBoard.

    `results.csv` must be written before `on_epoch_end`. A figure that fails is a warning.
    """

    def __init__(self, folder: Path, data: ReportData, board: TensorBoardLogger) -> None:
        self._folder = folder
        self._data = data
        self._board = board
        self._written = self._epoch_started = monotonic()
        self._cost = 0.0

    def on_train_start(self, network: Detector, image_size: int) -> None:
        """Draw the labels, and the network's anchors against them."""
        with best_effort("the figures of the labels", log):
            train = self._data.train
            anchors = (network.anchors * network.stride.view(-1, 1, 1)).reshape(-1, 2)
            sizes = label_sizes(train.boxes, train.offsets, train.sizes, image_size)
            threshold = self._data.settings.anchor_t
            self._save("labels.png", plots.label_statistics(train))
            figure = plots.anchor_coverage(anchors.cpu().numpy(), sizes, threshold=threshold)
            self._save("anchors.png", figure)
        self._epoch_started = monotonic()

    def on_train_batch_end(self, epoch: int, step: int, images: Tensor, targets: Tensor) -> None:
        """Draw the first batches with their targets."""
        if epoch or step >= BATCHES_SHOWN:
            return
        with best_effort("a training batch", log):
            names = self._data.train.class_names
            tiles = batch_tiles(images.numpy(), targets.numpy(), names)
            self._write_image(f"train_batch{step}.jpg", contact_sheet(tiles))
            if not step:
                self._data = replace(self._data, batch=tiles[:COMPARED])

    def on_epoch_end(self, result: EpochResult) -> None:
        """Write an early page for a better epoch if `SHARE_OF_TIME` allows: a training that is
        killed leaves one.
        """
        now, stage = monotonic(), (result.epoch, result.evaluation)
        self._data = replace(
            self._data,
            seconds=(*self._data.seconds, now - self._epoch_started),
            last=stage,
            best=stage if result.best else self._data.best,
        )
        self._epoch_started = now
        if result.best and (now - self._written) * SHARE_OF_TIME > max(self._cost, 1.0):
            self._write()

    def on_train_end(self, epoch: int, evaluation: Evaluation, files: Sequence[Path]) -> None:
        """Draw all pictures and write the page, for the best weights."""
        best = (epoch, evaluation)
        last = self._data.last or best
        self._data = replace(self._data, best=best, last=last, files=tuple(files), finished=True)
        self._write()

    def on_export_end(self, files: Sequence[Path]) -> None:
        """Name the exported files on the page; no picture is drawn again."""
        self._data = replace(self._data, files=(*self._data.files, *files))
        with best_effort(PAGE, log):
            self._write_page()

    def _write(self) -> None:
        began = monotonic()
        with best_effort(PAGE, log):
            self._draw()
            self._write_page()
        self._written = monotonic()
        self._cost = self._written - began

    def _draw(self) -> None:
        assert self._data.best is not None
        (epoch, evaluation), names = self._data.best, self._data.train.class_names
        classes, matrix = evaluation.classes, evaluation.confusion.matrix
        self._save("results.png", plots.learning_curves(self._folder / "results.csv"), epoch)
        self._save("pr_curve.png", plots.precision_recall(classes, names), epoch)
        for quantity in plots.CURVES:
            figure = plots.over_confidence(classes, names, quantity)
            self._save(f"{quantity.lower()}_curve.png", figure, epoch)
        self._save("confusion_matrix.png", plots.confusion(matrix, names), epoch)
        compared = compare_images(evaluation, self._data.validation)
        missed = missed_objects(evaluation, self._data.validation)
        worst = missed_tiles(missed[:WORST_SHOWN], evaluation, self._data.validation)
        self._data = replace(self._data, compared=compared, missed=missed, worst=worst)
        self._write_image("validation.jpg", contact_sheet(compared), epoch)
        nothing = Tile(np.full((8, 320, 3), 255, np.uint8), "no labelled object is missed")
        self._write_image("worst.jpg", contact_sheet(worst or [nothing]), epoch)

    def _save(self, name: str, figure: Figure, epoch: int = 0) -> None:
        plots.save_figure(figure, self._folder / name)
        self._board.image(Path(name).stem, read_image(self._folder / name), epoch)

    def _write_image(self, name: str, image: np.ndarray, epoch: int = 0) -> None:
        write_image(self._folder / name, image, quality=SHEET_QUALITY)
        self._board.image(Path(name).stem, image, epoch)

    def _write_page(self) -> None:
        context = page_context(self._data, self._folder)
        write_page(self._folder / PAGE, "training_report.html", **context)


def compare_images(evaluation: Evaluation, index: DatasetIndex) -> list[Tile]:
    """Return images spread over the split, each with its labels and then with its detections."""
    tiles, names = [], index.class_names
    spread = np.linspace(0, len(index) - 1, COMPARED).round().astype(int)
    for position in np.unique(spread).tolist():
        rows = evaluation.detections.get(position)
        image = read_if_possible(index.paths[position], upright=index.upright)
        if rows is None or image is None:
            continue
        name = shorten(PurePath(index.paths[position]).name)
        boxes, classes = index.boxes_of(position), index.classes_of(position)
        detected = rows[:, 5].astype(int)
        labelled, found = _count(len(boxes), "label"), _count(len(rows), "detection")
        tiles += [
            annotated_tile(image, f"{name}: {labelled}", boxes, classes, names),
            annotated_tile(image, f"{name}: {found}", rows[:, :4], detected, names, rows[:, 4]),
        ]
    return tiles


def missed_objects(evaluation: Evaluation, index: DatasetIndex) -> list[Missed]:
    """Return the images that miss objects at the reported confidence: most missed first, then the
    larger share.
    """
    missed = []
    for position in sorted(evaluation.detections):
        found = found_labels(evaluation.detections[position], ground_truth(index, position))
        if not found.all():
            count = int((~found).sum())
            missed.append(Missed(position, index.paths[position], count, len(found)))
    return sorted(missed, key=lambda one: (-one.missed, one.total))


def missed_tiles(
    images: Sequence[Missed], evaluation: Evaluation, index: DatasetIndex
) -> list[Tile]:
    """Draw found objects thin and blue, missed ones thick, orange and with their name."""
    tiles = []
    for number, one in enumerate(images, start=1):
        image = read_if_possible(one.path, upright=index.upright)
        if image is None:
            continue
        small, scale = fit(image)
        labels, canvas = ground_truth(index, one.position), small.copy()
        found = found_labels(evaluation.detections[one.position], labels)
        boxes = np.round(labels[:, 1:] * scale)
        for box in boxes[found]:
            outline(canvas, box, ACCENT, 1)
        for box in boxes[~found]:
            outline(canvas, box, ALERT, 3)
        shown = box_labels(boxes[~found], labels[~found, 0], index.class_names, colour=ALERT)
        name = shorten(PurePath(one.path).name)
        caption = f"{number}. {name}: {one.missed} of {one.total} missed"
        tiles.append(Tile(canvas, caption, shown))
    return tiles


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
