"""The report of a training: figures and pictures as it goes, and one HTML page."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from data.images import read_image, write_image
from evaluation.evaluator import Evaluation
from models.anchors import label_sizes
from models.detector import Detector
from reporting.callbacks import Callback, EpochResult
from reporting.drawing import Tile, draw_batch, sheet
from reporting.label_plots import draw_anchors, draw_labels
from reporting.plots import (
    CURVES,
    draw_confusion,
    draw_learning_curves,
    draw_over_confidence,
    draw_precision_recall,
)
from reporting.tensorboard import TensorBoardLogger
from reporting.training_page import ReportData, training_page
from reporting.training_pictures import draw_missed, labels_and_detections, missed_objects
from utils.errors import best_effort

log = logging.getLogger(__name__)

BATCHES_SHOWN = 3
SHARE_OF_TIME = 0.02
"""Share of a training's time that early reports may take."""
PAGE = "report.html"
JPEG_QUALITY = 90
NOTHING_MISSED = "no labelled object is missed"


class TrainingReport(Callback):
    """Draw figures and write `report.html` into `folder`, and add the pictures to TensorBoard.

    `results.csv` must be written before `on_epoch_end`. A figure that fails is a warning.
    """

    def __init__(
        self,
        folder: Path,
        data: ReportData,
        board: TensorBoardLogger,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._data = data
        self._board = board
        self._clock = clock
        self._written = self._epoch_started = clock()
        self._cost = 0.0

    def on_train_start(self, network: Detector, image_size: int) -> None:
        """Draw the labels, and the network's anchors against them."""
        with best_effort("the figures of the labels", log):
            train = self._data.train
            draw_labels(train, self._folder / "labels.png")
            anchors = (network.anchors * network.stride.view(-1, 1, 1)).reshape(-1, 2)
            draw_anchors(
                anchors.cpu().numpy(),
                label_sizes(train.boxes, train.offsets, train.sizes, image_size),
                threshold=self._data.settings.anchor_t,
                path=self._folder / "anchors.png",
            )
            self._show("labels.png")
            self._show("anchors.png")
        self._epoch_started = self._clock()

    def on_train_batch_end(self, epoch: int, step: int, images: Tensor, targets: Tensor) -> None:
        """Draw the first batches with their targets."""
        if epoch or step >= BATCHES_SHOWN:
            return
        with best_effort("a training batch", log):
            drawn = draw_batch(images.numpy(), targets.numpy(), self._data.train.class_names)
            self._write_picture(f"train_batch{step}.jpg", drawn)

    def on_epoch_end(self, result: EpochResult) -> None:
        """Write an early page for a better epoch if `SHARE_OF_TIME` allows: a training that is
        killed leaves one.
        """
        now, stage = self._clock(), (result.epoch, result.evaluation)
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
        self._data = replace(
            self._data,
            best=best,
            last=self._data.last or best,
            files=tuple(files),
            finished=True,
        )
        self._write()

    def on_export_end(self, files: Sequence[Path]) -> None:
        """Name the exported files on the page; no picture is drawn again."""
        self._data = replace(self._data, files=(*self._data.files, *files))
        with best_effort(PAGE, log):
            self._page()

    def _write(self) -> None:
        began = self._clock()
        with best_effort(PAGE, log):
            self._draw()
            self._page()
        self._written = self._clock()
        self._cost = self._written - began

    def _draw(self) -> None:
        assert self._data.best is not None
        (epoch, evaluation), folder = self._data.best, self._folder
        names, validation = self._data.train.class_names, self._data.validation
        draw_learning_curves(folder / "results.csv", folder / "results.png")
        draw_precision_recall(evaluation.classes, names, folder / "pr_curve.png")
        draw_confusion(evaluation.confusion.matrix, names, folder / "confusion_matrix.png")
        figures = ["results.png", "pr_curve.png", "confusion_matrix.png"]
        for quantity in CURVES:
            figures.append(f"{quantity.lower()}_curve.png")
            draw_over_confidence(evaluation.classes, names, quantity, folder / figures[-1])
        for name in figures:
            self._show(name, epoch)
        compared = labels_and_detections(evaluation, validation)
        missed = missed_objects(evaluation, validation)
        worst = draw_missed(missed, evaluation, validation)
        self._data = replace(self._data, compared=compared, missed=missed, worst=worst)
        self._write_picture("validation.jpg", sheet(compared), epoch)
        self._write_picture("worst.jpg", sheet(worst or _nothing_missed()), epoch)

    def _page(self) -> None:
        training_page(self._data, self._folder).write(self._folder / PAGE)

    def _write_picture(self, name: str, image: np.ndarray, epoch: int = 0) -> None:
        write_image(self._folder / name, image, quality=JPEG_QUALITY)
        self._board.image(Path(name).stem, image, epoch)

    def _show(self, name: str, epoch: int = 0) -> None:
        self._board.image(Path(name).stem, read_image(self._folder / name), epoch)


def _nothing_missed() -> list[Tile]:
    """Return a sheet without images that says why."""
    return [Tile(np.full((8, 320, 3), 255, np.uint8), NOTHING_MISSED)]
