"""Why CALD gave an image its score: the view and the object that decided, and what differed.

A score is 1 minus the mean of M over the views, so the view with the smallest M raised it most;
within a view one object is nearest to CALD's base point, and no other counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mining.consistency import Objects, compare, deciding
from ops.letterbox import Letterbox, boxes_to_original

COLUMNS = 21
"""M, whether an object decided, IoU, divergence, m, the reference row (6, network pixels), its box
in the view (4) and its partner there (6, both in pixels of the view's content)."""


def judged(reference: Objects, view: Objects, rows: Tensor, found: Tensor) -> Tensor:
    """What one view says of every image: float64 [b, COLUMNS], on the device.

    `rows` [n, 6] are those of the reference objects, `found` [m, 6] those of the view.
    """
    comparison = compare(reference, view)
    inconsistency, index = deciding(comparison, reference.counts, view.counts)
    decided = index < len(rows)
    at = index.clamp(max=max(len(rows) - 1, 0))
    empty = rows.new_zeros((1, 6))
    partner = torch.cat((found, empty)) if len(found) == 0 else found
    other = comparison.partner[at].clamp(max=len(partner) - 1)
    return torch.cat(
        (
            torch.stack(
                (
                    inconsistency,
                    decided.double(),
                    comparison.overlap[at].double(),
                    comparison.divergence[at],
                    comparison.consistency[at],
                ),
                1,
            ),
            rows[at].double(),
            reference.boxes[at].double(),
            partner[other].double(),
        ),
        1,
    )


def reason(
    names: Sequence[str], columns: Tensor, plan: Letterbox, corner: tuple[int, int]
) -> dict[str, object]:
    """Plain values of one image from its `columns` [views, COLUMNS], on the CPU.

    Boxes are xyxy in pixels of the photograph, whose part begins at `corner` (left, top); that of
    the partner is where it would lie there, with the same overlap. `view_scores` are 1 - M.
    """
    inconsistencies = columns[:, 0].tolist()
    chosen = min(range(len(names)), key=lambda n: inconsistencies[n])
    own = columns[chosen]
    told: dict[str, object] = {
        "view": names[chosen],
        "view_scores": {
            name: round(1 - value, 6) for name, value in zip(names, inconsistencies, strict=True)
        },
    }
    if not own[1]:
        return told
    row = own[5:11]
    left, top = corner
    box = boxes_to_original(row[None, :4].float(), plan)[0].double()
    box = box + box.new_tensor([left, top, left, top])
    told |= {
        "box": _short(box),
        "class": int(row[5]),
        "confidence": round(float(row[4]), 4),
        "iou": round(float(own[2]), 4),
    }
    if float(own[2]) > 0:
        partner = own[15:21]
        told |= {
            "divergence": round(float(own[3]), 4),
            "partner_box": _short(
                brought_back(partner[:4], own[11:15], box, mirrored=names[chosen] == "flip")
            ),
            "partner_class": int(partner[5]),
            "partner_confidence": round(float(partner[4]), 4),
        }
    return told


def brought_back(box: Tensor, mapped: Tensor, original: Tensor, *, mirrored: bool) -> Tensor:
    """A box [4] of a view, in the frame in which the box `mapped` of the view is `original`.

    Overlaps with that box stay as they are; with `mirrored`, left and right are exchanged.
    """
    scale = (original[2:] - original[:2]) / (mapped[2:] - mapped[:2]).clamp(min=1e-9)
    start = (box[:2] - mapped[:2]) * scale
    end = (box[2:] - mapped[:2]) * scale
    first, second = original[:2] + start, original[:2] + end
    if mirrored:
        left, right = original[2] - end[0], original[2] - start[0]
        return torch.stack((left, first[1], right, second[1]))
    return torch.cat((first, second))


def _short(box: Tensor) -> list[float]:
    return [round(value, 1) for value in box.tolist()]
