"""Images in, detections in their own pixels out: the one stream that everyone asks.

python infer.py --weights best.pt --source photographs/ [--save-txt] [--output detections.json]
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from models.checkpoint import build_detector, load_checkpoint
from models.detector import Detector
from utils.atomic import write_text
from utils.command_line import run_command
from utils.config import InferSettings
from utils.container import log_to_console
from utils.dataloaders import DecodedImage, stream_images
from utils.detection_files import DetectionFiles
from utils.device import autocast, device_of
from utils.infer_command import parse_infer_command
from utils.lanes import Lanes, group_alike
from utils.letterbox import Letterbox, apply_letterbox, boxes_to_original, plan_letterbox
from utils.nms import Kept, non_max_suppression
from utils.single_class import as_one_class

log = logging.getLogger(__name__)

NO_DETECTIONS = np.zeros((0, 6), np.float32)


@dataclass(frozen=True)
class View:
    """What the network saw of one image, for those who want to look at it again (mining)."""

    image: Tensor
    """uint8 [3, h, w], RGB, letterboxed, on the predictor's device."""
    plan: Letterbox
    rows: Tensor
    """float32 [n, 6]: xyxy in pixels of `image`, confidence, class."""
    class_probabilities: Tensor
    """float32 [n, nc]: sigmoid class probabilities of the kept rows, not times objectness."""


@dataclass(frozen=True)
class Prediction:
    """The detections of one image of a stream."""

    position: int
    path: str
    size: tuple[int, int] | None
    """(height, width) of the original, None for an image that cannot be read."""
    detections: np.ndarray = field(default_factory=lambda: NO_DETECTIONS)
    """float32 [n, 6]: xyxy in pixels of the original, confidence, class; by falling confidence."""
    view: View | None = None
    error: str | None = None


@dataclass(frozen=True)
class Thresholds:
    """What non-maximum suppression keeps."""

    confidence: float = 0.25
    iou: float = 0.45
    max_detections: int = 300


class Predictor:
    """A detector ready to look at images: fused, on its device, in eval mode."""

    single_class: bool = False
    """Whether detections say where objects are and not of which class."""

    def __init__(
        self,
        detector: Detector,
        class_names: Sequence[str],
        *,
        device: torch.device,
        image_size: int = 640,
        thresholds: Thresholds | None = None,
        precision: str = "auto",
    ) -> None:
        self.device = device
        self.class_names = tuple(class_names)
        self.num_classes = detector.nc
        self.stride = int(detector.stride.max())
        self.image_size = -(-image_size // self.stride) * self.stride
        self.thresholds = thresholds or Thresholds()
        self.precision = precision
        self.lanes = Lanes(device)
        self.network = detector.fused().to(device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Raw head maps and decoded rows float32 [b, rows, 5 + nc] of uint8 RGB [b, 3, h, w]."""
        pixels = images.to(self.device, non_blocking=True).float().div_(255)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.precision):
            maps = [level.float() for level in self.network(pixels)]
        return maps, self.network.decode(maps)

    def suppress(self, output: Tensor, *, multi_label: bool = False) -> list[Kept]:
        """What remains of decoded rows under the predictor's thresholds, per image."""
        limits = self.thresholds
        output = as_one_class(output) if self.single_class else output
        return non_max_suppression(
            output,
            confidence=limits.confidence,
            iou=limits.iou,
            multi_label=multi_label,
            max_detections=limits.max_detections,
        )

    def detect(self, images: Tensor) -> list[Kept]:
        """Detections in pixels of the letterboxed images given (uint8 RGB [b, 3, h, w])."""
        return self.suppress(self.forward(images)[1])

    def detect_with_classes(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Per image: rows [n, 6] in its own pixels and their class probabilities [n, nc]."""
        output = self.forward(images)[1]
        return [
            (kept.rows, decoded[kept.source, 5:])
            for kept, decoded in zip(self.suppress(output), output, strict=True)
        ]

    def stream(
        self, paths: Sequence[str], *, batch_size: int, workers: int, keep_views: bool = False
    ) -> Iterator[Prediction]:
        """One `Prediction` per path, as batches of equal shape fill; memory stays bounded.

        Positions refer to `paths`; unreadable images come with `error` and no detections.
        """
        # Few images still occupy every lane.
        batch_size = min(batch_size, max(-(-len(paths) // self.lanes.count), 1))
        images = stream_images(paths, workers=workers, prefetch=2 * batch_size)
        groups = group_alike(map(self._fit, images), lambda item: item.shape, batch_size)
        for predictions in self.lanes.map(lambda group: self._predict(group, keep_views), groups):
            yield from predictions

    def _fit(self, decoded: DecodedImage) -> _Fitted:
        if decoded.image is None:
            return _Fitted(decoded, None)
        height, width = decoded.image.shape[:2]
        square = (self.image_size, self.image_size)
        plan = plan_letterbox((height, width), square, minimal=True, stride=self.stride)
        return _Fitted(decoded, plan)

    def _predict(self, group: Sequence[_Fitted], keep_views: bool) -> list[Prediction]:
        fitted = [item for item in group if item.plan is not None]
        if not fitted:
            return [
                Prediction(item.decoded.position, item.decoded.path, None, error=item.decoded.error)
                for item in group
            ]
        boxed = [item.letterboxed() for item in fitted]
        # [b, h, w, 3] seen as [b, 3, h, w] is channels-last already: no copy on the host.
        images = torch.from_numpy(np.stack(boxed)).to(self.device).permute(0, 3, 1, 2).flip(1)
        predictions = []
        for item, image, (rows, classes) in zip(
            fitted, images, self.detect_with_classes(images), strict=True
        ):
            predictions.append(item.prediction(image, rows, classes, keep_view=keep_views))
        return predictions


@dataclass(frozen=True)
class _Fitted:
    """A decoded image and how it fits the network; no plan for one that cannot be read."""

    decoded: DecodedImage
    plan: Letterbox | None

    @property
    def shape(self) -> tuple[int, int] | None:
        """(height, width) of its network input."""
        return None if self.plan is None else self.plan.shape

    def letterboxed(self) -> np.ndarray:
        """BGR uint8 [h, w, 3] in the network's shape."""
        assert self.decoded.image is not None
        assert self.plan is not None
        return apply_letterbox(self.decoded.image, self.plan)

    def prediction(
        self, image: Tensor, rows: Tensor, classes: Tensor, *, keep_view: bool
    ) -> Prediction:
        """Detections `rows` in the letterboxed `image`, brought back to the original's pixels."""
        assert self.plan is not None
        return Prediction(
            self.decoded.position,
            self.decoded.path,
            self.plan.source,
            boxes_to_original(rows, self.plan).cpu().numpy(),
            View(image, self.plan, rows, classes) if keep_view else None,
        )


def load_predictor(
    weights: Path, settings: InferSettings, device: torch.device, *, image_size: int | None = None
) -> Predictor:
    """A predictor from a weights file, with the thresholds and size of `settings`."""
    checkpoint = load_checkpoint(weights)
    return Predictor(
        build_detector(checkpoint),
        checkpoint.class_names,
        device=device,
        image_size=image_size or settings.img_size,
        thresholds=Thresholds(settings.conf_thres, settings.iou_thres, settings.max_det),
        precision=settings.precision,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Detect objects in images: pictures and label files, and all detections as one JSON file."""
    log_to_console()
    command = parse_infer_command(sys.argv[1:] if arguments is None else arguments)
    for note in command.notes:
        log.warning("note: %s", note)
    settings = command.settings
    predictor = load_predictor(command.weights, settings, device_of(command.device))
    folder = command.run.make() if command.run else Path()
    output = command.output or folder / "detections.json"
    files = DetectionFiles(folder, command.base, predictor.class_names, command.choice)
    stream = predictor.stream(
        command.images, batch_size=settings.batch_size, workers=settings.workers
    )
    found: dict[str, list[dict[str, object]]] = {}
    for prediction in tqdm(stream, total=len(command.images), disable=None):
        found[prediction.path] = _plain(prediction, predictor)
        if prediction.size is None:
            log.warning("skipped %s: %s", prediction.path, prediction.error)
        elif command.run:
            files.write(prediction.path, prediction.detections, prediction.size)
    write_text(output, json.dumps({path: found[path] for path in command.images}, indent=1))
    log.info(
        "%d images, %d objects: %s",
        len(found),
        sum(map(len, found.values())),
        folder if command.run else output,
    )


def _plain(prediction: Prediction, predictor: Predictor) -> list[dict[str, object]]:
    return [
        {
            "box": [round(float(v), 2) for v in row[:4]],
            "score": round(float(row[4]), 6),
            "class_name": predictor.class_names[int(row[5])],
        }
        for row in prediction.detections
    ]


if __name__ == "__main__":
    sys.exit(run_command(main))
