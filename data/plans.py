"""Samples as plans: where every pixel comes from, for `DeviceAugmenter` to act on a whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.augmentations import AugmentationParams, colour_tables, lay_out
from data.datasets import (
    Key,
    Positions,
    TrainingDataset,
    add_batch_index,
    joined_targets,
    quad_keys,
    quad_targets,
)
from data.images import Pixels
from data.mosaic import Floats, Rectangle, Size, Tile, overlap, visible_part
from ops.letterbox import PAD_VALUE

OUTSIDE = -(1 << 30)
"""Base of addresses where no image lies: below 0, whatever is added."""
WIDE = 1 << 31
"""Rows beyond which addresses are 64-bit numbers."""
HUE_START = 30
"""Hues are computed from -30 on, by as much before the first entry of a colour table."""

PlannedTile = tuple[Rectangle, int, int]
"""(x1, y1, x2, y2) on the canvas, base, width: pixel (x, y) is in row base + y · width + x."""
AnyPlan = TypeVar("AnyPlan", bound="BatchPlan")


@dataclass(frozen=True)
class PlannedLayer:
    """One mosaic, or image; `inverse` [3, 3] maps output pixels to canvas pixels.

    A later tile lies above an earlier one.
    """

    inverse: Floats
    tiles: list[PlannedTile]


@dataclass(frozen=True)
class SamplePlan:
    """One sample: its layers (two with mixup) and what is done to them; targets [k, 5].

    `crops` [h, w, 3] are end to end the source; none where that is the data set on the device.
    """

    layers: list[PlannedLayer]
    crops: list[Pixels]
    colour: tuple[float, float, float] | None
    ratio: float
    output: Size
    targets: npt.NDArray[np.float32]


@dataclass(frozen=True)
class BatchPlan:
    """The plans of n samples in L layers as tensors.

    `inverse` float32 [L, 3, 3]. `masks` int32 [L, 2, t]: by x, then by y, from -1 to t - 2, a bit
    for each tile there, and the number of the layer above these `slots` bits. `places`
    [L · 2^slots, 2]: base and width by these numbers. `colours` float32 [n, 3, 256]: sector of the
    hue, saturation, brightness; [0, 3, 256] for no change. `pixels` uint8 [p, 3] is the source in
    BGR after a grey row, [0, 3] for the data set on the device. `first` [n] are the samples' first
    layers. Samples `mixed` [m] have a second one, and keep `ratios` [m] of the first. `targets` as
    in `Batch`.
    """

    inverse: Tensor
    masks: Tensor
    places: Tensor
    colours: Tensor
    pixels: Tensor
    first: Tensor
    mixed: Tensor
    ratios: Tensor
    targets: Tensor
    output: Size
    starts: tuple[int, ...]
    """`first`, and L."""
    groups: tuple[int, ...]
    """Samples of each image of a quad batch, 1 or 4; empty for other batches."""
    perspective: bool

    def pin_memory(self: AnyPlan) -> AnyPlan:
        """Return the plan in page-locked memory, for asynchronous copies to the GPU."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        pinned: dict[str, Any] = {
            name: one.pin_memory() for name, one in values.items() if isinstance(one, Tensor)
        }
        return replace(self, **pinned)


class PlannedDataset(Dataset[list[SamplePlan]]):
    """The plans of a key, or of up to four keys of a quad sample.

    The source of pixels is the data set on the device, where there is one (`rows` [n] says in which
    of its rows each image begins), else the plans' own crops.
    """

    def __init__(self, samples: TrainingDataset, rows: Positions | None, *, quad: bool) -> None:
        self.samples, self.rows, self.quad = samples, rows, quad

    def __getitem__(self, key: Any) -> list[SamplePlan]:
        """Return the plan of a key, or those of the keys of one place in a quad batch."""
        keys = quad_keys(key, seed=self.samples.seed) if self.quad else [key]
        return [self._plan(one) for one in keys]

    def _plan(self, key: Key) -> SamplePlan:
        params, output = self.samples.draw(key)
        chosen, images = params.all_images, list[Pixels]()
        if self.rows is None:
            loaded = [self.samples.load(position) for position in chosen]
            images, instances = [image for image, _ in loaded], [objects for _, objects in loaded]
            sizes = [(image.shape[0], image.shape[1]) for image in images]
        else:
            sizes = [self.samples.images.size(position) for position in chosen]
            instances = [self.samples.index.instances_of(position) for position in chosen]
        layers, targets = lay_out(params, sizes, instances, output)
        planned, crops, number = [], list[Pixels](), 0
        for tiles, matrix in layers:
            own = slice(number, number + len(tiles))
            if self.rows is None:
                first = sum(crop.shape[0] * crop.shape[1] for crop in crops)
                placed, cut = _cut_out(
                    images[own], tiles, visible_part(tiles, matrix, output), first
                )
                crops += cut
            else:
                widths = [width for _, width in sizes[own]]
                starts = [int(self.rows[position]) for position in chosen[own]]
                placed = [
                    (tile.canvas, start - tile.offset[1] * width - tile.offset[0], width)
                    for tile, start, width in zip(tiles, starts, widths, strict=True)
                ]
            planned.append(PlannedLayer(_inverse(matrix, params, output), placed))
            number += len(tiles)
        return SamplePlan(planned, crops, params.colour, params.mixup_ratio, output, targets)


def _cut_out(
    images: Sequence[Pixels], tiles: Sequence[Tile], shown: Rectangle, row: int
) -> tuple[list[PlannedTile], list[Pixels]]:
    """Return the part of each image that is `shown` of the canvas; in the source from `row` on."""
    placed, crops = [], []
    for image, tile in zip(images, tiles, strict=True):
        x1, y1, x2, y2 = area = overlap(tile.canvas, shown)
        x, y = tile.offset
        width = x2 - x1
        placed.append((area, row - y1 * width - x1, width))
        crops.append(image[y1 - y : y2 - y, x1 - x : x2 - x])
        row += width * (y2 - y1)
    return placed, crops


def _inverse(matrix: Floats, params: AugmentationParams, output: Size) -> Floats:
    """Return the matrix [3, 3] from output to canvas pixels, flips included."""
    inverse = np.linalg.inv(matrix)
    height, width = output
    if params.flip_horizontal:
        inverse = inverse @ np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    if params.flip_vertical:
        inverse = inverse @ np.array([[1, 0, 0], [0, -1, height - 1], [0, 0, 1]])
    return np.asarray(inverse, np.float64)


@dataclass(frozen=True)
class PlanCollate:
    """Joins plans to a batch: `slots` is the most tiles of a layer, `canvas` the widest canvas.

    Addresses become 64-bit numbers where `rows` [n] of the data set on the device need them.
    """

    slots: int
    canvas: int
    rows: Positions | None
    quad: bool

    def __call__(self, samples: Sequence[list[SamplePlan]]) -> BatchPlan:
        """Return the plan of a batch."""
        plans = [plan for group in samples for plan in group]
        layers = [layer for plan in plans for layer in plan.layers]
        pixels, shifts = _joined_crops(plans)
        inverse = np.stack([layer.inverse for layer in layers])
        masks = np.zeros((len(layers), 2, self.canvas + 2), np.int32)
        masks += (np.arange(len(layers), dtype=np.int32) << self.slots)[:, None, None]
        last = len(pixels) if self.rows is None else int(self.rows[-1])
        wide = last + (2 * self.canvas) ** 2 >= WIDE
        places = np.zeros((len(layers), 1 << self.slots, 2), np.int64 if wide else np.int32)
        places[..., 0] = OUTSIDE
        starts = np.cumsum([0, *(len(plan.layers) for plan in plans)])
        owners = np.repeat(np.arange(len(plans)), np.diff(starts))
        for number, layer in enumerate(layers):
            shift = shifts[owners[number]]
            for slot, ((x1, y1, x2, y2), base, width) in enumerate(layer.tiles):
                bit = 1 << slot
                masks[number, 0, x1 + 1 : x2 + 1] |= bit
                masks[number, 1, y1 + 1 : y2 + 1] |= bit
                places[number, bit : 2 * bit] = base + shift, width
        colours = [colour_levels(plan.colour) for plan in plans if plan.colour is not None]
        mixed = np.flatnonzero(np.diff(starts) > 1)
        return BatchPlan(
            inverse=torch.from_numpy(inverse.astype(np.float32)),
            masks=torch.from_numpy(masks),
            places=torch.from_numpy(places.reshape(-1, 2)),
            colours=torch.from_numpy(np.stack(colours) if colours else np.zeros((0, 3, 256))),
            pixels=pixels,
            first=torch.from_numpy(starts[:-1]),
            mixed=torch.from_numpy(mixed),
            ratios=torch.tensor([plans[number].ratio for number in mixed]),
            targets=_joined_targets(samples),
            output=plans[0].output,
            starts=tuple(starts.tolist()),
            groups=tuple(map(len, samples)) if self.quad else (),
            perspective=bool(inverse[:, 2, :2].any()),
        )


def colour_levels(colour: tuple[float, float, float]) -> npt.NDArray[np.float32]:
    """Return `colour_tables` as [3, 256]: sector of the hue, share of saturation, brightness."""
    hue, saturation, brightness = colour_tables(colour).T
    shifted = np.roll(np.resize(hue[:180], 256), HUE_START)
    shifted[:HUE_START] = hue[180 - HUE_START : 180]
    return np.stack((shifted / 30, saturation / 255, brightness), dtype=np.float32)


def _joined_crops(plans: Sequence[SamplePlan]) -> tuple[Tensor, list[int]]:
    """Return all crops behind a grey row, uint8 [p, 3], and in which row each plan's begin."""
    rows = [sum(crop.shape[0] * crop.shape[1] for crop in plan.crops) for plan in plans]
    if not any(plan.crops for plan in plans):
        return torch.empty((0, 3), dtype=torch.uint8), [0] * len(plans)
    ends = np.cumsum([1, *rows])
    joined = np.empty((int(ends[-1]), 3), np.uint8)
    joined[0] = PAD_VALUE
    row = 1
    for crop in (crop for plan in plans for crop in plan.crops):
        height, width = crop.shape[:2]
        joined[row : row + height * width].reshape(height, width, 3)[...] = crop
        row += height * width
    return torch.from_numpy(joined), ends[:-1].tolist()


def _joined_targets(samples: Sequence[list[SamplePlan]]) -> Tensor:
    """Return the targets of a batch [t, 6]."""
    rows = [[add_batch_index(0, plan.targets) for plan in group] for group in samples]
    return joined_targets([quad_targets(own) if len(own) > 1 else own[0] for own in rows])
