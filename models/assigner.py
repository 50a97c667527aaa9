"""Target assignment of YOLOv5: which cells and anchors predict which ground-truth box.

Shape legend: t targets, a anchors per level, c = 5 * a * t candidates, n rows of an assignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

# Distance to a cell's edge, in cells, below which the next cell also predicts a centre (v7.0).
_NEIGHBOUR_BIAS = 0.5
# (x, y) to subtract for the own cell and its left, upper, right and lower neighbour.
_OFFSETS = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (-0.5, 0.0), (0.0, -0.5))


@dataclass(frozen=True)
class Assignment:
    """Matches of one pyramid level, one row per (target, anchor, cell).

    `image`, `anchor`, `row`, `column` and `classes` are int64 [n]; `boxes` is float32 [n, 4]:
    the target's centre relative to the cell's corner, then width and height, all in grid cells;
    `anchors` is [n, 2]: the anchor's width and height in grid cells; `valid` is bool [n]. Rows
    that are not valid hold harmless values: safe to compute with, and to be left out of sums.
    """

    image: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    classes: Tensor
    boxes: Tensor
    anchors: Tensor
    valid: Tensor

    def compact(self) -> Assignment:
        """Return the valid rows in the same order; the host waits for the device."""
        kept = self.valid.nonzero().squeeze(1)
        return Assignment(*(getattr(self, field.name)[kept] for field in fields(self)))


def assign_targets(
    targets: Tensor,
    grid_sizes: Sequence[tuple[int, int]],
    anchors: Tensor,
    threshold: float,
    *,
    padded: bool = False,
) -> list[Assignment]:
    """Match every target with the anchors of similar shape, on every level (v7.0).

    `targets` is [t, 6]: image, class, then cxcywh as fractions of the network's input;
    `grid_sizes` gives (rows, columns) per level; `anchors` is [levels, a, 2], (width, height) in
    grid cells of their level. An anchor matches a target when neither side differs by a factor of
    `threshold` or more. The cell that holds the centre predicts the target, and so do its nearer
    horizontal and vertical neighbours, when they exist.

    Rows are ordered: own cells, then left, upper, right and lower neighbours; within each block
    anchor by anchor, then target by target. No targets give empty assignments. With `padded`
    every candidate is kept and `valid` marks the matches, so that shapes do not depend on the
    data and the host never waits for a GPU.
    """
    levels = (
        _assign_level(targets, size, level_anchors, threshold)
        for size, level_anchors in zip(grid_sizes, anchors, strict=True)
    )
    return [level if padded else level.compact() for level in levels]


def _assign_level(
    targets: Tensor, grid_size: tuple[int, int], anchors: Tensor, threshold: float
) -> Assignment:
    rows, columns = grid_size
    anchor_count, target_count = len(anchors), len(targets)
    candidates = (len(_OFFSETS), anchor_count, target_count)
    # Filled by number, not copied from a host list: a copy would make the host wait.
    extent = torch.cat([anchors.new_full((1,), columns), anchors.new_full((1,), rows)])
    centres, sizes = targets[:, 2:4] * extent, targets[:, 4:6] * extent

    ratio = sizes / anchors[:, None]  # [a, t, 2]
    similar = torch.maximum(ratio, 1 / ratio).amax(2) < threshold
    valid = similar & _predicting_cells(centres, extent)[:, None]  # [5, a, t]

    cells = torch.stack(
        [
            torch.stack([centres[:, 0] - offset_x, centres[:, 1] - offset_y], 1)
            for offset_x, offset_y in _OFFSETS
        ]
    ).long()  # [5, t, 2], truncated toward zero
    column = cells[..., 0].clamp(0, columns - 1)
    row = cells[..., 1].clamp(0, rows - 1)
    boxes = torch.cat(
        [centres - torch.stack([column, row], 2), sizes.expand(len(_OFFSETS), -1, -1)], 2
    )  # the offset is from the clamped cell

    def expand(values: Tensor) -> Tensor:
        """Broadcast values to [5, a, t, ...] and flatten them to one row per candidate."""
        return values.expand(*candidates, *values.shape[3:]).flatten(0, 2)

    valid = valid.flatten()
    return Assignment(
        image=expand(targets[None, None, :, 0].long()),
        anchor=expand(torch.arange(anchor_count, device=targets.device)[None, :, None]),
        row=expand(row[:, None]),
        column=expand(column[:, None]),
        classes=expand(targets[None, None, :, 1].long()),
        # A unit box where nothing matched: the overlap of a 0 x 0 box has no finite gradient.
        boxes=torch.where(valid[:, None], expand(boxes[:, None]), 1.0),
        anchors=expand(anchors[None, :, None]),
        valid=valid,
    )


def _predicting_cells(centres: Tensor, extent: Tensor) -> Tensor:
    """Return whether the own cell and each of the four neighbours predict: bool [5, t]."""
    from_far_edge = extent - centres
    before = (centres % 1 < _NEIGHBOUR_BIAS) & (centres > 1)  # left, upper
    after = (from_far_edge % 1 < _NEIGHBOUR_BIAS) & (from_far_edge > 1)  # right, lower
    own = torch.ones_like(before[:, :1])
    return torch.cat([own, before, after], 1).T
