"""ALDD mining: where the network's own heat maps disagree with their surroundings.

Source: «Active Learning for Deep Detection Neural Networks» (ICCV 2019), with pooling and sizes of
the earlier YMIR executors. Per class, with p a heat map of one level and anchor, H(p) its entropy
per pixel and avg the mean over 9 x 9 pixels:

    u = sum over maps of H(avg(p)) - avg(H(p));   class score = mean over 32 x 32 cells of max u

Detections are not used, so an image without any has a score like every other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from inference.predictions import Prediction
from inference.predictor import Predictor
from mining.scores import (
    Algorithm,
    ScoredPart,
    ScoringContext,
    Stream,
    score_by_shape,
    stack_inputs,
)
from utils.errors import Code, TaskError

SURROUNDINGS = 9
"""Side of the square whose mean a pixel is compared with, in pixels of the network's input."""
CELL = 32


def disagreement(heat: Tensor) -> Tensor:
    """Return one class's score, a scalar >= 0, of its heat maps [maps, h, w] in [0, 1]."""
    mean = _mean(heat)
    gain = _entropy(mean).sum(0) - _mean(_entropy(heat).sum(0, keepdim=True))[0]
    return functional.max_pool2d(gain[None].clamp(min=0), CELL).mean()


def heat_maps(levels: Sequence[Tensor], of_class: int, size: tuple[int, int]) -> Tensor:
    """Return objectness times class probability [levels * anchors, h, w] in network-input size.

    `levels` are an image's raw head maps [anchors, y, x, 5 + classes]; each is enlarged to `size`
    (height, width) by bilinear interpolation.
    """
    enlarged = []
    for raw in levels:
        heat = raw[..., 4].sigmoid() * raw[..., 5 + of_class].sigmoid()
        enlarged.append(
            functional.interpolate(heat[None], size, mode="bilinear", align_corners=False)[0]
        )
    return torch.cat(enlarged)


def class_weights(given: Sequence[float], predictor: Predictor) -> list[float]:
    """Return a weight for every class: `given` in class order, 1 for those it leaves out.

    Classes that the settings filter out have weight 0. Raise TaskError(CONFIG) for more
    weights than classes.
    """
    count, wanted = predictor.network.num_classes, predictor.config.nms.classes
    if len(given) > count:
        raise TaskError(
            Code.CONFIG,
            f"the setting class_distribution_scores has {len(given)} numbers but the weights know "
            f"{count} classes: give at most one number for each, in their order.",
        )
    filled = [*given, *[1.0] * (count - len(given))]
    return [w if wanted is None or c in wanted else 0.0 for c, w in enumerate(filled)]


def aldd_scores(predictions: Iterable[Prediction], context: ScoringContext) -> Stream:
    """Yield one score per image: the weighted sum over classes, the largest of its tiles.

    The kept network inputs go through one more forward pass, for the raw head maps.
    """
    predictor = context.network
    weights = class_weights(context.settings.class_distribution_scores, predictor)

    @torch.inference_mode()
    def score(group: Sequence[Prediction]) -> list[ScoredPart]:
        images = stack_inputs(group)
        maps, _ = predictor.forward(images)
        size = (images.shape[2], images.shape[3])
        scores = torch.stack(
            [_image_score([level[n] for level in maps], size, weights) for n in range(len(group))]
        )
        return [ScoredPart(one, own) for one, own in zip(group, scores.tolist(), strict=True)]

    return score_by_shape(predictions, score, context)


def _image_score(
    levels: Sequence[Tensor], size: tuple[int, int], weights: Sequence[float]
) -> Tensor:
    total = levels[0].new_zeros((), dtype=torch.float64)
    for of_class, weight in enumerate(weights):
        if weight:
            total = total + weight * disagreement(heat_maps(levels, of_class, size)).double()
    return total


def _entropy(p: Tensor) -> Tensor:
    """Return the binary entropy of probabilities, in nats."""
    entropy: Tensor = torch.special.entr(p) + torch.special.entr(1 - p)
    return entropy


def _mean(maps: Tensor) -> Tensor:
    """Average maps [maps, h, w] over `SURROUNDINGS` x `SURROUNDINGS` pixels within the image."""
    return functional.avg_pool2d(
        maps[None], SURROUNDINGS, 1, SURROUNDINGS // 2, count_include_pad=False
    )[0]


ALGORITHM = Algorithm(aldd_scores)
