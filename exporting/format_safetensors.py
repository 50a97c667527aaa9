"""Safetensors export: a checkpoint with v7.0's keys that `load_checkpoint` reads."""

from __future__ import annotations

from pathlib import Path

from exporting.format_state_dict import state_of
from exporting.options import ExportOptions
from exporting.verify import ExportFormat, ParityError, Run, detector_run
from models.checkpoint import (
    Checkpoint,
    CheckpointMetadata,
    build_detector,
    load_checkpoint,
    write_safetensors,
)
from models.detector import Detector


def write(detector: Detector, path: Path, options: ExportOptions) -> None:
    """Write the detector with its definition and class names."""
    state = state_of(detector, half=options.half)
    metadata = CheckpointMetadata(img_size=max(options.size))
    definition = detector.config.definition
    write_safetensors(path, Checkpoint(definition, options.class_names, state, metadata))


def run(path: Path, _: Detector, options: ExportOptions) -> Run:
    """Return the network that the file describes, in float32, as a function of arrays."""
    checkpoint = load_checkpoint(path)
    if checkpoint.class_names != options.class_names:
        raise ParityError("the names of its classes")
    return detector_run(build_detector(checkpoint), options.device)


FORMAT = ExportFormat(".safetensors", write, run, free_shape=True)
