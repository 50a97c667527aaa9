"""A task's string of v7.0 flags becomes settings, notes or a refusal; nothing is lost."""

from __future__ import annotations

from dataclasses import fields

import pytest

from settings.flags import flags_of_task, with_dashes
from settings.parse import SECTIONS
from settings.v7_flags import FLAGS, FlagStatus
from utils.errors import Code, TaskError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", {}, id="nothing"),
        pytest.param(None, {}, id="none"),
        pytest.param("--epochs=5", {"epochs": "5"}, id="equals"),
        pytest.param("--batch 8", {"batch_size": "8"}, id="prefix, as argparse allows"),
        pytest.param("--batch-size -1", {"batch_size": "-1"}, id="negative"),
        pytest.param("--img 320 --cos-lr", {"img_size": "320", "schedule": "cosine"}, id="cosine"),
        pytest.param("--noplots --noval", {"plots": False, "noval": True}, id="negative flags"),
        pytest.param("--rect --cache", {"cache": "ram", "rect": True}, id="bare cache"),
        pytest.param("--resume", {"resume": True}, id="bare resume"),
        pytest.param("--resume a/last.pt", {"resume": "a/last.pt"}, id="resume a file"),
        pytest.param("--freeze 0 1 2", {"freeze": "0,1,2"}, id="freeze several"),
        pytest.param("--epochs 5 --epochs 6", {"epochs": "6"}, id="the last one counts"),
        pytest.param("--hyp 'my hyp.yaml'", {"hyp": "my hyp.yaml"}, id="quoted"),
    ],
)
def test_flags_become_settings(text: str | None, expected: dict[str, object]) -> None:
    parsed = flags_of_task("train", text)
    assert parsed.settings == expected
    assert parsed.notes == []


@pytest.mark.parametrize(
    ("text", "note"),
    [
        pytest.param("--project runs/x", "the platform says where", id="project"),
        pytest.param("--name x", "--name has no effect in a task", id="name"),
        pytest.param("--device 0", "gpu_id says where a task runs", id="device"),
        pytest.param("--bucket b", "nothing is sent to a cloud bucket", id="bucket"),
        pytest.param("--bbox_interval 3", "--bbox-interval has no effect", id="underscores"),
        pytest.param("--local_rank -1", "none is needed here", id="launcher"),
        pytest.param("--patiense 50", "--patiense 50 is no flag of v7.0", id="a typo"),
    ],
)
def test_what_has_no_effect_is_said(text: str, note: str) -> None:
    parsed = flags_of_task("train", text)
    assert parsed.settings == {}
    assert len(parsed.notes) == 1
    assert note in parsed.notes[0]


@pytest.mark.parametrize(
    ("command", "text", "sentence"),
    [
        pytest.param("train", "--name 'a", "check its quotation marks", id="open quote"),
        pytest.param("train", "--epochs", "expected one argument", id="no value"),
        pytest.param("train", "--evolve 30", "--evolve is refused", id="evolve"),
        pytest.param("detect", "--visualize", "feature maps are not drawn", id="visualize"),
        pytest.param("val", "--save-hybrid", "raise every score falsely", id="save-hybrid"),
    ],
)
def test_refusals_say_why(command: str, text: str, sentence: str) -> None:
    with pytest.raises(TaskError) as caught:
        flags_of_task(command, text)  # type: ignore[arg-type]
    assert caught.value.code == Code.CONFIG
    assert sentence in caught.value.sentence


def test_no_shell_ever_sees_the_string() -> None:
    parsed = flags_of_task("train", "--hyp $(touch x);`touch y` --epochs 3")
    assert parsed.settings == {"hyp": "$(touch", "epochs": "3"}
    assert "x);`touch" in parsed.notes[0]


def test_only_the_names_of_flags_get_dashes() -> None:
    words = ["--save_txt", "a_b", "--name=a_b", "-x_y"]
    assert with_dashes(words) == ["--save-txt", "a_b", "--name=a_b", "-x_y"]


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
        view-img save-txt save-conf save-csv save-crop nosave classes agnostic-nms augment visualize
        update project name exist-ok line-thickness hide-labels hide-conf half dnn vid-stride""",
    "export": """data weights imgsz img img-size batch-size device half inplace keras optimize int8
        dynamic simplify opset verbose workspace nms agnostic-nms topk-per-class topk-all iou-thres
        conf-thres include""",
}


@pytest.mark.parametrize("command", OFFICIAL)
def test_every_flag_of_v7_is_in_its_table(command: str) -> None:
    names = [name for flag in FLAGS[command] for name in flag.names]
    assert len(set(names)) == len(names)
    assert {name.removeprefix("--") for name in names} == set(OFFICIAL[command].split())


def test_every_flag_has_a_fate_and_a_sentence() -> None:
    known = {item.name for kind in SECTIONS.values() for item in fields(kind)}
    for flag in (flag for flags in FLAGS.values() for flag in flags):
        assert flag.says, flag
        assert not flag.says.endswith("."), flag
        assert (flag.setting in known) is (flag.effect is FlagStatus.SETTING), flag
    for flag in (*FLAGS["train"], *FLAGS["detect"]):  # whose flags a task may carry
        assert bool(flag.in_a_task) is (flag.effect is FlagStatus.COMMAND), flag
