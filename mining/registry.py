"""The table of mining algorithms, and one of them run over a list of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from inference.predictions import Prediction
from inference.predictor import Predictor
from mining.mining_aldd import aldd_scores
from mining.mining_cald import rank_cald, score_stream
from mining.mining_diverse import diverse_scores, rank_diverse
from mining.mining_entropy import EMPTY_LAST, entropy_scores
from mining.mining_misses import miss_scores
from mining.mining_random import random_scores, unseen_images
from mining.scores import Report, Scored, counted, in_order, place_empty
from settings.detect import MiningSettings

Stream = Iterator[Scored]
Score = Callable[[Iterable[Prediction], Predictor, MiningSettings, int], Stream]
Rank = Callable[[Stream, Predictor, MiningSettings, int], Stream]
ScoreUnseen = Callable[[Iterable[Prediction], MiningSettings], Stream]


@dataclass(frozen=True)
class Algorithm:
    """A way to score a stream of predictions (their parts, with views): one `Scored` an image.

    Just one of both is given: `unseen` for an algorithm that needs no network.
    """

    seeing: Score | None = None
    unseen: ScoreUnseen | None = None
    rank: Rank | None = None
    """What becomes of the scores of `seeing` once more than one image is known."""
    separate: bool = False
    """Whether `seeing` or `unseen` scores every image by itself, so that scores on disk are good
    for a task that goes on, and several processes can share the images."""

    def __call__(
        self,
        predictions: Iterable[Prediction],
        predictor: Predictor | None,
        settings: MiningSettings,
        total: int,
    ) -> Stream:
        """The scores of a stream of `total` images, larger for those to label first; None for
        unreadable ones.
        """
        scores = self.scores(predictions, predictor, settings, total)
        return self.ranked(scores, predictor, settings, total)

    def scores(
        self,
        predictions: Iterable[Prediction],
        predictor: Predictor | None,
        settings: MiningSettings,
        total: int,
    ) -> Stream:
        """As a call, before `ranked`."""
        if self.unseen is not None:
            return self.unseen(predictions, settings)
        assert self.seeing is not None
        assert predictor is not None, f"{settings.mining_algorithm} needs a network"
        return self.seeing(predictions, predictor, settings, total)

    def ranked(
        self, scores: Stream, predictor: Predictor | None, settings: MiningSettings, total: int
    ) -> Stream:
        """The final scores, from those of `scores`."""
        if self.rank is None:
            return scores
        assert predictor is not None
        return self.rank(scores, predictor, settings, total)


def _cald(
    predictions: Iterable[Prediction], predictor: Predictor, settings: MiningSettings, _: int
) -> Stream:
    return score_stream(predictions, predictor, settings)


def _aldd(
    predictions: Iterable[Prediction], predictor: Predictor, settings: MiningSettings, _: int
) -> Stream:
    return aldd_scores(predictions, predictor, settings)


def _entropy(
    predictions: Iterable[Prediction], predictor: Predictor, settings: MiningSettings, _: int
) -> Stream:
    return entropy_scores(predictions, predictor)


def _rank_entropy(scores: Stream, predictor: Predictor, settings: MiningSettings, _: int) -> Stream:
    return place_empty(
        scores,
        settings.empty_images,
        # Every detection adds less than 1: above any sum.
        first=float(predictor.thresholds.max_detections),
        last=EMPTY_LAST,
        seed=settings.seed,
    )


def _misses(
    predictions: Iterable[Prediction], predictor: Predictor, settings: MiningSettings, _: int
) -> Stream:
    return miss_scores(predictions, predictor, settings)


def _rank_misses(scores: Stream, predictor: Predictor, settings: MiningSettings, _: int) -> Stream:
    return place_empty(
        scores,
        settings.empty_images,
        # Two looks, and every detection adds at most 1.
        first=2.0 * predictor.thresholds.max_detections,
        last=-1.0,
        seed=settings.seed,
    )


def _random(predictions: Iterable[Prediction], settings: MiningSettings) -> Stream:
    return random_scores(predictions, settings.seed)


ALGORITHMS = {
    "cald": Algorithm(seeing=_cald, rank=rank_cald, separate=True),
    "aldd": Algorithm(seeing=_aldd, separate=True),
    "diverse": Algorithm(seeing=diverse_scores, rank=rank_diverse, separate=True),
    "entropy": Algorithm(seeing=_entropy, rank=_rank_entropy, separate=True),
    "misses": Algorithm(seeing=_misses, rank=_rank_misses, separate=True),
    "random": Algorithm(unseen=_random, separate=True),
}
"""By the names that the setting `mining_algorithm` uses."""


def mine(
    predictor: Predictor | None,
    paths: Sequence[str],
    settings: MiningSettings,
    *,
    tell: Report | None = None,
) -> list[tuple[str, float]]:
    """(path, score) of every candidate, in the order of `paths`; larger means «label me first».

    By the algorithm that the settings name; `predictor` may be None for one that needs none.
    Unreadable images come last.
    """
    algorithm = ALGORITHMS[settings.mining_algorithm]
    if algorithm.unseen is not None:
        predictions = unseen_images(paths, workers=settings.workers)
    else:
        assert predictor is not None, f"{settings.mining_algorithm} needs a network"
        predictions = predictor.stream_parts(
            paths, batch_size=settings.batch_size, workers=settings.workers, keep_views=True
        )
    scores = algorithm(predictions, predictor, settings, len(paths))
    return in_order(counted(scores, len(paths), tell), paths)
