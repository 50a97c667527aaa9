"""AutoAnchor: check anchors against the boxes of a training set and search better ones (v7.0)."""

from __future__ import annotations

import logging

from data.dataset_index import DatasetIndex
from models.anchors import AnchorFit, anchor_fit, in_stride_order, label_sizes, search_anchors
from models.detector import Detector
from models.model_config import ModelConfig, parse_model_config
from settings.train import TrainSettings
from utils.errors import Code, TaskError
from utils.seeding import numpy_generator

log = logging.getLogger(__name__)

TINY = 3.0
"""Pixels of the network's input: boxes with a smaller side are reported in the log (v7.0)."""

_PURPOSE = (0, 0, 0, 1)


def fit_anchors(
    network: Detector,
    index: DatasetIndex,
    image_size: int,
    settings: TrainSettings,
    *,
    head_kept: bool = False,
) -> bool:
    """Fit the network's anchors to the boxes, in place; return whether they were replaced.

    New ones are searched if the best possible recall is 0.98 or less, if the setting `anchors`
    asks for them, or if the network has placeholders only; in the first case they are taken if
    their recall is higher, unless the old ones belong to a head that was kept (`head_kept`): its
    sizes are relative to them. `image_size` is the longer side of the network's input in pixels.
    Raises TaskError(CONFIG) if new anchors are necessary and `noautoanchor` is set.
    """
    keep, threshold = settings.noautoanchor, settings.anchor_t
    sizes = label_sizes(index.boxes, index.offsets, index.sizes, image_size)
    missing = settings.anchors > 0 or network.has_placeholder_anchors
    if missing and keep:
        raise TaskError(
            Code.CONFIG,
            "noautoanchor is set, but the model has no anchors of its own (or the setting anchors "
            "asks for new ones): leave noautoanchor off, or set anchors to 0 and name a model "
            "file that lists them.",
        )
    anchors = (network.anchors * network.stride.view(-1, 1, 1)).cpu().view(-1, 2).numpy()
    before = None if missing else anchor_fit(anchors, sizes, threshold)
    if before is not None:
        end = (
            "noautoanchor keeps them: another img_size may help"
            if keep
            else "but they stay with the head of the weights, which is relative to them: another "
            f"img_size may help, or anchors {len(network.anchors[0])}, which fits new ones"
            if head_kept
            else "searching better"
        )
        _log_fit("anchors", before, "" if before.good else f" - many boxes fit no anchor, {end}")
        if before.good or keep or head_kept:
            return False
    else:
        log.info("anchors: searching %d new ones for %d boxes", len(anchors), len(sizes))
    tiny = int((sizes < TINY).any(axis=1).sum())
    if tiny:
        log.warning(
            "%d of %d boxes have a side below %d pixels at img_size %d: a larger one may help",
            *(tiny, len(sizes), TINY, image_size),
        )
    found = search_anchors(
        sizes,
        len(anchors),
        image_size=image_size,
        threshold=threshold,
        generator=numpy_generator(settings.seed, *_PURPOSE),
    )
    after = anchor_fit(found, sizes, threshold)
    if before is not None and after.best_possible_recall <= before.best_possible_recall:
        _log_fit("anchors kept, the search found none better", after, "")
        return False
    levels = found.reshape(len(network.stride), -1)
    network.set_anchors(in_stride_order(levels.tolist(), network.stride.tolist()))
    _log_fit("new anchors", after, ": " + ", ".join(f"{w:.0f}x{h:.0f}" for w, h in found))
    return True


def _log_fit(what: str, fit: AnchorFit, end: str) -> None:
    log.log(
        logging.INFO if fit.good else logging.WARNING,
        "%s: best possible recall %.3f, %.2f anchors a box%s",
        *(what, fit.best_possible_recall, fit.anchors_above_threshold, end),
    )


def with_anchor_count(config: ModelConfig, per_level: int) -> ModelConfig:
    """Return the config with `per_level` anchors per level, as placeholders for `fit_anchors`.

    The same config if `per_level` is 0 or its own number.
    """
    if per_level in (0, len(config.anchors[0]) // 2):
        return config
    return parse_model_config({**config.definition, "anchors": per_level}, config.nc)
