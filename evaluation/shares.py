"""What several processes find in a split, each in its own batches, joined as if by one."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.evaluator import Evaluator, Record
from utils.distributed import DistContext

OF_DETECTIONS = tuple(f.name for f in fields(Record) if not f.name.startswith("target"))
OF_LABELS = tuple(f.name for f in fields(Record) if f.name.startswith("target"))


@dataclass(frozen=True)
class BatchResult:
    """A batch of a split: its number, where its images stand in the split, its losses [3]."""

    number: int
    positions: tuple[int, ...]
    losses: Tensor


@dataclass
class RankResults:
    """What was found in some batches of a split.

    `tally` has a record for each image, in the order of `batches`; `shown` are the detections
    that an evaluation keeps, by position in the split.
    """

    tally: Evaluator
    batches: list[BatchResult] = field(default_factory=list)
    shown: dict[int, np.ndarray] = field(default_factory=dict)

    def mean_losses(self) -> tuple[float, float, float]:
        """Box, objectness and class loss; zeros without a batch."""
        if not self.batches:
            return (0.0, 0.0, 0.0)
        box, obj, cls = torch.stack([seen.losses for seen in self.batches]).mean(0).tolist()
        return (box, obj, cls)


def of_all(own: RankResults, processes: DistContext) -> RankResults:
    """In the first process the findings of all, batches in rising order; in others their own."""
    if not processes.is_distributed:
        return own
    parts = processes.gather(packed(own))
    classes = own.tally.num_classes
    return joined([unpacked(part, classes) for part in parts]) if processes.is_main else own


def joined(parts: Sequence[RankResults]) -> RankResults:
    """One account of the batches of all parts, in rising order of their numbers."""
    whole = RankResults(Evaluator(parts[0].tally.num_classes))
    pieces: list[tuple[BatchResult, list[Record], RankResults]] = []
    for part in parts:
        whole.tally.confusion.matrix += part.tally.confusion.matrix
        records = iter(part.tally.records)
        pieces += [(seen, [next(records) for _ in seen.positions], part) for seen in part.batches]
    for seen, own, part in sorted(pieces, key=lambda piece: piece[0].number):
        whole.batches.append(seen)
        whole.tally.records += own
        whole.shown.update((position, part.shown[position]) for position in seen.positions)
    return whole


def packed(found: RankResults) -> bytes:
    """Findings as an archive of plain arrays, none of which can hold code."""
    records, batches = found.tally.records, found.batches
    positions = [position for seen in batches for position in seen.positions]
    shown = [found.shown[position] for position in positions]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(record, name) for record in records])
        for name in (*OF_DETECTIONS, *OF_LABELS)
        if records
    }
    archive = io.BytesIO()
    np.savez(
        archive,
        confusion=found.tally.confusion.matrix,
        batch=_whole([seen.number for seen in batches]),
        images=_whole([len(seen.positions) for seen in batches]),
        losses=torch.stack([s.losses for s in batches]).numpy() if batches else np.zeros((0, 3)),
        position=_whole(positions),
        detections=_whole([len(record.predicted) for record in records]),
        labels=_whole([len(record.target) for record in records]),
        shown=np.concatenate(shown) if shown else np.zeros((0, 6), np.float32),
        shown_rows=_whole([len(rows) for rows in shown]),
        **columns,
    )
    return archive.getvalue()


def unpacked(content: bytes, num_classes: int) -> RankResults:
    """What was packed, equal to the last bit."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = dict(archive)
    tally = Evaluator(num_classes)
    tally.confusion.matrix += arrays["confusion"]
    positions = arrays["position"]
    if len(positions):
        columns = {name: _cut(arrays[name], arrays["detections"]) for name in OF_DETECTIONS}
        columns |= {name: _cut(arrays[name], arrays["labels"]) for name in OF_LABELS}
        for rows in zip(*columns.values(), strict=True):
            tally.records.append(Record(**dict(zip(columns, rows, strict=True))))
    shown = dict(zip(positions.tolist(), _cut(arrays["shown"], arrays["shown_rows"]), strict=True))
    places = [tuple(images.tolist()) for images in _cut(positions, arrays["images"])]
    losses = torch.from_numpy(arrays["losses"])
    batches = [
        BatchResult(number, own, loss)
        for number, own, loss in zip(arrays["batch"].tolist(), places, losses, strict=True)
    ]
    return RankResults(tally, batches, shown)


def _whole(numbers: Sequence[int]) -> NDArray[np.int64]:
    return np.array(numbers, np.int64)


def _cut(rows: np.ndarray, counts: NDArray[np.int64]) -> list[np.ndarray]:
    """Pieces of so many rows each; none for no counts."""
    return np.split(rows, np.cumsum(counts)[:-1]) if len(counts) else []
