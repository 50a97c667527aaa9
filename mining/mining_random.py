"""Random mining: a draw per image, for comparison; it needs neither weights nor a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from data.loaders import stream_images
from inference.predictions import Prediction
from mining.data_augment import image_generator
from mining.scores import Scored


def random_score(seed: int, path: str) -> float:
    """Uniform in [0, 1): of the seed and the base name of the image, and of nothing else."""
    return float(image_generator(seed, path, "random").random())


def random_scores(predictions: Iterable[Prediction], seed: int) -> Iterator[Scored]:
    """One draw per readable image, at its first part; what was detected does not count."""
    seen: set[int] = set()
    for prediction in predictions:
        if prediction.position in seen:
            continue
        if prediction.parts > 1:
            seen.add(prediction.position)
        readable = prediction.error is None
        score = random_score(seed, prediction.path) if readable else None
        yield Scored(prediction.position, prediction.path, score)


def unseen_images(
    paths: Sequence[str], *, workers: int, positions: Iterable[int] | None = None
) -> Iterator[Prediction]:
    """Every image as a prediction without detections: decoded, so that bad files are known, and
    shown to no network. With `positions` only those, in that order.
    """
    for decoded in stream_images(paths, workers=workers, positions=positions):
        size = None if decoded.image is None else decoded.image.shape[:2]
        yield Prediction(decoded.position, decoded.path, size, error=decoded.error)
