"""What an image looks like to the detector, in 64 numbers: close for images that are alike.

The deepest map of the backbone (SPPF in YOLOv5) is averaged over the image and projected with a
random matrix, which hardly changes distances (Johnson and Lindenstrauss). Of each vector only the
direction counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from inference.predictions import Prediction
from inference.predictor import Predictor
from mining.groups import map_by_shape
from settings.detect import MiningSettings
from utils.errors import Code, TaskError
from utils.seeding import numpy_generator

SIZE = 64
"""Numbers per image: distances keep within about a tenth, and a million images need 256 MB."""
UNIT = 2048.0
"""Length of a feature, whose numbers are whole: coarse enough to swallow most of the noise by which
a network's output differs between batch sizes."""
_PURPOSE = 0xFEA7

Features = dict[int, NDArray[np.float32]]
"""By an image's position in the stream: float32 [64], whole numbers."""


def projection(channels: int, seed: int) -> NDArray[np.float64]:
    """A random matrix [channels, 64] of normal numbers, always the same for a seed."""
    return numpy_generator(seed, _PURPOSE, channels).standard_normal((channels, SIZE))


def directions(means: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Mean channels [n, c] as features float32 [n, 64]: length `UNIT`, rounded to whole numbers.

    A vector of zeros stays one.
    """
    projected = means @ matrix
    length = np.linalg.norm(projected, axis=1, keepdims=True)
    scaled = projected / np.where(length > 0, length, 1) * UNIT
    # + 0.0 turns the -0.0 that rounding leaves into 0.0.
    return np.asarray(np.rint(scaled) + 0.0, np.float32)


def noting_features(
    predictions: Iterable[Prediction],
    predictor: Predictor,
    settings: MiningSettings,
    features: Features,
) -> Iterator[Prediction]:
    """The same predictions (their order may change); `features` gets those of each image.

    A readable image's are there before its last part comes out; whoever takes them out keeps
    memory bounded. The kept views are shown to the backbone once more; of an image in tiles, the
    look at the whole.
    """
    matrices: dict[int, NDArray[np.float64]] = {}

    def note(group: Sequence[Prediction]) -> Sequence[Prediction]:
        if _shape(group[0]) is None:
            return group
        images = torch.stack([one.view.image for one in group if one.view is not None])
        means = predictor.backbone_map(images).mean((2, 3)).double().cpu().numpy()
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

    yield from map_by_shape(
        predictions, note, shape_of=_shape, predictor=predictor, settings=settings
    )


def _shape(prediction: Prediction) -> tuple[int, ...] | None:
    """Of the network input, for an image and the whole of one in tiles; None for other parts."""
    if prediction.view is None or prediction.size is None:
        return None
    whole = (0, 0, prediction.size[1], prediction.size[0])
    if prediction.window is not None and prediction.window != whole:
        return None
    return tuple(prediction.view.image.shape)
