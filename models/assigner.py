"""Target assignment of YOLOv5: which cells and anchors predict which ground-truth box.

Shape legend: t targets, l levels, a anchors per level, n rows of an assignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# Distance to a cell's edge, in cells, below which the next cell also predicts a centre (v7.0).
_NEIGHBOUR_BIAS = 0.5
# The own cell, and its left, upper, right and lower neighbour.
_CELLS = 5
_ROWS = ("image", "anchor", "row", "column", "place", "classes", "boxes", "anchors", "valid")


@dataclass(frozen=True)
class Assignment:
    """Matches of all pyramid levels, one row per (target, anchor, cell), level after level.

    `image`, `anchor`, `row`, `column` and `classes` are int64 [n]; `place` [n] counts the places
    of the level's map [images, a, rows, columns] from 0; `boxes` is float32 [n, 4]: the target's
    centre relative to the cell's corner, then width and height, all in grid cells; `anchors` is
    [n, 2]: the anchor's width and height in grid cells; `valid` is bool [n]. Rows that are not
    valid hold harmless values: safe to compute with, and to be left out of sums. Each level has
    `sizes` [l] rows, of which `counts`, int64 [l], are valid.
    """

    image: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    place: Tensor
    classes: Tensor
    boxes: Tensor
    anchors: Tensor
    valid: Tensor
    counts: Tensor
    sizes: list[int]

    def compact(self) -> Assignment:
        """Return the valid rows in the same order; the host waits for the device."""
        kept = self.valid.nonzero().squeeze(1)
        rows = {name: getattr(self, name)[kept] for name in _ROWS}
        return replace(self, **rows, sizes=self.counts.tolist())

    def sums(self, values: Tensor) -> Tensor:
        """Return the sums [l] of values [n] over the valid rows of each level."""
        counted = values.masked_fill(~self.valid, 0.0)
        if counted.device.type != "cpu" and len(set(self.sizes)) == 1:
            return counted.view(len(self.sizes), -1).sum(1)
        return torch.stack([level.sum() for level in counted.split(self.sizes)])


def assign_targets(
    targets: Tensor,
    grid_sizes: Sequence[tuple[int, int]],
    anchors: Tensor,
    threshold: float,
    *,
    padded: bool = False,
) -> Assignment:
    """Match every target with the anchors of similar shape, on every level (v7.0).

    `targets` is [t, 6]: image, class, then cxcywh as fractions of the network's input;
    `grid_sizes` gives (rows, columns) per level; `anchors` is [l, a, 2], (width, height) in
    grid cells of their level. An anchor matches a target when neither side differs by a factor of
    `threshold` or more. The cell that holds the centre predicts the target, and so do its nearer
    horizontal and vertical neighbours, when they exist.

    Rows of a level are ordered: own cells, then left, upper, right and lower neighbours; within
    each block anchor by anchor, then target by target. No targets give no rows. With `padded`
    every candidate is kept and `valid` marks the matches, so that shapes do not depend on the
    data and the host never waits for a GPU.
    """
    levels, count, targets_count = len(anchors), anchors.shape[1], len(targets)
    candidates = (levels, _CELLS, count, targets_count)
    # Filled by number, not copied from a host list: a copy would make the host wait.
    extent = torch.cat([anchors.new_full((1,), side) for hw in grid_sizes for side in hw[::-1]])
    extent = extent.view(levels, 1, 2)
    centres, sizes = targets[:, 2:4] * extent, targets[:, 4:6] * extent  # [l, t, 2]

    ratio = sizes[:, None] / anchors[:, :, None]  # [l, a, t, 2]
    similar = torch.maximum(ratio, 1 / ratio).amax(3) < threshold
    valid = similar[:, None] & _predicting_cells(centres, extent)[:, :, None]  # [l, 5, a, t]

    half = torch.eye(2, device=anchors.device) * 0.5
    offsets = torch.cat([torch.zeros_like(half[:1]), half, -half])[:, None]  # [5, 1, 2]
    cells = (centres[:, None] - offsets).long()  # [l, 5, t, 2], truncated toward zero
    whole = extent.long()[:, None]
    cells = cells.clamp(min=0).minimum(whole - 1)
    # The offset is from the clamped cell.
    boxes = torch.cat([centres[:, None] - cells, sizes[:, None].expand_as(cells)], 3)

    image, classes = targets[:, :2].long().unbind(1)
    anchor = torch.arange(count, device=targets.device)[:, None]
    column, row = cells[:, :, None].unbind(4)  # [l, 5, 1, t]
    columns, rows = whole[:, :, None].unbind(4)
    place = ((image * count + anchor) * rows + row) * columns + column

    def expand(values: Tensor, *size: int) -> Tensor:
        """Broadcast values to [l, 5, a, t, ...] and flatten them to one row per candidate."""
        return values.expand(*candidates, *size).flatten(0, 3)

    padded_rows = Assignment(
        image=expand(image),
        anchor=expand(anchor),
        row=expand(row),
        column=expand(column),
        place=place.flatten(),
        classes=expand(classes),
        # A unit box where nothing matched: the overlap of a 0 x 0 box has no finite gradient.
        boxes=torch.where(valid[..., None], boxes[:, :, None], 1.0).flatten(0, 3),
        anchors=expand(anchors[:, None, :, None], 2),
        valid=valid.flatten(),
        counts=valid.sum((1, 2, 3)),
        sizes=[_CELLS * count * targets_count] * levels,
    )
    return padded_rows if padded else padded_rows.compact()


def _predicting_cells(centres: Tensor, extent: Tensor) -> Tensor:
    """Return whether the own cell and each of the four neighbours predict: bool [l, 5, t]."""
    from_far_edge = extent - centres
    before = (centres % 1 < _NEIGHBOUR_BIAS) & (centres > 1)  # left, upper
    after = (from_far_edge % 1 < _NEIGHBOUR_BIAS) & (from_far_edge > 1)  # right, lower
    own = torch.ones_like(before[..., :1])
    return torch.cat([own, before, after], 2).mT
