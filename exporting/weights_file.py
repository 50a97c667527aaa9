"""Bare weights for other programs: safetensors, or a state dict for the official code.

Both have the keys of v7.0, normalisation not folded, counters int64 and the anchors in grid
cells. The state dict is a plain mapping saved by torch: `model.load_state_dict(torch.load(path))`
in a model of the same definition. With `half` every weight is float16 but the anchors, which in
float16 would move.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from exporting.options import ExportOptions
from exporting.verify import Disagreement, Run, reference
from models.checkpoint import (
    FORMAT,
    VERSION,
    build_detector,
    load_checkpoint,
    write_safetensors,
)
from models.detector import Detector


def write_weights(detector: Detector, path: Path, options: ExportOptions) -> None:
    """Write the detector as safetensors with layout and class names; `load_checkpoint` reads it."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "layout": detector.config.definition,
        "class_names": list(options.class_names),
        "state": state_of(detector, half=options.half),
        "metadata": {"img_size": max(options.size)},
    }
    write_safetensors(path, content)


def run_weights(path: Path, options: ExportOptions) -> Run:
    """The network that the safetensors file describes, in float32."""
    checkpoint = load_checkpoint(path)
    if checkpoint.class_names != options.class_names:
        raise Disagreement("the names of its classes")
    return reference(build_detector(checkpoint), options.device)


def write_state_dict(detector: Detector, path: Path, options: ExportOptions) -> None:
    """Write the detector's tensors by key, nothing else."""
    torch.save(state_of(detector, half=options.half), path)


def run_state_dict(path: Path, detector: Detector, options: ExportOptions) -> Run:
    """A network of the detector's definition with the file's tensors, in float32."""
    twin = Detector(detector.config)
    try:
        twin.load_state_dict(torch.load(path, weights_only=True))
    except (RuntimeError, TypeError) as error:
        raise Disagreement("the keys or shapes of its tensors") from error
    return reference(twin, options.device)


def state_of(detector: Detector, *, half: bool = False) -> dict[str, Tensor]:
    """Copies of the detector's tensors on the CPU, by v7.0's keys."""
    return {
        key: _stored(value, half=half and not key.endswith(".anchors"))
        for key, value in detector.state_dict().items()
    }


def _stored(tensor: Tensor, *, half: bool) -> Tensor:
    kept = tensor.detach().cpu().contiguous().clone()
    return kept.half() if half and kept.is_floating_point() else kept
