"""Drawn images and detectors for tests of mining: one that sees colours, one untrained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from inference.batch_detections import BatchDetections
from inference.batching import WorkerPool
from inference.predictor import Predictor, PredictorConfig
from mining.registry import ALGORITHMS
from mining.scores import ScoringContext, images_without_network, in_order
from models.detector import Detector
from models.model_config import read_model_config
from ops.nms import Detections, NmsConfig
from ops.suppression import Suppressed, pack
from settings.detect import MiningSettings

SETTINGS = MiningSettings(mining_algorithm="cald", batch_size=4, workers=1)
Read = Callable[[Tensor], tuple[Tensor, Tensor]]
CPU = torch.device("cpu")


def see_colours(image: Tensor) -> tuple[Tensor, Tensor]:
    """At most one object per class, red, green and blue: its extent, as sure as it is bright."""
    rows = []
    for own in range(3):
        others = [image[c].int() for c in range(3) if c != own]
        seen = image[own].int() - torch.maximum(*others) > 40
        if seen.any():
            ys, xs = torch.where(seen)
            confidence = float(image[own][seen].max()) / 255
            rows.append([*(float(v) for v in (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)),
                         confidence, own])  # fmt: skip
    found = torch.tensor(rows).reshape(-1, 6)
    return found, torch.eye(3)[found[:, 5].long()] * 0.85 + 0.05


class ColourPredictor(Predictor):
    """A predictor whose network is `see`, and whose backbone's map are the pixels themselves.

    It notes the shape of every batch. At 96 px in batches of four; `config` as `PredictorConfig`
    takes it.
    """

    see: Read
    shapes: list[tuple[int, ...]]

    def __init__(
        self,
        see: Read = see_colours,
        *,
        device: torch.device = CPU,
        labelled_objects: tuple[float, ...] | None = None,
        labelled_images: int = 0,
        **config: Any,
    ) -> None:
        known = {"device": device, "stride": 32, "num_classes": 3, "fixed_size": None}
        network: Any = SimpleNamespace(**known, in_range=lambda work, _: work())
        own = PredictorConfig(**{"image_size": 96, "batch_size": 4, "workers": 1, **config})
        names = ("red", "green", "blue")
        super().__init__(network, names, WorkerPool(CPU), own, labelled_objects, labelled_images)
        object.__setattr__(self, "see", see)
        object.__setattr__(self, "shapes", [])

    def detect_with_classes(
        self, images: Tensor, *, nms: NmsConfig | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        assert images.dtype == torch.uint8
        self.shapes.append(tuple(images.shape))
        found = [self.see(image) for image in images]
        least = (nms or self.config.nms).confidence
        above = [~(rows[:, 4] <= least) for rows, _ in found]
        return [(rows[up], own[up]) for (rows, own), up in zip(found, above, strict=True)]

    def detect_batches(
        self, batches: Sequence[Tensor], *, nms: NmsConfig | None = None
    ) -> BatchDetections:
        limit, device = self.config.nms.max_detections, self.network.device
        places, decoded = list[Detections](), []
        for images in batches:
            own = self.detect_with_classes(images, nms=nms)
            places += [Detections(rows.cpu(), torch.arange(len(rows))) for rows, _ in own]
            outputs = torch.zeros(len(images), limit, 8)
            for output, (_, classes) in zip(outputs, own, strict=True):
                output[: len(classes), 5:] = classes.cpu()
            decoded.append(outputs.to(device))
        found = Suppressed(pack(places).packed.to(device))
        return BatchDetections(found, decoded if device.type == "cpu" else [torch.cat(decoded)])

    def backbone_map(self, images: Tensor) -> Tensor:
        return images.float() / 255


RED, GREEN, BLUE = (0, 0, 200), (0, 200, 0), (200, 0, 0)  # BGR, as OpenCV writes them
FAINT_RED = (0, 0, 77)


def draw(
    path: Path, size: tuple[int, int], *objects: tuple[tuple[int, int, int, int], tuple[int, ...]]
) -> str:
    """A grey photograph of size (height, width) with coloured boxes (xyxy) on it."""
    height, width = size
    shade = np.linspace(80, 150, width).astype(np.uint8)
    image = np.repeat(np.repeat(shade[None], height, 0)[..., None], 3, 2)
    for (left, top, right, bottom), colour in objects:
        image[top:bottom, left:right] = colour
    assert cv2.imwrite(str(path), image)
    return str(path)


def draw_bad(path: Path) -> str:
    """A file that is no image."""
    path.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing of the kind")
    return str(path)


def untrained(classes: int, device: torch.device = CPU) -> Predictor:
    torch.manual_seed(0)
    return Predictor.build(
        Detector(read_model_config("yolov5n", nc=classes)),
        [f"class {n}" for n in range(classes)],
        device=device,
        config=PredictorConfig(
            image_size=96,
            batch_size=4,
            workers=1,
            nms=NmsConfig(confidence=0.0, iou=0.45, max_detections=20),
            precision="float32",
        ),
    )


def mine(
    predictor: Predictor | None, paths: list[str], settings: MiningSettings
) -> list[tuple[str, float]]:
    """Return (path, score) of every image by the algorithm that the settings name."""
    algorithm = ALGORITHMS[settings.mining_algorithm]
    context = ScoringContext(predictor, settings, len(paths))
    if predictor is None:
        predictions = images_without_network(paths, workers=1)
    else:
        low = algorithm.confidence
        predictions = predictor.stream_tiles(paths, keep_inputs=True, keep_confidence=low)
    return in_order(algorithm.rank(algorithm.score(predictions, context), context), paths)


def scores_of(predictor: Predictor, paths: list[str], settings: MiningSettings) -> list[float]:
    """Return the scores alone."""
    return [score for _, score in mine(predictor, paths, settings)]
