"""Interface of inference backends: programs that compute a network up to its head.

The convolutions of the head and the decoding stay in float32 in torch, as under autocast, so that
a backend of lower precision moves no large box by pixels, and head maps are there for mining.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from utils.device import compute_dtype
from utils.errors import Code, TaskError, first_line

TORCH = "torch"
AUTO = "auto"

Run = Callable[[Tensor], Sequence[Tensor]]
"""Images float32 [b, 3, h, w] (RGB, 0 to 1) to the head's inputs float32 [b, c, y, x] per level."""


@dataclass(frozen=True)
class BackendSpec:
    """What a backend is built for."""

    device: torch.device
    precision: str
    """The setting of that name: auto, float32, bfloat16 or float16."""
    threads: int
    """Threads that call it at the same time, each for one core of a CPU."""
    batch_size: int
    side: int
    """Longest side of an image in pixels."""
    stride: int
    """What height and width are multiples of."""
    levels: tuple[tuple[int, int], ...]
    """(channels, stride) of each map that enters the head."""

    @property
    def arithmetic(self) -> str:
        """The number format that torch takes for this precision and device."""
        return str(compute_dtype(self.device, self.precision)).removeprefix("torch.")

    def empty_maps(self, images: Tensor) -> list[Tensor]:
        """Return float32 tensors for the maps of `images` [b, 3, h, w], on their device."""
        batch, _, height, width = images.shape
        return [
            torch.empty(batch, channels, height // stride, width // stride, device=images.device)
            for channels, stride in self.levels
        ]


@dataclass(frozen=True)
class Backend:
    """A program with the compiled network; may be called from several threads."""

    name: str
    arithmetic: str
    """Number format of its convolutions."""
    run: Run

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return the head's inputs as `Run` does. Raises TaskError(MODEL) if the program fails."""
        try:
            return list(self.run(images))
        except TaskError:
            raise
        # Each program has exceptions of its own.
        except Exception as error:
            raise TaskError(
                Code.MODEL,
                f"The engine {self.name} failed on images of the shape {list(images.shape)} "
                f"({first_line(error)}): set engine to torch.",
            ) from error


@dataclass(frozen=True)
class BackendType:
    """The registration of a backend: `BACKEND` in its file of this folder."""

    build: Callable[[Path, BackendSpec], Backend]
    """Builds it from the network up to its head, an ONNX file that goes away afterwards."""
    half_weights: bool = False
    """Whether the file is to have float16 weights where the backend computes in float16."""
