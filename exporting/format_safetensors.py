"""Safetensors export: a checkpoint with v7.0's keys that `load_checkpoint` reads.

With `half` every weight is float16 but the anchors, which in float16 would move.
"""

from __future__ import annotations

from pathlib import Path

from exporting.format_state_dict import state_of
from exporting.options import ExportOptions
from exporting.verify import ExportFormat, ParityError, Run, detector_run
from models.checkpoint import FORMAT as CHECKPOINT_FORMAT
from models.checkpoint import (
    VERSION,
    CheckpointMetadata,
    build_detector,
    load_checkpoint,
    write_safetensors,
)
from models.detector import Detector


def write(detector: Detector, path: Path, options: ExportOptions) -> None:
    """Write the detector with its definition and class names."""
    content = {
        "format": CHECKPOINT_FORMAT,
        "version": VERSION,
        "layout": detector.config.definition,
        "class_names": list(options.class_names),
        "state": state_of(detector, half=options.half),
        "metadata": CheckpointMetadata(img_size=max(options.size)).to_mapping(),
    }
    write_safetensors(path, content)


def run(path: Path, _: Detector, options: ExportOptions) -> Run:
    """Return the network that the file describes, in float32, as a function of arrays."""
    checkpoint = load_checkpoint(path)
    if checkpoint.class_names != options.class_names:
        raise ParityError("the names of its classes")
    return detector_run(build_detector(checkpoint), options.device)


FORMAT = ExportFormat(".safetensors", write, run)
