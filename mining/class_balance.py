"""Class balance: CALD's second stage, and the value of images by the classes that they show.

Source of the stage: «Consistency-based Active Learning for Object Detection» (arXiv 2103.10374).
With l the labelled objects of each class per image and c an image's class vector (per class the
largest confidence of its objects, averaged over its views), the images with the largest
JS(softmax(l), softmax(c)) come first, among the best `window` images of stage 1.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mining.consistency import jensen_shannon
from mining.scores import Scored, ScoringContext, Stream, rank_window
from utils.errors import Code, TaskError

log = logging.getLogger(__name__)

BALANCED_FIRST = 2.0
"""Above every score in the window: 1, and a share of the largest divergence or value."""
LARGEST_SHARE = 1 - 1e-6
"""Of the first greedy choice, so that empty images may still come before."""

Shares = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Class vectors [n, c] to numbers from 0 to 1, float64 [n]."""


def labelled_objects(context: ScoringContext) -> Sequence[float] | None:
    """Return the objects of each class per labelled image, from the setting or the weights.

    None where neither tells. Raises TaskError(CONFIG) for a wrong number of classes.
    """
    given, count = context.settings.labelled_objects, context.network.network.num_classes
    if given and len(given) != count:
        raise TaskError(
            Code.CONFIG,
            f"the setting labelled_objects has {len(given)} numbers but the weights know {count} "
            "classes: give one number for each, in their order.",
        )
    return given or context.network.labelled_objects


def labelled_counts(context: ScoringContext, *, tell: bool = False) -> NDArray[np.float64]:
    """Return the labelled objects of each class [c]; 0 where the weights do not tell."""
    known, images = labelled_objects(context), context.network.labelled_images
    if known is None or not images:
        if tell:
            log.info(
                "%s: the counts of labelled objects start at 0, the weights do not say how many "
                "images they were trained on",
                context.settings.mining_algorithm,
            )
        return np.zeros(context.network.network.num_classes)
    return np.rint(np.array(known, np.float64) * images)


def class_divergence(labelled: Sequence[float], candidates: np.ndarray) -> np.ndarray:
    """Return JS(softmax(labelled), softmax(candidate)) in nats, float64 [n], of vectors [n, c]."""
    known = torch.tensor(labelled, dtype=torch.float64).softmax(0)
    shown = torch.from_numpy(np.asarray(candidates, np.float64).reshape(-1, len(known))).softmax(1)
    return jensen_shannon(known.expand_as(shown), shown).numpy()


def divergence_shares(labelled: Sequence[float]) -> Shares:
    """Return divergences as shares of ln 2; 1 for a vector of zeros, which CALD takes first."""

    def shares(shown: NDArray[np.float64]) -> NDArray[np.float64]:
        share = class_divergence(labelled, shown) / math.log(2)
        share[shown.sum(1) == 0] = 1
        return share

    return shares


def greedy_shares(counts: NDArray[np.float64]) -> Shares:
    """Return values at each greedy choice as shares of the first, under labelled `counts` [c]."""

    def shares(shown: NDArray[np.float64]) -> NDArray[np.float64]:
        own = ClassValues(shown, counts)
        gains, taken = np.zeros(len(shown)), np.zeros(len(shown), np.bool_)
        top = own.values.max()
        for _ in range(len(shown) if top > 0 else 0):
            chosen = int(np.where(taken, -np.inf, own.values).argmax())
            gains[chosen] = LARGEST_SHARE * max(own.values[chosen] / top, 0.0)
            taken[chosen] = True
            own.choose(chosen)
        return gains

    return shares


class ClassValues:
    """Values of images by the classes that they show, which fall with every image chosen.

        v = sum over classes of shown / sqrt(1 + counts)

    `shown` [n, c] are >= 0; `counts` [c] are the labelled objects, to which `choose` adds what the
    chosen image shows. Sums go class by class, so that no value depends on a machine's way to add.
    """

    def __init__(self, shown: NDArray[np.floating], counts: NDArray[np.float64]) -> None:
        self._shown = np.ascontiguousarray(shown.T)
        self._counts = counts.astype(np.float64)
        self.values = np.zeros(len(shown))
        """float64 [n]"""
        weights = 1 / np.sqrt(1 + self._counts)
        for k in np.flatnonzero(self._shown.any(1)).tolist():
            self.values += self._shown[k].astype(np.float64) * weights[k]

    def choose(self, index: int) -> None:
        """Count the objects of an image, and lower the values of all that show its classes."""
        for k in np.flatnonzero(self._shown[:, index]).tolist():
            before = self._counts[k]
            self._counts[k] = after = before + float(self._shown[k, index])
            change = 1 / math.sqrt(1 + after) - 1 / math.sqrt(1 + before)
            self.values += self._shown[k].astype(np.float64) * change


def rebalance(stream: Iterable[Scored], window: int, shares: Shares, seed: int = 0) -> Stream:
    """Give the `window` images of the largest scores new ones from 1 to 2: 1 + their share.

    Scores up to 1 are expected; an image without a class vector shows nothing.
    """

    def new_scores(images: list[Scored]) -> Stream:
        known = [one.class_vector for one in images]
        classes = next((len(vector) for vector in known if vector is not None), 0)
        shown = np.stack([np.zeros(classes) if v is None else v for v in known])
        for one, share in zip(images, shares(shown.astype(np.float64)).tolist(), strict=True):
            yield one._replace(score=1 + share)

    return rank_window(stream, window, new_scores, seed)
