from __future__ import annotations

import errno
import threading
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from reporting.tensorboard import LONGEST, TensorBoardLogger


def test_scalars_and_pictures_can_be_read_back(tmp_path: Path) -> None:
    with TensorBoardLogger(tmp_path) as board:
        board.scalars({"a/b": 0.5}, 0)
        board.scalars({"a/b": 0.75}, 1)
        board.image("sheet", np.full((30, 4 * LONGEST, 3), 9, np.uint8), 4)
    read = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("a/b")] == [(0, 0.5), (1, 0.75)]
    (image,) = read.Images("sheet")
    assert (image.step, image.width) == (4, LONGEST)


def test_a_folder_that_cannot_be_written_costs_the_curves_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a folder nothing is wanted, and nothing is said."""
    (tmp_path / "file").write_text("in the way")
    for folder in (None, tmp_path / "file" / "board"):
        with TensorBoardLogger(folder) as board:
            board.scalars({"a": 1.0}, 0)
            board.image("b", np.zeros((2, 2, 3), np.uint8))
    assert [record.message[:29] for record in caplog.records] == ["no more TensorBoard curves, /"]


def test_a_disk_that_fills_up_costs_the_curves_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    threads = threading.active_count()
    with TensorBoardLogger(tmp_path) as board:
        board.scalars({"a": 1.0}, 0)
        monkeypatch.setattr(SummaryWriter, "flush", full)
        board.scalars({"a": 2.0}, 1)
        board.scalars({"a": 3.0}, 2)
    assert len(caplog.records) == 1
    assert threading.active_count() == threads  # no writer is left behind
