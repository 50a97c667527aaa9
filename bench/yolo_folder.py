"""Labels and the description of a folder in YOLO form, as both programs read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray


def yolo_label(
    boxes: NDArray[np.float64], classes: NDArray[np.int64], size: tuple[int, int]
) -> str:
    """The text of a label file: a line a box, class, then centre and size as shares of the image.

    `boxes` [n, 4] are xyxy in pixels, held inside the image of `size` (height, width).
    """
    height, width = size
    inside = boxes.clip(0, [width, height, width, height])
    centres = (inside[:, :2] + inside[:, 2:]) / 2 / [width, height]
    sizes = (inside[:, 2:] - inside[:, :2]) / [width, height]
    return "\n".join(
        f"{label} {centre[0]:.8f} {centre[1]:.8f} {extent[0]:.8f} {extent[1]:.8f}"
        for label, centre, extent in zip(classes.tolist(), centres, sizes, strict=True)
    )


def write_description(folder: Path, splits: Mapping[str, str], names: Sequence[str]) -> Path:
    """The data file of a folder whose splits lie in the sub-folders named."""
    description = {
        "path": str(folder.absolute()),
        **splits,
        "nc": len(names),
        "names": list(names),
    }
    data_file = folder / "data.yaml"
    data_file.write_text(yaml.safe_dump(description), encoding="utf-8")
    return data_file
