"""The object that decided a mining score, drawn as it is and as a changed view shows it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reporting.drawing import outline, tag

REFERENCE, PARTNER = "#ffffff", "#ffd400"
DECIDED = (
    "Thin boxes are what was detected. For cald the white one decided the score, and the yellow "
    "one is where the changed view that raised the score most shows the same object."
)


def draw_deciding(picture: np.ndarray, why: Mapping[str, object], scale: float) -> np.ndarray:
    """A copy of a BGR picture with the deciding box (white) and its partner (yellow) over it.

    `why` has `box` and `partner_box`, xyxy in pixels of the photograph, where they are known;
    `scale` brings them to the picture.
    """
    canvas = np.ascontiguousarray(picture).copy()
    for name, colour in (("box", (255, 255, 255)), ("partner_box", (0, 212, 255))):
        box = why.get(name)
        if isinstance(box, list | tuple) and np.isfinite(np.array(box, float)).all():
            # A dark rim, so that it can be seen on every ground.
            corners = np.clip(np.array(box, float) * scale, -1e4, 1e4).round().tolist()
            outline(canvas, corners, (30, 30, 30), 5)
            outline(canvas, corners, colour, 2)
    box = why.get("partner_box")
    if isinstance(box, list | tuple):
        corner = (int(box[0] * scale), int(box[3] * scale) + 14)
        tag(canvas, str(why.get("view", "")), corner, PARTNER)
    return canvas


def words_of(why: Mapping[str, object]) -> str:
    """The view and the terms that decided, in a few words."""
    view = why.get("view", "")
    if "iou" not in why:
        return f"{view}: nothing found again"
    if "divergence" not in why:
        return f"{view}: object lost"
    return f"{view}: IoU {why['iou']:.2f}, divergence {why['divergence']:.2f}"
