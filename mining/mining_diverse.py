"""Diverse mining: images that are worth a label by their score and unlike those ranked above.

The images with the largest base scores are ranked anew, farthest first (`mining/farthest_first.py`)
between what the detector's backbone sees in them: near-duplicates of a chosen image wait.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Iterable, Iterator

import numpy as np

from inference.predictions import Prediction
from inference.predictor import Predictor
from mining.diversity import UNIT, Features, noting_features
from mining.farthest_first import farthest_first
from mining.mining_cald import score_stream
from mining.mining_entropy import EMPTY_LAST, entropy_scores
from mining.scores import Scored, place_empty
from settings.detect import MiningSettings

log = logging.getLogger(__name__)

DEFAULT_SHARE, DEFAULT_LIMIT = 0.25, 10_000
STEP = 2e-6
"""Each image of the window is at least this far above the next: result.tsv has six digits."""


class _FirstIsMore(str):
    """A text that is more than those after it in the alphabet."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


def diverse_scores(
    predictions: Iterable[Prediction],
    predictor: Predictor,
    settings: MiningSettings,
    total: int,
) -> Iterator[Scored]:
    """The base score of every image of a stream of `total`, with its feature.

    Base scores are CALD's first stage or the entropy of the detections, by the setting
    `diverse_score`.
    """
    features: Features = {}
    seen = predictions
    if window_size(settings.diverse_window, total):
        seen = noting_features(predictions, predictor, settings, features)
    if settings.diverse_score == "cald":
        scores = score_stream(seen, predictor, settings)
    else:
        scores = entropy_scores(seen, predictor)
    for scored in scores:
        feature = features.pop(scored.position, None)
        yield scored if scored.score is None else scored._replace(feature=feature)


def rank_diverse(
    scores: Iterable[Scored], predictor: Predictor, settings: MiningSettings, total: int
) -> Iterator[Scored]:
    """From the scores of `diverse_scores` the final ones: those of the window above all others."""
    features: Features = {}
    window = window_size(settings.diverse_window, total)
    if settings.diverse_score == "cald":
        largest, last = 1.0, 0.0
    else:
        # Every detection adds less than 1.
        largest, last = float(predictor.thresholds.max_detections), EMPTY_LAST
    log.info(
        "diverse: the %d best images by %s are ranked farthest first",
        window,
        settings.diverse_score,
    )
    return place_empty(
        spread(_noted(scores, features), features, window, largest),
        settings.empty_images,
        first=largest + 2,
        last=last,
        seed=settings.seed,
    )


def _noted(scores: Iterable[Scored], features: Features) -> Iterator[Scored]:
    """The same stream; `features` gets that of each image as it passes."""
    for scored in scores:
        if scored.feature is not None:
            features[scored.position] = scored.feature
        yield scored._replace(feature=None)


def window_size(setting: int, candidates: int) -> int:
    """How many images are ranked anew: `setting`, or with -1 a fourth of the candidates, at most
    `DEFAULT_LIMIT`.
    """
    if setting >= 0:
        return setting
    return min(math.ceil(DEFAULT_SHARE * candidates), DEFAULT_LIMIT)


def spread(
    stream: Iterable[Scored], features: Features, window: int, largest: float
) -> Iterator[Scored]:
    """The same stream; the `window` images of the largest scores get new ones, above `largest`.

    With w the score of an image as a share of the window's best, and d its distance to the nearest
    image ranked above (0 to 1), the new score is

        largest + w * d + STEP * images of the window ranked below

    and d = 1 for the first. Scores from 0 to `largest` are expected. Images without a score pass as
    they are, and so does an image as soon as it has left the window; of equal scores the earlier
    name stays in and comes first. Features are taken out of `features` as images pass.
    """
    best: list[tuple[float, _FirstIsMore, int, Scored, np.ndarray]] = []
    for scored in stream:
        feature = features.pop(scored.position, None)
        if scored.score is None or window == 0:
            yield scored
            continue
        assert feature is not None, "an image with a score has been seen"
        entry = (scored.score, _FirstIsMore(scored.path), -scored.position, scored, feature)
        if len(best) < window:
            heapq.heappush(best, entry)
        else:
            yield heapq.heappushpop(best, entry)[3]
    if not best:
        return
    best.sort(reverse=True)
    weights = np.array([entry[0] for entry in best])
    top = weights.max()
    weights = weights / top if top > 0 else np.ones(len(best))
    order, gains = farthest_first(weights, np.stack([entry[4] for entry in best]), UNIT)
    below = STEP * np.arange(len(best) - 1, -1, -1)
    for index, own in zip(order.tolist(), (largest + gains + below).tolist(), strict=True):
        yield best[index][3]._replace(score=own)
