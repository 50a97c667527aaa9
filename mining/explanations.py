"""A table of the ranking: per image its score, and what decided it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from inference.journal import Journal
from reporting.ranking_report import ranking
from utils.atomic import replace_file

HEADER = (
    *("rank", "path", "score", "own_score", "objects", "view", "view_scores", "class"),
    *("confidence", "left", "top", "right", "bottom", "iou", "divergence", "partner_class"),
    *("partner_confidence", "partner_left", "partner_top", "partner_right", "partner_bottom"),
    "error",
)


def write_explanations(
    path: Path, known: Journal, scores: Sequence[float | None], names: Sequence[str]
) -> None:
    """Replace the CSV file `path`: a line an image, best first, from what `known` has on disk.

    `own_score` is the image's before class balance and before images without objects have theirs;
    boxes are in pixels of the photograph. What an algorithm does not know stays empty.
    """
    with (
        replace_file(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.DictWriter(file, HEADER, restval="", lineterminator="\n")
        writer.writeheader()
        for rank, position in enumerate(ranking(scores).tolist(), start=1):
            entry, score = known.entry(position), scores[position]
            row: dict[str, object] = {"rank": rank}
            row["score"] = "" if score is None else f"{score:.6f}"
            if entry is not None:
                row["path"], row["error"] = entry.path, entry.error or ""
                row["objects"] = len(entry.detections)
                row |= _parts(entry.scored or {}, names)
            writer.writerow(row)


def _parts(scored: Mapping[str, object], names: Sequence[str]) -> dict[str, object]:
    own = scored.get("score")
    row: dict[str, object] = {"own_score": "" if own is None else f"{own:.6f}"}
    why = scored.get("why")
    if not isinstance(why, dict):
        return row
    for name in ("view", "confidence", "iou", "divergence", "partner_confidence"):
        row[name] = why.get(name, "")
    row["view_scores"] = " ".join(f"{k}={v:g}" for k, v in why.get("view_scores", {}).items())
    for prefix in ("", "partner_"):
        if f"{prefix}class" in why:
            index = int(why[f"{prefix}class"])
            row[f"{prefix}class"] = names[index] if index < len(names) else index
        for side, value in zip(
            ("left", "top", "right", "bottom"), why.get(f"{prefix}box", ()), strict=False
        ):
            row[f"{prefix}{side}"] = value
    return row
