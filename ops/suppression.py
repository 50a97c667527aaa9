"""Non-maximum suppression of a whole batch on a GPU: shapes are fixed, and the host never waits.

The detections are those of `ops/nms.py`, or an image says that they may not be. Candidates are
taken by falling score. Which of them stay is a fixed point: whoever overlaps with no better one
that stays. Each round of it gives in turn a set that holds too few, and one that holds too many.
Where two rounds agree nothing is left to decide.

Shape legend: b images, n rows, nc classes, k candidates, d detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ops.nms import CLASS_OFFSET, Detections, NmsConfig, float32_below, non_max_suppression

CANDIDATES = 1024
"""Candidates of an image among which the fixed point is looked for, rounds as follows."""
ROUNDS = 8
"""Even, so that the last set is the one that holds too many, if the two differ."""
LOW_CONFIDENCE = 0.1
"""Below it an image has thousands of candidates: `POOL` of the best, of which those that overlap
with one of the best `FIRST` go first if that one stays for certain; among `LOW_CANDIDATES` of the
others it is looked for in `LOW_ROUNDS`."""
POOL, FIRST, LOW_CANDIDATES, LOW_ROUNDS = 4096, 512, 1536, 14
CELLS = 5 << 25
"""Pairs of boxes that are compared at once: some 5 GiB; larger batches come in parts."""
COLUMNS = 7


@dataclass(frozen=True)
class Suppressed:
    """Detections of a batch, by falling confidence, in one tensor that is copied to the host whole.

    `packed` is float32 [b, d * 7 + 2]; the properties read it on its device. Slots behind the
    detections of an image hold zeros.
    """

    packed: Tensor

    @property
    def rows(self) -> Tensor:
        """float32 [b, d, 6]: xyxy in pixels of the network input, confidence, class; a view."""
        return self._slots[..., :6]

    @property
    def source(self) -> Tensor:
        """int64 [b, d]: the row of the prediction that each detection came from."""
        return self._slots[..., 6].long()

    @property
    def present(self) -> Tensor:
        """bool [b, d]: which slots hold a detection: the first of each image."""
        return self._slots[..., 4] > 0

    @property
    def sure(self) -> Tensor:
        """bool [b]: whether the detections are for certain those of `non_max_suppression`."""
        return are_sure(self.doubts)

    @property
    def doubts(self) -> Tensor:
        """float32 [b, 2]: what `are_sure` reads; a view."""
        return self.packed[:, -2:]

    @property
    def _slots(self) -> Tensor:
        slots: Tensor = self.packed[:, :-2].unflatten(1, (-1, COLUMNS))
        return slots

    @property
    def is_broken(self) -> bool:
        """Whether the first row of an image is not a number; to be asked of the host's copy."""
        return bool(self.packed[:, -1].isnan().any())

    def to_host(self) -> Suppressed:
        """Copy to the CPU and wait for it."""
        return Suppressed(self.packed.cpu())

    def detections(self) -> list[Detections]:
        """Return the detections of each image; to be called on the host's copy."""
        counts = self.present.sum(1).tolist()
        images = zip(self.rows, self.source, counts, strict=True)
        return [Detections(rows[:count], source[:count]) for rows, source, count in images]

    def corrected(
        self, prediction: Tensor, config: NmsConfig, *, multi_label: bool = False
    ) -> Suppressed:
        """Return this, the host's copy, with the images that are not sure suppressed one by one.

        Arguments are those of `suppress_batch`. The device is asked, and d may change, only if an
        image is not sure.
        """
        wrong = (~self.sure).nonzero()[:, 0].tolist()
        if not wrong:
            return self
        found = self.detections()
        for image in wrong:
            alone = prediction[image : image + 1]
            (found[image],) = non_max_suppression(alone, config, multi_label=multi_label)
        return pack(found)


def are_sure(doubts: Tensor) -> Tensor:
    """Return `Suppressed.sure` [b] of the `doubts` [b, 2] of a batch."""
    sure: Tensor = (doubts[:, 0] == 1) & (doubts[:, 1] == 0)
    return sure


def pack(found: Sequence[Detections]) -> Suppressed:
    """Return detections of images as `suppress_batch` does, on the CPU, all sure.

    There are as many slots as the fullest image needs, and at least one.
    """
    limit = max((len(one.rows) for one in found), default=0) or 1
    packed = torch.zeros(len(found), limit * COLUMNS + 2)
    packed[:, -2] = 1
    slots = Suppressed(packed)._slots
    for image, one in zip(slots, found, strict=True):
        count = len(one.rows)
        image[:count, :6] = one.rows
        image[:count, 6] = one.source
    return Suppressed(packed)


@torch.no_grad()
def suppress_batch(
    prediction: Tensor, config: NmsConfig, *, multi_label: bool = False
) -> Suppressed:
    """Return the detections of a batch as `non_max_suppression` of the same arguments does.

    On a GPU nothing waits, and an image may be not `sure`: too many candidates, or a long chain of
    boxes each of which overlaps with the next. `Suppressed.corrected` puts it right on the host.
    On a CPU, where the loop over images is faster, all are sure, and d is as in `pack`.
    """
    if prediction.device.type == "cpu" or not prediction.numel():
        found = non_max_suppression(prediction, config, multi_label=multi_label)
        return pack(found)
    return suppress_at_once(prediction, config, multi_label=multi_label)


def suppress_at_once(
    prediction: Tensor, config: NmsConfig, *, multi_label: bool = False
) -> Suppressed:
    """Suppress as on a GPU, on any device."""
    low = config.confidence < LOW_CONFIDENCE
    wide, high = (POOL, LOW_CANDIDATES) if low else (CANDIDATES, CANDIDATES)
    parts = prediction.split(max(CELLS // max(high * high, FIRST * wide), 1))
    done = [_suppress_part(part, config, multi_label=multi_label, low=low) for part in parts]
    return Suppressed(torch.cat(done) if len(done) > 1 else done[0])


def _suppress_part(
    prediction: Tensor, config: NmsConfig, *, multi_label: bool, low: bool
) -> Tensor:
    """Return `packed` of images that fit into memory together."""
    most, rounds = (LOW_CANDIDATES, LOW_ROUNDS) if low else (CANDIDATES, ROUNDS)
    limit, threshold = config.max_detections, float32_below(config.iou)
    slots, missing = _candidates(prediction, config, POOL if low else most, multi_label)
    if slots.shape[1] > most:
        overlaps = _overlaps(_placed(slots, config), threshold, FIRST)
        stay = overlaps[..., :FIRST].sum(1, keepdim=True).lt_(0.5)
        left = torch.bmm(stay, overlaps).lt_(0.5)[:, 0]
        score, order = _best_first(left * slots[..., 4])
        slots = _take(slots, order[:, :most])
        missing = missing + score[:, most]
    overlaps = _overlaps(_placed(slots, config), threshold, slots.shape[1])
    few = many = overlaps.sum(1, keepdim=True).lt_(0.5)
    for _ in range(rounds - 1):
        few, many = many, torch.bmm(many, overlaps).lt_(0.5)
    score, order = _best_first(many[:, 0] * slots[..., 4])
    score, order = score[:, :limit], order[:, :limit]
    empty = score == 0
    rows = _take(slots, order).masked_fill(empty[..., None], 0)
    # Scores are at most 1: this says that nobody who stays is in one of the two sets only.
    steady = (few[:, 0].gather(1, order) >= score).all(1)
    if score.shape[1] == limit > 0:
        missing = missing * empty[:, -1]  # nothing is missed behind the last detection asked for
    missing = torch.add(missing, prediction[:, 0, 0], alpha=0)  # not a number where that is none
    return torch.cat((rows.flatten(1), steady[:, None], missing[:, None]), 1)


def _candidates(
    prediction: Tensor, config: NmsConfig, most: int, multi_label: bool
) -> tuple[Tensor, Tensor]:
    """Return up to `most` best candidates float32 [b, k, 7], and the score [b] of the next one.

    Columns are xyxy, score, class, row; by falling score, equal ones by row and class. The score is
    0 where there is no candidate.
    """
    # A score is at most the objectness: that it exceeds the threshold says both do.
    scores = prediction[..., 5:].float() * prediction[..., 4:5].float()
    classes = scores.shape[-1]
    wanted = _wanted(config, classes, prediction.device)
    if multi_label:
        if wanted is not None:
            scores = scores * wanted
        scores = _passing(scores, config)
        # The best candidates lie in as many of the best rows, and one more tells that there are
        # more. Rows in rising order: so candidates of equal score are, too.
        rows = _best_first(scores.amax(-1))[1][:, : most + 1].sort(1).values
        score, order = _best_first(_take(scores, rows).flatten(1))
        source, label = rows.gather(1, order[:, :most] // classes), order[:, :most] % classes
    else:
        best, labels = scores.max(-1)
        if wanted is not None:
            best = best * wanted[labels]
        score, order = _best_first(_passing(best, config))
        source = order[:, :most]
        label = labels.gather(1, source)
    boxes = _take(prediction[..., :4], source).float()
    centre, size = boxes[..., :2], boxes[..., 2:]
    corners = torch.sub(centre, size, alpha=0.5), torch.add(centre, size, alpha=0.5)
    columns = (score[:, :most], label, source)
    slots = torch.cat((*corners, *(column[..., None] for column in columns)), -1)
    return slots, score[:, most] if score.shape[1] > most else score.new_zeros(len(score))


def _passing(score: Tensor, config: NmsConfig) -> Tensor:
    """Return scores, 0 for those not above the confidence threshold and for NaN."""
    numbers = score.nan_to_num(0.0, posinf=torch.inf)
    return functional.threshold(numbers, config.confidence, 0.0)


def _wanted(config: NmsConfig, classes: int, device: torch.device) -> Tensor | None:
    """Return float32 [nc], 1 for the classes that are kept; None for all."""
    if config.classes is None:
        return None
    wanted = torch.zeros(classes)
    wanted[[number for number in config.classes if number < classes]] = 1
    return wanted if device.type == "cpu" else wanted.pin_memory().to(device, non_blocking=True)


def _best_first(score: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores [b, k] in falling order and their places; equal ones in order."""
    values, places = score.sort(dim=1, descending=True, stable=True)
    return values, places


def _take(values: Tensor, places: Tensor) -> Tensor:
    """Return values [b, k, c] of `values` [b, n, c] at places [b, k]."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[-1]))


def _placed(slots: Tensor, config: NmsConfig) -> Tensor:
    """Return the boxes [b, k, 4] of candidates, moved apart by class: see CLASS_OFFSET."""
    boxes = slots[..., :4]
    if config.class_agnostic:
        return boxes
    return torch.add(boxes, slots[..., 5:6], alpha=CLASS_OFFSET)


def _overlaps(boxes: Tensor, threshold: float, first: int) -> Tensor:
    """Return 1 where one of the `first` boxes of [b, k, 4] would suppress a later one, else 0.

    float32 [b, first, k]. The IoU is computed in the steps of torchvision's operator.
    """
    planes = boxes.transpose(1, 2)
    low, high = planes[:, :2], planes[:, 2:]
    sides = torch.minimum(high[:, :, :first, None], high[:, :, None, :])
    sides.sub_(torch.maximum(low[:, :, :first, None], low[:, :, None, :])).clamp_(min=0)
    common = sides[:, 0] * sides[:, 1]
    size = high - low
    area = size[:, 0] * size[:, 1]
    union = (area[:, :first, None] + area[:, None, :]).sub_(common)
    return common.div_(union).gt_(threshold).triu_(1)
