"""Random mining: a uniform draw per image, the baseline; needs neither weights nor a GPU."""

from __future__ import annotations

from collections.abc import Iterable

from inference.predictions import Prediction
from mining.data_augment import image_generator
from mining.scores import Algorithm, Scored, ScoringContext, Stream


def random_score(seed: int, path: str) -> float:
    """Draw uniformly from [0, 1), from the seed and the image's base name only."""
    return float(image_generator(seed, path, "random").random())


def random_scores(predictions: Iterable[Prediction], context: ScoringContext) -> Stream:
    """Yield one draw per readable image, at its first tile; detections are ignored."""
    seen: set[int] = set()
    for prediction in predictions:
        if prediction.position in seen:
            continue
        if prediction.tiles > 1:
            seen.add(prediction.position)
        readable = prediction.error is None
        score = random_score(context.settings.seed, prediction.path) if readable else None
        yield Scored(prediction.position, prediction.path, score)


ALGORITHM = Algorithm(random_scores)
