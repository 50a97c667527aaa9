"""CALD mining: consistency of the detections under perturbations; larger scores first.

Source: «Consistency-based Active Learning for Object Detection» (arXiv 2103.10374).

python -m mining.mining_cald --weights best.pt --source photographs/ --output result.tsv
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data.sources import find_images
from inference.predictions import NetworkInput, Prediction
from inference.predictor import Predictor, load_predictor
from mining.class_balance import BALANCED_FIRST, rebalance, window_size
from mining.consistency import class_vector, join_objects, reference_sample
from mining.data_augment import PERTURBATIONS, image_generator, view_size
from mining.explanations import score_breakdown, view_breakdown
from mining.scores import (
    Algorithm,
    ScoredPart,
    ScoringContext,
    Stream,
    best_of_parts,
    map_by_shape,
    place_empty,
    rank_images,
)
from ops.boxes import clip
from ops.letterbox import PAD_VALUE, Letterbox, boxes_to_original
from ops.tiling import cut_sides
from settings.detect import MiningSettings
from utils.atomic import write_text
from utils.device import parse_gpu_ids, select_device
from utils.errors import Code, TaskError
from utils.logs import log_to_console
from utils.shutdown import run_command

log = logging.getLogger(__name__)

EMPTY_SCORES = {"first": 1.0, "last": 0.0}
"""Written for an image without detections, by the setting `empty_images`."""


@dataclass(frozen=True)
class _Candidate:
    """An image or tile with objects, to be compared with its perturbed views."""

    position: int
    path: str
    parts: int
    image: Tensor
    """uint8 [3, h, w], RGB, letterboxed, on the device."""
    borders: tuple[int, int, int, int]
    """Top, bottom, left, right: what the letterbox added."""
    rows: Tensor
    class_probabilities: Tensor
    boxes: Tensor
    """float32 [n, 4] on the CPU: xyxy in pixels of the content inside the borders."""
    class_vector: Tensor
    """float32 [nc]: per class the largest confidence of all its objects."""
    plan: Letterbox
    corner: tuple[int, int]
    """(left, top) of the part in the image."""
    shard: int

    @property
    def content(self) -> Tensor:
        """The photograph inside the borders: uint8 [3, h, w]."""
        top, bottom, left, right = self.borders
        height, width = self.image.shape[1:]
        return self.image[:, top : height - bottom, left : width - right]


def rank_cald(scores: Stream, context: ScoringContext) -> Stream:
    """Apply stage 2 to the scores of stage 1, and place the images without objects.

    Stage 2 (`mining/class_balance.py`) needs the labelled objects of each class, from the settings
    or the weights, and more than one class.
    """
    settings = context.settings
    labelled = _labelled_objects(context.network, settings)
    window = window_size(settings.balance_window, context.total) if labelled else 0
    if labelled and window:
        log.info("cald: the %d most informative images are ranked by class balance", window)
        scores = rebalance(scores, labelled, window)
    return place_empty(
        scores,
        settings.empty_images,
        first=BALANCED_FIRST if window else EMPTY_SCORES["first"],
        last=EMPTY_SCORES["last"],
        seed=settings.seed,
    )


def _labelled_objects(predictor: Predictor, settings: MiningSettings) -> Sequence[float] | None:
    """Return the objects of each class per labelled image; None where unknown or of one class."""
    given, count = settings.labelled_objects, predictor.network.num_classes
    if given and len(given) != count:
        raise TaskError(
            Code.CONFIG,
            f"the setting labelled_objects has {len(given)} numbers but the weights know {count} "
            "classes: give one number for each, in their order.",
        )
    known = given or predictor.labelled_objects
    if known is None:
        log.info(
            "cald: stage 1 only, the weights do not say what they were trained on (the setting "
            "labelled_objects can)"
        )
    return known if count > 1 else None


def cald_scores(predictions: Iterable[Prediction], context: ScoringContext) -> Stream:
    """Yield the stage-1 score of every image as batches of equal shape fill.

    The predictions' own detections are the reference. Images without detections and unreadable
    ones come out at once, so counting what comes out is the progress. Every tile of an image is
    scored by itself, and the image has the score of its most informative tile. Memory is bounded
    as in `map_by_shape`.
    """
    names = context.settings.views
    _check_views(names)

    def prepare(prediction: Prediction) -> _Candidate | ScoredPart:
        candidate = None if prediction.error is not None else _candidate(prediction)
        if candidate is not None:
            return candidate
        return ScoredPart(
            prediction.position,
            prediction.path,
            prediction.tiles,
            None,
            unreadable=prediction.error is not None,
            shard=prediction.shard,
        )

    def score(group: Sequence[_Candidate | ScoredPart]) -> list[ScoredPart]:
        finished = [item for item in group if isinstance(item, ScoredPart)]
        waiting = [item for item in group if isinstance(item, _Candidate)]
        return finished + (_score(waiting, context) if waiting else [])

    prepared = map(prepare, predictions)
    return best_of_parts(map_by_shape(prepared, score, shape_of=_shape, context=context))


def _shape(item: _Candidate | ScoredPart) -> tuple[int, ...] | None:
    return None if isinstance(item, ScoredPart) else tuple(item.image.shape)


def _candidate(prediction: Prediction) -> _Candidate | None:
    view = prediction.network_input
    assert view is not None, "mining needs predictions that keep their network inputs"
    known_rows, known_probabilities = _whole_objects(prediction, view)
    if len(known_rows) == 0:
        return None
    chosen = torch.from_numpy(reference_sample(len(known_rows))).to(known_rows.device)
    rows, probabilities = known_rows[chosen], known_probabilities[chosen]
    top, bottom, left, right = view.letterbox.borders
    height, width = view.image.shape[1:]
    size = (height - top - bottom, width - left - right)
    boxes = _inside(rows[:, :4], (top, left), size).cpu()
    return _Candidate(
        prediction.position,
        prediction.path,
        prediction.tiles,
        view.image,
        (top, bottom, left, right),
        rows,
        probabilities,
        boxes,
        class_vector(known_rows[:, 4], known_rows[:, 5], known_probabilities.shape[1]),
        view.letterbox,
        (0, 0) if prediction.window is None else (prediction.window.left, prediction.window.top),
        prediction.shard,
    )


def _whole_objects(prediction: Prediction, view: NetworkInput) -> tuple[Tensor, Tensor]:
    """Return rows [n, 6] and class probabilities [n, nc] without objects cut by a tile's border.

    The score of a cut object would measure the cut; another tile or the whole image shows it whole.
    """
    rows, probabilities = view.rows, view.class_probabilities
    if prediction.window is None or prediction.size is None:
        return rows, probabilities
    left, top = prediction.window[:2]
    boxes = boxes_to_original(rows[:, :4], view.letterbox).cpu().numpy()
    boxes = boxes + np.array([left, top, left, top], np.float32)
    whole = ~cut_sides(boxes, prediction.window, prediction.size).any(1)
    kept = torch.from_numpy(whole).to(rows.device)
    return rows[kept], probabilities[kept]


def _inside(boxes: Tensor, corner: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Map boxes of a network input to pixels of its content at `corner` (top, left), clipped."""
    top, left = corner
    return clip(boxes - boxes.new_tensor([left, top, left, top]), size)


@torch.inference_mode()
def _score(group: Sequence[_Candidate], context: ScoringContext) -> list[ScoredPart]:
    """Score candidates whose network inputs have one shape."""
    predictor, settings = context.network, context.settings
    names = settings.views
    reference = [(item.rows, item.class_probabilities) for item in group]
    total = torch.zeros(len(group), dtype=torch.float64, device=predictor.network.device)
    rows = torch.cat([item.rows for item in group])
    breakdowns = []
    vectors = torch.stack([item.class_vector for item in group])
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
        vectors += torch.stack(
            [class_vector(own[:, 4], own[:, 5], vectors.shape[1]) for own, _ in found]
        )
    scores = (1 - total / len(names)).tolist()
    shown = (vectors / (1 + len(names))).cpu().numpy()
    columns = torch.stack(breakdowns, 1).cpu()
    for item, score in zip(group, scores, strict=True):
        if not 0 <= score <= 1:  # also catches NaN, which no sort can place
            raise TaskError(
                Code.NOT_A_NUMBER,
                f"The mining score of {item.path} is {score}: the weights give detections that "
                "are not numbers; train the model again or choose another stage of it.",
            )
    return [
        ScoredPart(
            item.position,
            item.path,
            item.parts,
            score,
            class_vector=vector,
            breakdown=score_breakdown(names, own, item.plan, item.corner),
        )
        for item, score, vector, own in zip(group, scores, shown, columns, strict=True)
    ]


def _check_views(names: Sequence[str]) -> None:
    """Refuse view names that are unknown, given twice or missing altogether."""
    if not names or set(names) - set(PERTURBATIONS) or len(set(names)) < len(names):
        raise TaskError(
            Code.CONFIG,
            f"The setting views is {', '.join(names) or 'empty'}: name one or more of "
            f"{', '.join(PERTURBATIONS)}, each once.",
        )


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
        alike.setdefault(item.borders, []).append(index)
    images: list[Tensor] = [group[0].image] * len(group)
    boxes: list[Tensor] = [group[0].boxes] * len(group)
    for indices in alike.values():
        changed, mapped = PERTURBATIONS[name](
            torch.stack([group[i].content for i in indices]),
            [group[i].boxes for i in indices],
            [image_generator(seed, group[i].path, name) for i in indices],
        )
        for i, image, own in zip(indices, changed, mapped, strict=True):
            images[i], boxes[i] = image, own
    canvas_size = view_size(name, (group[0].image.shape[1], group[0].image.shape[2]))
    canvas_height, canvas_width = (-(-side // stride) * stride for side in canvas_size)
    canvas = group[0].image.new_full((len(group), 3, canvas_height, canvas_width), PAD_VALUE)
    corners, sizes = [], []
    for target, image in zip(canvas, images, strict=True):
        height, width = image.shape[1:]
        top, left = (canvas_height - height) // 2, (canvas_width - width) // 2
        target[:, top : top + height, left : left + width] = image
        corners.append((top, left))
        sizes.append((height, width))
    return _Perturbed(canvas, corners, sizes, boxes)


ALGORITHM = Algorithm(cald_scores, rank_cald)


def main(arguments: Sequence[str] | None = None) -> None:
    """Score the images of a folder by CALD and write `path<TAB>score`, best first."""
    defaults = MiningSettings()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--source", type=Path, required=True, help="an image or a folder")
    parser.add_argument("--output", type=Path, default=Path("result.tsv"))
    parser.add_argument("--img-size", "--imgsz", type=int, default=defaults.img_size)
    parser.add_argument("--batch-size", type=int, default=defaults.batch_size)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--empty-images", choices=("first", "last", "mixed"), default="last")
    parser.add_argument("--gpu-id", default="", help="for example 0; empty for the CPU")
    options = parser.parse_args(arguments)
    log_to_console()
    settings = replace(
        defaults,
        img_size=options.img_size,
        batch_size=options.batch_size,
        seed=options.seed,
        empty_images=options.empty_images,
    )
    device = select_device(parse_gpu_ids(options.gpu_id))
    paths, _ = find_images(options.source)
    predictor = load_predictor(options.weights, settings, device)
    with tqdm(total=len(paths), disable=None, unit="image", desc="mining") as bar:
        rows = rank_images(
            ALGORITHM,
            predictor,
            paths,
            settings,
            on_progress=lambda done, _: bar.update(done - bar.n),
        )
    rows.sort(key=lambda row: -row[1])
    write_text(options.output, "".join(f"{path}\t{score:.9f}\n" for path, score in rows))
    log.info("%d images scored: %s", len(rows), options.output)


if __name__ == "__main__":
    sys.exit(run_command(main))
