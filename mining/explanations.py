"""Explanations of mining scores: CALD's score breakdown, and explanations.csv of a ranking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.journal import Record
from inference.predictions import Prediction
from mining.consistency import Comparison
from mining.ranking import Ranking
from mining.scores import kept_input
from ops.letterbox import boxes_to_original
from utils.atomic import replace_text

HEADER = (
    *("rank", "path", "score", "own_score", "objects", "view", "view_scores", "class"),
    *("confidence", "left", "top", "right", "bottom", "iou", "divergence", "partner_class"),
    *("partner_confidence", "partner_left", "partner_top", "partner_right", "partner_bottom"),
    *("value", "distance", "error", "note", "original"),
)
ADDED = ("value", "distance")
"""What a farthest-first order chose an image by (`mining/diversity.py`)."""
Box = NDArray[np.float64]
"""xyxy [4]."""
ROWS_AT_ONCE = 10_000
COLUMNS = 21
"""Columns of a view's breakdown: M, whether an object decided, IoU, divergence, m, the reference
row (6, network pixels), its box in the view (4) and its partner there (6, both in pixels of the
view's content)."""


def view_breakdowns(terms: Comparison, objects: Sequence[Tensor]) -> Tensor:
    """Return the score terms of all views of every image: float64 [v, b, COLUMNS], on the device.

    Those of the deciding object, the one nearest to CALD's base point; no other counts in that
    view. `objects` are IoU [v, b, k], reference rows [v, b, k, 6], boxes and partners.
    """
    overlap, *others = objects
    figures = (overlap, terms.divergence, terms.consistency)
    columns = torch.cat((*(one[..., None] for one in figures), *others), -1)
    at = terms.deciding[..., None, None].expand(-1, -1, 1, columns.shape[-1])
    own = columns.gather(2, at)[:, :, 0]
    return torch.cat((terms.inconsistency[..., None], terms.decided[..., None], own), -1)


def score_breakdown(
    names: Sequence[str], columns: NDArray[np.float64], prediction: Prediction
) -> dict[str, object]:
    """Return plain values of one image from its `columns` [views, COLUMNS], on the CPU.

    The score is 1 minus the mean of M over the views; the view with the smallest M raised it most.
    Boxes are xyxy in pixels of the photograph, of which `prediction` may be a tile; that of the
    partner is where it would lie there, with the same overlap. `view_scores` are 1 - M.
    """
    inconsistencies = columns[:, 0].tolist()
    chosen = min(range(len(names)), key=lambda n: inconsistencies[n])
    own = columns[chosen]
    breakdown: dict[str, object] = {
        "view": names[chosen],
        "view_scores": {
            name: round(1 - value, 6) for name, value in zip(names, inconsistencies, strict=True)
        },
    }
    if not own[1]:
        return breakdown
    row = own[5:11]
    network_box = row[None, :4].astype(np.float32)
    box = boxes_to_original(network_box, kept_input(prediction).letterbox)[0].astype(np.float64)
    if prediction.window is not None:
        box += (*prediction.window[:2], *prediction.window[:2])
    breakdown |= {
        "box": _short(box),
        "class": int(row[5]),
        "confidence": round(float(row[4]), 4),
        "iou": round(float(own[2]), 4),
    }
    if float(own[2]) > 0:
        partner = own[15:21]
        breakdown |= {
            "divergence": round(float(own[3]), 4),
            "partner_box": _short(
                map_to_image(partner[:4], own[11:15], box, flipped=names[chosen] == "flip")
            ),
            "partner_class": int(partner[5]),
            "partner_confidence": round(float(partner[4]), 4),
        }
    return breakdown


def map_to_image(box: Box, mapped: Box, original: Box, *, flipped: bool) -> Box:
    """Map a box [4] of a view to the frame in which the view's box `mapped` is `original`.

    IoU with that box does not change; with `flipped`, left and right are exchanged.
    """
    scale = (original[2:] - original[:2]) / (mapped[2:] - mapped[:2]).clip(min=1e-9)
    start = (box[:2] - mapped[:2]) * scale
    end = (box[2:] - mapped[:2]) * scale
    first, second = original[:2] + start, original[:2] + end
    if flipped:
        left, right = original[2] - end[0], original[2] - start[0]
        return np.array((left, first[1], right, second[1]))
    return np.concatenate((first, second))


def _short(box: Box) -> list[float]:
    return [round(value, 1) for value in box.tolist()]


def write_explanations(
    path: Path,
    record_of: Callable[[int], Record | None],
    ranking: Ranking,
    names: Sequence[str],
    originals: Mapping[str, str],
) -> None:
    """Replace the CSV file `path`: one row an image, best first, from its record.

    `names` are those of the classes, `originals` those of files by path, where known.
    `own_score` is the image's score before the ranking of all; boxes are xyxy in pixels of the
    photograph. What an algorithm does not report stays empty. The ranking's note is on the first
    row.
    """
    ranked = enumerate(ranking.order, start=1)
    with replace_text(path, newline="") as file:
        pd.DataFrame(columns=HEADER).to_csv(file, index=False, lineterminator="\n")
        # In chunks, so that memory does not grow with the number of candidates.
        while chunk := list(islice(ranked, ROWS_AT_ONCE)):
            rows = [
                _row(n, ranking.scores[at], ranking.explained(record_of(at)), names)
                | {"note": ranking.note if n == 1 else ""}
                for n, at in chunk
            ]
            for row in rows:
                row["original"] = originals.get(str(row.get("path")), "")
            table = pd.DataFrame(rows, columns=HEADER, dtype=object)
            table.to_csv(file, index=False, header=False, lineterminator="\n")


def _row(
    rank: int, score: float | None, record: Record | None, names: Sequence[str]
) -> dict[str, object]:
    row: dict[str, object] = {"rank": rank, "score": "" if score is None else f"{score:.6f}"}
    if record is None:
        return row
    scored = record.scored or {}
    own, breakdown = scored.get("score"), scored.get("breakdown")
    row |= {
        "path": record.path,
        "error": record.error or "",
        "objects": len(record.detections),
        "own_score": "" if own is None else f"{own:.6f}",
    }
    if not isinstance(breakdown, dict):
        return row
    for name in ("view", "confidence", "iou", "divergence", "partner_confidence", *ADDED):
        row[name] = breakdown.get(name, "")
    row["view_scores"] = " ".join(f"{k}={v:g}" for k, v in breakdown.get("view_scores", {}).items())
    for prefix in ("", "partner_"):
        if f"{prefix}class" in breakdown:
            index = int(breakdown[f"{prefix}class"])
            row[f"{prefix}class"] = names[index] if index < len(names) else index
        sides = [f"{prefix}{side}" for side in ("left", "top", "right", "bottom")]
        row |= zip(sides, breakdown.get(f"{prefix}box", ()), strict=False)
    return row
