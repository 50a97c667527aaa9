"""What a training shows of itself: pictures as it goes, and a page that tells the whole of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from evaluation.evaluator import Evaluation
from models.anchors import label_sizes
from models.detector import Detector
from reporting.best_effort import best_effort
from reporting.drawing import Tile, draw_batch, sheet
from reporting.label_plots import draw_anchors, draw_labels
from reporting.plots import (
    CURVES,
    draw_confusion,
    draw_learning_curves,
    draw_over_confidence,
    draw_precision_recall,
)
from reporting.results_csv import CsvLogger
from reporting.training_page import ReportData, training_page
from reporting.training_pictures import draw_missed, labels_and_detections, missed_objects

log = logging.getLogger(__name__)

BATCHES_SHOWN = 3
SHARE_OF_TIME = 0.02
"""Of a training's time, what reports before the last may take."""
PAGE = "report.html"
NOTHING_MISSED = "no labelled object is missed"


class TrainingReport:
    """Draws and writes what people look at; with `plots` off every method does nothing.

    A drawing that fails is a warning: the weights are safe, and worth more than a picture.
    """

    def __init__(
        self,
        record: CsvLogger,
        story: ReportData,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.record = record
        self._story = story
        self._on = story.settings.plots
        self._clock = clock
        self._written = clock()
        self._cost = 0.0

    def begin(self, network: Detector, image_size: int) -> None:
        """Figures of the labels, and of the network's anchors against them."""
        if not self._on:
            return
        with best_effort("the figures of the labels", log):
            folder, train, anchor_t = self.record.folder, self._story.train, self._anchor_t
            draw_labels(train, folder / "labels.png")
            anchors = (network.anchors * network.stride.view(-1, 1, 1)).reshape(-1, 2)
            sizes = label_sizes(train.boxes, train.offsets, train.sizes, image_size)
            draw_anchors(
                anchors.cpu().numpy(), sizes, threshold=anchor_t, path=folder / "anchors.png"
            )
            for name in ("labels.png", "anchors.png"):
                self.record.add_picture(folder / name)
        self.record.restart_clock()

    @property
    def _anchor_t(self) -> float:
        return self._story.settings.anchor_t

    def batch(self, epoch: int, step: int, images: torch.Tensor, targets: torch.Tensor) -> None:
        """The first batches of a training, as the network gets them."""
        if not self._on or epoch or step >= BATCHES_SHOWN:
            return
        with best_effort("a training batch", log):
            drawn = draw_batch(images.numpy(), targets.numpy(), self._story.train.class_names)
            self.record.picture(f"train_batch{step}.jpg", drawn)

    def epoch(self, epoch: int, evaluation: Evaluation, *, best: bool) -> None:
        """Told after each epoch; writes an early report now and then, for as little time as
        `SHARE_OF_TIME` allows, so that one is there when the training is killed.
        """
        self._story.last = (epoch, evaluation)
        if best:
            self._story.best = (epoch, evaluation)
        waited = self._clock() - self._written
        if self._on and best and waited * SHARE_OF_TIME > max(self._cost, 1.0):
            self._write()

    def go_on(self, *, best: tuple[int, Evaluation], last: tuple[int, Evaluation]) -> None:
        """Take over the best and the last (epoch, figures) of an earlier run."""
        self._story.best, self._story.last = best, last

    def finish(self, epoch: int, evaluation: Evaluation, files: Sequence[Path]) -> None:
        """All pictures and the page, for the best weights: their epoch, figures and files."""
        self._story.best = (epoch, evaluation)
        self._story.last = self._story.last or self._story.best
        self._story.files = tuple(files)
        self._story.finished = True
        if self._on:
            self._write()

    def add_files(self, *files: Path) -> None:
        """Name further files of the best stage on the page; no picture is drawn again."""
        self._story.files = (*self._story.files, *files)
        if self._on:
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
        assert self._story.best is not None
        epoch, evaluation = self._story.best
        record, folder, names = self.record, self.record.folder, self._story.train.class_names
        draw_learning_curves(record.results_csv, folder / "results.png")
        draw_precision_recall(evaluation.classes, names, folder / "pr_curve.png")
        draw_confusion(evaluation.confusion.matrix, names, folder / "confusion_matrix.png")
        figures = ["results.png", "pr_curve.png", "confusion_matrix.png"]
        for quantity in CURVES:
            figures.append(f"{quantity.lower()}_curve.png")
            draw_over_confidence(evaluation.classes, names, quantity, folder / figures[-1])
        for name in figures:
            record.add_picture(folder / name, step=epoch)
        story = self._story
        story.compared = labels_and_detections(evaluation, story.validation)
        story.missed = missed_objects(evaluation, story.validation)
        story.worst = draw_missed(story.missed, evaluation, story.validation)
        record.picture("validation.jpg", sheet(story.compared), epoch)
        record.picture("worst.jpg", sheet(story.worst or _nothing_missed()), epoch)

    def _page(self) -> None:
        self._story.seconds = tuple(self.record.seconds)
        training_page(self._story, self.record.folder).write(self.record.folder / PAGE)


def _nothing_missed() -> list[Tile]:
    """A sheet without images that says why."""
    return [Tile(np.full((8, 320, 3), 255, np.uint8), NOTHING_MISSED)]
