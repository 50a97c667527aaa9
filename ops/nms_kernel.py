"""torchvision's suppression operator by itself: the rest of the package takes seconds to import."""

from __future__ import annotations

import importlib
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes that greedy suppression keeps, by falling score: `torchvision.ops.nms`.

    `boxes` [n, 4] are xyxy, `scores` [n]; a box goes whose IoU with a better one is above the
    threshold.
    """
    kept: Tensor = operator()(boxes, scores, iou_threshold)
    return kept


@lru_cache(maxsize=1)
def operator() -> Any:
    """The operator as torch knows it once torchvision's library of operators is loaded.

    Where that library lies elsewhere or does not load, torchvision itself is imported, which then
    says what is wrong.
    """
    spec = importlib.util.find_spec("torchvision")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    try:
        for library in sorted(folder.glob("_C*.so")):
            torch.ops.load_library(str(library))
        return torch.ops.torchvision.nms
    except (AttributeError, OSError, RuntimeError):
        return importlib.import_module("torchvision.ops").nms
