"""CALD's second stage: class balance among the most informative images.

Source: «Consistency-based Active Learning for Object Detection» (arXiv 2103.10374), stage 2. With l
the labelled objects of each class per image and c an image's class vector (per class the largest
confidence of its objects, averaged over its views), the images with the largest
JS(softmax(l), softmax(c)) come first. The paper takes a budget; here the best `window` images are
ranked anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from mining.consistency import jensen_shannon
from mining.scores import Scored, Stream, rank_window

DEFAULT_SHARE = 0.12
"""The paper's window on COCO: 1.2 times the budget of 1,000, of 10,000 candidates."""
BALANCED_FIRST = 2.0
"""Largest score in the window: 1, and the divergence as a fraction of ln 2."""


def class_divergence(labelled: Sequence[float], candidates: np.ndarray) -> np.ndarray:
    """Return JS(softmax(labelled), softmax(candidate)) in nats, float64 [n], of vectors [n, c]."""
    known = torch.tensor(labelled, dtype=torch.float64).softmax(0)
    shown = torch.from_numpy(np.asarray(candidates, np.float64).reshape(-1, len(known))).softmax(1)
    return jensen_shannon(known.expand_as(shown), shown).numpy()


def rebalance(stream: Iterable[Scored], labelled: Sequence[float], window: int) -> Stream:
    """Give the `window` images of the largest scores new ones, from 1 to 2.

    The new score is 1 + divergence / ln 2, and 2 for a class vector of zeros: CALD takes those
    first. Scores up to 1 are expected; of equal ones the later name is in the window.
    """

    def new_scores(images: list[Scored]) -> list[float]:
        vectors = [one.class_vector for one in images]
        shown = np.stack([np.zeros(len(labelled)) if v is None else v for v in vectors])
        share = class_divergence(labelled, shown) / math.log(2)
        share[shown.sum(1) == 0] = BALANCED_FIRST - 1
        return [1 + own for own in share.tolist()]

    return rank_window(
        stream, window, new_scores, key=lambda one: (one.score, one.path, one.position)
    )
