"""The hooks of a training: `results.csv`, TensorBoard, further loggers and the report use them.

A logger of your own: derive from `Callback`, override the hooks that it needs, and add it to the
list in `training/loop.py:train`; `reporting/loggers.py` has two, chosen by the setting `loggers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from evaluation.evaluator import Evaluation
from models.detector import Detector

COLUMNS = (
    *("epoch", "train/box_loss", "train/obj_loss", "train/cls_loss"),
    *("metrics/precision", "metrics/recall", "metrics/mAP_0.5", "metrics/mAP_0.5:0.95"),
    *("val/box_loss", "val/obj_loss", "val/cls_loss", "x/lr0", "x/lr1", "x/lr2"),
)
"""The columns of v7.0's results.csv; lr0, lr1, lr2 belong to biases, weights and norm weights."""


@dataclass(frozen=True)
class EpochResult:
    """The figures of one epoch (from 0)."""

    epoch: int
    values: Sequence[float]
    """In the order of `COLUMNS[1:]`."""
    evaluation: Evaluation
    best: bool
    """Whether these weights are the best so far."""

    @property
    def named(self) -> dict[str, float]:
        """The values by the names of their columns, such as `metrics/mAP_0.5`."""
        return dict(zip(COLUMNS[1:], self.values, strict=True))


class Callback:
    """The hooks of a training in the order of their calls; each does nothing unless overridden.

    They run on rank 0, in the loop's process; an exception ends the training.
    """

    def on_train_start(self, network: Detector, image_size: int) -> None:
        """Run before the first step, with the anchors that will be trained."""

    def on_train_batch_end(self, epoch: int, step: int, images: Tensor, targets: Tensor) -> None:
        """Run after a step: images uint8 [b, 3, h, w], targets [t, 6] as the loss takes them."""

    def on_epoch_end(self, result: EpochResult) -> None:
        """Run after evaluation and saving of an epoch."""

    def on_train_end(self, epoch: int, evaluation: Evaluation, files: Sequence[Path]) -> None:
        """Run with epoch, figures and files of the best weights, evaluated once more."""

    def on_export_end(self, files: Sequence[Path]) -> None:
        """Run with the files that the best weights were exported to."""
