"""An untrained detector that finds something everywhere, and pictures of it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.checkpoint import checkpoint_of, save_checkpoint
from models.detector import Detector as Network
from models.model_config import read_model_config

NAMES = ("red cell", "white")


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    network = Network(read_model_config("yolov5n", len(NAMES)))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.mul_(3)  # else it hardly looks at the picture
    save_checkpoint(path, checkpoint_of(network, NAMES))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    paths = []
    for number, size in enumerate(((96, 64), (64, 96), (96, 64))):
        image = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
        image[..., 0] //= 4  # which channel is which shows
        paths.append(str(tmp_path / "photographs" / f"{number}.png"))
        Path(paths[-1]).parent.mkdir(exist_ok=True)
        assert cv2.imwrite(paths[-1], image)
    return paths
