"""CALD mining as older executors do it: one image at a time, five float32 forward passes each.

    python -m bench.sequential_mining build/bench/job.json

What `python -m bench` compares mining with: the definitions of docs/mining.md with the fused
network of torch, without batches, threads or a reduced precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.run_ours import Job, device_of, main, measured, mining_settings
from data.images import read_image
from mining.consistency import Objects, compare, match, reference_sample
from mining.data_augment import (
    VIEWS,
    accepted_tries,
    box_map,
    cutout_tries,
    hide_,
    image_generator,
    map_boxes,
    view_size,
)
from models.checkpoint import build_detector, load_checkpoint
from models.detector import Detector
from ops.boxes import clip
from ops.letterbox import PAD_VALUE, Letterbox, apply_letterbox, boxes_to_original, plan_letterbox
from ops.nms import NmsConfig, non_max_suppression
from settings.detect import MiningSettings


@torch.inference_mode()
def mine_sequentially(
    detector: Detector, paths: Sequence[str], settings: MiningSettings
) -> Iterator[tuple[Tensor, float]]:
    """Detect and score every image, in the order of `paths`, with a fused detector.

    Yields detections [n, 6] (xyxy in pixels of the original, confidence, class; by falling
    confidence) and the score 1 - M, 0 for an image without detections.
    """
    stride = detector.config.input_multiple
    square = (settings.img_size, settings.img_size)
    device = next(detector.parameters()).device
    for path in paths:
        image = read_image(path)
        plan = plan_letterbox((image.shape[0], image.shape[1]), square, minimal=True, stride=stride)
        pixels = np.ascontiguousarray(apply_letterbox(image, plan)[..., ::-1].transpose(2, 0, 1))
        letterboxed = torch.from_numpy(pixels).to(device)
        rows, classes = _forward(detector, letterboxed, settings)
        score = 0.0
        if len(rows):
            chosen = torch.from_numpy(reference_sample(len(rows))).to(device)
            reference = (rows[chosen], classes[chosen])
            distances = [
                _inconsistency(detector, letterboxed, plan, reference, name, path, settings)
                for name in settings.views
            ]
            score = 1 - sum(distances) / len(distances)
        yield boxes_to_original(rows, plan), score


def _forward(detector: Detector, image: Tensor, settings: MiningSettings) -> tuple[Tensor, Tensor]:
    """Return rows [n, 6] in pixels of `image` (uint8 RGB [3, h, w]) and class scores [n, nc]."""
    output = detector.predict(image[None].float() / 255)
    config = NmsConfig(settings.conf_thres, settings.iou_thres, settings.max_det)
    kept = non_max_suppression(output, config)[0]
    return kept.rows, output[0, kept.source, 5:]


def _inconsistency(
    detector: Detector,
    image: Tensor,
    plan: Letterbox,
    reference: tuple[Tensor, Tensor],
    name: str,
    path: str,
    settings: MiningSettings,
) -> float:
    """Return M in [0, 1] of one perturbed view; `reference` are the results for `image` itself."""
    top, bottom, left, right = plan.borders
    content = image[:, top : image.shape[1] - bottom, left : image.shape[2] - right]
    boxes = _inside(reference[0], top, left, content)
    generator = image_generator(settings.seed, path, name)
    view, mapped = perturb(name, content, boxes, generator)
    stride = detector.config.input_multiple
    height, width = (
        -(-side // stride) * stride for side in view_size(name, (image.shape[1], image.shape[2]))
    )
    canvas = image.new_full((3, height, width), PAD_VALUE)
    top, left = (height - view.shape[1]) // 2, (width - view.shape[2]) // 2
    canvas[:, top : top + view.shape[1], left : left + view.shape[2]] = view
    rows, classes = _forward(detector, canvas, settings)
    if not len(rows):
        return 0.0
    seen = torch.cat((_inside(rows, top, left, view), rows[:, 4:]), 1)
    return inconsistency(mapped, Objects(*reference), Objects(seen, classes))


def perturb(
    name: str, image: Tensor, boxes: Tensor, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return the view `name` of one image, uint8 [3, h, w], and its boxes [n, 4] there."""
    size = (image.shape[1], image.shape[2])
    changed = VIEWS[name](image[None])[0]
    if name == "cutout":
        tries = torch.from_numpy(cutout_tries(size, generator))[None].to(image.device)
        changed = hide_(image[None].clone(), accepted_tries(boxes[None], tries))[0]
    height, width = view_size(name, size)
    maps = torch.from_numpy(box_map(name, size))[None].to(image.device)
    sizes = maps.new_tensor([[width, height, width, height]])
    return changed, map_boxes(boxes[None], maps, sizes)[0]


def inconsistency(boxes: Tensor, reference: Objects, view: Objects) -> float:
    """Return M of one view that shows objects; `boxes` [n, 4] are the reference's in the view."""
    overlap, partner = match(boxes, view.rows)
    partners = Objects(view.rows[partner][None, None], view.probabilities[partner][None, None])
    one = Objects(reference.rows[None], reference.probabilities[None])
    empty = torch.zeros(1, 1, dtype=torch.bool, device=overlap.device)
    return float(compare(overlap[None, None], one, partners, empty).inconsistency)


def _inside(rows: Tensor, top: int, left: int, content: Tensor) -> Tensor:
    """Return the boxes [n, 4] of rows in pixels of `content`, which lies at (top, left)."""
    return clip(rows[:, :4] - rows.new_tensor([left, top, left, top]), content.shape[1:])


def mining(job: Job) -> dict[str, Any]:
    """Seconds of mining the files, from the disk to scores; the scores themselves."""
    settings, files = mining_settings(job), job["files"]
    detector = build_detector(load_checkpoint(job["weights"])).fused().to(device_of(job))
    mined: list[tuple[Tensor, float]] = []

    def work() -> None:
        mined[:] = mine_sequentially(detector, files, settings)

    def first() -> None:
        list(mine_sequentially(detector, files[: job["warmup"]], settings))

    return {
        "precision": "float32",
        **measured(job, work, first=first),
        "images": len(files),
        "objects": sum(len(rows) for rows, _ in mined),
        "scores": [score for _, score in mined],
    }


if __name__ == "__main__":
    main("sequential loop", {"mining": mining})
