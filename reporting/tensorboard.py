"""TensorBoard: scalars and pictures of a task, each seen as soon as it is written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from reporting.drawing import fitted

log = logging.getLogger(__name__)

LONGEST = 1000
"""Of a picture's sides, pixels: they are kept without loss, and large ones take long."""


class TensorBoardLogger:
    """Event files in `folder`, or nothing at all without one; use as a context manager.

    Points of an earlier run at `first_step` and later are hidden. The folder may be on another
    disk than the results: trouble in writing is a warning, once, and the end of the curves only.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is waiting, and end."""
        self._write(lambda writer: writer.close())

    def scalars(self, values: dict[str, float], step: int) -> None:
        """One point per curve, on disk when this returns."""

        def write(writer: SummaryWriter) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)
            writer.flush()

        self._write(write)

    def picture(self, name: str, image: np.ndarray, step: int = 0) -> None:
        """A BGR image [h, w, 3], made smaller where it is large."""
        if self._writer:
            shown, _ = fitted(image, LONGEST)
            rgb = shown[:, :, ::-1]
            self._write(lambda writer: writer.add_image(name, rgb, step, dataformats="HWC"))

    def _write(self, write: Callable[[SummaryWriter], object]) -> None:
        if self._writer is None:
            return
        try:
            write(self._writer)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._writer = None
        log.warning("no more TensorBoard curves, %s cannot be written: %s", self._folder, error)
