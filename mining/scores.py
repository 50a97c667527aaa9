"""Scores of a stream of images, and the interface that every mining algorithm implements.

An algorithm is one file `mining_<name>.py` that ends with `ALGORITHM = Algorithm(score, ...)`;
`mining/registry.py` finds it by its file name, which is also its name in the settings.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import os
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.images import Pixels
from data.stream import stream_images
from inference.batching import bucket_by_shape
from inference.predictions import NetworkInput, Prediction
from inference.predictor import Predictor
from mining.data_augment import image_generator
from settings.detect import MiningSettings
from utils.memory import Pieces

UNREADABLE_SCORE = -1.0
"""Score of an unreadable image; less, where other scores are below 0."""


class Scored(NamedTuple):
    """The score of one image of a stream; larger means «label first».

    The score is None for an unreadable image, and for one without objects (`empty`) until
    `place_empty` sets it.
    """

    position: int
    path: str
    score: float | None
    empty: bool = False
    class_vector: NDArray[np.floating] | None = None
    """float [classes]: per class the largest confidence of the image's objects."""
    breakdown: dict[str, object] | None = None
    """Score breakdown in plain values, of the part with the score (`mining/explanations.py`)."""
    feature: NDArray[np.float32] | None = None
    """float32 [64], whole numbers: the image's backbone feature (`mining/diversity.py`)."""

    def to_plain(self) -> dict[str, object]:
        """Return plain values that restore the score bit by bit."""
        values: dict[str, object] = {"score": self.score}
        if self.empty:
            values["empty"] = True
        if self.breakdown is not None:
            values["breakdown"] = self.breakdown
        if self.class_vector is not None:
            vector = self.class_vector
            shown = {str(c): float(vector[c]) for c in np.flatnonzero(vector).tolist()}
            values["classes"] = [len(vector), str(vector.dtype), shown]
        if self.feature is not None:
            values["feature"] = self.feature.astype(int).tolist()
        return values

    @classmethod
    def from_plain(cls, position: int, path: str, values: Mapping[str, Any]) -> Scored:
        """Return the score that `to_plain` gave, without its breakdown."""
        score, feature, vector = values.get("score"), values.get("feature"), None
        if "classes" in values:
            count, dtype, shown = values["classes"]
            vector = np.zeros(count, np.dtype(dtype))
            for index, value in shown.items():
                vector[int(index)] = value
        return cls(
            position,
            path,
            None if score is None else float(score),
            empty=bool(values.get("empty")),
            class_vector=vector,
            feature=None if feature is None else np.array(feature, np.float32),
        )


class ScoredPart(NamedTuple):
    """The score of an image or a tile; None without objects, and for an unreadable image."""

    prediction: Prediction
    score: float | None = None
    class_vector: NDArray[np.floating] | None = None
    breakdown: dict[str, object] | None = None


Result = TypeVar("Result")
Stream = Iterator[Scored]


def tie_draw(seed: int, path: str) -> int:
    """Draw below 2^64 from the seed and the image's base name only; the larger comes first."""
    text = f"{seed}\0{os.path.basename(path)}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


@dataclass(frozen=True)
class ScoringContext:
    """What an algorithm may use: the network, the settings, and the number of candidates."""

    predictor: Predictor | None
    settings: MiningSettings
    total: int

    @property
    def network(self) -> Predictor:
        """The predictor of an algorithm that needs one."""
        assert self.predictor is not None, f"{self.settings.mining_algorithm} needs a network"
        return self.predictor


def _keep_order(scores: Stream, _: ScoringContext) -> Stream:
    return scores


@dataclass(frozen=True)
class Algorithm:
    """A mining algorithm: `score` maps each image to a score, `rank` adjusts the scores.

    `score` takes a stream of predictions (an image's tiles one by one, with their network inputs)
    and scores every image by itself, so that a task that is resumed reads scores from its journal
    and ranks share the images. `rank` takes the scores of all images; a breakdown that it returns
    adds to that of the score.
    """

    score: Callable[[Iterable[Prediction], ScoringContext], Stream]
    rank: Callable[[Stream, ScoringContext], Stream] = _keep_order
    confidence: float = 1.0
    """Where `conf_thres` is higher, kept inputs have their detections down to this confidence."""
    threshold: str = ""
    """The setting that lets more detections in."""


def images_without_network(
    paths: Sequence[str],
    *,
    workers: int,
    positions: Iterable[int] | None = None,
    pixels: Mapping[int, Pixels] | None = None,
) -> Iterator[Prediction]:
    """Yield every image as a prediction without detections and without a forward pass.

    Images are decoded, so that unreadable files are known. With `positions` only those, in that
    order; `pixels` are decoded already.
    """
    for decoded in stream_images(paths, workers=workers, positions=positions, pixels=pixels):
        size = None if decoded.image is None else decoded.image.shape[:2]
        yield Prediction(
            decoded.position, decoded.path, size, error=decoded.error, mark=decoded.mark
        )


def kept_input(prediction: Prediction) -> NetworkInput:
    """Return the network input of a readable image or tile."""
    assert prediction.network_input is not None, "mining needs predictions that keep their inputs"
    return prediction.network_input


def stack_inputs(group: Sequence[Prediction]) -> Tensor:
    """Return the network inputs of a group of one shape: uint8 [b, 3, h, w], RGB."""
    return torch.stack([kept_input(one).image for one in group])


def upload(arrays: Sequence[NDArray[Any]], device: torch.device) -> list[Tensor]:
    """Return arrays as float64 tensors on a device; one copy, and the host does not wait."""
    host = torch.from_numpy(np.concatenate([one.ravel() for one in arrays]).astype(np.float64))
    there = host if device.type == "cpu" else host.pin_memory().to(device, non_blocking=True)
    parts = there.split([one.size for one in arrays])
    return [part.view(one.shape) for part, one in zip(parts, arrays, strict=True)]


def input_shape(prediction: Prediction) -> tuple[int, ...] | None:
    """Return the shape (3, h, w) of a prediction's network input; None without one."""
    shown = prediction.network_input
    return None if shown is None else tuple(shown.image.shape)


def map_by_shape(
    predictions: Iterable[Prediction],
    work: Callable[[list[Prediction]], Sequence[Result]],
    context: ScoringContext,
    *,
    shape_of: Callable[[Prediction], tuple[int, ...] | None] = input_shape,
) -> Iterator[Result]:
    """Apply `work` to batches of up to `batch_size` of one shape, on the predictor's workers.

    Predictions without a shape come alone, and no batch holds images of two shards. Memory is
    bounded as in `bucket_by_shape`; a batch that runs out of memory is done in pieces (`Pieces`).
    """
    pieces = Pieces()
    batches = bucket_by_shape(
        predictions, shape_of, context.settings.batch_size, shard_of=lambda one: one.shard
    )

    def in_pieces(batch: list[Prediction]) -> Iterator[Result]:
        return chain.from_iterable(pieces.run(lambda part: work(batch[part]), len(batch)))

    return chain.from_iterable(context.network.pool.map(in_pieces, batches))


def score_by_shape(
    predictions: Iterable[Prediction],
    score: Callable[[Sequence[Prediction]], list[ScoredPart]],
    context: ScoringContext,
) -> Stream:
    """Yield one score per image; `score` gets batches of network inputs of one shape.

    Images without a network input are unreadable or without objects, and have no score.
    """

    def work(group: list[Prediction]) -> list[ScoredPart]:
        return [ScoredPart(one) for one in group] if input_shape(group[0]) is None else score(group)

    return best_of_parts(map_by_shape(predictions, work, context))


def best_of_parts(parts: Iterable[ScoredPart]) -> Stream:
    """Yield one score per image once its last tile is scored: the largest of those with objects.

    Class vectors are joined by their largest entries.
    """
    waiting: dict[int, list[ScoredPart]] = {}
    for part in parts:
        # Without the network input, which would keep the pixels of its whole batch.
        image = replace(part.prediction, network_input=None)
        own = waiting.setdefault(image.position, [])
        own.append(part._replace(prediction=image))
        if len(own) < image.tiles:
            continue
        del waiting[image.position]
        found = [each for each in own if each.score is not None]
        best = max(found, key=lambda each: each.score or 0.0, default=None)
        vectors = [each.class_vector for each in own if each.class_vector is not None]
        yield Scored(
            image.position,
            image.path,
            None if best is None else best.score,
            empty=best is None and image.error is None,
            class_vector=np.max(vectors, axis=0) if vectors else None,
            breakdown=None if best is None else best.breakdown,
        )


def place_empty(
    stream: Iterable[Scored], settings: MiningSettings, *, first: float, last: float
) -> Stream:
    """Set the scores of images without objects by the setting `empty_images`.

    They get the score `first` or `last`. With `mixed` they wait for the end and are spread evenly
    through the ranking: each gets the quantile of the others' scores at a random level, which
    depends on the seed and the image's name only.
    """
    rule, others, waiting = settings.empty_images, array("d"), []
    for scored in stream:
        if not scored.empty:
            if scored.score is not None and rule == "mixed":
                others.append(scored.score)
            yield scored
        elif rule == "mixed":
            waiting.append(scored)
        else:
            yield scored._replace(score=first if rule == "first" else last)
    if not waiting:
        return
    shares = [image_generator(settings.seed, one.path, "empty").random() for one in waiting]
    levels = np.quantile(others or [last, first], shares)
    for one, level in zip(waiting, levels.tolist(), strict=True):
        yield one._replace(score=level)


def window_size(setting: int, candidates: int, share: float, limit: int = sys.maxsize) -> int:
    """Return the images that are ranked anew: `setting`, or with -1 a share of the candidates, at
    most `limit`.
    """
    return setting if setting >= 0 else min(math.ceil(share * candidates), limit)


def rank_window(
    stream: Iterable[Scored],
    window: int,
    new_scores: Callable[[list[Scored]], Iterable[Scored]],
    seed: int,
) -> Stream:
    """Pass the `window` images of the largest scores through `new_scores`.

    It gets them by falling score; a draw decides between equal ones. Images without a score and
    those that leave the window pass unchanged.
    """
    best: list[tuple[tuple[float, int, str, int], Scored]] = []
    for scored in stream:
        if scored.score is None or window == 0:
            yield scored
            continue
        own = (scored.score, tie_draw(seed, scored.path), scored.path, scored.position)
        if len(best) < window:
            heapq.heappush(best, (own, scored))
        else:
            yield heapq.heappushpop(best, (own, scored))[1]
    if best:
        yield from new_scores([scored for _, scored in sorted(best, reverse=True)])


def unreadable_score(scores: Iterable[float | None]) -> float:
    """Return the score below all others, and below 0."""
    return min([0.0, *(s for s in scores if s is not None)]) + UNREADABLE_SCORE


def in_order(stream: Iterable[Scored], paths: Sequence[str]) -> list[tuple[str, float]]:
    """Return (path, score) of every image of a stream, in the order of `paths`.

    An unreadable image gets `UNREADABLE_SCORE`, or 1 less than the lowest score below 0.
    """
    scores: list[float | None] = [None] * len(paths)
    for scored in stream:
        scores[scored.position] = scored.score
    last = unreadable_score(scores)
    return [(path, last if s is None else s) for path, s in zip(paths, scores, strict=True)]
