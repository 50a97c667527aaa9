"""The network as an ONNX file, and the proof that the file computes the same.

python export.py --weights best.pt --output best.onnx [--img-size 640] [--opset 17]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.checkpoint import build_detector, load_checkpoint
from models.detector import Detector
from utils.atomic import replace_file
from utils.errors import Code, TaskError

INPUT = "images"
OUTPUT = "output0"
LAST_TRACED_OPSET = 20
"""torch's tracing exporter ends here; it takes a second where the graph exporter takes thirty."""

# Rounding differs between the two runtimes: pixels for boxes, absolute for probabilities.
BOX_TOLERANCE = 0.05
BOX_RELATIVE_TOLERANCE = 1e-3
SCORE_TOLERANCE = 1e-3


class _Decoded(nn.Module):
    """Images to decoded rows, as one module to export."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        return self.detector.decode(self.detector(images))


def export_onnx(
    detector: Detector,
    path: Path,
    *,
    img_size: int = 640,
    opset: int = 17,
    class_names: Sequence[str],
) -> None:
    """Write the detector as ONNX, in one step; `detector` itself is left as it is.

    Input 'images': float32 [b, 3, h, w], RGB 0 to 1; b, h and w are free, h and w multiples of
    the network's. Output 'output0': [b, rows, 5 + classes]: cx, cy, w, h in input pixels,
    objectness and class probabilities. Metadata: 'stride' (that multiple), 'names' ({index: name}),
    and 'imgsz', the side it was trained for, as text. Raises `TaskError` (model) when torch
    cannot export to `opset`.
    """
    module = _Decoded(detector.fused().cpu().float()).eval()
    multiple = detector.layout.input_multiple
    # Sides that differ, for an exporter may take equal sizes for one and the same.
    example = torch.zeros(2, detector.layout.channels, 4 * multiple, 3 * multiple)
    metadata = {
        "stride": str(multiple),
        "names": str(dict(enumerate(class_names))),
        "imgsz": str([img_size, img_size]),
    }
    with replace_file(Path(path)) as temporary:
        try:
            with _quiet():
                if opset <= LAST_TRACED_OPSET:
                    _trace(module, example, temporary, opset)
                else:
                    _capture(module, example, temporary, opset, multiple)
        # The exporters raise many kinds, and none of them says more than that it did not work.
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise TaskError(
                Code.MODEL,
                f"The network cannot be exported to ONNX opset {opset} ({reason}); try opset 17.",
            ) from error
        model = onnx.load(temporary)
        onnx.helper.set_model_props(model, metadata)
        onnx.checker.check_model(model)
        onnx.save(model, temporary)


def verify_onnx(path: Path, detector: Detector, *, sizes: Sequence[tuple[int, int]] = ()) -> float:
    """Run file and detector on noise and on a smooth picture, and compare the decoded rows.

    `sizes` are (h, w) in pixels to try, by default two small ones. Returns the largest difference
    of any output; raises `TaskError` (model) when one is beyond rounding.
    """
    reference = detector.fused().cpu().float()
    multiple = detector.layout.input_multiple
    session = _session(path)
    generator = np.random.default_rng(0)
    worst = 0.0
    for batch, (height, width) in enumerate(sizes or _small_sizes(multiple), start=1):
        images = _pictures(batch, detector.layout.channels, height, width, generator)
        (found,) = session.run([OUTPUT], {INPUT: images})
        expected = reference.predict(torch.from_numpy(images)).numpy()
        if found.shape != expected.shape or not _close(found, expected):
            raise TaskError(
                Code.MODEL,
                f"The ONNX file {path} does not compute what the network does at "
                f"{height}x{width}; do not use it, and keep the .pt file.",
            )
        worst = max(worst, float(np.abs(found - expected).max()))
    return worst


def _trace(module: nn.Module, example: Tensor, path: Path, opset: int) -> None:
    torch.onnx.export(
        module,
        (example,),
        str(path),
        dynamo=False,
        opset_version=opset,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={
            INPUT: {0: "batch", 2: "height", 3: "width"},
            OUTPUT: {0: "batch", 1: "rows"},
        },
    )


def _capture(module: nn.Module, example: Tensor, path: Path, opset: int, stride: int) -> None:
    rows, columns = (torch.export.Dim(name, min=2, max=256) for name in ("rows", "columns"))
    free = {0: torch.export.Dim("batch", min=1, max=4096), 2: stride * rows, 3: stride * columns}
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        opset_version=opset,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=(free,),
        verbose=False,
    )
    assert program is not None
    program.save(str(path))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' progress, warnings and log lines off the screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _small_sizes(stride: int) -> tuple[tuple[int, int], ...]:
    return (4 * stride, 4 * stride), (2 * stride, 5 * stride)


def _pictures(
    batch: int, channels: int, height: int, width: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Noise, and where there is more than one image, gradients such as photographs have."""
    images = generator.random((batch, channels, height, width), dtype=np.float32)
    ramp = np.linspace(0, 1, width, dtype=np.float32) * np.linspace(0, 1, height)[:, None]
    images[1:] = ramp.astype(np.float32)
    return images


def _close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    boxes = np.allclose(
        found[..., :4], expected[..., :4], rtol=BOX_RELATIVE_TOLERANCE, atol=BOX_TOLERANCE
    )
    return boxes and np.allclose(found[..., 4:], expected[..., 4:], rtol=0, atol=SCORE_TOLERANCE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export the weights named on the command line; the exit status is 0 or 1."""
    parser = argparse.ArgumentParser(description="Write a checkpoint as ONNX and check it.")
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint (.pt)")
    parser.add_argument("--output", type=Path, help="ONNX file; beside the weights by default")
    parser.add_argument("--img-size", type=int, default=640, help="side in pixels, for the record")
    parser.add_argument("--opset", type=int, default=17, help="ONNX operator set")
    options = parser.parse_args(arguments)
    output = options.output or options.weights.with_suffix(".onnx")
    try:
        checkpoint = load_checkpoint(options.weights)
        detector = build_detector(checkpoint)
        export_onnx(
            detector,
            output,
            img_size=options.img_size,
            opset=options.opset,
            class_names=checkpoint.class_names,
        )
        difference = verify_onnx(output, detector)
    except TaskError as error:
        print(error.sentence, file=sys.stderr)
        return 1
    print(f"{output}: {checkpoint.layout['nc']} classes, largest difference {difference:.1e}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
