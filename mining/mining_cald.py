"""CALD mining: consistency of the detections under perturbations; larger scores first.

Source: «Consistency-based Active Learning for Object Detection» (arXiv 2103.10374).

Run as a program, as older repositories do, this file is mine.py with CALD as its algorithm:

python mining/mining_cald.py --weights best.pt --source photographs/ --imgsz 320
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    sys.path.insert(0, str(root))
    sys.argv[1:1] = ["--algorithm", "cald"]
    runpy.run_path(str(root / "mine.py"), run_name="__main__")

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.predictions import Prediction
from mining.cald_views import make_views
from mining.class_balance import (
    BALANCED_FIRST,
    divergence_shares,
    greedy_shares,
    labelled_counts,
    labelled_objects,
    rebalance,
)
from mining.consistency import (
    REFERENCE_LIMIT,
    Objects,
    class_vectors,
    compare,
    match,
    reference_sample,
)
from mining.data_augment import image_generator
from mining.explanations import score_breakdown, view_breakdowns
from mining.scores import (
    Algorithm,
    ScoredPart,
    ScoringContext,
    Stream,
    kept_input,
    place_empty,
    score_by_shape,
    stack_inputs,
    upload,
)
from ops.tiling import cut_sides
from settings.detect import MiningSettings
from utils.errors import Code, TaskError

log = logging.getLogger(__name__)

EMPTY_SCORES = {"first": 1.0, "last": 0.0}
"""Written for an image without detections, by the setting `empty_images`."""


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
        order = sorted(range(len(group)), key=lambda n: kept_input(group[n]).letterbox.borders)
        parts = zip(order, _score([group[n] for n in order], context), strict=True)
        return [part for _, part in sorted(parts, key=lambda pair: pair[0])]

    return score_by_shape(map(_whole_objects, predictions), score, context)


def _whole_objects(prediction: Prediction) -> Prediction:
    """Leave out objects that a tile's border cuts, and the network input if no object is left.

    Where a border cuts an object off, another tile or the whole image shows it whole.
    """
    if prediction.error is not None:
        return prediction
    view = kept_input(prediction)
    if prediction.window is not None and prediction.size is not None and len(view.rows):
        whole = ~cut_sides(view.detections[:, :4], prediction.window, prediction.size).any(1)
        if not whole.all():
            (kept,) = upload([np.flatnonzero(whole)], view.rows.device)
            rows, classes = (one[kept.long()] for one in (view.rows, view.class_probabilities))
            view = replace(view, rows=rows, class_probabilities=classes)
    return replace(prediction, network_input=view if len(view.rows) else None)


def _objects(group: Sequence[Prediction], device: torch.device) -> tuple[Tensor, Objects]:
    """Return all detections [b, n, 6] of images with objects, and those that stand for them.

    Both are padded with zeros.
    """
    inputs = [kept_input(one) for one in group]
    counts = [len(one.rows) for one in inputs]
    places, total = np.full((len(group), max(counts)), sum(counts)), 0
    for own, count in zip(places, counts, strict=True):
        chosen = reference_sample(count)
        others = np.setdiff1d(np.arange(count), chosen)
        own[:count] = total + np.concatenate((chosen, others))  # the references first
        total += count
    (index,) = upload([places], device)
    index = index.long()
    # What pads an image is one row of zeros behind all others.
    rows = _with_zeros([one.rows for one in inputs])[index]
    index = index[:, :REFERENCE_LIMIT]
    probabilities = _with_zeros([one.class_probabilities for one in inputs])[index]
    return rows, Objects(rows[:, : index.shape[1]], probabilities)


def _with_zeros(parts: Sequence[Tensor]) -> Tensor:
    """Join tensors [n, c] to one, with a row of zeros at its end."""
    return torch.cat((*parts, parts[0].new_zeros((1, parts[0].shape[1]))))


@torch.inference_mode()
def _score(group: Sequence[Prediction], context: ScoringContext) -> list[ScoredPart]:
    """Score images and tiles with objects whose network inputs have one shape."""
    predictor, settings = context.network, context.settings
    rows, reference = _objects(group, predictor.network.device)
    views = make_views(
        settings.views,
        stack_inputs(group),
        [kept_input(one).letterbox for one in group],
        reference.rows[..., :4],
        generators=[image_generator(settings.seed, one.path, "cutout") for one in group],
        stride=predictor.network.stride,
    )
    count = len(views.names)
    found = predictor.detect_batches(views.canvases)
    canvas_rows = found.rows().unflatten(0, (count, len(group)))
    seen = torch.cat((views.inside(canvas_rows[..., :4]), canvas_rows[..., 4:]), -1)
    overlap, partner = match(views.boxes, seen)
    partners = Objects(
        seen.gather(2, partner[..., None].expand(-1, -1, -1, 6)),
        found.probabilities(partner.flatten(0, 1)).unflatten(0, (count, len(group))),
    )
    terms = compare(overlap, reference, partners, (seen[..., 4] == 0).all(-1))
    own = reference.rows.expand(count, -1, -1, -1)
    columns = view_breakdowns(terms, (overlap, own, views.boxes, partners.rows))
    classes = reference.probabilities.shape[-1]
    vectors = class_vectors(rows, classes) + class_vectors(seen, classes).sum(0)
    everything = torch.cat((columns.flatten(), vectors.flatten())).cpu().numpy()
    table, shown_classes = np.split(everything, [columns.numel()])
    at = [views.names.index(name) for name in settings.views]
    table = table.reshape(columns.shape)[at].swapaxes(0, 1)
    averages = shown_classes.astype(np.float32).reshape(vectors.shape) / (1 + count)
    return [_scored(*one, settings.views) for one in zip(group, table, averages, strict=True)]


def _scored(
    prediction: Prediction,
    columns: NDArray[np.float64],
    vector: NDArray[np.float32],
    names: Sequence[str],
) -> ScoredPart:
    """Return the score of an image from its `columns` [views, COLUMNS]."""
    score = 1 - sum(columns[:, 0].tolist()) / len(names)
    if not 0 <= score <= 1:  # also catches NaN, which no sort can place
        raise TaskError(
            Code.NOT_A_NUMBER,
            f"The mining score of {prediction.path} is {score}: the weights give detections that "
            "are not numbers; train the model again or choose another stage of it.",
        )
    return ScoredPart(prediction, score, vector, score_breakdown(names, columns, prediction))


ALGORITHM = Algorithm(cald_scores, rank_cald, threshold="conf_thres")
