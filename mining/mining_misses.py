"""Mining for false negatives: images in which a detector that is still weak passes objects over.

Each image is seen as it is and mirrored, with a lower threshold. An object may have been missed
where a look has a detection that the ordinary one has not: below the ordinary threshold, or in the
mirrored look only. Its weight is the larger confidence of both looks; the score adds them up:

    score = sum over possible misses of max(c, c_mirrored)

so it is an expected number of missed objects, as far as confidences are probabilities.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from inference.predictions import Prediction
from inference.predictor import Predictor
from mining.groups import map_by_shape
from mining.scores import Scored, ScoredPart, best_of_parts
from ops.boxes import pairwise_iou
from settings.detect import MiningSettings

SAME_OBJECT = 0.5
"""IoU from which on detections of two looks are of one object, whatever their class."""


def possible_misses(plain: Tensor, mirrored: Tensor, sure: float) -> Tensor:
    """The weights [k] of what the plain look may have missed.

    `plain` [n, 6] and `mirrored` [m, 6] are rows of the two looks at the low threshold, in pixels
    of the plain one (xyxy, confidence, class), each by falling confidence. Objects above `sure` in
    the plain look are found; what overlaps one of them is no miss. Doubled rows count once.
    """
    found = plain[:, 4] > sure
    everything = torch.cat((plain, mirrored))
    missed = everything[~_overlaps(everything, plain[found])]
    kept: list[int] = []
    for index in missed[:, 4].argsort(descending=True, stable=True).tolist():
        if not kept or not bool(_overlaps(missed[index : index + 1], missed[kept])):
            kept.append(index)
    return missed[kept, 4]


def mirrored_back(rows: Tensor, width: int) -> Tensor:
    """Rows [n, 6] of a mirrored image of `width` pixels, in pixels of the image itself."""
    return torch.cat((width - rows[:, 2:3], rows[:, 1:2], width - rows[:, 0:1], rows[:, 3:]), 1)


def miss_scores(
    predictions: Iterable[Prediction], predictor: Predictor, settings: MiningSettings
) -> Iterator[Scored]:
    """One score per image: the largest of its parts; empty where neither look has a detection.

    The kept views are shown to the network twice more, at the threshold `miss_conf`.
    """
    sure = predictor.thresholds.confidence
    low = copy.copy(predictor)
    low.thresholds = replace(predictor.thresholds, confidence=min(settings.miss_conf, sure))

    @torch.inference_mode()
    def score(group: Sequence[Prediction]) -> list[ScoredPart]:
        images = [one.view.image for one in group if one.view is not None]
        if not images:
            return [ScoredPart(one.position, one.path, 1, None, unreadable=True) for one in group]
        both = torch.stack(images)
        plain, mirrored = low.detect_with_classes(both), low.detect_with_classes(both.flip(-1))
        parts = []
        for one, (rows, _), (others, _) in zip(group, plain, mirrored, strict=True):
            back = mirrored_back(others, both.shape[-1]).cpu()
            own = None
            if len(rows) or len(others):
                own = float(possible_misses(rows.cpu(), back, sure).double().sum())
            parts.append(ScoredPart(one.position, one.path, one.parts, own))
        return parts

    yield from best_of_parts(
        map_by_shape(predictions, score, shape_of=_shape, predictor=predictor, settings=settings)
    )


def _overlaps(rows: Tensor, others: Tensor) -> Tensor:
    """Which of `rows` [n, 6] show the same object as one of `others` [m, 6]: bool [n]."""
    if len(others) == 0:
        return torch.zeros(len(rows), dtype=torch.bool)
    return pairwise_iou(rows[:, :4], others[:, :4]).amax(1) >= SAME_OBJECT


def _shape(prediction: Prediction) -> tuple[int, ...] | None:
    return None if prediction.view is None else tuple(prediction.view.image.shape)
