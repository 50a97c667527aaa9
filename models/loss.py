"""YOLOv5's training loss: box (CIoU), objectness and class terms."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.assigner import Assignment, assign_targets
from ops.boxes import aligned_iou

# Weight of each level's objectness, finest first (v7.0).
_THREE_LEVEL_BALANCE = (4.0, 1.0, 0.4)
_BALANCE = (4.0, 1.0, 0.25, 0.06, 0.02)
_FEWEST_ROWS = 128
# Weight of positives in the focal form (Lin et al. 2017, arXiv:1708.02002).
_FOCAL_ALPHA = 0.25


@dataclass(frozen=True)
class LossConfig:
    """Settings of the loss, named after v7.0's hyper-parameters.

    `box`, `obj` and `cls` are the gains after scaling; `anchor_t` is the largest side ratio of a
    match (exclusive); `cls_pw` and `obj_pw` weight the positives; `fl_gamma` above 0 selects the
    focal loss; `label_smoothing` is the share taken from the true class.
    """

    box: float
    obj: float
    cls: float
    anchor_t: float = 4.0
    cls_pw: float = 1.0
    obj_pw: float = 1.0
    fl_gamma: float = 0.0
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class LossParts:
    """Loss and terms, scalar tensors on the device of the predictions.

    `total` is the sum of the terms times the batch size and carries the gradient; `box`, `obj`
    and `cls` have their gains, are not multiplied by the batch size, and are detached.
    """

    total: Tensor
    box: Tensor
    obj: Tensor
    cls: Tensor


def scale_gains(
    box: float, obj: float, cls: float, *, num_levels: int, num_classes: int, image_size: int
) -> tuple[float, float, float]:
    """Scale the gains of the settings, which are for 3 levels, 80 classes and 640 pixels (v7.0)."""
    levels = 3 / num_levels
    size = (image_size / 640) ** 2
    return box * levels, obj * size * levels, cls * num_classes / 80 * levels


class DetectionLoss(nn.Module):
    """YOLOv5's training loss.

    `anchors` is [levels, anchors per level, 2], (width, height) in grid cells, finest level first.
    """

    anchors: Tensor
    balance: Tensor
    gains: Tensor
    class_weight: Tensor | None
    objectness_weight: Tensor | None

    def __init__(self, anchors: Tensor, num_classes: int, config: LossConfig) -> None:
        super().__init__()
        anchors = anchors.detach().float()
        self.register_buffer("anchors", anchors, persistent=False)
        for name, weight in (("class_weight", config.cls_pw), ("objectness_weight", config.obj_pw)):
            # None takes the shorter formula: the objectness maps are large.
            value = None if weight == 1 else anchors.new_full((), weight)
            self.register_buffer(name, value, persistent=False)
        self.num_classes = num_classes
        self.config = config
        balance = _THREE_LEVEL_BALANCE if len(anchors) == 3 else _BALANCE[: len(anchors)]
        gains = config.box, config.obj, config.cls
        self.register_buffer("balance", anchors.new_tensor(balance), persistent=False)
        self.register_buffer("gains", anchors.new_tensor(gains), persistent=False)

    def forward(
        self,
        raw_maps: Sequence[Tensor],
        targets: Tensor,
        share: Callable[[Tensor], Tensor] | None = None,
        *,
        padded: bool | None = None,
        divisors: Tensor | None = None,
    ) -> LossParts:
        """Compute the loss of logits [batch, anchors, rows, columns, 5 + classes] per level.

        `targets` is [t, 6] on the same device: image, class, cxcywh as fractions of the input;
        t = 0 leaves the objectness term only. Everything is computed in float32, whatever the
        logits are; on a GPU the host never waits. Where several ranks share a batch, `share`
        turns numbers of matches [levels] into this rank's part of those of all ranks: the sum of
        their losses is then the loss of the whole batch. With `padded`, for which None means on
        any device but a CPU, no shape depends on the numbers: see `pad_targets`. `divisors`
        [levels] are used instead of the numbers of matches.
        """
        shapes = [raw.shape[:4] for raw in raw_maps]
        if padded is None:
            padded = targets.device.type != "cpu"
        if padded:
            targets = pad_targets(targets)
        grid_sizes = [(rows, columns) for _, _, rows, columns in shapes]
        match = assign_targets(
            targets.float(), grid_sizes, self.anchors, self.config.anchor_t, padded=padded
        )
        if divisors is None:
            divisors = match.counts.clamp(min=1) if share is None else share(match.counts)
        logits, objectness = _SelectLogits.apply(
            match.sizes, match.image, match.anchor, match.row, match.column, *raw_maps
        )
        overlap = aligned_iou(matched_boxes(logits, match), match.boxes, complete=True)
        box = match.sums(1.0 - overlap) / divisors
        wanted = objectness_target(overlap.detach(), match, shapes)
        losses = self._cross_entropy(objectness, wanted, self.objectness_weight)
        means = [level.mean() for level in losses.split([shape.numel() for shape in shapes])]
        obj = torch.stack(means) * self.balance
        cls = torch.zeros_like(box)
        if self.num_classes > 1:
            cls = self._class_losses(logits[:, 5:], match) / divisors

        # Levels and terms are added one after the other, on every device.
        levels = torch.stack([box, obj, cls]).unbind(1)
        terms = (functools.reduce(torch.add, levels) * self.gains).unbind()
        total = functools.reduce(torch.add, terms) * len(raw_maps[0])
        return LossParts(total, *(term.detach() for term in terms))

    def match_counts(self, targets: Tensor, grid_sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Return how many matches targets [t, 6] have on grids (rows, columns): [levels]."""
        own, ratio = targets.float(), self.config.anchor_t
        return assign_targets(own, grid_sizes, self.anchors, ratio, padded=True).counts

    def _class_losses(self, logits: Tensor, match: Assignment) -> Tensor:
        absent = self.config.label_smoothing / 2
        wanted = torch.full_like(logits, absent).scatter_(1, match.classes[:, None], 1 - absent)
        return match.sums(self._cross_entropy(logits, wanted, self.class_weight).mean(1))

    def _cross_entropy(
        self, logits: Tensor, wanted: Tensor, positive_weight: Tensor | None
    ) -> Tensor:
        """Compute binary cross-entropy per element, or focal loss when gamma is above 0."""
        losses = functional.binary_cross_entropy_with_logits(
            logits, wanted, pos_weight=positive_weight, reduction="none"
        )
        gamma = self.config.fl_gamma
        if gamma <= 0:
            return losses
        probability = logits.sigmoid()
        miss = wanted * (1 - probability) + (1 - wanted) * probability
        alpha = wanted * _FOCAL_ALPHA + (1 - wanted) * (1 - _FOCAL_ALPHA)
        # The floor keeps the gradient of miss ** gamma finite at 0 for gamma below 1.
        return losses * alpha * miss.clamp(min=1e-12) ** gamma


def padded_rows(count: int) -> int:
    """Return how many rows `count` targets get: 128 or 192 times a power of two, so few numbers.

    Few numbers of rows make few shapes, each of which is recorded or compiled once.
    """
    rows = _FEWEST_ROWS
    while rows < count:
        half = rows + rows // 2
        rows = half if half >= count else 2 * rows
    return rows


def pad_targets(targets: Tensor) -> Tensor:
    """Append targets [t, 6] without size, which match nothing, up to `padded_rows`."""
    missing = padded_rows(len(targets)) - len(targets)
    return functional.pad(targets, (0, 0, 0, missing)) if missing else targets


class _SelectLogits(torch.autograd.Function):
    """Select rows [n, 5 + classes] of matches, and objectness [places] of all levels, in float32.

    Two plain selections would each make a gradient as large as the maps, and add them up; this
    makes one, in the maps' own memory order (backward 2 to 4 times faster on a CPU).
    """

    @staticmethod
    def forward(ctx: Any, sizes: Sequence[int], *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of matches, and the fifth of every place, level after level.

        `tensors` are (image, anchor, row, column) of matches, of which levels have `sizes`, then
        the maps.
        """
        places, maps = tensors[:4], tensors[4:]
        ctx.save_for_backward(*places)
        ctx.sizes, ctx.like = sizes, [torch.empty_like(one, device="meta") for one in maps]
        by_level = zip(*(one.split(sizes) for one in places), strict=True)
        rows = torch.cat([one[at].float() for one, at in zip(maps, by_level, strict=True)])
        # A CPU's kernels round strided numbers otherwise: its seeded trainings keep their weights.
        step = 2 if rows.device.type == "cpu" else 1
        objectness = rows.new_empty(sum(one[..., 4].numel() for one in maps), step)[:, 0]
        for part, one in zip(_levels_of(objectness, maps), maps, strict=True):
            part.copy_(one[..., 4])
        return rows, objectness

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return none for the matches, and the gradients of the maps."""
        rows, objectness = gradients
        places = zip(*(one.split(ctx.sizes) for one in ctx.saved_tensors), strict=True)
        parts = (ctx.like, places, rows.split(ctx.sizes), _levels_of(objectness, ctx.like))
        of_maps = []
        for like, place, of_rows, of_objectness in zip(*parts, strict=True):
            whole = torch.zeros_like(like, device=rows.device)
            whole[..., 4] = of_objectness
            of_maps.append(whole.index_put_(place, of_rows.to(whole.dtype), accumulate=True))
        return None, None, None, None, None, *of_maps


def _levels_of(values: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
    """Return values of all places [places] as views [batch, anchors, rows, columns] by level."""
    shapes = [one.shape[:4] for one in maps]
    parts = values.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def matched_boxes(rows: Tensor, match: Assignment) -> Tensor:
    """Decode logits [n, 5 + classes] to boxes [n, 4]: cxcywh in grid cells, from the cell."""
    doubled = rows[:, :4].sigmoid() * 2
    return torch.cat([doubled[:, :2] - 0.5, doubled[:, 2:] ** 2 * match.anchors], 1)


def objectness_target(scores: Tensor, match: Assignment, shapes: Sequence[torch.Size]) -> Tensor:
    """Return the target of all places [places], level after level: scores at matches, else 0.

    `scores` [n] are IoUs, clamped at 0; `shapes` are (batch, anchors, rows, columns) per level.
    Where several matches share a place the last one in the order of `match` counts, on every
    device and for any number of threads.
    """
    places, size = [], 0
    for place, shape in zip(match.place.split(match.sizes), shapes, strict=True):
        places.append(place + size)
        size += shape.numel()
    place = torch.cat(places)
    order = torch.arange(1, len(place) + 1, device=place.device) * match.valid
    last = order.new_zeros(size).scatter_reduce_(0, place, order, "amax")
    written = match.valid & (last[place] == order)
    # One extra place takes the rows that are not written: selecting rows would make the host wait.
    target = scores.new_zeros(size + 1)
    target.scatter_(0, torch.where(written, place, size), scores.clamp(min=0))
    return target[:-1]
