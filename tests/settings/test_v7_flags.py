"""The tables of v7.0's flags: complete, and each mapped name is one that settings know."""

from __future__ import annotations

from dataclasses import fields

import pytest

from settings.option_names import NOT_SUPPORTED
from settings.parse import KINDS
from settings.v7_flags import FLAGS, Effect, Flag

# The flags of v7.0's commands (specification: training.md section 1, inference_metrics.md).
OFFICIAL = {
    "train": """weights cfg data hyp epochs batch-size imgsz img img-size rect resume nosave noval
        noautoanchor noplots evolve bucket cache image-weights device multi-scale single-cls
        optimizer sync-bn workers project name exist-ok quad cos-lr label-smoothing patience freeze
        save-period seed local-rank entity upload-dataset bbox-interval artifact-alias""",
    "val": """data weights batch-size imgsz img img-size conf-thres iou-thres max-det task device
        workers single-cls augment verbose save-txt save-hybrid save-conf save-json project name
        exist-ok half dnn""",
    "detect": """weights source data imgsz img img-size conf-thres iou-thres max-det device
        view-img save-txt save-conf save-crop nosave classes agnostic-nms augment visualize update
        project name exist-ok line-thickness hide-labels hide-conf half dnn vid-stride""",
    "export": """data weights imgsz img img-size batch-size device half inplace keras optimize int8
        dynamic simplify opset verbose workspace nms agnostic-nms topk-per-class topk-all iou-thres
        conf-thres include""",
}
EVERY = [
    pytest.param(flag, id=f"{c}{flag.names[0]}") for c, flags in FLAGS.items() for flag in flags
]


@pytest.mark.parametrize("command", OFFICIAL)
def test_every_flag_of_v7_is_in_its_table(command: str) -> None:
    names = [name for flag in FLAGS[command] for name in flag.names]
    assert len(set(names)) == len(names)
    assert {name.removeprefix("--") for name in names} == set(OFFICIAL[command].split())


@pytest.mark.parametrize("flag", EVERY)
def test_every_flag_has_a_fate_and_a_sentence(flag: Flag) -> None:
    known = {item.name for kind in KINDS for item in fields(kind)}
    assert flag.says
    assert not flag.says.endswith(".")
    if flag.effect is Effect.SETTING:
        assert flag.setting in known | NOT_SUPPORTED
    else:
        assert not flag.setting
    assert bool(flag.in_a_task) is (flag.effect is Effect.COMMAND)
