"""TensorBoard event files: scalars and images of a task, flushed as they are written."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from reporting.callbacks import Callback, EpochResult
from reporting.drawing import fit

log = logging.getLogger(__name__)

LONGEST = 1000
"""Longest side of an image in pixels: TensorBoard stores PNG."""


class TensorBoardLogger(Callback):
    """Write event files to `folder`, or nothing if it is None; use as a context manager.

    Points of an earlier run at `first_step` and later are hidden. An OSError while writing is
    logged once and ends the curves only.
    """

    def __init__(self, folder: Path | None, *, first_step: int = 0) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None
        if folder:
            try:
                self._writer = SummaryWriter(str(folder), purge_step=first_step or None)
            except OSError as error:
                self._give_up(error)

    def __enter__(self) -> TensorBoardLogger:
        return self

    def __exit__(self, *_: object) -> None:
        self._write(lambda writer: writer.close())

    def on_epoch_end(self, result: EpochResult) -> None:
        """Add one point to each curve of `results.csv`."""
        self.scalars(result.named, result.epoch)

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Add one point per curve; it is on disk when this returns."""

        def write(writer: SummaryWriter) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)
            writer.flush()

        self._write(write)

    def curve(self, name: str, points: Mapping[int, float]) -> None:
        """Add one curve whose values by step are all known."""

        def write(writer: SummaryWriter) -> None:
            for step, value in points.items():
                writer.add_scalar(name, value, step)
            writer.flush()

        self._write(write)

    def image(self, name: str, image: np.ndarray, step: int = 0) -> None:
        """Add a BGR image [h, w, 3], resized to at most `LONGEST` pixels a side."""
        if self._writer:
            rgb = fit(image, LONGEST)[0][:, :, ::-1]
            self._write(lambda writer: writer.add_image(name, rgb, step, dataformats="HWC"))

    def _write(self, write: Callable[[SummaryWriter], object]) -> None:
        if self._writer is None:
            return
        try:
            write(self._writer)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        writer, self._writer = self._writer, None
        if writer:
            with contextlib.suppress(OSError):
                writer.close()  # else its thread would write what is queued later on
        log.warning("no more TensorBoard curves, %s cannot be written: %s", self._folder, error)
