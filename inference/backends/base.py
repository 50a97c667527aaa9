"""What computes a network up to its head, as a function of tensors; torch does the rest.

The head's convolutions and the decoding stay in float32 in torch, as under autocast, so that an
engine of lower precision moves no large box by pixels, and raw maps are there for all who ask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from utils.device import has_bfloat16
from utils.errors import Code, TaskError

TORCH = "torch"
AUTO = "auto"

Run = Callable[[Tensor], Sequence[Tensor]]
"""Images float32 [b, 3, h, w] (RGB, 0 to 1) to the head's inputs float32 [b, c, y, x] per level."""


@dataclass(frozen=True)
class BackendSpec:
    """Where an engine is to compute, and what it will be shown."""

    device: torch.device
    precision: str
    """The setting of that name: auto, float32, bfloat16 or float16."""
    lanes: int
    """Threads that call it at the same time, each for one core of a CPU."""
    batch_size: int
    side: int
    """Longest side in pixels that can come."""
    stride: int
    """What height and width are multiples of."""
    levels: tuple[tuple[int, int], ...]
    """(channels, pixels per cell) of each map that the head looks at."""

    @property
    def arithmetic(self) -> str:
        """The number format that torch would take for the setting on this device."""
        if self.precision == "float16" and self.device.type == "cuda":
            return "float16"
        bfloat = self.precision == "bfloat16"
        if bfloat or (self.precision == "auto" and has_bfloat16(self.device)):
            return "bfloat16"
        return "float32"

    def empty_maps(self, images: Tensor) -> list[Tensor]:
        """Float32 tensors beside `images` [b, 3, h, w], of the shape of the maps that come out."""
        batch, _, height, width = images.shape
        return [
            torch.empty(batch, channels, height // cell, width // cell, device=images.device)
            for channels, cell in self.levels
        ]


@dataclass(frozen=True)
class Engine:
    """A program that has the network compiled; may be called from several threads."""

    name: str
    arithmetic: str
    """Number format of its convolutions."""
    run: Run

    def __call__(self, images: Tensor) -> list[Tensor]:
        """The head's inputs for images as in `Run`. TaskError(MODEL) where the program fails."""
        try:
            return list(self.run(images))
        except TaskError:
            raise
        # Every program has exceptions of its own.
        except Exception as error:
            raise TaskError(
                Code.MODEL,
                f"The engine {self.name} failed on images of the shape {list(images.shape)} "
                f"({first_line(error)}): set engine to torch.",
            ) from error


def first_line(error: Exception) -> str:
    """What a program says of its failure, in one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else repr(error)
