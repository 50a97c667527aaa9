"""Diverse mining: a base score, weighted by the distance to the images ranked above.

The images with the largest base scores are ranked anew in the farthest-first order of their
backbone features (`mining/diversity.py`): near-duplicates of a chosen image come late.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from inference.predictions import Prediction
from mining.diversity import Features, collect_features, diversity_window, spread_window
from mining.mining_cald import cald_scores
from mining.mining_entropy import EMPTY_LAST, entropy_scores
from mining.scores import (
    Algorithm,
    Scored,
    ScoringContext,
    Stream,
    place_empty,
)

log = logging.getLogger(__name__)

WINDOW = 0.25
"""Share of the candidates in the window."""


def diverse_scores(predictions: Iterable[Prediction], context: ScoringContext) -> Stream:
    """Yield the base score of every image, with its feature.

    Base scores are CALD's first stage or the entropy of the detections, by the setting
    `diverse_score`.
    """
    features: Features = {}
    if diversity_window(context, WINDOW):
        predictions = collect_features(predictions, context, features)
    base_scores = cald_scores if context.settings.diverse_score == "cald" else entropy_scores
    for scored in base_scores(predictions, context):
        feature = features.pop(scored.position, None)
        yield scored if scored.score is None else scored._replace(feature=feature)


def rank_diverse(scores: Iterable[Scored], context: ScoringContext) -> Stream:
    """Rank the images of the window above all others, farthest first."""
    settings, window = context.settings, diversity_window(context, WINDOW)
    if settings.diverse_score == "cald":
        largest, last = 1.0, 0.0
    else:
        # Every detection adds less than 1.
        largest, last = float(context.network.config.nms.max_detections), EMPTY_LAST
    log.info(
        "diverse: farthest-first order of the %d best images by %s", window, settings.diverse_score
    )
    spread = spread_window(scores, window, largest, settings)
    return place_empty(spread, settings, first=largest + 2, last=last)


ALGORITHM = Algorithm(diverse_scores, rank_diverse, threshold="conf_thres")
