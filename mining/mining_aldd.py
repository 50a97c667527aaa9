"""ALDD mining: where the network's own heat maps disagree with their surroundings.

Source: «Active Learning for Deep Detection Neural Networks» (ICCV 2019), with pooling and sizes of
the earlier YMIR executors. Per class, with p a heat map of one level and anchor, H(p) its entropy
per pixel and avg the mean over 9 x 9 pixels:

    u = sum over maps of H(avg(p)) - avg(H(p));   class score = mean over 32 x 32 cells of max u

Detections are not used, so an image without any has a score like every other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

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
POOLING = [((SURROUNDINGS, 1), (SURROUNDINGS // 2, 0)), ((1, SURROUNDINGS), (0, SURROUNDINGS // 2))]
CPU_BYTES = 8 << 20
"""What a core takes at once of enlarged maps should stay in its cache."""


def disagreement(levels: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Return scores [n] >= 0 of n pairs of an image and a class.

    `levels` are their heat maps [n, anchors, y, x] in [0, 1], which bilinear interpolation enlarges
    to `size` (height, width). Enlarging and averaging are linear in each axis: two products of
    matrices give the enlarged map and its mean.
    """
    height, width = size
    gain = levels[0].new_zeros((2, height, len(levels[0]), width))
    for heat in levels:
        pairs, anchors, y, x = heat.shape
        wide = heat.reshape(-1, x) @ _enlarging(x, width, heat.device).flatten(0, 1).T
        wide = wide.view(pairs * anchors, y, 2, width).permute(2, 1, 0, 3).flatten(2)
        maps = (_enlarging(y, height, heat.device) @ wide).view(2, height, pairs, anchors, width)
        gain += _entropy_(maps).sum(3)
    of_heat, of_mean = gain.transpose(1, 2)
    cells = functional.max_pool2d((of_mean - _mean(of_heat)).clamp_(min=0), CELL)
    return cells.mean((1, 2))


def heat_maps(levels: Sequence[Tensor], classes: Sequence[int]) -> list[Tensor]:
    """Return objectness times class probability [b * classes, anchors, y, x] for each level.

    `levels` are the raw head maps [b, anchors, y, x, 5 + classes] of b images.
    """
    heats = []
    for raw in levels:
        shares = raw.sigmoid()
        if len(classes) < raw.shape[-1] - 5:
            heat = torch.stack([shares[..., 5 + c] for c in classes], -1)
        else:
            heat = shares[..., 5:]
        heats.append(heat.mul_(shares[..., 4:5]).permute(0, 4, 1, 2, 3).flatten(0, 1))
    return heats


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
    given = class_weights(context.settings.class_distribution_scores, predictor)
    classes = [c for c, weight in enumerate(given) if weight]
    weights = torch.tensor([given[c] for c in classes], dtype=torch.float64)

    def look(images: Tensor, size: tuple[int, int]) -> Tensor:
        heats = heat_maps(predictor.forward(images)[0], classes)
        at_once = _pairs_at_once(heats, size)
        parts = zip(*(heat.split(at_once) for heat in heats), strict=True)
        return torch.cat([disagreement(part, size) for part in parts]).cpu()

    @torch.inference_mode()
    def score(group: Sequence[Prediction]) -> list[ScoredPart]:
        images = stack_inputs(group)
        size = (images.shape[2], images.shape[3])
        scores = torch.zeros(len(group), dtype=torch.float64)
        if classes:
            own = predictor.network.in_range(
                lambda: look(images, size), lambda found: not found.isfinite().all()
            )
            scores = own.double().view(len(group), -1) @ weights
        return [ScoredPart(one, own) for one, own in zip(group, scores.tolist(), strict=True)]

    return score_by_shape(predictions, score, context)


def _pairs_at_once(heats: Sequence[Tensor], size: tuple[int, int]) -> int:
    """Return how many pairs of an image and a class `disagreement` takes at once."""
    # A level's enlarged maps and their means, and as much again for 1 - p.
    each = 4 * heats[0].shape[1] * size[0] * size[1] * heats[0].element_size()
    return max(1, _memory(heats[0].device) // each)


def _memory(device: torch.device) -> int:
    """Return the bytes for enlarged maps: what a CPU's cache holds, a fourth of a GPU's free."""
    if device.type == "cpu":
        return CPU_BYTES
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (torch.cuda.mem_get_info(device)[0] + unused) // 4


def _entropy_(p: Tensor) -> Tensor:
    """Replace probabilities by their binary entropy, in nats."""
    other = 1 - p
    for one in (p, other):
        torch.special.entr(one, out=one)
    return p.add_(other)


@lru_cache(maxsize=128)
def _enlarging(count: int, size: int, device: torch.device) -> Tensor:
    """Return matrices [2, size, count]: one enlarges an axis, one also averages it."""
    enlarge = functional.interpolate(
        torch.eye(count, dtype=torch.float64)[None], size, mode="linear", align_corners=False
    )
    # Of a single row, so the mean is along the other axis.
    means = _mean(enlarge[0, :, None]).squeeze(1)
    return torch.stack((enlarge[0], means)).mT.to(device, torch.float32)


def _mean(maps: Tensor) -> Tensor:
    """Average maps [n, h, w] over `SURROUNDINGS` x `SURROUNDINGS` pixels within the image."""
    for window, padding in POOLING:  # one axis after the other: a fifth of the work
        maps = functional.avg_pool2d(maps, window, 1, padding, count_include_pad=False)
    return maps


ALGORITHM = Algorithm(aldd_scores)
