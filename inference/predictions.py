"""Predictions of images, and the tiles of large images: split, letterboxed and merged again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from torch import Tensor

from data.stream import DecodedImage
from ops.letterbox import Letterbox, apply_letterbox, boxes_to_original
from ops.nms import NmsConfig
from ops.tiling import Tiling, Window, merge_tile_detections, tile_windows

NO_DETECTIONS = np.zeros((0, 6), np.float32)


@dataclass(frozen=True)
class NetworkInput:
    """The network input of an image or tile and its detections there, for mining."""

    image: Tensor
    """uint8 [3, h, w], RGB, letterboxed, on the predictor's device."""
    letterbox: Letterbox
    rows: Tensor
    """float32 [n, 6]: xyxy in pixels of `image`, confidence, class."""
    class_probabilities: Tensor
    """float32 [n, nc]: sigmoid class probabilities of the rows, not multiplied by objectness."""


@dataclass(frozen=True)
class Prediction:
    """The detections of one image of a stream, or of one tile of it."""

    position: int
    path: str
    size: tuple[int, int] | None
    """(height, width) of the image, None for an unreadable one."""
    detections: np.ndarray = field(default_factory=lambda: NO_DETECTIONS)
    """float32 [n, 6]: xyxy in pixels of the image, confidence, class; by falling confidence."""
    network_input: NetworkInput | None = None
    error: str | None = None
    window: Window | None = None
    """The tile's place in the image; None for an image that is not split."""
    tiles: int = 1
    """Predictions that the image is split into, the whole image among them."""
    shard: int = 0
    """Images of two shards share no batch."""


@dataclass(frozen=True)
class Tile:
    """An image or a tile of it before prediction; without a plan if it is unreadable."""

    decoded: DecodedImage
    size: tuple[int, int] | None
    """(height, width) of the whole image."""
    plan: Letterbox | None
    boxed: np.ndarray | None = None
    """BGR uint8 [h, w, 3], letterboxed already."""
    window: Window | None = None
    tiles: int = 1

    @property
    def shape(self) -> tuple[int, int] | None:
        """(height, width) of the network input."""
        return None if self.plan is None else self.plan.shape

    @property
    def letterbox(self) -> Letterbox:
        """The letterbox of a readable tile."""
        assert self.plan is not None
        return self.plan

    def letterboxed(self) -> np.ndarray:
        """Return RGB uint8 [h, w, 3] in the shape of the network input."""
        boxed = self.boxed
        if boxed is None:
            assert self.decoded.image is not None
            boxed = apply_letterbox(self.decoded.image, self.letterbox)
        # torch reverses channels ten times as slowly.
        return np.asarray(cv2.cvtColor(boxed, cv2.COLOR_BGR2RGB), np.uint8)

    def prediction(
        self, rows: Tensor | None, network_input: NetworkInput | None, *, shard: int
    ) -> Prediction:
        """Return the prediction for `rows` [n, 6] in pixels of the network input.

        None stands for an unreadable image.
        """
        detections = NO_DETECTIONS
        if rows is not None:
            detections = original_rows(rows, self.letterbox, self.window)
        return Prediction(
            self.decoded.position,
            self.decoded.path,
            self.size,
            detections,
            network_input,
            self.decoded.error,
            self.window,
            self.tiles,
            shard,
        )


def original_rows(rows: Tensor, letterbox: Letterbox, window: Window | None) -> np.ndarray:
    """Map rows [n, 6] of a network input, which shows `window`, to pixels of the whole image."""
    found = boxes_to_original(rows, letterbox).cpu().numpy()
    if window is not None:
        found[:, :4] += (*window[:2], *window[:2])
    return found


def split_into_tiles(
    decoded: DecodedImage,
    tiling: Tiling | None,
    plan_for: Callable[[tuple[int, int]], Letterbox],
) -> Iterator[Tile]:
    """Yield an image as a whole, and its tiles if it is larger than one.

    `plan_for` returns the letterbox of a (height, width).
    """
    if decoded.image is None:
        yield Tile(decoded, None, None)
        return
    height, width = decoded.image.shape[:2]
    windows = tile_windows((height, width), tiling) if tiling else []
    if not windows:
        yield Tile(decoded, (height, width), plan_for((height, width)))
        return
    # Tiles wait as small network inputs: none of them holds the large image.
    bare = replace(decoded, image=None)
    for window in (Window(0, 0, width, height), *windows):
        content = decoded.image[window.top : window.bottom, window.left : window.right]
        plan = plan_for((content.shape[0], content.shape[1]))
        boxed = apply_letterbox(content, plan)
        yield Tile(bare, (height, width), plan, boxed, window, len(windows) + 1)


class TileMerger:
    """Merger of the predictions of an image's tiles under the NMS settings; holds no pixels."""

    def __init__(self, nms: NmsConfig) -> None:
        self._nms = nms
        self._waiting: dict[int, list[Prediction]] = {}

    def add(self, tile: Prediction) -> Prediction | None:
        """Return the prediction of the image that `tile` completes, None while tiles are missing.

        The prediction of an image that is not split is returned as it is.
        """
        if tile.window is None or tile.size is None:
            return tile
        tiles = self._waiting.setdefault(tile.position, [])
        tiles.append(replace(tile, network_input=None))
        if len(tiles) < tile.tiles:
            return None
        del self._waiting[tile.position]
        # In one order, whichever tile was finished first. The whole image comes last: of two boxes
        # with equal confidence that of a tile is the finer one.
        found = sorted(
            ((one.window, one.detections) for one in tiles if one.window is not None),
            key=lambda pair: (pair[0].bottom - pair[0].top, pair[0].right - pair[0].left, pair[0]),
        )
        merged = merge_tile_detections(found, tile.size, self._nms)
        return replace(tile, detections=merged, network_input=None, window=None, tiles=1)


def merge_tiles(tiles: Iterable[Prediction], merger: TileMerger) -> Iterator[Prediction]:
    """Yield one prediction for each image of a stream of tiles, as each is completed."""
    for tile in tiles:
        whole = merger.add(tile)
        if whole is not None:
            yield whole
