"""Diversity of images: backbone features, and the farthest-first order of weighted points.

The deepest map of the backbone (SPPF in YOLOv5) is averaged over the image and projected with a
random matrix, which keeps distances to within a few per cent (Johnson and Lindenstrauss 1984).
Only the direction of each vector counts.

The order is the greedy rule of the k-centre problem (Gonzalez 1985) with a weight for each point:
after the point of the largest weight, always the one whose

    gain = weight * distance to the nearest point before it

is largest. A duplicate of an earlier point gains nothing and comes at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from inference.predictions import Prediction
from mining.class_balance import ClassValues
from mining.scores import (
    Scored,
    ScoringContext,
    Stream,
    input_shape,
    map_by_shape,
    rank_window,
    stack_inputs,
    window_size,
)
from settings.detect import MiningSettings
from utils.errors import Code, TaskError
from utils.seeding import numpy_generator

SIZE = 64
"""Numbers per image: distances keep within about a tenth, and a million images need 256 MB."""
UNIT = 2048.0
"""Length of a feature, whose numbers are whole: coarse enough to swallow most of the noise by which
a network's output differs between batch sizes."""
HALVED_FROM = 256
"""Long side in pixels from which on the backbone sees half the network input."""
_PURPOSE = 0xFEA7
LARGEST_DISTANCE = 2.0
"""Between opposite unit vectors. Distances are given as fractions of it."""
DEFAULT_LIMIT = 10_000
"""Images in the window of farthest-first orders, at most."""
BUDGETS = 4
"""Or this multiple of a larger budget."""
STEP = 2e-6
"""Each image of the window is at least this far above the next: result.tsv has six digits."""

Features = dict[int, NDArray[np.float32]]
"""By an image's position in the stream: float32 [64], whole numbers."""


def projection(channels: int, seed: int) -> NDArray[np.float64]:
    """Return the random matrix [channels, 64] of normal numbers that belongs to a seed."""
    return numpy_generator(seed, _PURPOSE, channels).standard_normal((channels, SIZE))


def directions(means: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Project mean channels [n, c] to features float32 [n, 64] of length `UNIT`, rounded.

    A vector of zeros stays one.
    """
    projected = means @ matrix
    length = np.linalg.norm(projected, axis=1, keepdims=True)
    scaled = projected / np.where(length > 0, length, 1) * UNIT
    # + 0.0 turns the -0.0 that rounding leaves into 0.0.
    return np.asarray(np.rint(scaled) + 0.0, np.float32)


def collect_features(
    predictions: Iterable[Prediction], context: ScoringContext, features: Features
) -> Iterator[Prediction]:
    """Pass the predictions on (their order may change) and add each image's feature to `features`.

    A readable image's feature is there before its last tile comes out; the caller removes it, so
    that memory stays bounded. The kept network inputs go through the backbone once more, large ones
    at half their size; of an image in tiles, the whole image.
    """
    predictor, settings = context.network, context.settings
    matrices: dict[int, NDArray[np.float64]] = {}

    def note(group: Sequence[Prediction]) -> Sequence[Prediction]:
        if _whole_image_shape(group[0]) is None:
            return group
        images = halved(stack_inputs(group))
        means = predictor.network.in_range(
            lambda: predictor.backbone_map(images).mean((2, 3)).double().cpu().numpy(),
            lambda found: not np.isfinite(found).all(),
        )
        if means.shape[1] not in matrices:
            matrices[means.shape[1]] = projection(means.shape[1], settings.seed)
        for one, mean in zip(group, means, strict=True):
            if not np.isfinite(mean).all():
                raise TaskError(
                    Code.NOT_A_NUMBER,
                    f"The backbone's output for {one.path} is not a number: the weights are "
                    "damaged; train the model again or choose another stage of it.",
                )
        for one, own in zip(group, directions(means, matrices[means.shape[1]]), strict=True):
            features[one.position] = own
        return group

    return map_by_shape(predictions, note, context, shape_of=_whole_image_shape)


def halved(images: Tensor) -> Tensor:
    """Return images uint8 [b, 3, h, w]; at half their size, float32 from 0 to 1, if they are large.

    The backbone is six tenths of a forward pass, and sees alike images as well at half the size.
    """
    if max(images.shape[2:]) < HALVED_FROM:
        return images
    return functional.avg_pool2d(images.float() / 255, 2)


def _whole_image_shape(prediction: Prediction) -> tuple[int, ...] | None:
    """Return the shape of the network input of a whole image; None for its tiles."""
    if prediction.window is not None and prediction.size is not None:
        height, width = prediction.size
        if prediction.window != (0, 0, width, height):
            return None
    return input_shape(prediction)


class Order(NamedTuple):
    """A farthest-first order of n points, and of each what it was chosen by, in that order."""

    points: NDArray[np.int64]
    weights: NDArray[np.float64]
    distances: NDArray[np.float64]
    """To the nearest point before, as a fraction of the largest distance; 1 for the first."""
    nearest: NDArray[np.int64]
    """That point; -1 for the first."""
    gains: NDArray[np.float64]
    """Weight times distance; 0 for points that are too near."""


def farthest_first(
    weights: NDArray[np.float64],
    points: NDArray[np.float32],
    unit: float,
    choose: Callable[[int], object] | None = None,
    least: float = 0.0,
) -> Order:
    """Return the order of n points. `choose` is told of each choice, and may lower `weights`.

    Points nearer than `least`, a fraction of the largest distance, gain nothing: they come last.

    `weights` [n] are >= 0. `points` [n, d] are vectors of length `unit` (or 0), rounded to
    whole numbers: for a `unit` up to 4000 their products are exact in float32, so that the order
    does not depend on how a machine adds. Gains never rise; the first is its weight. Ties go to
    the point that is given first.

    Memory is that of the points; time n * n * d, as each chosen point is compared with all.
    """
    count = len(points)
    whole, real = (np.zeros((2, count), np.int64), np.zeros((3, count)))
    order = Order(whole[0], real[0], real[1], whole[1], real[2])
    lengths = np.square(points.astype(np.float64)).sum(1)
    reach, nearest = np.ones(count), np.full(count, -1)
    taken = np.zeros(count, np.bool_)
    for rank in range(count):
        gain = np.where(taken, -1.0, weights * np.where(reach < least, 0.0, reach))
        chosen = int(gain.argmax())
        values = (chosen, weights[chosen], reach[chosen], nearest[chosen], gain[chosen])
        for column, value in zip(order, values, strict=True):
            column[rank] = value
        taken[chosen] = True
        if choose:
            choose(chosen)
        products = (points @ points[chosen]).astype(np.float64)
        distances = np.sqrt(lengths + lengths[chosen] - 2 * products)
        distances /= LARGEST_DISTANCE * unit
        nearest[distances < reach] = chosen
        np.minimum(reach, distances, out=reach)
    return order


def diversity_window(context: ScoringContext, share: float) -> int:
    """Return the images that are ranked farthest first: the setting `diverse_window`, or with -1 a
    share of the candidates within limits.
    """
    settings = context.settings
    limit = max(DEFAULT_LIMIT, BUDGETS * settings.budget)
    return window_size(settings.diverse_window, context.total, share, limit=limit)


def spread_window(
    stream: Iterable[Scored],
    window: int,
    largest: float,
    settings: MiningSettings,
    values_of: Callable[[list[Scored]], ClassValues] | None = None,
) -> Stream:
    """Give the `window` images of the largest scores new ones, above `largest`.

    With w an image's value as a fraction of the window's largest, and d its distance to the nearest
    image ranked above (0 to 1), the new score is

        largest + w * d + STEP * images of the window ranked below

    and d = 1 for the first, 0 below the setting `least_distance`. Scores from 0 to `largest` are
    expected; a draw decides between equal ones. The value is the score, or what `values_of` the
    window's images are, which may fall with each choice. Breakdowns get `value`, `distance`, and
    the position of the `nearest` image ranked above.
    """

    def new_scores(images: list[Scored]) -> Stream:
        own = values_of(images) if values_of else None
        weights = own.values if own else np.array([one.score for one in images])
        if weights.max() <= 0:
            weights = np.ones(len(images))
        top = float(weights.max())
        points = np.stack([one.feature for one in images if one.feature is not None])
        least = settings.least_distance
        order = farthest_first(weights, points, UNIT, own.choose if own else None, least)
        gains = order.gains / top
        for rank, n in enumerate(order.points.tolist()):
            score = largest + gains[rank] + STEP * (len(images) - 1 - rank)
            why = {"value": order.weights[rank], "distance": order.distances[rank]}
            shown: dict[str, object] = {name: round(float(one), 6) for name, one in why.items()}
            if order.nearest[rank] >= 0:
                shown["nearest"] = images[order.nearest[rank]].position
            yield images[n]._replace(score=float(score), breakdown=shown)

    return rank_window(stream, window, new_scores, settings.seed)
