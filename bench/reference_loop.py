"""Mining as older executors do it: one image at a time, five float32 looks one after another.

What `python -m bench.mining` measures ours against. It follows the same definitions
(docs/mining.md) with means of its own: views by numpy and OpenCV in exact interpolation, partners
and divergences object by object. The network is fused and its suppression is ours, so that the
loop is not slow without need.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.images import read_image
from mining.consistency import BASE_POINT, LARGEST, reference_sample
from mining.data_augment import (
    GREY,
    RESIZE_FACTOR,
    ROTATION_DEGREES,
    cutout_rectangles,
    image_generator,
    rotated_boxes,
    rotation,
)
from models.detector import Detector
from ops.letterbox import apply_letterbox, boxes_to_original, plan_letterbox
from ops.nms import NmsConfig, non_max_suppression
from settings.detect import MiningSettings

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mined:
    """What the loop says of one image."""

    detections: NDArray[np.float32]
    """[n, 6]: xyxy in pixels of the original, confidence, class; by falling confidence."""
    score: float
    """CALD's 1 - M; 0 for an image without detections."""


@dataclass(frozen=True)
class Found:
    """The objects of one look, in pixels of the photograph inside the network input."""

    boxes: Floats
    """[n, 4] xyxy."""
    confidence: Floats
    """[n]."""
    distributions: Floats
    """[n, max(classes, 2)], each summing to 1."""


def mine_one_by_one(
    detector: Detector, paths: Sequence[str], settings: MiningSettings
) -> Iterator[Mined]:
    """Detections and score of every image, in the order of `paths`, on the CPU.

    `detector` is fused and on the CPU. ImageError for an image that cannot be read.
    """
    stride = detector.config.input_multiple
    square = (settings.img_size, settings.img_size)
    for path in paths:
        image = read_image(path)
        plan = plan_letterbox((image.shape[0], image.shape[1]), square, minimal=True, stride=stride)
        boxed = apply_letterbox(image, plan)
        top, bottom, left, right = plan.borders
        content = boxed[top : boxed.shape[0] - bottom, left : boxed.shape[1] - right]
        rows, classes = _look(detector, boxed, settings)
        score = 0.0
        if len(rows):
            known = _found(rows, classes, (top, left), content)
            chosen = reference_sample(len(rows))
            known = Found(
                known.boxes[chosen], known.confidence[chosen], known.distributions[chosen]
            )
            distances = [
                _inconsistency(detector, boxed, content, known, name, path, settings)
                for name in settings.views
            ]
            score = 1 - sum(distances) / len(distances)
        yield Mined(boxes_to_original(rows, plan).numpy(), score)


@torch.inference_mode()
def _look(detector: Detector, image: Pixels, settings: MiningSettings) -> tuple[Tensor, Tensor]:
    """Rows [n, 6] in pixels of `image` (BGR [h, w, 3]) and their class probabilities [n, nc]."""
    planes = np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))
    output = detector.predict(torch.from_numpy(planes)[None].float() / 255)
    kept = non_max_suppression(
        output,
        NmsConfig(settings.conf_thres, settings.iou_thres, settings.max_det),
    )[0]
    return kept.rows, output[0, kept.source, 5:]


def _found(rows: Tensor, classes: Tensor, corner: tuple[int, int], content: Pixels) -> Found:
    """The objects of one look at an input that shows `content` at `corner` (top, left)."""
    top, left = corner
    height, width = content.shape[:2]
    boxes = rows[:, :4].numpy().astype(np.float64) - [left, top, left, top]
    boxes = boxes.clip(0, [width, height, width, height])
    confidence, mass = rows[:, 4].double().numpy(), classes.double().numpy()
    if mass.shape[1] == 1:
        shares = np.stack((confidence, 1 - confidence), 1)
    else:
        shares = mass / mass.sum(1, keepdims=True)
    return Found(boxes, confidence, shares)


def _inconsistency(
    detector: Detector,
    boxed: Pixels,
    content: Pixels,
    known: Found,
    name: str,
    path: str,
    settings: MiningSettings,
) -> float:
    """M of one view of one image, in [0, 1]."""
    view, boxes = view_of(content, known.boxes, name, image_generator(settings.seed, path, name))
    canvas_size = boxed.shape[:2]
    if name == "resize":
        stride = detector.config.input_multiple
        canvas_size = tuple(
            -(-int(side * RESIZE_FACTOR) // stride) * stride for side in canvas_size
        )
    canvas = np.full((*canvas_size, 3), GREY, np.uint8)
    top, left = (canvas.shape[0] - view.shape[0]) // 2, (canvas.shape[1] - view.shape[1]) // 2
    canvas[top : top + view.shape[0], left : left + view.shape[1]] = view
    rows, classes = _look(detector, canvas, settings)
    if not len(rows):
        return 0.0
    seen = _found(rows, classes, (top, left), view)
    smallest = LARGEST
    for box, confidence, distribution in zip(
        boxes, known.confidence, known.distributions, strict=True
    ):
        overlaps = _overlaps(box, seen.boxes)
        partner = int(overlaps.argmax())
        same = 0.0
        if overlaps[partner] > 0:
            mean = (confidence + seen.confidence[partner]) / 2
            divergence = _jensen_shannon(distribution, seen.distributions[partner])
            same = overlaps[partner] + mean * (1 - divergence)
        smallest = min(smallest, abs(same - BASE_POINT))
    return smallest


def view_of(
    content: Pixels, boxes: Floats, name: str, generator: np.random.Generator
) -> tuple[Pixels, Floats]:
    """A perturbed copy of a photograph BGR [h, w, 3], and its boxes [n, 4] mapped along."""
    height, width = content.shape[:2]
    if name == "flip":
        x1, y1, x2, y2 = boxes.T
        return content[:, ::-1], np.stack((width - x2, y1, width - x1, y2), 1)
    if name == "cutout":
        view = content.copy()
        own = torch.from_numpy(boxes.astype(np.float32))
        for left, top, right, bottom in cutout_rectangles(own, (height, width), generator):
            view[top:bottom, left:right] = 0
        return view, boxes
    if name == "resize":
        small = (int(width * RESIZE_FACTOR), int(height * RESIZE_FACTOR))
        ratios = np.array([small[0] / width, small[1] / height] * 2)
        return _pixels(cv2.resize(content.astype(np.float32), small)), boxes * ratios
    assert name == "rotate", name
    matrix = rotation((height, width), ROTATION_DEGREES)
    mapped = rotated_boxes(torch.from_numpy(boxes), matrix, (height, width)).numpy()
    return _warped(content, matrix.numpy()), mapped


def _warped(content: Pixels, matrix: Floats) -> Pixels:
    """A picture [h, w, 3] under the affine map [2, 3] of (x, y), bilinear, grey around it.

    By hand: OpenCV rounds the places that it looks at to 1/32 pixel, which moves scores.
    """
    height, width = content.shape[:2]
    back = np.linalg.inv(matrix[:, :2])
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    places = np.stack((x - matrix[0, 2], y - matrix[1, 2]), -1) @ back.T
    # The centre of the first pixel is at 0.5; one pixel of grey stands before it.
    places = (places + 0.5).clip(0, [width + 1, height + 1])
    low = np.minimum(places.astype(np.int64), [width, height])
    right, down = np.moveaxis((places - low).astype(np.float32), -1, 0)[..., None]
    column, row = np.moveaxis(low, -1, 0)
    grey = cv2.copyMakeBorder(
        content, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(GREY, GREY, GREY)
    ).astype(np.float32)
    upper = grey[row, column] * (1 - right) + grey[row, column + 1] * right
    lower = grey[row + 1, column] * (1 - right) + grey[row + 1, column + 1] * right
    return _pixels(upper * (1 - down) + lower * down)


def _pixels(values: NDArray[np.generic]) -> Pixels:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _overlaps(box: Floats, others: Floats) -> Floats:
    """IoU of one box with each of [n, 4]."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(min=0).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - shared
    return np.divide(shared, areas, out=np.zeros_like(shared), where=areas > 0)


def _jensen_shannon(p: Floats, q: Floats) -> float:
    """In nats, of two distributions [c]."""
    mean = (p + q) / 2
    parts = [_relative(p, mean), _relative(q, mean)]
    return max(0.0, sum(parts) / 2)


def _relative(p: Floats, q: Floats) -> float:
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())
