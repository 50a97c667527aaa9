"""The network up to its head as an ONNX file, which every engine is built from."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from exporting.quiet import quiet
from models.detector import Detector

INPUT = "images"
OPSET = 17
"""Known to every version of the engines that is asked for."""


class NeckExtractor(nn.Module):
    """Images float32 [b, 3, h, w] to the head's inputs float32 [b, c, y, x], one per level.

    A `half` trunk computes in float16 in between.
    """

    def __init__(self, network: Detector, *, half: bool = False) -> None:
        super().__init__()
        twin = copy.deepcopy(network).cpu().to(memory_format=torch.contiguous_format)
        self.network = twin.half() if half else twin.float()
        self.half_precision = half
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The maps, finest first."""
        pixels = images.half() if self.half_precision else images
        return tuple(one.float() for one in self.network.head_inputs(pixels))


def output_names(levels: int) -> list[str]:
    """What the maps are called in the file."""
    return [f"level{number}" for number in range(levels)]


def write_neck(network: Detector, path: Path, *, half: bool = False) -> None:
    """Write the trunk of a fused network, which is left as it is; any batch, height and width.

    Raises whatever torch's exporter raises.
    """
    trunk = NeckExtractor(network, half=half)
    stride = network.config.input_multiple
    # Sides that differ, for an exporter may take equal sizes for one and the same.
    example = torch.zeros(2, network.config.channels, 4 * stride, 3 * stride)
    names = output_names(len(network.config.head_sources))
    free = {INPUT: {0: "batch", 2: "height", 3: "width"}}
    free |= {name: {0: "batch", 2: f"{name}_rows", 3: f"{name}_columns"} for name in names}
    with quiet(), torch.no_grad():
        torch.onnx.export(
            trunk,
            (example,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=names,
            dynamic_axes=free,
        )
