"""ONNX by torch's tracing exporter, and the file that inference backends are built from."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from models.detector import Detector

INPUT = "images"
OPSET = 17
"""Known to every supported version of the backends."""


class NeckExtractor(nn.Module):
    """Images float32 [b, 3, h, w] to the inputs float32 [b, c, y, x] of the head, per level.

    With `half` it computes in float16 in between.
    """

    def __init__(self, network: Detector, *, half: bool = False) -> None:
        super().__init__()
        twin = copy.deepcopy(network).cpu().to(memory_format=torch.contiguous_format)
        self.network = twin.half() if half else twin.float()
        self.half_precision = half
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps in the order of the head's levels."""
        pixels = images.half() if self.half_precision else images
        return tuple(one.float() for one in self.network.head_inputs(pixels))


def output_names(levels: int) -> list[str]:
    """Return the names of the maps in the file."""
    return [f"level{number}" for number in range(levels)]


def write_neck(network: Detector, path: Path, *, half: bool = False) -> None:
    """Write a fused network without its head, for any batch, height and width."""
    neck = NeckExtractor(network, half=half)
    stride = network.config.input_multiple
    # Sides that differ, for an exporter may take equal sizes for one and the same.
    example = torch.zeros(2, network.config.channels, 4 * stride, 3 * stride)
    names = output_names(len(network.config.head_sources))
    axes = {name: {0: "batch", 2: f"{name}_rows", 3: f"{name}_columns"} for name in names}
    trace_onnx(neck, example, path, axes, opset=OPSET)


def trace_onnx(
    module: nn.Module,
    example: Tensor,
    path: Path,
    axes: Mapping[str, Mapping[int, str]],
    *,
    opset: int,
    dynamic: bool = True,
    verbose: bool = False,
) -> None:
    """Write a module; `axes` has the outputs' names, and those of their free axes if `dynamic`."""
    free = {INPUT: {0: "batch", 2: "height", 3: "width"}, **axes}
    with quiet_converters(verbose=verbose), torch.no_grad():
        torch.onnx.export(
            module,
            (example,),
            str(path),
            dynamo=False,
            verbose=verbose,
            opset_version=opset,
            input_names=[INPUT],
            output_names=list(axes),
            dynamic_axes=free if dynamic else None,
        )


@contextlib.contextmanager
def quiet_converters(*, verbose: bool = False) -> Iterator[None]:
    """Silence the converters of torch and onnx within the block, unless `verbose`."""
    if verbose:
        yield
        return
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
