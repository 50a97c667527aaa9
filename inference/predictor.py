"""The predictor: image files in, detections in pixels of the images out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from data.images import Pixels, read_image
from data.stream import DecodedImage, stream_prepared
from inference.backends.base import TORCH, BackendSpec
from inference.backends.choice import BenchmarkTarget, choose_backend, sample_images
from inference.batch_detections import BatchDetections
from inference.batching import Sharding, WorkerPool, bucket_by_shape
from inference.decoding import NVJPEG, Decode, DeviceDecoder, nvjpeg
from inference.exported import CPU, ExportedNetwork, is_exported, open_exported
from inference.network import Network, resolve_precision
from inference.pipeline import (
    BatchWork,
    Found,
    FoundOnDevice,
    FoundOnHost,
    Suppression,
)
from inference.predictions import (
    Prediction,
    Tile,
    class_indices,
    merge_tiles,
    split_into_tiles,
)
from inference.tta import augmented_rows
from models.checkpoint import Checkpoint, build_detector, load_checkpoint
from models.detector import Detector
from ops.letterbox import Letterbox, plan_letterbox
from ops.nms import Detections, NmsConfig, non_max_suppression
from ops.tiling import Tiling
from settings.detect import DetectionSettings, InferSettings
from utils.device import Upload, allow_tf32

log = logging.getLogger(__name__)

LARGE_IMAGES_AHEAD = 4
"""Images decoded ahead of the network where they are split into tiles, and so may be very large."""


@dataclass(frozen=True)
class PredictorConfig:
    """How a predictor detects objects."""

    image_size: int = 640
    """Longest side of the network input in pixels; rounded up to a multiple of the stride."""
    shape: tuple[int, int] | None = None
    """(height, width) that the network input fits in; None for a square of `image_size`."""
    batch_size: int = 16
    workers: int = -1
    """Threads that decode images; -1 for one a CPU, at most 64."""
    nms: NmsConfig = field(default_factory=NmsConfig)
    precision: str = "auto"
    backend: str = TORCH
    """What computes the network: the setting `engine`."""
    augment: bool = False
    """Test-time augmentation (`inference/tta.py`)."""
    tiling: Tiling | None = None
    """How large images are split; None to see every image as a whole only."""
    single_class: bool = False
    """Whether all classes count as one."""
    upright: bool = False
    """Whether images are turned as their orientation tags say: those of a YMIR task never are."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """A network with the class names and settings that make detections of its output."""

    network: Network | ExportedNetwork
    class_names: tuple[str, ...]
    pool: WorkerPool
    config: PredictorConfig
    labelled_objects: tuple[float, ...] | None = None
    """Objects of each class per image of the training set, for mining; None if unknown."""
    labelled_images: int = 0
    """Images of the training set; 0 if unknown."""
    decode: Decode | None = None
    """What decodes JPEG files on the device; None to decode all on the host."""

    @classmethod
    def build(
        cls,
        detector: Detector,
        class_names: Sequence[str],
        *,
        device: torch.device,
        config: PredictorConfig,
        images: Sequence[str] = (),
    ) -> Predictor:
        """Fuse a detector and choose its backend, which is checked on a few of the `images`.

        `images` are the files to be predicted. Raises TaskError if a named backend is not usable.
        """
        network = Network.build(detector, device=device, precision=config.precision)
        pool = WorkerPool(device)
        predictor = cls(network, tuple(class_names), pool, config)
        if config.backend == TORCH:
            return predictor
        spec = BackendSpec(
            device=device,
            precision=config.precision,
            threads=pool.count,
            batch_size=config.batch_size,
            # Evaluation pads by up to a stride more.
            side=predictor.image_size + 2 * network.stride,
            stride=network.stride,
            levels=network.levels,
        )
        target, samples = (
            BenchmarkTarget(network, spec, pool),
            sample_images(images, predictor.plan, upright=config.upright),
        )
        backend = choose_backend(config.backend, target, samples, images=len(images))
        return replace(predictor, network=replace(network, backend=backend))

    @property
    def image_size(self) -> int:
        """Longest side of the network input in pixels."""
        if self.network.fixed_size is not None:
            return max(self.network.fixed_size)
        stride = self.network.stride
        return -(-self.config.image_size // stride) * stride

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return head maps and decoded rows float32 [b, rows, 5 + nc] of uint8 RGB [b, 3, h, w]."""
        return self.network(images)

    def backbone_map(self, images: Tensor) -> Tensor:
        """Return the backbone's last map float32 [b, c, y, x] of uint8 RGB [b, 3, h, w]."""
        return self.network.backbone_map(images)

    @torch.inference_mode()
    def candidates(self, images: Tensor, output: Tensor) -> Tensor:
        """Return decoded rows [b, rows, 5 + nc] for `suppress`, with TTA if it is configured.

        `output` are the decoded rows of `forward`.
        """
        if not self.config.augment:
            return output
        return augmented_rows(
            lambda pixels: self.forward(pixels)[1],
            self.network.pixels(images),
            output,
            stride=self.network.stride,
            levels=len(self.network.levels),
        )

    def suppress(
        self, output: Tensor, *, multi_label: bool = False, nms: NmsConfig | None = None
    ) -> list[Detections]:
        """Apply NMS to decoded rows, under the predictor's settings unless `nms` is given."""
        rows = self.as_one_class(output)
        return non_max_suppression(rows, nms or self.config.nms, multi_label=multi_label)

    def as_one_class(self, output: Tensor) -> Tensor:
        """Return decoded rows whose classes count as one, if the configuration says so."""
        if not self.config.single_class:
            return output
        best = output[..., 5:].amax(dim=-1, keepdim=True)
        return torch.cat([output[..., :5], best], dim=-1)

    def _suppress_later(
        self, output: Tensor, nms: NmsConfig, *, multi_label: bool = False
    ) -> Suppression:
        rows = self.as_one_class(output)
        return Suppression(rows, nms, self.pool.buffers, multi_label=multi_label)

    def detect_with_classes(
        self, images: Tensor, *, nms: NmsConfig | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Return for each image its rows [n, 6] and their class probabilities [n, nc].

        Rows are in pixels of uint8 RGB [b, 3, h, w]. One forward pass, without TTA.
        """
        if self.pool.device.type != "cpu":
            launch = partial(self._launch, images, nms or self.config.nms)
            return list(self.network.in_range(launch, FoundOnDevice.is_broken).shown())
        output = self.network.rows(images)
        every = zip(self.suppress(output, nms=nms), output, strict=True)
        return [(found.rows, decoded[found.source, 5:]) for found, decoded in every]

    def _launch(self, images: Tensor, nms: NmsConfig, confidence: float = 0.0) -> FoundOnDevice:
        output = self.network.rows(images)
        found = self._suppress_later(output, nms)
        return FoundOnDevice(found, confidence, found, output)

    @torch.inference_mode()
    def detect_batches(
        self, batches: Sequence[Tensor], *, nms: NmsConfig | None = None
    ) -> BatchDetections:
        """Return the detections of uint8 RGB [b, 3, h, w]: one forward pass each, without TTA."""

        def look() -> BatchDetections:
            outputs = [self.as_one_class(self.network.rows(one)) for one in batches]
            return BatchDetections.suppress(outputs, nms or self.config.nms)

        return self.network.in_range(look, lambda found: found.is_broken)

    def stream(
        self,
        paths: Sequence[str],
        *,
        multi_label: bool = False,
        pixels: Mapping[int, Pixels] | None = None,
    ) -> Iterator[Prediction]:
        """Yield one prediction for each path, as batches of equal shape fill; memory is bounded.

        Positions refer to `paths`; an unreadable image comes with its `error`. With `multi_label`
        a box counts for every class above the threshold. `pixels` are images by position, BGR, of
        which there is no file.
        """
        tiles = self.stream_tiles(paths, multi_label=multi_label, pixels=pixels)
        return merge_tiles(tiles, self.config.nms)

    def stream_tiles(
        self,
        paths: Sequence[str],
        *,
        keep_inputs: bool = False,
        keep_confidence: float = 1.0,
        multi_label: bool = False,
        sharding: Sharding | None = None,
        pixels: Mapping[int, Pixels] | None = None,
    ) -> Iterator[Prediction]:
        """Yield the predictions of whole images and of their tiles; batches mix tiles and images.

        With `sharding` only its positions are predicted, and batches end with each shard. With
        `keep_inputs` each has its network input, whose rows may go down to `keep_confidence`.
        """
        config, prefetch = self.config, LARGE_IMAGES_AHEAD
        part = sharding or Sharding(max(len(paths), 1), range(len(paths)), self.pool.count)
        batch_size = config.batch_size
        if config.tiling is None:
            # Few images still occupy every worker.
            batch_size = min(batch_size, max(-(-len(paths) // part.workers), 1))
            prefetch = 2 * batch_size
        decoder = None
        if self.decode and not pixels:
            decoder = DeviceDecoder(self.decode, self.network.device, config.upright, config.tiling)
        images = stream_prepared(
            *(paths, partial(self._tiles, part.size)),
            workers=config.workers,
            prefetch=prefetch,
            positions=part.positions,
            read=decoder.read if decoder else partial(read_image, upright=config.upright),
            pixels=pixels,
        )
        batches = bucket_by_shape(
            chain.from_iterable(images),
            lambda tile: tile.shape,
            batch_size,
            shard_of=lambda tile: tile.blank.shard,
        )
        low = min(keep_confidence, config.nms.confidence) if keep_inputs else None
        look = partial(self._look, keep_confidence=low, multi_label=multi_label)
        upload, in_range = Upload(self.network.device), self.network.in_range
        steps = BatchWork(self.pool.buffers, upload, look, keep_inputs, in_range, decoder).steps
        for predictions in self.pool.pipeline(steps, batches):
            yield from predictions
        if decoder:
            decoder.log_counts()

    def _tiles(self, shard_size: int, decoded: DecodedImage) -> list[Tile]:
        shard = decoded.position // shard_size
        return list(split_into_tiles(decoded, self.config.tiling, self.plan, shard=shard))

    def shown_again(
        self, paths: Sequence[str], pixels: Mapping[int, Pixels] | None = None
    ) -> Callable[[Sequence[int]], Iterator[Prediction]]:
        """Return what predicts those of `paths` at given positions, with their inputs."""

        def predictions(positions: Sequence[int]) -> Iterator[Prediction]:
            part = Sharding(max(len(paths), 1), positions, self.pool.count)
            return self.stream_tiles(paths, keep_inputs=True, sharding=part, pixels=pixels)

        return predictions

    def plan(self, size: tuple[int, int]) -> Letterbox:
        """Return the letterbox of a (height, width) in the smallest rectangle for it.

        A file of a fixed size gets that.
        """
        if self.network.fixed_size is not None:
            return plan_letterbox(size, self.network.fixed_size)
        stride = self.network.stride
        height, width = self.config.shape or (self.image_size, self.image_size)
        target = (-(-height // stride) * stride, -(-width // stride) * stride)
        return plan_letterbox(size, target, minimal=True, stride=stride)

    def _look(self, images: Tensor, *, keep_confidence: float | None, multi_label: bool) -> Found:
        """Find what is in a batch; `keep_confidence` is the threshold of kept inputs, if any."""
        plain, nms = not (self.config.augment or multi_label), self.config.nms
        keeps = keep_confidence is not None
        low = nms if keep_confidence is None else replace(nms, confidence=keep_confidence)
        if self.pool.device.type == "cpu":  # where the loop over images is faster
            shown = self.detect_with_classes(images, nms=low) if plain or keeps else []
            if plain:
                # Suppression never looks ahead: the surest rows are those of the higher threshold.
                return FoundOnHost([rows for rows, _ in shown], nms.confidence, shown)
            rows = self.candidates(images, self.forward(images)[1])
            found = [one.rows for one in self.suppress(rows, multi_label=multi_label)]
            return FoundOnHost(found, 0.0, shown)
        if plain:
            return self._launch(images, low, nms.confidence)
        output = self.network.rows(images)
        first = self._suppress_later(output, low) if keeps else None
        last = self._suppress_later(self.candidates(images, output), nms, multi_label=multi_label)
        return FoundOnDevice(last, 0.0, first or last, output)


def load_predictor(
    weights: Path | Checkpoint,
    settings: DetectionSettings,
    device: torch.device,
    *,
    images: Sequence[str] = (),
    single_class: bool = False,
    upright: bool = False,
    shape: tuple[int, int] | None = None,
) -> Predictor:
    """Build a predictor from weights and settings; see `Predictor.build` for `images`.

    `weights` may also be a file that `inference/exported.py` opens. `single_class`, `shape` and
    `upright` are those of its configuration.
    """
    allow_tf32(settings.tf32)
    exported = isinstance(weights, Path) and is_exported(weights)
    decode = nvjpeg(CPU if exported else device) if settings.decode == NVJPEG else None
    if isinstance(weights, Path) and exported:
        found = _predictor_of_file(weights, settings, device, shape)
        return replace(found, config=replace(found.config, upright=upright))
    checkpoint = load_checkpoint(weights) if isinstance(weights, Path) else weights
    names = checkpoint.class_names
    config = predictor_config(settings, names, device)
    predictor = Predictor.build(
        build_detector(checkpoint),
        names,
        device=device,
        config=replace(config, single_class=single_class, shape=shape, upright=upright),
        images=images,
    )
    predictor = replace(
        predictor,
        labelled_objects=checkpoint.metadata.objects_per_image(len(names)),
        labelled_images=checkpoint.metadata.labelled_images or 0,
        decode=decode,
    )
    note = checkpoint.metadata.size_warning(predictor.image_size)
    if note and not settings.tile_size:
        log.warning("note: %s", note)
    return predictor


def _predictor_of_file(
    path: Path, settings: DetectionSettings, device: torch.device, shape: tuple[int, int] | None
) -> Predictor:
    if device.type != "cpu":
        log.warning("note: %s runs on the CPU; give the .pt file to use the GPU", path)
    pool = WorkerPool(CPU)
    network = open_exported(path, settings.engine, precision=settings.precision, threads=pool.count)
    config = replace(predictor_config(settings, network.class_names, CPU), shape=shape)
    fixed, wanted = network.fixed_size, shape or settings.img_size
    if fixed is not None and wanted not in (fixed, max(fixed)):
        note = "note: %s takes images of %d x %d (height x width): img_size %s has no effect"
        log.warning(note, path, *fixed, wanted)
    return Predictor(network, network.class_names, pool, config)


def predictor_config(
    settings: DetectionSettings, class_names: Sequence[str], device: torch.device
) -> PredictorConfig:
    """Return the configuration of a predictor under settings. Raises TaskError(CONFIG)."""
    classes = class_indices(settings.classes, class_names)
    nms = NmsConfig(
        settings.conf_thres, settings.iou_thres, settings.max_det, classes, settings.agnostic_nms
    )
    return PredictorConfig(
        image_size=settings.img_size,
        batch_size=settings.batch_size,
        workers=settings.workers,
        nms=nms,
        precision=resolve_precision(settings, device),
        backend=settings.engine,
        augment=isinstance(settings, InferSettings) and settings.augment,
        tiling=Tiling(settings.tile_size, settings.tile_overlap) if settings.tile_size else None,
    )
