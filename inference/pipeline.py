"""The steps of a batch: filled on the host, launched on the device, fetched, mapped to images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.batching import Buffer, Buffers, Steps
from inference.decoding import DeviceDecoder
from inference.predictions import NetworkInput, Prediction, Tile, image_rows
from ops.letterbox import write_rgb
from ops.nms import NmsConfig
from ops.suppression import Suppressed, suppress_batch
from utils.device import Upload
from utils.memory import Pieces


class Found(Protocol):
    """What was found in a batch of network inputs, which a GPU may still be busy with."""

    def rows(self) -> list[NDArray[np.float32]]:
        """Wait for each image's rows [n, 6]: xyxy in pixels of its input, confidence, class."""

    def is_broken(self) -> bool:
        """Wait, and return whether the network's output was not a number."""

    def shown(self) -> Sequence[tuple[Tensor, Tensor]]:
        """Return for each image rows [n, 6] and class probabilities [n, nc] on the device."""

    def shown_rows(self) -> list[NDArray[np.float32]]:
        """Return the rows of `shown` on the host."""


BatchFound = Sequence[Found]
"""At a batch, in pieces if memory has run out."""


@dataclass(frozen=True)
class FoundOnHost:
    """What exact suppression has found; of the rows of each image, those above `confidence`."""

    found: Sequence[Tensor]
    confidence: float
    inputs: Sequence[tuple[Tensor, Tensor]]

    def rows(self) -> list[NDArray[np.float32]]:
        """Return the rows of each image."""
        every = [one.cpu().numpy() for one in self.found]
        return [rows[rows[:, 4] > self.confidence] for rows in every]

    def is_broken(self) -> bool:
        """Return False: that was seen before suppression."""
        return False

    def shown(self) -> Sequence[tuple[Tensor, Tensor]]:
        """Return what mining is shown."""
        return self.inputs

    def shown_rows(self) -> list[NDArray[np.float32]]:
        """Return the rows of it."""
        return [rows.cpu().numpy() for rows, _ in self.inputs]


class Suppression:
    """NMS that a GPU has been told to do; its result is on the way to the host."""

    def __init__(
        self, prediction: Tensor, config: NmsConfig, buffers: Buffers, *, multi_label: bool = False
    ) -> None:
        self._prediction, self._config, self._multi_label = prediction, config, multi_label
        self._there = suppress_batch(prediction, config, multi_label=multi_label)
        self._copy = Download(self._there.packed, buffers)

    @cached_property
    def _here(self) -> Suppressed:
        return Suppressed(self._copy.wait()).corrected(
            self._prediction, self._config, multi_label=self._multi_label
        )

    def is_broken(self) -> bool:
        """Wait, and return whether the prediction was not a number."""
        return Suppressed(self._copy.wait()).is_broken

    def rows(self) -> list[Tensor]:
        """Wait for the rows [n, 6] of each image, on the host."""
        return [one.rows for one in self._here.detections()]

    def shown(self, output: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return for each image rows [n, 6] and class probabilities [n, nc] on the device.

        `output` [b, rows, 5 + nc] are the decoded rows with all classes.
        """
        counts = [len(rows) for rows in self.rows()]
        there = self._there
        if self._here.packed is not self._copy.wait():  # it was corrected
            there = Suppressed(self._here.packed.to(output.device))
        places = there.source[..., None].expand(-1, -1, output.shape[-1] - 5)
        classes = output[..., 5:].gather(1, places)
        return [
            (rows[:count], own[:count])
            for rows, own, count in zip(there.rows, classes, counts, strict=True)
        ]


@dataclass(frozen=True)
class FoundOnDevice:
    """What a GPU finds, as `FoundOnHost`; `inputs` may be another suppression of the batch."""

    found: Suppression
    confidence: float
    inputs: Suppression
    output: Tensor
    """Decoded rows of the batch."""

    def rows(self) -> list[NDArray[np.float32]]:
        """Wait for the rows of each image."""
        return FoundOnHost(self.found.rows(), self.confidence, ()).rows()

    def is_broken(self) -> bool:
        """Wait, and return whether the network's output was not a number."""
        return self.found.is_broken() or self.inputs.is_broken()

    def shown(self) -> Sequence[tuple[Tensor, Tensor]]:
        """Return what mining is shown."""
        return self.inputs.shown(self.output)

    def shown_rows(self) -> list[NDArray[np.float32]]:
        """Return the rows of it."""
        return [rows.numpy() for rows in self.inputs.rows()]


@dataclass(frozen=True)
class FilledBatch:
    """Tiles of one shape, or one unreadable image."""

    tiles: Sequence[Tile]
    """Those that the device is to decode come last, equal sizes together."""
    buffer: Buffer | None = None
    """Pixels of the others, if any: uint8 [b, h, w, 3] in RGB."""


@dataclass(frozen=True)
class LaunchedBatch:
    """A filled batch on its way through the device: `images` are uint8 [b, 3, h, w] there."""

    filled: FilledBatch
    images: Tensor | None = None
    found: Sequence[Found] = ()
    """Of its images in order; one unless memory has run out."""


@dataclass(frozen=True)
class BatchWork:
    """How the batches of a stream are predicted."""

    buffers: Buffers
    upload: Upload
    look: Callable[[Tensor], Found]
    """Launches the network and NMS for uint8 images [b, 3, h, w]."""
    keeps_inputs: bool
    in_range: Callable[[Callable[[], BatchFound], Callable[[BatchFound], bool]], BatchFound]
    """That of the network."""
    decoder: DeviceDecoder | None = None
    pieces: Pieces = field(default_factory=Pieces)

    @property
    def steps(self) -> Steps[Sequence[Tile], FilledBatch, LaunchedBatch, list[Prediction]]:
        """What a worker pool is to do with each batch."""
        return Steps(self.fill, self.launch, self.fetch)

    def fill(self, tiles: Sequence[Tile]) -> FilledBatch:
        """Write the pictures of tiles into a buffer."""
        if tiles[0].plan is None:
            return FilledBatch(tiles)
        hosted = tiles
        if self.decoder is not None:
            tiles = sorted(tiles, key=lambda one: (one.jpeg is not None, one.letterbox.source))
            hosted = [one for one in tiles if one.jpeg is None]
        if not hosted:
            return FilledBatch(tiles)
        buffer = self.buffers.take((len(hosted), *hosted[0].letterbox.shape, 3))
        for tile, slot in zip(hosted, buffer.tensor.numpy(), strict=True):
            write_rgb(tile.picture, tile.letterbox, slot)
        return FilledBatch(tiles, buffer)

    def launch(self, filled: FilledBatch) -> LaunchedBatch:
        """Start all that the device is to do with a batch."""
        if filled.tiles[0].plan is None:
            return LaunchedBatch(filled)
        parts = [] if filled.buffer is None else [self.upload(filled.buffer.tensor)]
        if self.decoder is not None:
            filled, decoded = self._decoded(filled, self.decoder)
            parts += decoded
        # [b, h, w, 3] permuted to [b, 3, h, w] is channels-last already.
        images = (parts[0] if len(parts) == 1 else torch.cat(parts)).permute(0, 3, 1, 2)
        return LaunchedBatch(filled, images, self._look(images))

    def _decoded(
        self, filled: FilledBatch, decoder: DeviceDecoder
    ) -> tuple[FilledBatch, list[Tensor]]:
        """Decode the last tiles of a batch; return it with their errors, and their inputs."""
        hosted = 0 if filled.buffer is None else len(filled.buffer.tensor)
        decoder.on_host += hosted
        rest = filled.tiles[hosted:]
        parts = self.pieces.run(lambda part: decoder(rest[part]), len(rest))
        tiles = [*filled.tiles[:hosted], *(tile for own, _ in parts for tile in own)]
        return replace(filled, tiles=tiles), [inputs for _, inputs in parts]

    def fetch(self, launched: LaunchedBatch) -> list[Prediction]:
        """Wait for a batch and return its predictions; boxes are in the images' own pixels."""
        filled, images, first = launched.filled, launched.images, [launched.found]
        tiles = filled.tiles
        if images is None:
            return [tile.blank for tile in tiles]
        found = self.in_range(
            lambda: first.pop() if first else self._look(images),
            lambda every: any(one.is_broken() for one in every),
        )
        every = [rows for part in found for rows in part.rows()]
        places = [(tile.letterbox, tile.blank.window) for tile in tiles]
        rows = image_rows(every, places)
        predictions = [
            replace(tile.blank, detections=own) if tile.blank.size else tile.blank
            for tile, own in zip(tiles, rows, strict=True)
        ]
        if self.keeps_inputs:
            inputs = [shown for part in found for shown in part.shown()]
            kept = image_rows([own for part in found for own in part.shown_rows()], places)
            predictions = [
                replace(one, network_input=NetworkInput(image, tile.letterbox, *shown, own))
                if one.size
                else one
                for one, tile, image, shown, own in zip(
                    predictions, tiles, images, inputs, kept, strict=True
                )
            ]
        if filled.buffer and not (self.keeps_inputs and self.upload.is_idle):
            self.buffers.give_back(filled.buffer)
        return predictions

    def _look(self, images: Tensor) -> BatchFound:
        return self.pieces.run(lambda part: self.look(images[part]), len(images))


class Download:
    """A copy of a GPU's tensor to the host, behind what the GPU has been told to do before."""

    def __init__(self, there: Tensor, buffers: Buffers) -> None:
        self._buffers, self._buffer = buffers, buffers.take(there.shape, there.dtype)
        self._buffer.tensor.copy_(there, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record(torch.cuda.current_stream(there.device))
        self._result: Tensor | None = None

    def wait(self) -> Tensor:
        """Wait for the copy, once, and return it."""
        if self._result is None:
            self._event.synchronize()
            self._result = self._buffer.tensor.clone()
            self._buffers.give_back(self._buffer)
        return self._result
