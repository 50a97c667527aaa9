"""What `hubconf.py` offers: detectors with the attributes and calls of v7.0's `AutoShape`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from api.detector import Detector
from api.results import Results
from utils.errors import Code, TaskError


class HubModel(Detector):
    """A detector whose attributes are the settings of later calls, as in v7.0; in float32."""

    conf = 0.25
    iou = 0.45
    agnostic = False
    multi_label = False
    classes: Sequence[int | str] | None = None
    max_det = 1000

    def __init__(self, weights: str | Path, device: Any = None) -> None:
        super().__init__(weights, device=device, precision="float32")
        self.names = dict(enumerate(self.class_names))

    def __call__(  # type: ignore[override]
        self, ims: object, size: int = 640, augment: bool = False, profile: bool = False
    ) -> Results:
        """Detect objects in images at `size` pixels; `profile` has no effect."""
        return super().__call__(
            ims,
            multi_label=self.multi_label,
            img_size=size,
            augment=augment,
            conf_thres=self.conf,
            iou_thres=self.iou,
            agnostic_nms=self.agnostic,
            classes=None if self.classes is None else list(map(str, self.classes)),
            max_det=self.max_det,
        )

    def to(self, device: Any) -> HubModel:
        """Move the detector to a device, by reading its weights again; return it."""
        moved = HubModel(self.weights, device)
        self.device, self._predictor = moved.device, moved._predictor
        return self

    def cpu(self) -> HubModel:
        """Move the detector to the CPU."""
        return self.to("cpu")

    def cuda(self, device: int = 0) -> HubModel:
        """Move the detector to a GPU."""
        return self.to(device)

    def eval(self) -> HubModel:
        """Return the detector, which always evaluates."""
        return self


def load(path: str | Path, *, autoshape: bool = True, device: Any = None) -> HubModel:
    """Return the detector of a weight file; TaskError without `autoshape`."""
    if not autoshape:
        raise TaskError(
            Code.CONFIG,
            "autoshape=False, the bare network, is not offered: a program calls the detector with "
            "images, train.py trains it, and export.py writes the network for other programs.",
        )
    return HubModel(path, device)


def load_official(
    name: str,
    pretrained: bool = True,
    channels: int = 3,
    classes: int = 80,
    **options: Any,
) -> HubModel:
    """Return the detector of `<name>.pt` in the working directory; nothing is downloaded."""
    if not pretrained or (channels, classes) != (3, 80):
        raise TaskError(
            Code.CONFIG,
            f"{name} is offered with its own weights only: a network for other classes is trained "
            f"by train.py --cfg {name} and then loaded with torch.hub.load(folder, 'custom', "
            "path='best.pt', source='local').",
        )
    path = Path(f"{name}.pt")
    if not path.is_file():
        raise TaskError(
            Code.MODEL,
            f"{path} is not in {Path.cwd()}, and nothing is downloaded here: put the file there "
            "(docs/weights.md says where to get it), or name one with torch.hub.load(folder, "
            "'custom', path='…', source='local').",
        )
    return load(path, **options)
