"""Mining for false negatives: images in which a detector that is still weak misses objects.

Each image is seen as it is and flipped, with a lower confidence threshold. An object may have been
missed where a pass has a detection that the ordinary one has not: below the ordinary threshold, or
in the flipped image only. Its weight is the larger confidence of both; the score adds them up:

    score = sum over possible misses of max(c, c_flipped)

so it is an expected number of missed objects, as far as confidences are probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from inference.predictions import Prediction
from mining.scores import (
    Algorithm,
    ScoredPart,
    ScoringContext,
    Stream,
    place_empty,
    score_by_shape,
    stack_inputs,
)
from ops.boxes import pairwise_iou

SAME_OBJECT = 0.5
"""IoU from which on detections of both passes are of one object, whatever their class."""
ROUNDS = 4
"""After so many the host asks whether duplicates are found."""
CELLS = 1 << 25
"""Pairs of boxes that are compared at once."""


def possible_misses(plain: Tensor, flipped: Tensor, sure: float) -> Tensor:
    """Return the weights [b, n + m] of what the plain pass may have missed; 0 for what it has not.

    `plain` [b, n, 6] and `flipped` [b, m, 6] are the rows of both passes at the low threshold (xyxy
    in pixels of the plain image, confidence, class), by falling confidence, zeros for missing ones.
    Objects above `sure` in the plain pass are found; what overlaps one of them is no miss.
    Duplicates count once: of those that overlap the surest stays, as in NMS.
    """
    rows = torch.cat((plain[..., :5], flipped[..., :5]), 1)
    weights, order = rows[..., 4].sort(dim=1, descending=True, stable=True)
    rows = rows.gather(1, order[..., None].expand(-1, -1, 5))
    overlaps = (pairwise_iou(rows[..., :4], rows[..., :4]) >= SAME_OBJECT).float()
    found = (order < plain.shape[1]) & (weights > sure)
    missed = torch.bmm(found[:, None].float(), overlaps)[:, 0].eq_(0) * weights
    # A fixed point: whoever overlaps with no surer one that stays.
    overlaps = overlaps.triu_(1).mul_((missed > 0)[..., None])
    stay, before = torch.ones_like(missed), torch.zeros_like(missed)
    while not torch.equal(stay, before):
        for _ in range(ROUNDS):
            before, stay = stay, torch.bmm(stay[:, None], overlaps)[:, 0].eq_(0)
    return stay * missed


def unflip(rows: Tensor, width: int) -> Tensor:
    """Map rows [..., 6] of a flipped image of `width` pixels to pixels of the image itself."""
    left, right = width - rows[..., 2:3], width - rows[..., 0:1]
    return torch.cat((left, rows[..., 1:2], right, rows[..., 3:]), -1)


def miss_scores(predictions: Iterable[Prediction], context: ScoringContext) -> Stream:
    """Yield one score per image: the largest of its tiles; empty without detections in both passes.

    The kept network inputs go through two more forward passes, at the threshold `miss_conf`.
    """
    predictor, settings = context.network, context.settings
    sure = predictor.config.nms.confidence
    low = replace(predictor.config.nms, confidence=min(settings.miss_conf, sure))

    @torch.inference_mode()
    def score(group: Sequence[Prediction]) -> list[ScoredPart]:
        images = stack_inputs(group)
        both = predictor.detect_batches([torch.cat((images, images.flip(-1)))], nms=low).rows()
        plain, flipped = both.unflatten(0, (2, -1))
        at_once = max(1, CELLS // (2 * both.shape[1]) ** 2)
        parts = zip(
            plain.split(at_once), unflip(flipped, images.shape[-1]).split(at_once), strict=True
        )
        weights = torch.cat([possible_misses(*part, sure) for part in parts])
        seen = (both[..., 4] > 0).any(1).unflatten(0, (2, -1)).any(0)
        figures = torch.stack((weights.double().sum(1), seen)).tolist()
        return [
            ScoredPart(one, own if found else None)
            for one, own, found in zip(group, *figures, strict=True)
        ]

    return score_by_shape(predictions, score, context)


def _rank(scores: Stream, context: ScoringContext) -> Stream:
    # Two passes, and every detection adds at most 1.
    first = 2.0 * context.network.config.nms.max_detections
    return place_empty(scores, context.settings, first=first, last=-1.0)


ALGORITHM = Algorithm(miss_scores, _rank, threshold="miss_conf")
