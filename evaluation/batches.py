"""Evaluate a batch on its device: network, NMS and matching, then one copy back to the host.

Shape legend: b images, d slots for detections, m for labels, T IoU thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.dataset_index import DatasetIndex
from data.datasets import EvaluationBatch
from evaluation.evaluator import ground_truth
from evaluation.metrics import (
    THRESHOLDS,
    BoolArray,
    correct_between,
    match_batch,
    match_detections,
)
from evaluation.speed import DECODING, NETWORK, NMS, Mark, Stopwatch
from inference.batching import Buffers, Steps
from inference.pipeline import Download
from inference.predictor import Predictor
from models.loss import DetectionLoss
from ops.letterbox import Letterbox, boxes_to_original
from ops.nms import non_max_suppression
from ops.suppression import Suppressed, are_sure, suppress_batch
from utils.device import Upload

GEOMETRY = 16
"""Numbers that say how boxes return to an image: offset, scale, lowest and highest corners."""


@dataclass(frozen=True)
class MatchedImage:
    """What was found in an image."""

    detections: NDArray[np.float32]
    """[n, 6]: xyxy in pixels of the original, confidence, class; by falling confidence."""
    labels: NDArray[np.float32]
    """[m, 5]: class, xyxy."""
    matched: tuple[BoolArray, NDArray[np.integer]]
    """What `match_detections` returns."""


@dataclass(frozen=True)
class FilledBatch:
    """A batch with the labels of its images."""

    batch: EvaluationBatch
    labels: list[NDArray[np.float32]]
    truth: Tensor
    """float32 [b, 16 + T + 5 m]: geometry, thresholds and labels; pinned for a GPU."""


@dataclass(frozen=True)
class LaunchedBatch:
    """A batch that the device is busy with."""

    filled: FilledBatch
    rows: Tensor
    """What NMS was given, in case that it is not sure."""
    figures: Callable[[], list[Tensor]]
    """Waits for detections, matches and doubts [b, 9 d + 2]; with a criterion also losses [3]."""
    marks: Sequence[Mark] = ()
    """Before and after the network, and after NMS, where that is timed."""


@dataclass(frozen=True)
class EvaluatedBatch:
    """A batch whose figures are on the host; `losses` [3] are box, objectness and class loss."""

    batch: EvaluationBatch
    images: list[MatchedImage]
    losses: Tensor | None


@dataclass(frozen=True)
class EvaluationWork:
    """How batches are evaluated under the predictor's settings, one row per box and class."""

    predictor: Predictor
    index: DatasetIndex
    criterion: DetectionLoss | None
    upload: Upload
    stopwatch: Stopwatch | None = None

    @property
    def steps(self) -> Steps[EvaluationBatch, FilledBatch, LaunchedBatch, EvaluatedBatch]:
        """What a worker pool is to do with each batch."""
        return Steps(self.fill, self.launch, self.fetch)

    def fill(self, batch: EvaluationBatch) -> FilledBatch:
        """Collect what the device has to know of the images."""
        labels = [ground_truth(self.index, position) for position in batch.indices]
        slots = max((len(own) for own in labels), default=0) or 1
        truth = np.zeros((len(labels), GEOMETRY + len(THRESHOLDS) + 5 * slots), np.float32)
        truth[:, GEOMETRY : GEOMETRY + len(THRESHOLDS)] = THRESHOLDS
        for row, plan, own in zip(truth, batch.plans, labels, strict=True):
            row[:GEOMETRY] = _geometry(plan)
            boxes = row[GEOMETRY + len(THRESHOLDS) :].reshape(slots, 5)
            boxes[:, 0] = -1
            boxes[: len(own)] = own
        packed = torch.from_numpy(truth)
        return FilledBatch(batch, labels, packed if self.upload.is_idle else packed.pin_memory())

    def launch(self, filled: FilledBatch) -> LaunchedBatch:
        """Start all that the device is to do with a batch."""
        predictor, batch = self.predictor, filled.batch
        images, truth = self.upload(batch.images), self.upload(filled.truth)
        marks = [self.stopwatch.mark()] if self.stopwatch else []
        maps = list[Tensor]()
        if self.criterion is None:
            output = predictor.network.rows(images)
        else:
            maps, output = predictor.forward(images)
        marks += [self.stopwatch.mark()] if self.stopwatch else []
        rows = predictor.as_one_class(predictor.candidates(images, output))
        found = suppress_batch(rows, predictor.config.nms, multi_label=True)
        marks += [self.stopwatch.mark()] if self.stopwatch else []
        offset, scale, lowest, highest = truth[:, None, :GEOMETRY].split(4, -1)
        corners = torch.clamp((found.rows[..., :4] - offset).div_(scale), lowest, highest)
        detections = torch.cat((corners, found.rows[..., 4:]), -1)
        labels = truth[:, GEOMETRY + len(THRESHOLDS) :].unflatten(1, (-1, 5))
        thresholds = truth[0, GEOMETRY : GEOMETRY + len(THRESHOLDS)]
        matches = match_batch(detections, labels, thresholds)
        figures = [torch.cat((detections.flatten(1), *matches, found.doubts), 1)]
        if self.criterion is not None:
            targets = batch.targets.to(maps[0].device, non_blocking=True)
            with torch.no_grad():
                parts = self.criterion(maps, targets)
            figures.append(torch.stack([parts.box, parts.obj, parts.cls]))
        return LaunchedBatch(filled, rows, copied_later(figures, predictor.pool.buffers), marks)

    def fetch(self, launched: LaunchedBatch) -> EvaluatedBatch:
        """Wait for a batch and take its figures apart."""
        filled, first = launched.filled, [launched]

        def look() -> tuple[LaunchedBatch, list[Tensor]]:
            again = first.pop() if first else self.launch(filled)
            return again, again.figures()

        launched, (packed, *losses) = self.predictor.network.in_range(
            look, lambda looked: Suppressed(looked[1][0]).is_broken
        )
        sure, numbers = are_sure(packed[:, -2:]).tolist(), packed[:, :-2].numpy()
        if self.stopwatch:
            self._note(self.stopwatch, launched)
        slots = numbers.shape[1] // 9
        rows = numbers[:, : 6 * slots].reshape(-1, slots, 6)
        label, taken, reached = numbers[:, 6 * slots :].reshape(-1, 3, slots).transpose(1, 0, 2)
        correct = correct_between(taken, reached)
        counts = (rows[..., 4] > 0).sum(1)
        images = []
        for place, own in enumerate(filled.labels):
            count = counts[place]
            detections = rows[place, :count]
            matched = correct[place, :count], label[place, :count].astype(np.int64)
            if not sure[place]:
                detections = self._found_one_by_one(launched, place)
                matched = match_detections(detections, own)
            images.append(MatchedImage(detections, own, matched))
        return EvaluatedBatch(filled.batch, images, losses[0] if losses else None)

    def _note(self, stopwatch: Stopwatch, launched: LaunchedBatch) -> None:
        before, between, after = launched.marks
        stopwatch.add(DECODING, launched.filled.batch.seconds)
        stopwatch.add_between(NETWORK, before, between)
        stopwatch.add_between(NMS, between, after)

    def _found_one_by_one(self, launched: LaunchedBatch, place: int) -> NDArray[np.float32]:
        """Return the detections of an image whose NMS was not sure; waits for the device."""
        began = perf_counter()
        alone = launched.rows[place : place + 1]
        (found,) = non_max_suppression(alone, self.predictor.config.nms, multi_label=True)
        if self.stopwatch:
            self.stopwatch.add(NMS, perf_counter() - began)
        moved = boxes_to_original(found.rows.cpu(), launched.filled.batch.plans[place])
        detections: NDArray[np.float32] = moved.numpy()
        return detections


def copied_later(there: list[Tensor], buffers: Buffers) -> Callable[[], list[Tensor]]:
    """Start copies to the host; return what waits for them and returns them."""
    if there[0].device.type == "cpu":
        return lambda: there
    copies = [Download(one, buffers) for one in there]
    return lambda: [copy.wait() for copy in copies]


def _geometry(plan: Letterbox) -> tuple[float, ...]:
    """Return offset, scale, lowest and highest (x, y, x, y) of corners in the source image."""
    scale, offset = plan.scale_and_offset
    height, width = plan.source
    return (*offset, *offset, *scale, *scale, 0, 0, 0, 0, width, height, width, height)
