"""Images in, detections in their own pixels out: the one stream that everyone asks.

python detect.py --weights best.pt --source photographs/ [--save-txt] [--output detections.json]
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.stream import stream_images
from inference.backends.base import TORCH
from inference.backends.sample import sample_images
from inference.batching import WorkerPool, bucket_by_shape
from inference.class_choice import class_indices
from inference.image_parts import Part, split_into_tiles
from inference.network import Looks
from inference.predictions import Prediction, TileMerger, View, merge_tiles
from inference.single_class import as_one_class
from inference.tta import augmented_rows
from models.checkpoint import build_detector, load_checkpoint
from models.detector import Detector
from ops.letterbox import Letterbox, plan_letterbox
from ops.nms import Detections, NmsConfig, non_max_suppression
from ops.tiling import Tiling
from settings.detect import DetectionSettings, InferSettings

log = logging.getLogger(__name__)

LARGE_IMAGES_AHEAD = 4
"""Images decoded ahead of the network where they are cut into tiles, and so may be very large."""


class Predictor:
    """A detector ready to look at images: fused, on its device, in eval mode."""

    augment: bool = False
    """Whether detections come from three looks at an image (`inference/tta.py`) instead of one."""
    tiling: Tiling | None = None
    """How large images are cut; None to see every image as a whole only."""
    single_class: bool = False
    """Whether detections say where objects are and not of which class."""
    labelled_objects: tuple[float, ...] | None = None
    """Objects of each class per image of the training, for mining; None where not known."""
    section: int = 0
    """Images of a stream that share batches with each other only; 0 for no bounds."""
    lanes_in_all: int = 0
    """Lanes that share few images between them, those of other processes too; 0 for its own."""

    def __init__(
        self,
        detector: Detector,
        class_names: Sequence[str],
        *,
        device: torch.device,
        image_size: int = 640,
        thresholds: NmsConfig | None = None,
        precision: str = "auto",
        augment: bool = False,
        tiling: Tiling | None = None,
    ) -> None:
        self.device = device
        self.class_names = tuple(class_names)
        self.num_classes = detector.nc
        self.stride = detector.config.input_multiple
        self.levels = len(detector.stride)
        self.image_size = -(-image_size // self.stride) * self.stride
        self.thresholds = thresholds or NmsConfig()
        self.augment = augment
        self.tiling = tiling
        self.lanes = WorkerPool(device)
        self.looks = Looks(detector, device=device, precision=precision)

    def use_engine(self, name: str, paths: Sequence[str], *, batch_size: int) -> None:
        """Let the engine that the setting `name` asks for compute, checked on a few of the images
        at `paths`, which are what will be looked at. TaskError where a named one cannot be had.
        """
        self.looks.engine = None
        if name == TORCH:
            return
        self.looks.use_engine(
            name,
            sample_images(paths, self.plan),
            lanes=self.lanes,
            batch_size=batch_size,
            # Evaluation pads by up to a stride more.
            side=self.image_size + 2 * self.stride,
            images=len(paths),
        )

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Raw head maps and decoded rows float32 [b, rows, 5 + nc] of uint8 RGB [b, 3, h, w]."""
        return self.looks(images)

    def backbone_map(self, images: Tensor) -> Tensor:
        """The backbone's last map float32 [b, c, y, x] of uint8 RGB [b, 3, h, w]."""
        return self.looks.backbone_map(images)

    @torch.inference_mode()
    def candidates(self, images: Tensor, output: Tensor | None = None) -> Tensor:
        """Decoded rows [b, rows, 5 + nc] for `suppress`: of one look, or of three with `augment`.

        `output` hands in the decoded rows of `forward` where they are known.
        """
        output = self.forward(images)[1] if output is None else output
        if not self.augment:
            return output
        return augmented_rows(
            lambda pixels: self.looks(pixels)[1],
            self.looks.pixels(images),
            stride=self.stride,
            levels=self.levels,
            first=output,
        )

    def suppress(self, output: Tensor, *, multi_label: bool = False) -> list[Detections]:
        """What remains of decoded rows under the predictor's thresholds, per image."""
        output = as_one_class(output) if self.single_class else output
        return non_max_suppression(output, self.thresholds, multi_label=multi_label)

    def detect(self, images: Tensor) -> list[Detections]:
        """Detections in pixels of the letterboxed images given (uint8 RGB [b, 3, h, w])."""
        return self.suppress(self.candidates(images))

    def detect_with_classes(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Per image: rows [n, 6] in its own pixels and their class probabilities [n, nc].

        Of one look at each image, whatever `augment` says.
        """
        output = self.forward(images)[1]
        return [
            (kept.rows, decoded[kept.source, 5:])
            for kept, decoded in zip(self.suppress(output), output, strict=True)
        ]

    def stream(
        self,
        paths: Sequence[str],
        *,
        batch_size: int,
        workers: int,
        keep_views: bool = False,
        multi_label: bool = False,
    ) -> Iterator[Prediction]:
        """One `Prediction` per path, as batches of equal shape fill; memory stays bounded.

        Positions refer to `paths`; unreadable images come with `error` and no detections. With
        `multi_label` a box may count for several classes. An image that was cut into tiles comes
        without views: ask `stream_parts` for those.
        """
        parts = self.stream_parts(
            paths,
            batch_size=batch_size,
            workers=workers,
            keep_views=keep_views,
            multi_label=multi_label,
        )
        return merge_tiles(parts, self.gathering())

    def section_of(self, position: int) -> int:
        """Which section the image at `position` of a stream belongs to."""
        return position // self.section if self.section else 0

    def gathering(self) -> TileMerger:
        """What puts the parts of `stream_parts` together under the predictor's thresholds."""
        return TileMerger(self.thresholds)

    def stream_parts(
        self,
        paths: Sequence[str],
        *,
        batch_size: int,
        workers: int,
        keep_views: bool = False,
        multi_label: bool = False,
        positions: Iterable[int] | None = None,
    ) -> Iterator[Prediction]:
        """As `stream`, but the whole of an image and each of its tiles come one by one.

        Batches fill across tiles and images. An image that is not cut is one part. With `positions`
        only those images are looked at, in that order: whole sections, rising.
        """
        prefetch = LARGE_IMAGES_AHEAD
        if self.tiling is None:
            # Few images still occupy every lane.
            lanes = self.lanes_in_all or self.lanes.count
            batch_size = min(batch_size, max(-(-len(paths) // lanes), 1))
            prefetch = 2 * batch_size
        images = stream_images(paths, workers=workers, prefetch=prefetch, positions=positions)
        parts = chain.from_iterable(
            split_into_tiles(decoded, self.tiling, self.plan) for decoded in images
        )
        groups = bucket_by_shape(
            parts,
            lambda part: part.shape,
            batch_size,
            section_of=lambda part: self.section_of(part.decoded.position),
        )
        for predictions in self.lanes.map(
            lambda group: self._predict(group, keep_views=keep_views, multi_label=multi_label),
            groups,
        ):
            yield from predictions

    def plan(self, size: tuple[int, int]) -> Letterbox:
        """Where an image of `size` (height, width) lies in the smallest rectangle it needs."""
        square = (self.image_size, self.image_size)
        return plan_letterbox(size, square, minimal=True, stride=self.stride)

    def _predict(
        self, group: Sequence[Part], *, keep_views: bool, multi_label: bool
    ) -> list[Prediction]:
        fitted = [item for item in group if item.plan is not None]
        if not fitted:
            return [item.unreadable() for item in group]
        boxed = np.stack([item.letterboxed() for item in fitted])
        # [b, h, w, 3] seen as [b, 3, h, w] is channels-last already: no copy on the host.
        images = torch.from_numpy(boxed).to(self.device).permute(0, 3, 1, 2)
        plain = not (self.augment or multi_label)
        seen = self.detect_with_classes(images) if plain or keep_views else []
        if plain:
            found = [rows for rows, _ in seen]
        else:
            kept = self.suppress(self.candidates(images), multi_label=multi_label)
            found = [own.rows for own in kept]
        views: list[View | None] = [None] * len(fitted)
        if keep_views:
            views = [
                View(image, item.letterbox, rows, classes)
                for item, image, (rows, classes) in zip(fitted, images, seen, strict=True)
            ]
        return [
            item.prediction(rows, view)
            for item, rows, view in zip(fitted, found, views, strict=True)
        ]


def load_predictor(
    weights: Path,
    settings: DetectionSettings,
    device: torch.device,
    *,
    image_size: int | None = None,
) -> Predictor:
    """A predictor from a weights file, with the thresholds and size of `settings`."""
    checkpoint = load_checkpoint(weights)
    predictor = Predictor(
        build_detector(checkpoint),
        checkpoint.class_names,
        device=device,
        image_size=image_size or settings.img_size,
        thresholds=NmsConfig(
            settings.conf_thres,
            settings.iou_thres,
            settings.max_det,
            class_indices(settings.classes, checkpoint.class_names),
            settings.agnostic_nms,
        ),
        precision=chosen_precision(settings, device),
        augment=isinstance(settings, InferSettings) and settings.augment,
        tiling=Tiling(settings.tile_size, settings.tile_overlap) if settings.tile_size else None,
    )
    predictor.labelled_objects = checkpoint.metadata.objects_per_image(predictor.num_classes)
    note = checkpoint.metadata.size_warning(predictor.image_size)
    if note and not settings.tile_size:
        log.warning("note: %s", note)
    return predictor


def chosen_precision(settings: DetectionSettings, device: torch.device) -> str:
    """The precision that settings ask for on a device: `half` is a matter of GPUs."""
    if settings.half and device.type == "cuda":
        return "float16"
    if settings.half:
        log.warning(
            "note: half (float16) needs a GPU; the CPU computes with precision %s",
            settings.precision,
        )
    return settings.precision
