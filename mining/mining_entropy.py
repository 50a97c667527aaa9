"""Entropy mining: the sum of the binary entropies of an image's detections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from inference.predictions import Prediction, merge_tiles
from mining.scores import Algorithm, Scored, ScoringContext, Stream, place_empty

EMPTY_LAST = -10.0
"""Score of an image without detections with `empty_images: last`, as in older YMIR executors."""


def detection_entropy(confidence: np.ndarray) -> float:
    """Return -sum c log2 c over the confidences [n] of an image's detections, 0 without any.

    A confidence of 0 or 1 adds nothing; the largest term is 0.53 for 0.37 (1 / e).
    """
    sure = confidence.astype(np.float64).clip(0, 1)
    positive = sure[sure > 0]
    return float(-(positive * np.log2(positive)).sum()) + 0.0


def plain_detections(
    predictions: Iterable[Prediction], context: ScoringContext
) -> Iterator[Prediction]:
    """Yield the images with the detections of a plain forward pass (without TTA), tiles merged."""
    return merge_tiles(map(_without_tta, predictions), context.network.config.nms)


def entropy_scores(predictions: Iterable[Prediction], context: ScoringContext) -> Stream:
    """Yield one score per image, of the detections of a plain forward pass (without TTA).

    Detections of tiles are merged before their entropies are added, so an object counts once.
    """
    for whole in plain_detections(predictions, context):
        if whole.error is not None:
            yield Scored(whole.position, whole.path, None)
        elif len(whole.detections):
            yield Scored(whole.position, whole.path, detection_entropy(whole.detections[:, 4]))
        else:
            yield Scored(whole.position, whole.path, None, empty=True)


def _rank(scores: Stream, context: ScoringContext) -> Stream:
    # Every detection adds less than 1: above any sum.
    first = float(context.network.config.nms.max_detections)
    return place_empty(scores, context.settings, first=first, last=EMPTY_LAST)


def _without_tta(prediction: Prediction) -> Prediction:
    """Return the detections of the kept network input: an inference task may use TTA."""
    shown = prediction.network_input
    if shown is None:
        return prediction
    return replace(prediction, detections=shown.detections, network_input=None)


ALGORITHM = Algorithm(entropy_scores, _rank, threshold="conf_thres")
