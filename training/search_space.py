"""Where a search for hyper-parameters looks: names with their least and largest value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from settings.train import TrainSettings


@dataclass(frozen=True)
class Interval:
    """A closed interval; `whole` for whole numbers, `by_factor` where factors count, not steps."""

    least: float
    most: float
    whole: bool = False
    by_factor: bool = False


# The limits of v7.0's evolution. Left out are those that it never changes (iou_t, fl_gamma,
# perspective, fliplr) and copy_paste, which needs outlines of the objects.
LIMITS: Mapping[str, Interval] = {
    "lr0": Interval(1e-5, 0.1, by_factor=True),
    "lrf": Interval(0.01, 1.0, by_factor=True),
    "momentum": Interval(0.6, 0.98),
    "weight_decay": Interval(0.0, 0.001),
    "warmup_epochs": Interval(0.0, 5.0),
    "warmup_momentum": Interval(0.0, 0.95),
    "warmup_bias_lr": Interval(0.0, 0.2),
    "box": Interval(0.02, 0.2),
    "cls": Interval(0.2, 4.0),
    "cls_pw": Interval(0.5, 2.0),
    "obj": Interval(0.2, 4.0),
    "obj_pw": Interval(0.5, 2.0),
    "anchor_t": Interval(2.0, 8.0),
    "anchors": Interval(2, 10, whole=True),
    "hsv_h": Interval(0.0, 0.1),
    "hsv_s": Interval(0.0, 0.9),
    "hsv_v": Interval(0.0, 0.9),
    "degrees": Interval(0.0, 45.0),
    "translate": Interval(0.0, 0.9),
    "scale": Interval(0.0, 0.9),
    "shear": Interval(0.0, 10.0),
    "flipud": Interval(0.0, 1.0),
    "mosaic": Interval(0.0, 1.0),
    "mixup": Interval(0.0, 1.0),
}
DEFAULT_ANCHORS = 3
"""What v7.0 starts from where the settings keep the model's anchors."""


def search_space(settings: TrainSettings) -> dict[str, Interval]:
    """The intervals of the settings there are; without `anchors` where noautoanchor keeps them."""
    known = {item.name for item in fields(TrainSettings)}
    kept = {"anchors"} if settings.noautoanchor else set()
    return {name: interval for name, interval in LIMITS.items() if name in known - kept}


def starting_point(settings: TrainSettings, space: Mapping[str, Interval]) -> dict[str, float]:
    """The settings' own values, held to the intervals."""
    values = {name: getattr(settings, name) for name in space}
    if values.get("anchors") == 0:
        values["anchors"] = DEFAULT_ANCHORS
    return {name: min(max(values[name], i.least), i.most) for name, i in space.items()}
