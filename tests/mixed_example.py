"""Image files of mixed shapes, one of them none, and a small predictor that looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch

from inference.predictor import Predictor, PredictorConfig
from models.checkpoint import build_detector, load_checkpoint
from ops.nms import NmsConfig
from tools.sources import SourceDataset

SIZES = ((160, 120), (120, 160), (160, 120), (64, 64), (0, 0), (300, 40), (120, 160))
"""(width, height) of the pictures; the file at position 4 is none."""


def write_mixed(source: SourceDataset, folder: Path) -> list[str]:
    """One photograph of the data set in each of `SIZES`; the files, in that order."""
    photograph = cv2.imread(str(source.splits["train"][0].path))
    found = []
    for position, size in enumerate(SIZES):
        path = folder / f"{position}.png"
        if all(size):
            cv2.imwrite(str(path), cv2.resize(photograph, size))
        else:
            path.write_text("no image")
        found.append(str(path))
    return found


def small_predictor(
    weights: Path, nms: NmsConfig, *, images: Sequence[str] = (), **config: Any
) -> Predictor:
    """A predictor at 96 px on the CPU; `config` as `PredictorConfig` takes it."""
    checkpoint = load_checkpoint(weights)
    return Predictor.build(
        build_detector(checkpoint),
        checkpoint.class_names,
        device=torch.device("cpu"),
        config=PredictorConfig(**{"image_size": 96, "batch_size": 4, "nms": nms, **config}),
        images=images,
    )
