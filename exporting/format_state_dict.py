"""State-dict export for the official code: `model.load_state_dict(torch.load(path))`.

Keys are those of v7.0, normalisation not folded, counters int64 and anchors in grid cells.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from exporting.options import ExportOptions
from exporting.verify import ExportFormat, ParityError, Run, detector_run
from models.detector import Detector


def write(detector: Detector, path: Path, options: ExportOptions) -> None:
    """Write the detector's tensors by key, nothing else."""
    torch.save(state_of(detector, half=options.half), path)


def run(path: Path, detector: Detector, options: ExportOptions) -> Run:
    """Return a network of the detector's definition with the file's tensors, in float32."""
    twin = Detector(detector.config)
    try:
        twin.load_state_dict(torch.load(path, weights_only=True))
    except (RuntimeError, TypeError) as error:
        raise ParityError("the keys or shapes of its tensors") from error
    return detector_run(twin, options.device)


def state_of(detector: Detector, *, half: bool = False) -> dict[str, Tensor]:
    """Return copies of the detector's tensors on the CPU, by v7.0's keys.

    With `half` every weight is float16 but the anchors, which in float16 would move.
    """
    state = {}
    for key, value in detector.state_dict().items():
        stored = value.detach().cpu().contiguous().clone()
        halved = half and stored.is_floating_point() and not key.endswith(".anchors")
        state[key] = stored.half() if halved else stored
    return state


FORMAT = ExportFormat(".state_dict", write, run, free_shape=True)
