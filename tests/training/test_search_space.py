"""The search space: v7.0's limits, the settings' own values in it."""

from __future__ import annotations

from dataclasses import fields

import pytest

from settings.parse import NOT_SUPPORTED, parse_settings
from settings.train import TrainSettings
from training.search_space import LIMITS, search_space, starting_point

# Training.md section 14 of the specification of v7.0, without the keys whose gain is 0.
OFFICIAL = """lr0 1e-5 0.1; lrf .01 1; momentum .6 .98; weight_decay 0 .001; warmup_epochs 0 5;
warmup_momentum 0 .95; warmup_bias_lr 0 .2; box .02 .2; cls .2 4; cls_pw .5 2; obj .2 4;
obj_pw .5 2; anchor_t 2 8; anchors 2 10; hsv_h 0 .1; hsv_s 0 .9; hsv_v 0 .9; degrees 0 45;
translate 0 .9; scale 0 .9; shear 0 10; flipud 0 1; mosaic 0 1; mixup 0 1"""


def test_the_limits_are_those_of_v7() -> None:
    rows = [row.split() for row in OFFICIAL.split(";")]
    expected = {name: (float(least), float(most)) for name, least, most in rows}
    assert {name: (i.min, i.max) for name, i in LIMITS.items()} == expected


def test_every_name_is_a_setting_within_its_rule() -> None:
    known = {item.name: item.metadata["spec"] for item in fields(TrainSettings)}
    assert set(LIMITS) <= set(known) | NOT_SUPPORTED
    for name, interval in search_space(TrainSettings()).items():
        assert known[name].min <= interval.min
        assert interval.max <= known[name].max


def test_noautoanchor_leaves_the_anchors_alone() -> None:
    assert "anchors" in search_space(TrainSettings())
    assert "anchors" not in search_space(TrainSettings(noautoanchor=True))


@pytest.mark.parametrize(
    ("values", "name", "start"),
    [
        pytest.param({}, "lr0", 0.01, id="as it is"),
        pytest.param({}, "anchors", 3, id="v7.0's anchors"),
        pytest.param({"anchors": 5}, "anchors", 5, id="anchors of one's own"),
        pytest.param({"weight_decay": 0.5}, "weight_decay", 0.001, id="held to the limit"),
        pytest.param({"anchor_t": 1}, "anchor_t", 2.0, id="held to the lower limit"),
    ],
)
def test_where_a_search_starts(values: dict[str, object], name: str, start: float) -> None:
    settings, _ = parse_settings(TrainSettings, values)
    assert starting_point(settings, search_space(settings))[name] == start
