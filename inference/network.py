"""The forward pass of a detector: in parts that fit a core's cache, by torch or by a backend."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor

from inference.backends.base import Backend
from inference.graphs import Graphs, NetworkOutput
from models.detector import Detector
from models.float16 import usable_precision
from models.onednn import to_onednn, with_cast_weights
from settings.detect import DetectionSettings
from utils.cuda_graphs import CudaGraphs
from utils.device import autocast, compute_dtype, inference_precision, keep_freed_memory
from utils.errors import Code, TaskError
from utils.memory import Pieces

log = logging.getLogger(__name__)
Result = TypeVar("Result")

PIXELS_PER_PASS = 1_000_000
"""Pixels that a CPU core takes through the network at once, however large the batch: what one layer
leaves for the next should still be in its cache."""


class Widened:
    """What computes in float32 in place of a network whose values left the range of float16."""

    def __init__(self) -> None:
        self.network: Network | None = None
        self.lock = Lock()


@dataclass(frozen=True, eq=False)
class Network:
    """A fused detector on its device, in eval mode; may be called from several threads.

    Images are uint8 (0 to 255) or float32 (0 to 1), RGB [b, 3, h, w] with sides that are multiples
    of the stride, on any device.
    """

    detector: Detector
    """The plain network, which backends are built from."""
    compiled: Detector
    """What torch computes with."""
    device: torch.device
    precision: str
    backend: Backend | None = None
    """What computes the network up to its head; None for torch. `backbone_map` is always torch."""
    graphs: Graphs | None = None
    """What torch launches on a GPU."""
    widened: Widened = field(default_factory=Widened)
    pieces: Pieces = field(default_factory=Pieces)
    """How many images go through the network at once, if memory has run out."""

    @classmethod
    def build(cls, detector: Detector, *, device: torch.device, precision: str) -> Network:
        """Fuse a detector, move it to a device and prepare its weights for it."""
        if device.type == "cpu":
            keep_freed_memory()
        fused = detector.fused().to(device).to(memory_format=torch.channels_last)
        precision = usable_precision(fused, precision)
        prepare = to_onednn if device.type == "cpu" else with_cast_weights
        compiled = prepare(fused, compute_dtype(device, precision))
        network = cls(fused, compiled, device, precision)
        if device.type == "cpu":
            return network
        return replace(network, graphs=Graphs(network, CudaGraphs(device)))

    @property
    def fixed_size(self) -> None:
        """Nothing: any size goes that is a multiple of the stride."""

    @property
    def stride(self) -> int:
        """What height and width of images are multiples of."""
        return self.detector.config.input_multiple

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self.detector.nc

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """(channels, stride) of each map that enters the head, the finest first."""
        config = self.detector.config
        return tuple(zip(config.head_channels, map(int, config.strides), strict=True))

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> NetworkOutput:
        """Run the forward pass of a batch."""
        run = self._now._pass
        return _joined(self.pieces.run(lambda part: run(images[part]), len(images)))

    @torch.inference_mode()
    def rows(self, images: Tensor) -> Tensor:
        """Run the forward pass of a batch for its decoded rows alone."""
        graphs = self._now.graphs
        if self._now.backend is not None or graphs is None:
            return self(images)[1]
        moved = images.to(self.device, non_blocking=True)
        run = self.pieces.run(lambda part: graphs(moved[part], maps=False)[1], len(images))
        return run[0] if len(run) == 1 else torch.cat(run)

    @torch.inference_mode()
    def backbone_map(self, images: Tensor) -> Tensor:
        """Return the backbone's last map float32 [b, c, y, x]."""
        now = self._now

        def run(part: slice) -> Tensor:
            with autocast(self.device, now.precision):
                parts = self._split(images[part])
                return torch.cat([now.compiled.backbone(p).float() for p in parts])

        return torch.cat(self.pieces.run(run, len(images)))

    def in_range(self, work: Callable[[], Result], is_broken: Callable[[Result], bool]) -> Result:
        """Return the result of `work`, done again in float32 if values left float16's range.

        `is_broken` says whether a result comes of output that is not a number; it is asked of
        networks in float16 only. Everything is computed in float32 from then on. Raises
        TaskError(NOT_A_NUMBER) if float32 gives no numbers either.
        """
        result = work()
        if self.precision != "float16" or not is_broken(result):
            return result
        self._widen()
        result = work()
        if is_broken(result):
            raise TaskError(
                Code.NOT_A_NUMBER,
                "the network's output is not a number, in float32 neither: the weights are "
                "damaged; train the model again or choose another stage of it.",
            )
        return result

    @property
    def _now(self) -> Network:
        return self.widened.network or self

    def _widen(self) -> None:
        with self.widened.lock:
            if self.widened.network is not None:
                return
            log.warning("note: values left the range of float16: computing in float32 from here on")
            wide = Network(self.detector, self.detector, self.device, "float32", pieces=self.pieces)
            if self.graphs is not None:
                wide = replace(wide, graphs=Graphs(wide, CudaGraphs(self.device)))
            self.widened.network = wide

    def _pass(self, images: Tensor) -> NetworkOutput:
        if self.backend is not None:
            maps = self._marked(self.detector.head(self.backend(self.pixels(images))))
            return maps, self.detector.decode(maps)
        if self.graphs is not None:
            return self.graphs(images.to(self.device, non_blocking=True))
        outputs = []
        for part in self._split(images):
            with autocast(self.device, self.precision):
                maps = self._marked([level.float() for level in self.compiled(part)])
            outputs.append((maps, self.detector.decode(maps)))
        return _joined(outputs)

    def _marked(self, maps: list[Tensor]) -> list[Tensor]:
        """Make all logits NaN if one of float16 is not finite: the sigmoid of infinity is 1."""
        if self.precision == "float16":
            total = torch.stack(torch._foreach_norm(maps, 1)).sum()
            torch._foreach_mul_(maps, (total - total).add_(1))
        return maps

    def pixels(self, images: Tensor) -> Tensor:
        """Return images as float32 from 0 to 1 on the device."""
        pixels = images.to(self.device, non_blocking=True)
        return pixels if pixels.is_floating_point() else pixels.float().div_(255)

    def _split(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the parts of a batch that go through the network at once, channels last."""
        count = len(images)
        if self.device.type == "cpu":
            count = max(PIXELS_PER_PASS // images[0, 0].numel(), 1)
        for part in images.split(count):
            yield self.pixels(part).contiguous(memory_format=torch.channels_last)


def _joined(outputs: Sequence[NetworkOutput]) -> NetworkOutput:
    """Return the output of a batch from those of its parts."""
    if len(outputs) == 1:
        return outputs[0]
    levels = zip(*(maps for maps, _ in outputs), strict=True)
    return [torch.cat(level) for level in levels], torch.cat([rows for _, rows in outputs])


def resolve_precision(settings: DetectionSettings, device: torch.device) -> str:
    """Return the precision for a device: `half` is for GPUs."""
    if settings.half and device.type == "cuda":
        return "float16"
    if settings.half:
        text = "note: half (float16) needs a GPU; the CPU computes with precision %s"
        log.warning(text, settings.precision)
    return inference_precision(device, settings.precision)
