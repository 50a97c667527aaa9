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


def possible_misses(plain: Tensor, flipped: Tensor, sure: float) -> Tensor:
    """Return the weights [k] of what the plain pass may have missed.

    `plain` [n, 6] and `flipped` [m, 6] are the rows of both passes at the low threshold (xyxy in
    pixels of the plain image, confidence, class), by falling confidence. Objects above `sure` in
    the plain pass are found; what overlaps one of them is no miss. Duplicates count once.
    """
    found = plain[:, 4] > sure
    everything = torch.cat((plain, flipped))
    missed = everything[~_overlaps(everything, plain[found])]
    kept: list[int] = []
    for index in missed[:, 4].argsort(descending=True, stable=True).tolist():
        if not kept or not bool(_overlaps(missed[index : index + 1], missed[kept])):
            kept.append(index)
    return missed[kept, 4]


def unflip(rows: Tensor, width: int) -> Tensor:
    """Map rows [n, 6] of a flipped image of `width` pixels to pixels of the image itself."""
    return torch.cat((width - rows[:, 2:3], rows[:, 1:2], width - rows[:, 0:1], rows[:, 3:]), 1)


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
        plain = predictor.detect_with_classes(images, nms=low)
        flipped = predictor.detect_with_classes(images.flip(-1), nms=low)
        parts = []
        for one, (rows, _), (others, _) in zip(group, plain, flipped, strict=True):
            back = unflip(others, images.shape[-1]).cpu()
            own = None
            if len(rows) or len(others):
                own = float(possible_misses(rows.cpu(), back, sure).double().sum())
            parts.append(ScoredPart(one, own))
        return parts

    return score_by_shape(predictions, score, context)


def _rank(scores: Stream, context: ScoringContext) -> Stream:
    # Two passes, and every detection adds at most 1.
    first = 2.0 * context.network.config.nms.max_detections
    return place_empty(scores, context.settings, first=first, last=-1.0)


def _overlaps(rows: Tensor, others: Tensor) -> Tensor:
    """Return which of `rows` [n, 6] show the same object as one of `others` [m, 6]: bool [n]."""
    if len(others) == 0:
        return torch.zeros(len(rows), dtype=torch.bool)
    return pairwise_iou(rows[:, :4], others[:, :4]).amax(1) >= SAME_OBJECT


ALGORITHM = Algorithm(miss_scores, _rank, threshold="miss_conf")
