"""Balanced mining: uncertain objects of classes with few labels, in images unlike those chosen.

With H the binary entropy in bits and n_k the labelled objects of class k,

    u_k = largest H(c) of the detections of class k with c >= 0.02                     0 ... 1
    v   = sum over classes of u_k / sqrt(1 + n_k + sum of u_k over chosen images)
    d   = distance to the nearest chosen image / 2, and 1 for the first                0 ... 1

The images of the largest v before any choice, the largest of all being V, are ranked greedily by
(v + V) * d. The V explores: what the network does not see yet has its distance alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.predictions import Prediction
from mining.class_balance import ClassValues, labelled_counts
from mining.diversity import Features, collect_features, diversity_window, spread_window
from mining.mining_entropy import plain_detections
from mining.scores import Algorithm, Scored, ScoringContext, Stream

log = logging.getLogger(__name__)

LEAST_CONFIDENCE = 0.02
"""Detections down to here count; below, a trained network's are noise."""
WINDOW = 1.0
"""Share of the candidates in the window: all, up to its limit."""
EXPLORATION = 1.0
"""What every image is worth beside its own value, as a share of V (docs/active-learning.md)."""


class ClassUncertainty(NamedTuple):
    """The uncertainty of each class in an image, and the detections that give it."""

    values: NDArray[np.float32]
    """float32 [classes]: the largest binary entropy in bits; 0 for a class that is not seen."""
    rows: NDArray[np.int64]
    """int64 [classes]: the detection's row; -1 for a class that is not seen."""


def binary_entropy(confidence: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return -c log2 c - (1 - c) log2 (1 - c) of confidences [n]; 0 where c is 0 or 1."""
    c = confidence.astype(np.float64).clip(0, 1)
    both = np.stack([c, 1 - c])
    terms = both * np.log2(both, out=np.zeros_like(both), where=both > 0)
    return np.asarray(0.0 - terms.sum(0), np.float64)


def class_uncertainty(detections: NDArray[np.floating], classes: int) -> ClassUncertainty:
    """Return the uncertainty of each class of detections [n, 6]; of equal rows the first counts."""
    values, rows = np.zeros(classes, np.float32), np.full(classes, -1, np.int64)
    own = binary_entropy(detections[:, 4])
    for row in np.flatnonzero(detections[:, 4] >= np.float32(LEAST_CONFIDENCE)).tolist():
        k = int(detections[row, 5])
        if rows[k] < 0 or own[row] > own[rows[k]]:
            values[k], rows[k] = own[row], row
    return ClassUncertainty(values, rows)


def balanced_scores(predictions: Iterable[Prediction], context: ScoringContext) -> Stream:
    """Yield v of every image before any choice, with its u_k as class vector and its feature.

    The breakdown has the detection that adds most: class, confidence, box and u_k.
    """
    features: Features = {}
    if diversity_window(context, WINDOW):
        predictions = collect_features(predictions, context, features)
    counts = labelled_counts(context)
    for whole in plain_detections(predictions, context):
        feature = features.pop(whole.position, None)
        if whole.error is not None:
            yield Scored(whole.position, whole.path, None)
            continue
        seen = class_uncertainty(whole.detections, len(counts))
        score = float(ClassValues(seen.values[None], counts).values[0])
        yield Scored(
            *(whole.position, whole.path, score),
            class_vector=seen.values,
            breakdown=_breakdown(seen, counts, whole.detections),
            feature=feature,
        )


def rank_balanced(scores: Stream, context: ScoringContext) -> Stream:
    """Rank the images of the window above all others, greedily by (v + V) * d."""
    counts, window = labelled_counts(context, tell=True), diversity_window(context, WINDOW)
    log.info("balanced: order of the %d images of the largest values, one by one", window)

    def of_window(images: list[Scored]) -> ClassValues:
        shown = [one.class_vector for one in images if one.class_vector is not None]
        own = ClassValues(np.stack(shown), counts)
        own.values += EXPLORATION * own.values.max()
        return own

    # Every class adds at most 1.
    return spread_window(scores, window, len(counts) + 1.0, context.settings, of_window)


def _breakdown(
    seen: ClassUncertainty, counts: NDArray[np.float64], detections: NDArray[np.floating]
) -> dict[str, object] | None:
    """Return the class and detection of the largest term of v; None without any."""
    k = int((seen.values / np.sqrt(1 + counts)).argmax())
    if seen.rows[k] < 0:
        return None
    row = detections[seen.rows[k]].tolist()
    return {
        "class": k,
        "confidence": round(row[4], 4),
        "box": [round(side, 1) for side in row[:4]],
        "uncertainty": round(float(seen.values[k]), 4),
    }


ALGORITHM = Algorithm(balanced_scores, rank_balanced, confidence=LEAST_CONFIDENCE)
