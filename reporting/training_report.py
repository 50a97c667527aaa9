"""The report of a training: figures and pictures as it goes, and one HTML page."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from data.images import read_image, write_image
from evaluation.evaluator import Evaluation
from models.anchors import label_sizes
from models.detector import Detector
from reporting import plots
from reporting.callbacks import Callback, EpochResult
from reporting.evaluation_report import (
    COMPARED,
    evaluation_figures,
    evaluation_sheets,
    examples_of,
)
from reporting.page import PAGE, SHEET_QUALITY, chart_uri, write_page
from reporting.tensorboard import TensorBoardLogger
from reporting.tiles import batch_tiles, contact_sheet
from reporting.training_page import ReportData, page_context
from utils.errors import best_effort

log = logging.getLogger(__name__)

BATCHES_SHOWN = 3
SHARE_OF_TIME = 0.02
"""Share of a training's time that early reports may take."""


class TrainingReport(Callback):
    """Draw figures and write `report.html` into `folder`, and add the pictures to TensorBoard.

    `results.csv` must be written before `on_epoch_end`. A figure that fails is a warning.
    """

    def __init__(self, folder: Path, data: ReportData, board: TensorBoardLogger) -> None:
        self._folder = folder
        self._data = data
        self._board = board
        self._charts: dict[str, str] = {}
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
            for number, panel in enumerate(plots.label_panels(train)):
                self._show(f"labels-{number}", panel)
            figure = plots.anchor_coverage(anchors.cpu().numpy(), sizes, threshold=threshold)
            self._save("anchors.png", figure)
            self._show("anchors", figure)
        self._epoch_started = monotonic()

    def on_train_batch_end(self, epoch: int, step: int, images: Tensor, targets: Tensor) -> None:
        """Draw the first batches with their targets."""
        if epoch or step >= BATCHES_SHOWN:
            return
        with best_effort("a training batch", log):
            names = self._data.train.class_names
            tiles = batch_tiles(images.cpu().numpy(), targets.numpy(), names)
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
        named = tuple(
            dict.fromkeys((*self._data.files, *files))
        )  # a run reported once more has them
        self._data = replace(self._data, files=named)
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
        self._save("results.png", plots.learning_curves(self._folder / "results.csv"), epoch)
        for number, panel in enumerate(plots.learning_panels(self._folder / "results.csv")):
            self._show(f"learning-{number}", panel)
        for name, figure in evaluation_figures(evaluation, names):
            self._save(name, figure, epoch)
            self._show(Path(name).stem, figure)
        examples = examples_of(evaluation, self._data.validation, self._data.names)
        self._data = replace(self._data, examples=examples)
        for name, sheet in evaluation_sheets(examples):
            self._write_image(name, sheet, epoch)

    def _save(self, name: str, figure: Figure, epoch: int = 0) -> None:
        plots.save_figure(figure, self._folder / name)
        self._board.image(Path(name).stem, read_image(self._folder / name), epoch)

    def _show(self, name: str, figure: Figure) -> None:
        self._charts[name] = chart_uri(figure, self._data.settings.language)

    def _write_image(self, name: str, image: np.ndarray, epoch: int = 0) -> None:
        write_image(self._folder / name, image, quality=SHEET_QUALITY)
        self._board.image(Path(name).stem, image, epoch)

    def _write_page(self) -> None:
        context: dict[str, Any] = page_context(self._data, self._charts)
        language = self._data.settings.language
        write_page(self._folder / PAGE, "training_report.html", language=language, **context)
