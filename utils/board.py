"""TensorBoard: scalars and pictures of a task, each seen as soon as it is written."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from utils.drawing import fitted

LONGEST = 1000
"""Of a picture's sides, pixels: they are kept without loss, and large ones take long."""


class Board:
    """Event files in `folder`, or nothing at all without one; use as a context manager.

    Points of an earlier run at `first_step` and later are hidden.
    """

    def __init__(self, folder: Path | None, *, first_step: int = 0) -> None:
        purge = first_step or None
        self._writer = SummaryWriter(str(folder), purge_step=purge) if folder else None

    def __enter__(self) -> Board:
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
        if self._writer:
            self._writer.close()

    def scalars(self, values: dict[str, float], step: int) -> None:
        """One point per curve, on disk when this returns."""
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def picture(self, name: str, image: np.ndarray, step: int = 0) -> None:
        """A BGR image [h, w, 3], made smaller where it is large."""
        if self._writer:
            shown, _ = fitted(image, LONGEST)
            self._writer.add_image(name, shown[:, :, ::-1], step, dataformats="HWC")
