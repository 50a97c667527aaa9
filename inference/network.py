"""What a network answers to images: in passes that fit a core's cache, by torch or by an engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from inference.backends.base import BackendSpec, Engine
from inference.backends.choice import BenchmarkTarget, choose_engine
from inference.batching import WorkerPool
from models.detector import Detector
from models.onednn import to_onednn
from utils.device import autocast, compute_dtype, keep_freed_memory

PIXELS_A_PASS = 1_000_000
"""Pixels that a core takes through the network at once, be the batch as large as it may: what a
layer leaves for the next should still lie in its cache."""

Answer = tuple[list[Tensor], Tensor]
"""Raw head maps float32 of a batch, and its decoded rows float32 [b, rows, 5 + nc]."""


class Looks:
    """A fused network on its device, in eval mode; may be asked from several threads.

    Images are uint8 (0 to 255) or float32 (0 to 1), RGB [b, 3, h, w] with sides that are multiples
    of the network's stride, on any device.
    """

    engine: Engine | None = None
    """What computes the network up to its head; None for torch. `backbone_map` is always torch."""

    def __init__(self, detector: Detector, *, device: torch.device, precision: str) -> None:
        self.device = device
        self.precision = precision
        if device.type == "cpu":
            keep_freed_memory()
        self.network = detector.fused().to(device).to(memory_format=torch.channels_last)
        # What torch computes with; the plain network is what other engines are made from.
        self.compiled = to_onednn(self.network, compute_dtype(device, precision))

    def __call__(self, images: Tensor) -> Answer:
        """The network's whole answer to a batch."""
        return self.by(self.engine, images)

    @torch.inference_mode()
    def by(self, engine: Engine | None, images: Tensor) -> Answer:
        """The answer as `engine` computes it, or torch for None."""
        if engine is None:
            return _joined([self._pass(part) for part in self._passes(images)])
        maps = self.network.head(engine(self.pixels(images)))
        return maps, self.network.decode(maps)

    @torch.inference_mode()
    def backbone_map(self, images: Tensor) -> Tensor:
        """The backbone's last map float32 [b, c, y, x]."""
        return torch.cat([self._backbone_pass(part) for part in self._passes(images)])

    def use_engine(
        self,
        name: str,
        samples: Sequence[Tensor],
        *,
        lanes: WorkerPool,
        batch_size: int,
        side: int,
        images: int,
    ) -> None:
        """Let the engine that the setting `name` asks for compute, checked on samples [3, h, w].

        `side` is the longest, in pixels, that can come, and `images` how many will. TaskError where
        a named engine cannot be had.
        """
        config = self.network.config
        around = BackendSpec(
            device=self.device,
            precision=self.precision,
            lanes=lanes.count,
            batch_size=batch_size,
            side=side,
            stride=config.input_multiple,
            levels=tuple(zip(config.head_channels, map(int, config.strides), strict=True)),
        )
        subject = BenchmarkTarget(self.network, around, self.by, lanes)
        self.engine = choose_engine(name, subject, samples, images=images)

    def _passes(self, images: Tensor) -> Iterator[Tensor]:
        """A batch in the parts that torch takes through the network at once, as it likes them."""
        count = len(images)
        if self.device.type == "cpu":
            count = max(PIXELS_A_PASS // images[0, 0].numel(), 1)
        for part in images.split(count):
            yield self.pixels(part).contiguous(memory_format=torch.channels_last)

    def pixels(self, images: Tensor) -> Tensor:
        """Images as float32 on the device, each value from 0 to 1."""
        pixels = images.to(self.device, non_blocking=True)
        return pixels if pixels.is_floating_point() else pixels.float().div_(255)

    def _pass(self, pixels: Tensor) -> Answer:
        with autocast(self.device, self.precision):
            maps = [level.float() for level in self.compiled(pixels)]
        return maps, self.network.decode(maps)

    def _backbone_pass(self, pixels: Tensor) -> Tensor:
        with autocast(self.device, self.precision):
            return self.compiled.backbone(pixels).float()


def _joined(looks: Sequence[Answer]) -> Answer:
    """Maps and rows of the parts of a batch as those of the whole."""
    if len(looks) == 1:
        return looks[0]
    maps, rows = zip(*looks, strict=True)
    return [torch.cat(level) for level in zip(*maps, strict=True)], torch.cat(rows)
