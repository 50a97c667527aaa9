"""The command line of detect.py: files asked for, where they go, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.detect import DetectCommand, parse_detect_command
from cli.options import RunName
from settings.detect import OutputOptions
from utils.errors import TaskError


@pytest.fixture(autouse=True)
def _in_a_folder_with_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_text("")


def parse(text: str) -> DetectCommand:
    return parse_detect_command(f"--weights best.pt --source a.jpg {text}".split())


def test_a_command_line_of_v7() -> None:
    command = parse(
        "--imgsz 320 --conf-thres 0.4 --iou-thres 0.5 --max-det 7 --save-txt --save-conf "
        "--save-crop --nosave --line-thickness 2 --hide-labels --hide-conf --device 0 --workers 3"
    )
    settings = command.settings
    assert (settings.img_size, settings.conf_thres, settings.iou_thres) == (320, 0.4, 0.5)
    assert (settings.max_det, settings.workers) == (7, 3)
    assert command.outputs == OutputOptions(
        save_images=False,
        save_txt=True,
        save_conf=True,
        save_crop=True,
        line_thickness=2,
        hide_labels=True,
        hide_conf=True,
    )
    assert (command.weights, command.images) == (Path("best.pt"), ["a.jpg"])
    assert command.device == "0"
    assert command.run == RunName(Path("runs/detect"))
    assert command.output is None


def test_output_alone_makes_no_run_folder() -> None:
    command = parse("--output found.json")
    assert (command.output, command.run) == (Path("found.json"), None)
    named = parse("--output found.json --save-txt --project a --name b --exist-ok").run
    assert named == RunName(Path("a"), "b", exist_ok=True)


@pytest.mark.parametrize(
    ("words", "size", "shape"),
    [
        pytest.param("", 640, None, id="default"),
        pytest.param("--imgsz 320", 320, (320, 320), id="one"),
        pytest.param("--imgsz 480 640", 640, (480, 640), id="height and width"),
        pytest.param("--img 640 300", 640, (640, 320), id="rounded up"),
    ],
)
def test_sizes(words: str, size: int, shape: tuple[int, int] | None) -> None:
    command = parse(words)
    assert (command.settings.img_size, command.shape) == (size, shape)


@pytest.mark.parametrize(
    ("words", "device"),
    [
        pytest.param("", None, id="neither"),
        pytest.param("--device=", None, id="an empty one, as in v7.0"),
        pytest.param("--device cuda:1", "cuda:1", id="device"),
        pytest.param("--gpu-id=", "", id="an empty gpu-id is the CPU"),
        pytest.param("--gpu-id 1", "1", id="gpu-id"),
    ],
)
def test_devices(words: str, device: str | None) -> None:
    assert parse(words).device == device


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param("--vid-stride 0", "it must be 1 or more", id="vid-stride"),
        pytest.param("--imgsz 1 2 3", "give one, or height and width", id="imgsz"),
        pytest.param("--weights a.pt b.pt", "name one", id="ensemble"),
        pytest.param("--source rtsp://host/a", "is an address", id="stream"),
        pytest.param("--source 0", "number of a camera", id="camera"),
        pytest.param("--conf-thres 2", "it must be a number, 0 to 1", id="value"),
        pytest.param("--line-thickness thin", "a whole number", id="thickness"),
    ],
)
def test_refusals(words: str, sentence: str) -> None:
    with pytest.raises(TaskError, match=sentence):
        parse(words)


def test_flags_without_effect_are_named(caplog: pytest.LogCaptureFixture) -> None:
    parse("--data coco.yaml --dnn")
    notes = [record.message.split()[1] for record in caplog.records]
    assert notes == ["--data", "--dnn"]


@pytest.mark.parametrize("words", ["--weights best.pt", "--source a.jpg", "--unknown"])
def test_a_wrong_form_ends_with_the_usage(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_detect_command(words.split())
    assert "usage: detect.py" in capsys.readouterr().err


def test_how_detections_are_made_is_an_option_too() -> None:
    settings = parse("--augment --agnostic-nms --half --classes cat 2 --tile-size 640").settings
    assert (settings.augment, settings.agnostic_nms, settings.half) == (True, True, True)
    assert (settings.classes, settings.tile_size) == (("cat", "2"), 640)
    with pytest.raises(
        TaskError, match=r"--tile-overlap is .0\.95.; it must be a number, 0 to 0\.9"
    ):
        parse("--tile-overlap 0.95")
