"""Predictions of images, and the tiles of large images: split, letterboxed and merged again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from data.images import Jpeg
from data.stream import DecodedImage
from ops.letterbox import Letterbox, resize_image
from ops.nms import NmsConfig
from ops.tiling import Tiling, Window, merge_tile_detections, tile_windows
from utils.errors import Code, TaskError

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
    detections: np.ndarray
    """float32 [n, 6]: the rows on the host, xyxy in pixels of the whole image."""


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
    mark: str = ""
    """`content_mark` of the file."""


@dataclass(frozen=True)
class Tile:
    """An image or a tile of it before prediction; without a plan if it is unreadable."""

    blank: Prediction
    """Its prediction, without detections."""
    plan: Letterbox | None = None
    resized: np.ndarray | None = None
    """BGR uint8 [h, w, 3], resized as the plan says; it has no borders yet."""
    jpeg: Jpeg | None = None
    """What the device is to decode in place of `resized`."""

    @property
    def shape(self) -> tuple[int, int] | None:
        """(height, width) of the network input."""
        return None if self.plan is None else self.plan.shape

    @property
    def letterbox(self) -> Letterbox:
        """The letterbox of a readable tile."""
        assert self.plan is not None
        return self.plan

    @property
    def picture(self) -> np.ndarray:
        """`resized` of a readable tile."""
        assert self.resized is not None
        return self.resized

    @property
    def encoded(self) -> Jpeg:
        """`jpeg` of a tile that the device is to decode."""
        assert self.jpeg is not None
        return self.jpeg


def original_rows(rows: Tensor, letterbox: Letterbox, window: Window | None) -> np.ndarray:
    """Map rows [n, 6] of a network input, which shows `window`, to pixels of the whole image."""
    return image_rows([rows.cpu().numpy()], [(letterbox, window)])[0]


def image_rows(
    found: Sequence[np.ndarray], places: Sequence[tuple[Letterbox, Window | None]]
) -> list[np.ndarray]:
    """Map the rows float32 [n, 6] of each network input to its image, as `original_rows`.

    `places` are each input's letterbox and window. All at once, in float32.
    """
    counts = [len(rows) for rows in found]
    rows = np.concatenate([*found, NO_DETECTIONS])  # a copy
    numbers = []
    for plan, window in places:
        (scale_x, scale_y), (left, top) = plan.scale_and_offset
        height, width = plan.source
        corner = (0, 0) if window is None else window[:2]
        numbers.append((left, top, scale_x, scale_y, width, height, *corner))
    each = np.repeat(np.array(numbers, np.float32).reshape(-1, 4, 2), counts, axis=0)
    offset, scale, limit, first = (np.tile(each[:, n], 2) for n in range(4))
    boxes = rows[:, :4]
    boxes -= offset
    boxes /= scale
    np.maximum(boxes, 0, out=boxes)
    np.minimum(boxes, limit, out=boxes)
    boxes += first
    return np.split(rows, np.cumsum(counts))[:-1]


def split_into_tiles(
    decoded: DecodedImage,
    tiling: Tiling | None,
    plan_for: Callable[[tuple[int, int]], Letterbox],
    *,
    shard: int = 0,
) -> Iterator[Tile]:
    """Yield an image as a whole, and its tiles if it is larger than one.

    `plan_for` returns the letterbox of a (height, width).
    """
    size = decoded.size
    blank = Prediction(
        decoded.position, decoded.path, size, error=decoded.error, shard=shard, mark=decoded.mark
    )
    if size is None:
        yield Tile(blank)
        return
    windows = tile_windows(size, tiling) if tiling and decoded.image is not None else []
    if decoded.image is None or not windows:
        plan, image = plan_for(size), decoded.image
        resized = None if image is None else resize_image(image, plan.resized)
        yield Tile(blank, plan, resized, decoded.jpeg)
        return
    height, width = size
    # Tiles wait as small pictures: none of them holds the large image.
    for window in (Window(0, 0, width, height), *windows):
        content = decoded.image[window.top : window.bottom, window.left : window.right]
        plan = plan_for((content.shape[0], content.shape[1]))
        part = replace(blank, window=window, tiles=len(windows) + 1)
        resized = resize_image(content, plan.resized)
        yield Tile(part, plan, resized.copy() if resized is content else resized)


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


def merge_tiles(tiles: Iterable[Prediction], nms: NmsConfig) -> Iterator[Prediction]:
    """Yield one prediction for each image of a stream of tiles, as each is completed."""
    merger = TileMerger(nms)
    for tile in tiles:
        whole = merger.add(tile)
        if whole is not None:
            yield whole


def class_indices(wanted: Sequence[str], class_names: Sequence[str]) -> tuple[int, ...] | None:
    """Return the indices of the classes in `wanted`, given by name or number; None if empty.

    A name takes precedence over a number. Raises TaskError(CONFIG) for an unknown class.
    """
    if not wanted:
        return None
    index_of = {str(number): number for number in range(len(class_names))}
    index_of.update({name: number for number, name in enumerate(class_names)})
    unknown = [word for word in wanted if word not in index_of]
    if unknown:
        raise TaskError(
            Code.CONFIG,
            f"the setting classes names {', '.join(unknown)}; it must hold names or numbers of "
            f"the model's classes: {', '.join(class_names)} (0 to {len(class_names) - 1}).",
        )
    return tuple(sorted({index_of[word] for word in wanted}))
