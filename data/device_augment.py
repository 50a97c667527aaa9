"""Augmentation of a whole batch on the training device, in a few operators.

The numbers are those of `apply_augmentation`, which OpenCV computes on the host: bilinear
interpolation at exact positions in float32, as OpenCV 5 (4 rounds positions to 1/32 pixel), its
whole-number conversion to hue (0..179), saturation and brightness, 114 outside of images. At most 2
levels differ on 99% of the pixels; those that do lie where an edge of colours makes the hue jump.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from data.datasets import Batch, enlarge, join
from data.plans import HUE_START, BatchPlan
from utils.device import Upload
from utils.memory import Pieces

PIXELS_AT_ONCE = 1 << 23
"""Output pixels of the samples that are computed together: each needs some 200 bytes meanwhile."""
_SHIFT = 12
"""OpenCV divides for hue and saturation by whole numbers of so many fractional bits."""


class DeviceAugmenter:
    """Makes batches of plans on `device`, without waiting for it; in halves if memory runs out.

    `source` is the data set on the device, uint8 [p, 3] in BGR after a grey row, or None where the
    pixels travel with the plans.
    """

    def __init__(self, device: torch.device, source: Tensor | None = None) -> None:
        self.device = device
        self.source = source
        self._pieces, self._upload = Pieces(), Upload(device)
        levels = torch.arange(1, 256, dtype=torch.float64)
        none = torch.zeros(1, dtype=torch.float64)

        def divisors(unit: float) -> Tensor:
            table = torch.cat((none, (unit * (1 << _SHIFT) / levels).round()))
            return table.to(torch.int32).to(device)

        self.saturations, self.hues = divisors(255), divisors(180 / 6)
        self.half = torch.full((), 1 << (_SHIFT - 1), dtype=torch.int32, device=device)
        # Sectors by which red, green and blue come before a hue, on the colour wheel of six.
        self.sectors = torch.tensor([5.0, 3.0, 1.0], device=device).view(1, 3, 1, 1)
        starts = torch.tensor([HUE_START, 256, 512], dtype=torch.int32)
        self.starts = starts.to(device).view(1, 3, 1, 1)
        self.taps = torch.arange(2, device=device).view(1, 1, 2, 1, 1)

    def __call__(self, plan: BatchPlan) -> Batch:
        """Return the batch: images uint8 [b, 3, h, w] in RGB on the device, targets as planned."""
        names = ["inverse", "masks", "places"]
        names += ["colours"] if len(plan.colours) else []
        names += ["pixels"] if self.source is None else []
        names += ["first", "mixed", "ratios"] if len(plan.mixed) else []
        moved: dict[str, Any] = {name: self._upload(getattr(plan, name)) for name in names}
        plan = replace(plan, **moved)
        height, width = plan.output
        count = len(plan.starts) - 1
        fitting = PIXELS_AT_ONCE * count // (plan.starts[-1] * height * width)
        self._pieces.most = min(self._pieces.most, max(fitting, 1))
        with torch.no_grad():
            parts = self._pieces.run(lambda chosen: self._samples(plan, chosen), count)
            images = parts[0] if len(parts) == 1 else torch.cat(parts)
            if plan.groups:
                images = _quad(images, plan.groups)
        return Batch(images, plan.targets)

    def _samples(self, plan: BatchPlan, chosen: slice) -> Tensor:
        """Return samples of a plan on the device, uint8 [k, 3, h, w]."""
        start, end = chosen.start, chosen.stop
        low, high = plan.starts[start], plan.starts[end]
        levels = self._layers(plan, slice(low, high))
        if high - low > end - start:  # some have two layers
            single = [after - before == 1 for before, after in pairwise(plan.starts[: end + 1])]
            mixed = slice(start - sum(single[:start]), end - sum(single))
            samples, ratios = plan.mixed[mixed], plan.ratios[mixed].view(-1, 1, 1, 1)
            first = plan.first[start:end] - low
            below = plan.first.index_select(0, samples) - low
            second = torch.lerp(levels[below + 1], levels[below], ratios)
            # Cut off to whole levels, but for what lies just below one: as `blend`.
            levels = levels[first].index_copy(0, samples - start, second.sub_(0.499).round_())
        planes = levels.permute(0, 3, 1, 2).flip(1)
        if not len(plan.colours):
            return planes.to(torch.uint8, memory_format=torch.contiguous_format)
        return self._shift_colours(planes.to(torch.int32), plan.colours[start:end])

    def _layers(self, plan: BatchPlan, layers: slice) -> Tensor:
        """Return layers of a plan, warped: whole levels float32 [l, h, w, 3] in BGR."""
        source = plan.pixels if self.source is None else self.source
        height, width = plan.output
        matrices = plan.inverse[layers, : 3 if plan.perspective else 2, :, None, None]
        across = torch.arange(width, dtype=torch.float32, device=self.device)
        down = torch.arange(height, dtype=torch.float32, device=self.device)[:, None]
        # Positions on the canvas: (x, y), with perspective (x, y, depth).
        at = torch.addcmul(matrices[:, :, 2], matrices[:, :, 0], across)
        at = torch.addcmul(at, matrices[:, :, 1], down)
        if plan.perspective:
            at = (at[:, :2] / at[:, 2:]).nan_to_num_(-2.0, -2.0, -2.0)
        low = at.floor()
        part = at.sub_(low)[..., None]
        masks, limit = plan.masks[layers], plan.masks.shape[2] - 2
        # Whole positions (layer, x or y, before or after, h, w).
        near = (low.to(plan.places.dtype)[:, :, None] + self.taps).clamp_(-1, limit)
        axis = torch.arange(masks.shape[0] * 2, dtype=torch.int32, device=self.device)
        row = axis.mul_(masks.shape[2]).add_(1).view(-1, 2, 1, 1, 1)
        bits = masks.reshape(-1).index_select(0, (near + row).flatten()).view(near.shape)
        tiles = bits[:, 1, :, None] & bits[:, 0, None]  # (layer, y, x, h, w)
        found = plan.places.index_select(0, tiles.flatten()).view(*tiles.shape, 2)
        address = torch.addcmul(found[..., 0], near[:, 1, :, None], found[..., 1])
        address = address.add_(near[:, 0, None]).clamp_(min=0)
        levels = source.index_select(0, address.flatten()).view(*tiles.shape, 3).float()
        rows = torch.lerp(levels[:, :, 0], levels[:, :, 1], part[:, 0, None])
        return torch.lerp(rows[:, 0], rows[:, 1], part[:, 1]).round_()

    def _shift_colours(self, planes: Tensor, tables: Tensor) -> Tensor:
        """Return RGB int32 [n, 3, h, w] as uint8 with the colours of `tables` [n, 3, 256]."""
        brightness, largest = planes.max(1, keepdim=True)
        spread = brightness - planes.amin(1, keepdim=True)
        twice = torch.cat((planes, planes[:, :2]), 1)
        ahead = (twice[:, 1:4] - twice[:, 2:5]).gather(1, largest)  # such as green - blue
        ahead = torch.addcmul(ahead, spread, largest.int(), value=2)
        hue = self._divided(ahead, spread, self.hues)
        saturation = self._divided(spread, brightness, self.saturations)
        entries = torch.cat((hue, saturation, brightness), 1).add_(self.starts)
        number = torch.arange(len(tables), dtype=torch.int32, device=self.device)
        entries += number.mul_(tables[0].numel()).view(-1, 1, 1, 1)
        changed = tables.reshape(-1).index_select(0, entries.flatten()).view(entries.shape)
        sector, share, level = changed.split(1, 1)
        sector = (sector + self.sectors).remainder_(6)
        missing = torch.minimum(sector, 4 - sector).clamp_(0, 1)
        return torch.addcmul(level, level * share, missing, value=-1).to(torch.uint8)

    def _divided(self, number: Tensor, divisor: Tensor, table: Tensor) -> Tensor:
        """Return round(number · table[divisor] / 2^12), whole numbers as in OpenCV."""
        factor = table.index_select(0, divisor.flatten()).view(divisor.shape)
        return torch.addcmul(self.half, number, factor).bitwise_right_shift_(_SHIFT)


def _quad(images: Tensor, groups: tuple[int, ...]) -> Tensor:
    """Return the images of a quad batch [b, 3, 2 h, 2 w]: four joined, or one enlarged."""
    parts = images.split(groups)
    return torch.stack([join(own) if len(own) > 1 else enlarge(own[0]) for own in parts])
