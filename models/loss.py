"""YOLOv5's training loss: box (CIoU), objectness and class terms."""

from __future__ import annotations

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
        self.balance = _THREE_LEVEL_BALANCE if len(anchors) == 3 else _BALANCE[: len(anchors)]

    def forward(
        self,
        raw_maps: Sequence[Tensor],
        targets: Tensor,
        share: Callable[[Tensor], Tensor] | None = None,
    ) -> LossParts:
        """Compute the loss of logits [batch, anchors, rows, columns, 5 + classes] per level.

        `targets` is [t, 6] on the same device: image, class, cxcywh as fractions of the input;
        t = 0 leaves the objectness term only. Everything is computed in float32, whatever the
        logits are; on a GPU the host never waits. Where several ranks share a batch, `share`
        turns numbers of matches [levels] into this rank's part of those of all ranks: the sum of
        their losses is then the loss of the whole batch.
        """
        matches = assign_targets(
            targets.float(),
            [(raw.shape[2], raw.shape[3]) for raw in raw_maps],
            self.anchors,
            self.config.anchor_t,
            padded=targets.device.type != "cpu",  # on a CPU nothing waits: fewer rows are faster
        )
        counts = torch.stack([match.valid.sum() for match in matches])
        counts = counts.clamp(min=1) if share is None else share(counts)
        box = obj = cls = torch.zeros((), device=targets.device)
        for raw, match, balance, count in zip(raw_maps, matches, self.balance, counts, strict=True):
            rows, objectness = _SelectLogits.apply(
                raw, match.image, match.anchor, match.row, match.column
            )
            overlap = aligned_iou(matched_boxes(rows, match), match.boxes, complete=True)
            box = box + _mean_of_valid(1.0 - overlap, match, count)
            wanted = objectness_target(overlap.detach(), match, raw.shape[:4])
            losses = self._cross_entropy(objectness, wanted, self.objectness_weight)
            obj = obj + balance * losses.mean()
            if self.num_classes > 1:
                cls = cls + self._class_loss(rows[:, 5:], match, count)

        box, obj, cls = box * self.config.box, obj * self.config.obj, cls * self.config.cls
        total = (box + obj + cls) * len(raw_maps[0])
        return LossParts(total, box.detach(), obj.detach(), cls.detach())

    def _class_loss(self, logits: Tensor, match: Assignment, count: Tensor) -> Tensor:
        absent = self.config.label_smoothing / 2
        wanted = torch.full_like(logits, absent).scatter_(1, match.classes[:, None], 1 - absent)
        losses = self._cross_entropy(logits, wanted, self.class_weight).mean(1)
        return _mean_of_valid(losses, match, count)

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


class _SelectLogits(torch.autograd.Function):
    """Select rows [n, 5 + classes] at given places, and objectness at all places, in float32.

    Two plain selections would each make a gradient as large as the maps, and add them up; this
    makes one, in the maps' own memory order (backward 2 to 4 times faster on a CPU).
    """

    @staticmethod
    def forward(ctx: Any, raw: Tensor, *places: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits at `places` (image, anchor, row, column), and the fifth of every place."""
        ctx.save_for_backward(*places)
        ctx.like = torch.empty_like(raw, device="meta")
        return raw[places].float(), raw[..., 4].float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the maps, and none of the places."""
        rows, objectness = gradients
        whole = torch.zeros_like(ctx.like, device=rows.device)
        whole[..., 4] = objectness
        whole.index_put_(ctx.saved_tensors, rows.to(whole.dtype), accumulate=True)
        return whole, None, None, None, None


def matched_boxes(rows: Tensor, match: Assignment) -> Tensor:
    """Decode logits [n, 5 + classes] to boxes [n, 4]: cxcywh in grid cells, from the cell."""
    doubled = rows[:, :4].sigmoid() * 2
    return torch.cat([doubled[:, :2] - 0.5, doubled[:, 2:] ** 2 * match.anchors], 1)


def objectness_target(scores: Tensor, match: Assignment, shape: Sequence[int]) -> Tensor:
    """Return a map of `shape` (batch, anchors, rows, columns): scores at matches, else 0.

    `scores` [n] are IoUs, clamped at 0. Where several matches share a place the last one in the
    order of `match` counts, on every device and for any number of threads.
    """
    _, anchors, rows, columns = shape
    places = ((match.image * anchors + match.anchor) * rows + match.row) * columns + match.column
    size = shape[0] * anchors * rows * columns
    order = torch.arange(1, len(places) + 1, device=places.device) * match.valid
    last = order.new_zeros(size).scatter_reduce_(0, places, order, "amax")
    written = match.valid & (last[places] == order)
    # One extra place takes the rows that are not written: selecting rows would make the host wait.
    target = scores.new_zeros(size + 1)
    target.scatter_(0, torch.where(written, places, size), scores.clamp(min=0))
    return target[:-1].view(*shape)


def _mean_of_valid(values: Tensor, match: Assignment, count: Tensor) -> Tensor:
    """Return the sum of `values` [n] over the valid rows, divided by their number `count`."""
    return torch.where(match.valid, values, 0.0).sum() / count
