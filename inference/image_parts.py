"""An image, or the whole of it and its tiles, as inputs of the network's shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from torch import Tensor

from data.stream import DecodedImage
from inference.predictions import Prediction, View
from ops.letterbox import Letterbox, apply_letterbox, boxes_to_original
from ops.tiling import Tiling, Window, tile_windows


@dataclass(frozen=True)
class Part:
    """An image or a part of it, and how it fits the network; no plan if it cannot be read."""

    decoded: DecodedImage
    size: tuple[int, int] | None
    """(height, width) of the whole image."""
    plan: Letterbox | None
    boxed: np.ndarray | None = None
    """The part in the network's shape, BGR, where that was made already."""
    window: Window | None = None
    parts: int = 1

    @property
    def shape(self) -> tuple[int, int] | None:
        """(height, width) of its network input."""
        return None if self.plan is None else self.plan.shape

    @property
    def letterbox(self) -> Letterbox:
        """Its plan, for a part that can be read."""
        assert self.plan is not None
        return self.plan

    def letterboxed(self) -> np.ndarray:
        """RGB uint8 [h, w, 3] in the network's shape."""
        boxed = self.boxed
        if boxed is None:
            assert self.decoded.image is not None
            boxed = apply_letterbox(self.decoded.image, self.letterbox)
        # torch takes ten times as long to turn channels round.
        return np.asarray(cv2.cvtColor(boxed, cv2.COLOR_BGR2RGB), np.uint8)

    def unreadable(self) -> Prediction:
        """What there is to say of an image that cannot be read."""
        return Prediction(self.decoded.position, self.decoded.path, None, error=self.decoded.error)

    def prediction(self, rows: Tensor, view: View | None) -> Prediction:
        """Detections `rows` in the letterboxed part, brought back to the original's pixels."""
        detections = boxes_to_original(rows, self.letterbox).cpu().numpy()
        if self.window is not None:
            detections[:, :4] += (*self.window[:2], *self.window[:2])
        return Prediction(
            self.decoded.position,
            self.decoded.path,
            self.size,
            detections,
            view,
            window=self.window,
            parts=self.parts,
        )


def split_into_tiles(
    decoded: DecodedImage,
    tiling: Tiling | None,
    plan_for: Callable[[tuple[int, int]], Letterbox],
) -> Iterator[Part]:
    """The image as the network is to see it: as a whole, and in tiles where it is large.

    `plan_for` gives the letterbox of a picture of size (height, width).
    """
    if decoded.image is None:
        yield Part(decoded, None, None)
        return
    height, width = decoded.image.shape[:2]
    tiles = tile_windows((height, width), tiling) if tiling else []
    if not tiles:
        yield Part(decoded, (height, width), plan_for((height, width)))
        return
    # Parts wait as small network inputs: none of them holds the large picture.
    bare = replace(decoded, image=None)
    for window in (Window(0, 0, width, height), *tiles):
        content = decoded.image[window.top : window.bottom, window.left : window.right]
        plan = plan_for((content.shape[0], content.shape[1]))
        boxed = apply_letterbox(content, plan)
        yield Part(bare, (height, width), plan, boxed, window, len(tiles) + 1)
