"""CALD mining: consistency of the detections under perturbations; larger scores first.

Source: «Consistency-based Active Learning for Object Detection» (arXiv 2103.10374).

Run as a program, as older repositories do, this file is mine.py:

python mining/mining_cald.py --weights best.pt --source photographs/ --imgsz 320
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    sys.path.insert(0, str(root))
    runpy.run_path(str(root / "mine.py"), run_name="__main__")

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from inference.predictions import NetworkInput, Prediction, original_rows
from mining.class_balance import (
    BALANCED_FIRST,
    divergence_shares,
    greedy_shares,
    labelled_counts,
    labelled_objects,
    rebalance,
)
from mining.consistency import class_vector, join_objects, reference_sample
from mining.data_augment import PERTURBATIONS, image_generator, view_size
from mining.explanations import score_breakdown, view_breakdown
from mining.scores import (
    Algorithm,
    ScoredPart,
    ScoringContext,
    Stream,
    kept_input,
    place_empty,
    score_by_shape,
)
from ops.boxes import clip
from ops.letterbox import PAD_VALUE
from ops.tiling import cut_sides
from settings.detect import MiningSettings
from utils.errors import Code, TaskError

log = logging.getLogger(__name__)

EMPTY_SCORES = {"first": 1.0, "last": 0.0}
"""Written for an image without detections, by the setting `empty_images`."""


@dataclass(frozen=True)
class _Candidate:
    """An image or tile with objects, to be compared with its perturbed views."""

    prediction: Prediction
    view: NetworkInput
    reference: tuple[Tensor, Tensor]
    """Rows [n, 6] and class probabilities [n, nc] of the objects that stand for the image."""
    boxes: Tensor
    """float32 [n, 4] on the CPU: theirs, xyxy in pixels of the content inside the borders."""

    @property
    def content(self) -> Tensor:
        """The photograph inside the borders: uint8 [3, h, w]."""
        top, bottom, left, right = self.view.letterbox.borders
        height, width = self.view.image.shape[1:]
        return self.view.image[:, top : height - bottom, left : width - right]


def rank_cald(scores: Stream, context: ScoringContext) -> Stream:
    """Apply stage 2 to the scores of stage 1 if a window is set, and place the empty images.

    Stage 2 (`mining/class_balance.py`) is for more than one class. By divergence it needs the
    labelled objects of each class, from the settings or the weights.
    """
    settings = context.settings
    known, window = labelled_objects(context), _window(settings)
    if context.network.network.num_classes < 2:
        window = 0
    if window and settings.balance_choice == "greedy":
        shares = greedy_shares(labelled_counts(context, tell=True))
    elif window and known is None:
        log.info(
            "cald: stage 1 only, the weights do not say what they were trained on (the setting "
            "labelled_objects can)"
        )
        window = 0
    elif window and known is not None:
        shares = divergence_shares(known)
    if window:
        log.info(
            "cald: the %d most informative images are ranked by class balance (%s)",
            *(window, settings.balance_choice),
        )
        scores = rebalance(scores, window, shares, settings.seed)
    first = BALANCED_FIRST if window else EMPTY_SCORES["first"]
    return place_empty(scores, settings, first=first, last=EMPTY_SCORES["last"])


def _window(settings: MiningSettings) -> int:
    """Return the images of stage 2: the setting, or CALD's 1.2 times the budget, rounded up."""
    asked = settings.balance_window
    return -(-6 * settings.budget // 5) if asked == 0 else max(asked, 0)


def cald_scores(predictions: Iterable[Prediction], context: ScoringContext) -> Stream:
    """Yield the stage-1 score of every image as batches of equal shape fill.

    The predictions' own detections are the reference. Images without detections and unreadable
    ones come out at once. Every tile of an image is scored by itself, and the image has the score
    of its most informative tile. Memory is bounded as in `map_by_shape`.
    """
    names = context.settings.views
    if len(set(names)) < len(names):
        raise TaskError(
            Code.CONFIG, f"The setting views is {', '.join(names)}: name each view once."
        )

    def score(group: Sequence[Prediction]) -> list[ScoredPart]:
        return _score([_candidate(one) for one in group], context)

    return score_by_shape(map(_whole_objects, predictions), score, context)


def _whole_objects(prediction: Prediction) -> Prediction:
    """Leave out objects that a tile's border cuts, and the network input if no object is left.

    Where a border cuts an object off, another tile or the whole image shows it whole.
    """
    if prediction.error is not None:
        return prediction
    view = kept_input(prediction)
    if prediction.window is not None and prediction.size is not None and len(view.rows):
        boxes = original_rows(view.rows, view.letterbox, prediction.window)[:, :4]
        whole = ~cut_sides(boxes, prediction.window, prediction.size).any(1)
        kept = torch.from_numpy(whole).to(view.rows.device)
        view = replace(
            view, rows=view.rows[kept], class_probabilities=view.class_probabilities[kept]
        )
    return replace(prediction, network_input=view if len(view.rows) else None)


def _candidate(prediction: Prediction) -> _Candidate:
    view = kept_input(prediction)
    chosen = torch.from_numpy(reference_sample(len(view.rows))).to(view.rows.device)
    rows, probabilities = view.rows[chosen], view.class_probabilities[chosen]
    top, _, left, _ = view.letterbox.borders
    boxes = _inside(rows[:, :4], (top, left), view.letterbox.resized).cpu()
    return _Candidate(prediction, view, (rows, probabilities), boxes)


def _inside(boxes: Tensor, corner: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Map boxes of a network input to pixels of its content at `corner` (top, left), clipped."""
    top, left = corner
    return clip(boxes - boxes.new_tensor([left, top, left, top]), size)


@torch.inference_mode()
def _score(group: Sequence[_Candidate], context: ScoringContext) -> list[ScoredPart]:
    """Score candidates whose network inputs have one shape."""
    predictor, settings = context.network, context.settings
    names = settings.views
    reference = [item.reference for item in group]
    rows = torch.cat([own for own, _ in reference])
    total = torch.zeros(len(group), dtype=torch.float64, device=predictor.network.device)
    vectors = torch.stack(
        [class_vector(item.view.rows, item.view.class_probabilities.shape[1]) for item in group]
    )
    breakdowns = []
    for name in names:
        perturbed = _perturb(group, name, settings.seed, predictor.network.stride)
        found = predictor.detect_with_classes(perturbed.images)
        seen = [
            _inside(own[:, :4], corner, size)
            for (own, _), corner, size in zip(
                found, perturbed.corners, perturbed.sizes, strict=True
            )
        ]
        breakdown = view_breakdown(
            join_objects(perturbed.boxes, reference),
            join_objects(seen, found),
            rows,
            torch.cat(
                [torch.cat((b, own[:, 4:]), 1) for b, (own, _) in zip(seen, found, strict=True)]
            ),
        )
        total += breakdown[:, 0]
        breakdowns.append(breakdown)
        vectors += torch.stack([class_vector(own, vectors.shape[1]) for own, _ in found])
    scores = (1 - total / len(names)).tolist()
    shown = (vectors / (1 + len(names))).cpu().numpy()
    columns = torch.stack(breakdowns, 1).cpu()
    parts = []
    for item, score, vector, own in zip(group, scores, shown, columns, strict=True):
        if not 0 <= score <= 1:  # also catches NaN, which no sort can place
            raise TaskError(
                Code.NOT_A_NUMBER,
                f"The mining score of {item.prediction.path} is {score}: the weights give "
                "detections that are not numbers; train the model again or choose another stage "
                "of it.",
            )
        explained = score_breakdown(names, own, item.prediction)
        parts.append(ScoredPart(item.prediction, score, vector, explained))
    return parts


@dataclass(frozen=True)
class _Perturbed:
    """One view of every candidate of a group, ready for the network."""

    images: Tensor
    """uint8 [b, 3, h, w], RGB, content centred on grey."""
    corners: list[tuple[int, int]]
    """(top, left) of each content."""
    sizes: list[tuple[int, int]]
    """(height, width) of each content."""
    boxes: list[Tensor]
    """float32 [n, 4] each, on the CPU: the reference boxes, mapped, in pixels of the content."""


def _perturb(group: Sequence[_Candidate], name: str, seed: int, stride: int) -> _Perturbed:
    """Return the view `name` of candidates whose network inputs have one shape, in one shape again.

    Contents of equal size and place are perturbed together. A view that shrinks the content
    shrinks the network input along with it, up to the next multiple of the stride.
    """
    alike: dict[tuple[int, int, int, int], list[int]] = {}
    for index, item in enumerate(group):
        alike.setdefault(item.view.letterbox.borders, []).append(index)
    first = group[0].view.image
    images, boxes = [first] * len(group), [first] * len(group)
    for indices in alike.values():
        changed, mapped = PERTURBATIONS[name](
            torch.stack([group[i].content for i in indices]),
            [group[i].boxes for i in indices],
            [image_generator(seed, group[i].prediction.path, name) for i in indices],
        )
        for i, image, own in zip(indices, changed, mapped, strict=True):
            images[i], boxes[i] = image, own
    canvas_size = view_size(name, (first.shape[1], first.shape[2]))
    canvas_height, canvas_width = (-(-side // stride) * stride for side in canvas_size)
    canvas = first.new_full((len(group), 3, canvas_height, canvas_width), PAD_VALUE)
    corners, sizes = [], []
    for target, image in zip(canvas, images, strict=True):
        height, width = image.shape[1:]
        top, left = (canvas_height - height) // 2, (canvas_width - width) // 2
        target[:, top : top + height, left : left + width] = image
        corners.append((top, left))
        sizes.append((height, width))
    return _Perturbed(canvas, corners, sizes, boxes)


ALGORITHM = Algorithm(cald_scores, rank_cald, threshold="conf_thres")
