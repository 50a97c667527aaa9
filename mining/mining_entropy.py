"""Entropy mining: how unsure the detections of an image are, added up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from inference.predictions import Prediction, merge_tiles
from inference.predictor import Predictor
from mining.scores import Scored
from ops.letterbox import boxes_to_original

EMPTY_LAST = -10.0
"""Score of an image without detections where those come last, as in earlier implementations."""


def detection_entropy(confidence: np.ndarray) -> float:
    """-sum c log2 c over the confidences [n] of an image's detections, 0 without any.

    A confidence of 0 or 1 adds nothing; the most is 0.53 for 0.37 (1 / e).
    """
    sure = confidence.astype(np.float64).clip(0, 1)
    positive = sure[sure > 0]
    return float(-(positive * np.log2(positive)).sum()) + 0.0


def entropy_scores(predictions: Iterable[Prediction], predictor: Predictor) -> Iterator[Scored]:
    """One score per image, of the detections that one look at each of its parts leaves.

    Those of tiles are put together before they are added up, so an object counts once.
    """
    single = map(_of_one_look, predictions)
    for whole in merge_tiles(single, predictor.gathering()):
        if whole.error is not None:
            yield Scored(whole.position, whole.path, None)
        elif len(whole.detections):
            yield Scored(whole.position, whole.path, detection_entropy(whole.detections[:, 4]))
        else:
            yield Scored(whole.position, whole.path, None, empty=True)


def _of_one_look(prediction: Prediction) -> Prediction:
    """The detections of the kept view: a task that also infers may have looked three times."""
    view = prediction.view
    if view is None:
        return prediction
    rows = boxes_to_original(view.rows, view.plan).cpu().numpy()
    if prediction.window is not None:
        rows[:, :4] += (*prediction.window[:2], *prediction.window[:2])
    return replace(prediction, detections=rows, view=None)
