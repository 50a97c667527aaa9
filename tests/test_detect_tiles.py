"""Large images in tiles: every object once, in its place, batched, in bounded memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from data.stream import DecodedImage
from inference import predictor as predictor_module
from inference.batching import WAITING_BATCHES, WorkerPool
from inference.predictions import Tile, merge_tiles
from inference.predictor import Prediction, Predictor, PredictorConfig
from ops.nms import NmsConfig
from ops.tiling import Tiling, tile_windows

SIZE = (500, 620)
TILING = Tiling(128, 0.25)
COLOURS = ((0, 0, 220), (0, 220, 0), (220, 0, 0))  # BGR of the classes red, green, blue


class BlobPredictor(Predictor):
    """A predictor whose network finds every patch of pure colour; it notes the batches' shapes."""

    shapes: list[tuple[int, ...]]

    def __init__(self, batch_size: int = 4) -> None:
        cpu = torch.device("cpu")
        network: Any = SimpleNamespace(
            device=cpu,
            stride=32,
            num_classes=3,
            fixed_size=None,
            in_range=lambda work, is_broken: work(),
        )
        config = PredictorConfig(image_size=128, batch_size=batch_size, workers=1, tiling=TILING)
        super().__init__(network, ("red", "green", "blue"), WorkerPool(cpu), config)
        object.__setattr__(self, "shapes", [])

    def detect_with_classes(
        self, images: Tensor, *, nms: NmsConfig | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        self.shapes.append(tuple(images.shape))
        return [self.see(image) for image in images]

    def see(self, image: Tensor) -> tuple[Tensor, Tensor]:
        rows = []
        for own in range(3):
            others = [image[c].int() for c in range(3) if c != own]
            seen = (image[own].int() - torch.maximum(*others) > 100).numpy().astype(np.uint8)
            _, _, stats, _ = cv2.connectedComponentsWithStats(seen)
            for left, top, width, height, _ in stats[1:]:
                rows.append((left, top, left + width, top + height, 0.9, own))
        found = torch.tensor(rows).float().reshape(-1, 6)
        return found, torch.eye(3)[found[:, 5].long()]


def objects_on_seams() -> list[tuple[int, int, int, int, int]]:
    """Boxes (x1, y1, x2, y2, class) on every seam of the tiles, its corners, and away from them."""
    windows = tile_windows(SIZE, TILING)
    borders_x = sorted({w.right for w in windows if w.right < SIZE[1]})
    borders_y = sorted({w.bottom for w in windows if w.bottom < SIZE[0]})
    boxes = [(x - 9, 40, x + 11, 55, number % 3) for number, x in enumerate(borders_x)]
    boxes += [(40, y - 8, 58, y + 10, number % 3) for number, y in enumerate(borders_y)]
    corners = enumerate(zip(borders_x, borders_y, strict=False))
    boxes += [(x - 10, y - 10, x + 10, y + 10, number % 3) for number, (x, y) in corners]
    boxes.append((202, 202, 205, 205, 0))  # between the pixels of the whole image's input
    # Wider than the overlap, and wider than a tile.
    boxes += [(300, 470, 380, 490, 1), (420, 400, 600, 425, 2), (590, 70, 612, 260, 0)]
    return boxes


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """A large image with objects on its seams, a small one, a broken one, a large empty one."""
    image = np.full((*SIZE, 3), 120, np.uint8)
    for x1, y1, x2, y2, own in objects_on_seams():
        image[y1:y2, x1:x2] = COLOURS[own]
    small = np.full((90, 120, 3), 120, np.uint8)
    small[20:40, 30:60] = COLOURS[1]
    names = [str(tmp_path / name) for name in ("a.png", "b.png", "c.png", "d.png")]
    cv2.imwrite(names[0], image)
    cv2.imwrite(names[1], small)
    (tmp_path / "c.png").write_text("no image")
    cv2.imwrite(names[3], np.full((400, 300, 3), 120, np.uint8))
    return names


def by_position(predictions: Iterator[Prediction]) -> list[Prediction]:
    return sorted(predictions, key=lambda p: p.position)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_objects_on_seams_come_once_and_whole(paths: list[str], batch_size: int) -> None:
    found = by_position(BlobPredictor(batch_size).stream(paths))
    assert [p.position for p in found] == [0, 1, 2, 3]
    large, small, broken, empty = found
    expected = np.array(objects_on_seams(), float)
    rows = large.detections[:, [0, 1, 2, 3, 5]].astype(float)
    assert len(rows) == len(expected)
    gaps = np.abs(rows[:, None, :4] - expected[None, :, :4]).max(2)
    gaps += 1000 * (rows[:, None, 4] != expected[None, :, 4])
    # A tile of the network's size loses nothing; the whole image's input is a fifth as fine.
    assert gaps.min(0)[:-3].max() == 0
    assert gaps.min(0).max() < 2.5
    assert sorted(gaps.argmin(1)) == list(range(len(expected)))
    assert small.window is None
    assert len(small.detections) == 1
    assert broken.error is not None
    assert len(empty.detections) == 0
    assert empty.size == (400, 300)


def test_batches_fill_across_tiles_and_images(paths: list[str]) -> None:
    predictor = BlobPredictor(batch_size=8)
    list(predictor.stream([paths[0], paths[3]]))
    tiles = [shape[0] for shape in predictor.shapes if shape[2:] == (128, 128)]
    count = sum(len(tile_windows(size, TILING)) for size in (SIZE, (400, 300)))
    assert sum(shape[0] for shape in predictor.shapes) == count + 2
    assert sorted(tiles, reverse=True)[: count // 8] == [8] * (count // 8)


def test_large_pictures_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """At any time few large pictures exist, however many tiles of them still wait."""
    alive: list[weakref.ref[np.ndarray]] = []
    most = decoded = given = 0

    def endless(
        names: Sequence[str],
        prepare: Callable[[DecodedImage], list[Tile]],
        *,
        workers: int,
        prefetch: int,
        **_: object,
    ) -> Iterator[list[Tile]]:
        nonlocal decoded, most
        assert prefetch <= predictor_module.LARGE_IMAGES_AHEAD
        for position, name in enumerate(names):
            image = np.full((200, 300, 3), 100, np.uint8)
            alive.append(weakref.ref(image))
            decoded += 1
            most = max(most, sum(ref() is not None for ref in alive))
            yield prepare(DecodedImage(position, name, image))
            del image

    monkeypatch.setattr(predictor_module, "stream_prepared", endless)
    predictor = BlobPredictor()
    ahead = 0
    for _ in predictor.stream([str(n) for n in range(60)]):
        given += 1
        ahead = max(ahead, decoded - given)
    assert given == 60
    assert most <= 3
    assert ahead <= 4 * (WAITING_BATCHES + predictor.pool.count + 1)


def test_tiles_carry_their_network_inputs(paths: list[str]) -> None:
    tiles = list(BlobPredictor().stream_tiles(paths, keep_inputs=True))
    large = [tile for tile in tiles if tile.position == 0]
    assert len(large) == large[0].tiles == len(tile_windows(SIZE, TILING)) + 1
    assert all(tile.network_input is not None and tile.window is not None for tile in large)
    assert next(merge_tiles(large, NmsConfig())).network_input is None
