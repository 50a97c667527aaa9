"""Scores of a stream of images, and the interface that every mining algorithm implements.

An algorithm is one file `mining_<name>.py` that ends with `ALGORITHM = Algorithm(score, ...)`;
`mining/registry.py` finds it by its file name, which is also its name in the settings.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from data.stream import stream_images
from inference.batching import bucket_by_shape
from inference.predictions import Prediction
from inference.predictor import Predictor
from mining.data_augment import image_generator
from settings.detect import MiningSettings

UNREADABLE_SCORE = -1.0
"""Score of an unreadable image; less, where other scores are below 0."""

OnProgress = Callable[[int, int], object]
"""Callback with (images done, images in all)."""


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
    """The score of one of `parts` tiles of an image; None for a tile without objects."""

    position: int
    path: str
    parts: int
    score: float | None
    unreadable: bool = False
    class_vector: NDArray[np.floating] | None = None
    breakdown: dict[str, object] | None = None
    shard: int = 0


Stream = Iterator[Scored]


def ranking(scores: Sequence[float | None]) -> list[int]:
    """Return positions in the order of `result.tsv`: by falling score as written there, equal ones
    in the order of the candidates, those without a score last.
    """
    written = np.array([-np.inf if s is None else round(s, 6) for s in scores], np.float64)
    order: list[int] = np.argsort(-written, kind="stable").tolist()
    return order


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
    and ranks share the images. `rank` takes the scores of all images.
    """

    score: Callable[[Iterable[Prediction], ScoringContext], Stream]
    rank: Callable[[Stream, ScoringContext], Stream] = _keep_order
    needs_network: bool = True


def rank_images(
    algorithm: Algorithm,
    predictor: Predictor | None,
    paths: Sequence[str],
    settings: MiningSettings,
    *,
    on_progress: OnProgress | None = None,
) -> list[tuple[str, float]]:
    """Return (path, score) of every candidate in the order of `paths`; larger means «label first».

    Unreadable images score below all others. `predictor` may be None for an algorithm that needs
    no network.
    """
    context = ScoringContext(predictor, settings, len(paths))
    if algorithm.needs_network:
        predictions = context.network.stream_tiles(paths, keep_inputs=True)
    else:
        predictions = images_without_network(paths, workers=settings.workers)
    scores = algorithm.rank(algorithm.score(predictions, context), context)
    return in_order(counted(scores, len(paths), on_progress), paths)


def images_without_network(
    paths: Sequence[str], *, workers: int, positions: Iterable[int] | None = None
) -> Iterator[Prediction]:
    """Yield every image as a prediction without detections and without a forward pass.

    Images are decoded, so that unreadable files are known. With `positions` only those, in that
    order.
    """
    for decoded in stream_images(paths, workers=workers, positions=positions):
        size = None if decoded.image is None else decoded.image.shape[:2]
        yield Prediction(decoded.position, decoded.path, size, error=decoded.error)


class Sharded(Protocol):
    """An item that belongs to one image of a stream."""

    @property
    def shard(self) -> int:
        """The image's shard."""
        ...


Item = TypeVar("Item", bound=Sharded)
Result = TypeVar("Result")


def map_by_shape(
    items: Iterable[Item],
    work: Callable[[list[Item]], Sequence[Result]],
    *,
    shape_of: Callable[[Item], tuple[int, ...] | None],
    context: ScoringContext,
) -> Iterator[Result]:
    """Apply `work` to batches of up to `batch_size` items of one shape, on the predictor's workers.

    Items without a shape come alone, and no batch holds items of two shards. Memory is bounded as
    in `bucket_by_shape`.
    """
    batches = bucket_by_shape(
        items, shape_of, context.settings.batch_size, shard_of=lambda one: one.shard
    )
    return chain.from_iterable(context.network.pool.map(work, batches))


def input_shape(prediction: Prediction) -> tuple[int, ...] | None:
    """Return the shape (3, h, w) of a prediction's network input; None without one."""
    shown = prediction.network_input
    return None if shown is None else tuple(shown.image.shape)


def best_of_parts(parts: Iterable[ScoredPart]) -> Iterator[Scored]:
    """Yield one score per image once its last tile is scored: the largest of those with objects.

    Class vectors are joined by their largest entries.
    """
    waiting: dict[int, list[ScoredPart]] = {}
    for part in parts:
        own = waiting.setdefault(part.position, [])
        own.append(part)
        if len(own) < part.parts:
            continue
        del waiting[part.position]
        scores = [each.score for each in own if each.score is not None]
        explained = [e for e in own if e.score is not None and e.breakdown is not None]
        vectors = [each.class_vector for each in own if each.class_vector is not None]
        yield Scored(
            part.position,
            part.path,
            max(scores, default=None),
            empty=not scores and not part.unreadable,
            class_vector=np.max(vectors, axis=0) if vectors else None,
            breakdown=max(explained, key=lambda e: e.score or 0.0).breakdown if explained else None,
        )


def place_empty(
    stream: Iterable[Scored], rule: str, *, first: float, last: float, seed: int
) -> Iterator[Scored]:
    """Set the scores of images without objects by the setting `empty_images`.

    They get the score `first` or `last`. With `mixed` they wait for the end and are spread evenly
    through the ranking: each gets the quantile of the others' scores at a random level, which
    depends on `seed` and the image's name only.
    """
    others, waiting = array("d"), []
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
    shares = [image_generator(seed, one.path, "empty").random() for one in waiting]
    levels = np.quantile(others or [last, first], shares)
    for one, level in zip(waiting, levels.tolist(), strict=True):
        yield one._replace(score=level)


def counted(
    stream: Iterable[Scored], total: int, on_progress: OnProgress | None
) -> Iterator[Scored]:
    """Pass the stream on and call `on_progress` after every image."""
    for done, scored in enumerate(stream, 1):
        if on_progress:
            on_progress(done, total)
        yield scored


def in_order(stream: Iterable[Scored], paths: Sequence[str]) -> list[tuple[str, float]]:
    """Return (path, score) of every image of a stream, in the order of `paths`.

    An unreadable image gets `UNREADABLE_SCORE`, or 1 less than the lowest score below 0.
    """
    scores: list[float | None] = [None] * len(paths)
    for scored in stream:
        scores[scored.position] = scored.score
    last = min([0.0, *(s for s in scores if s is not None)]) + UNREADABLE_SCORE
    return [(path, last if s is None else s) for path, s in zip(paths, scores, strict=True)]
