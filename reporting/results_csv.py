"""What a training run leaves to read: `results.csv`, TensorBoard scalars and pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from data.images import read_image
from reporting.tensorboard import TensorBoardLogger
from utils.atomic import replace_file, write_text

COLUMNS = (
    "epoch",
    "train/box_loss",
    "train/obj_loss",
    "train/cls_loss",
    "metrics/precision",
    "metrics/recall",
    "metrics/mAP_0.5",
    "metrics/mAP_0.5:0.95",
    "val/box_loss",
    "val/obj_loss",
    "val/cls_loss",
    "x/lr0",
    "x/lr1",
    "x/lr2",
)
"""The columns of v7.0's results.csv; lr0, lr1, lr2 belong to biases, weights and norm weights."""
JPEG_OPTIONS = (cv2.IMWRITE_JPEG_QUALITY, 88)


class CsvLogger:
    """Writes each epoch's figures as they come; use as a context manager.

    `rows` are the lines (epoch, then the values) of a run that this one goes on with. `seconds`
    holds how long each epoch of this run took, evaluation and saving included, on `clock`.
    """

    def __init__(
        self,
        folder: Path,
        tensorboard: Path | None,
        rows: Sequence[Sequence[float]] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.results_csv = folder / "results.csv"
        self.rows: list[list[float]] = [list(row) for row in rows]
        self.seconds: list[float] = []
        self._clock = clock
        self._last = clock()
        self._write_rows()
        # Points of epochs that are trained once more are hidden.
        self._board = TensorBoardLogger(tensorboard, first_step=len(self.rows))

    def __enter__(self) -> CsvLogger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._board.close()

    def epoch(self, epoch: int, values: Sequence[float]) -> None:
        """One line and one point per curve; `values` in the order of `COLUMNS[1:]`."""
        assert len(values) == len(COLUMNS) - 1
        self.rows.append([epoch, *values])
        self._write_rows()
        now = self._clock()
        self.seconds.append(now - self._last)
        self._last = now
        self._board.scalars(dict(zip(COLUMNS[1:], values, strict=True)), epoch)

    def _write_rows(self) -> None:
        head = ",".join(f"{name:>20}" for name in COLUMNS) + "\n"
        write_text(self.results_csv, head + "".join(map(_line, self.rows)))

    def picture(self, name: str, image: np.ndarray, step: int = 0) -> Path:
        """Keep a BGR image [h, w, 3] as `name` in the run's folder and in TensorBoard."""
        path = self.folder / name
        written, encoded = cv2.imencode(path.suffix, image, JPEG_OPTIONS)
        assert written, name
        with replace_file(path) as temporary:
            temporary.write_bytes(encoded.tobytes())
        return self.add_picture(path, image, step=step)

    def add_picture(self, path: Path, image: np.ndarray | None = None, *, step: int = 0) -> Path:
        """Show a picture that is on disk in TensorBoard too, at the epoch `step`."""
        shown = read_image(str(path)) if image is None else image
        self._board.picture(path.stem, shown, step)
        return path

    def restart_clock(self) -> None:
        """Let the first epoch's time begin now, after the preparations."""
        self._last = self._clock()


def _line(row: Sequence[float]) -> str:
    """A line of results.csv: the epoch, then the values."""
    return f"{int(row[0]):20d}," + ",".join(f"{value:20.5g}" for value in row[1:]) + "\n"
