"""What was found in one image or in a part of it, and the parts of an image put together again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from ops.letterbox import Letterbox
from ops.nms import NmsConfig
from ops.tiling import Window, merge_tile_detections

NO_DETECTIONS = np.zeros((0, 6), np.float32)


@dataclass(frozen=True)
class View:
    """What the network saw of one image, for those who want to look at it again (mining)."""

    image: Tensor
    """uint8 [3, h, w], RGB, letterboxed, on the predictor's device."""
    plan: Letterbox
    rows: Tensor
    """float32 [n, 6]: xyxy in pixels of `image`, confidence, class."""
    class_probabilities: Tensor
    """float32 [n, nc]: sigmoid class probabilities of the kept rows, not times objectness."""


@dataclass(frozen=True)
class Prediction:
    """The detections of one image of a stream, or of one part of it."""

    position: int
    path: str
    size: tuple[int, int] | None
    """(height, width) of the original, None for an image that cannot be read."""
    detections: np.ndarray = field(default_factory=lambda: NO_DETECTIONS)
    """float32 [n, 6]: xyxy in pixels of the original, confidence, class; by falling confidence."""
    view: View | None = None
    error: str | None = None
    window: Window | None = None
    """The part of the image that this is about; None for an image that was not cut."""
    parts: int = 1
    """How many parts the image was seen in; each comes as a `Prediction` of its own."""


class TileMerger:
    """Puts the parts of images together as they come; holds no pixels.

    `nms` says what remains of the detections of all parts, as in `merge_tile_detections`.
    """

    def __init__(self, nms: NmsConfig) -> None:
        self.nms = nms
        self._waiting: dict[int, list[Prediction]] = {}

    def add(self, part: Prediction) -> Prediction | None:
        """The whole image that `part` completes, or None while parts of it are missing.

        An image that was not cut is complete at once and passes as it is.
        """
        if part.window is None or part.size is None:
            return part
        own = self._waiting.setdefault(part.position, [])
        own.append(replace(part, view=None))
        if len(own) < part.parts:
            return None
        del self._waiting[part.position]
        # In one order, whichever part was finished first. The whole comes last: of two equally
        # sure boxes that of a tile is the finer one.
        found = sorted(
            ((p.window, p.detections) for p in own if p.window is not None),
            key=lambda pair: (pair[0].bottom - pair[0].top, pair[0].right - pair[0].left, pair[0]),
        )
        merged = merge_tile_detections(found, part.size, self.nms)
        return replace(part, detections=merged, view=None, window=None, parts=1)


def merge_tiles(parts: Iterable[Prediction], gathering: TileMerger) -> Iterator[Prediction]:
    """One `Prediction` per image of a stream of parts, as each is completed."""
    for part in parts:
        whole = gathering.add(part)
        if whole is not None:
            yield whole
