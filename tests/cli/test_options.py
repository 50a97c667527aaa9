"""What the command lines share: settings as options, and run folders."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from cli.export import parse_export_command
from cli.options import RunName, parse_detection_flags
from cli.parsers import (
    DETAILS,
    detect_parser,
    export_parser,
    mine_parser,
    train_parser,
    val_parser,
)
from tests.conftest import ROOT
from tests.help_cost import help_at_once
from utils.errors import TaskError

PARSERS = {
    "val": val_parser,
    "detect": detect_parser,
    "export": export_parser,
    "mine": mine_parser,
}


def test_settings_that_no_flag_stands_for_are_options() -> None:
    words = "--weights a.pt --precision float32 --plots false --max-bad-fraction 0.5 --imgsz 320"
    defaults = {"iou_thres": 0.3, "max_bad_fraction": 0.1}
    given, settings = parse_detection_flags(val_parser(), "val", words.split(), defaults)
    assert given["weights"] == ["a.pt"]
    assert (settings.precision, settings.plots, settings.img_size) == ("float32", False, 320)
    assert (settings.iou_thres, settings.max_bad_fraction) == (0.3, 0.5)


PROGRAMS = ("start", "train", "val", "detect", "export", "mine", "evolve")


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_waits_for_no_import(program: str) -> None:
    assert help_at_once(str(ROOT / f"{program}.py")).startswith(f"usage: {program}.py ")


@pytest.mark.parametrize(
    ("program", "flags"),
    [
        ("train", "--epochs: 1 to 100000; default 100|--img-size: pixels, a multiple of 32"),
        ("train", "lr0=0.01: initial learning rate|--project: default runs/train"),
        ("evolve", "--trials: default 300|--project: default runs/evolve|--epochs: default 100"),
        ("val", "--conf-thres: 0 to 1; default 0.001|--task: default val|--tile-size: pixels"),
        (
            "detect",
            "--conf-thres: default 0.25|--vid-stride: frames; default 1|--name: default exp",
        ),
        ("export", "--batch-size: images; default 1|--include: default onnx|--device: default cpu"),
        ("mine", "--algorithm: default balanced|--budget: images; default 0|--views: some of flip"),
    ],
)
def test_help_has_units_and_defaults(program: str, flags: str) -> None:
    parser = train_parser(f"{program}.py") if program in ("train", "evolve") else PARSERS[program]()
    entries = re.split(r"\n  (?=\S)", parser.format_help())
    for wanted in flags.split("|"):
        flag, _, told = wanted.partition(": ")
        own = next(entry for entry in entries if re.search(rf"(^|, ){flag}\b", entry))
        assert told in " ".join(own.split()), own


def test_defaults_of_export_are_those_that_it_uses() -> None:
    options = parse_export_command(["--weights", "a.pt", "--nms"]).options_for(("a",), 32)
    told = DETAILS["export"]
    assert options.nms is not None
    for key, value in {
        "imgsz": options.size[0],
        "batch_size": options.batch_size,
        "topk_all": options.nms.max_detections,
        "iou_thres": options.nms.iou,
        "conf_thres": options.nms.confidence,
    }.items():
        assert told[key].endswith(f"default {value}"), key


@pytest.mark.parametrize(
    ("program", "words", "error"),
    [
        ("train", "--data d --epoch", "argument --epochs: expected one argument"),
        ("train", "--data d epochs", "settings are written KEY=VALUE, and epochs is not"),
        ("val", "--wieghts a", "unrecognized arguments: --wieghts a; did you mean --weights?"),
        ("detect", "--source a", "--weights is required"),
        ("export", "", "--weights is required"),
        ("mine", "--source a", "the following arguments are required: --weights"),
        ("evolve", "--trials many", "argument --trials: invalid int value: 'many'"),
    ],
)
def test_an_error_stands_below_few_lines(
    program: str, words: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(program).main(words.split())
    usage, *rest = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert usage.startswith(f"usage: {program}.py ")
    assert rest == [f"{program}.py: error: {error}", f"{program}.py --help lists every flag"]


@pytest.mark.parametrize(
    ("program", "words", "error"),
    [
        ("train", "--data d --img big", "--img is 'big'; it must be a whole number, 32 to 8192"),
        ("train", "--data d --img_size big", "--img-size is 'big'"),
        ("train", "--data d --cache all", "--cache is 'all'"),
        ("train", "--data d image_size=big", "the setting image_size is 'big'"),
        ("val", "--weights a --data d --imgsz big", "--imgsz is 'big'"),
        ("val", "--weights a --data d --tile-overlap 2", "--tile-overlap is '2'"),
        ("detect", "--weights a --source . --img 1 2 3", "--img has 3 numbers"),
        ("detect", "--weights a --source . --img 64 big", "--img is 'big'"),
        ("export", "--weights a --img-size 0", "--img-size is '0'"),
        ("export", "--weights a --batch-size x", "--batch-size is 'x'"),
        ("mine", "--weights a --source . --conf-thres 2", "--conf-thres is '2'"),
        ("mine", "--weights a --source . conf=2", "the setting conf is '2'"),
        ("evolve", "--data d --epochs 0", "--epochs is '0'"),
    ],
)
def test_errors_name_what_was_typed(
    program: str, words: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").touch()
    main = {"export": parse_export_command}.get(program) or importlib.import_module(program).main
    with pytest.raises(TaskError) as caught:
        main(words.split())
    assert error in caught.value.sentence
    assert not (tmp_path / "runs").exists()


def test_rounding_names_what_was_typed(caplog: pytest.LogCaptureFixture) -> None:
    parse_detection_flags(val_parser(), "val", ["--weights", "a.pt", "--img", "100"])
    assert "--img 100 is not a multiple of 32: 128 is used" in caplog.text


@pytest.mark.parametrize(
    ("there", "exist_ok", "expected"),
    [
        pytest.param([], False, ["exp", "exp2", "exp3"], id="one for each run"),
        pytest.param(["exp", "exp3"], False, ["exp2", "exp4", "exp5"], id="free numbers"),
        pytest.param(["exp"], True, ["exp", "exp", "exp"], id="the same"),
        pytest.param(["a file"], True, ["exp2", "exp2", "exp2"], id="a file of that name"),
    ],
)
def test_run_folders(tmp_path: Path, there: list[str], exist_ok: bool, expected: list[str]) -> None:
    for name in there:
        (tmp_path / "exp").touch() if name == "a file" else (tmp_path / name).mkdir()
    run = RunName(tmp_path, "exp", exist_ok)
    assert [run.make().relative_to(tmp_path).as_posix() for _ in range(3)] == expected
    assert all((tmp_path / name).is_dir() for name in expected)


@pytest.mark.parametrize(
    ("exist_ok", "inside", "stays"),
    [
        pytest.param(False, "", False, id="nothing was written"),
        pytest.param(False, "first.txt", True, id="something was"),
        pytest.param(True, "", True, id="it was there before"),
    ],
)
def test_the_folder_of_a_run_that_failed(
    tmp_path: Path, exist_ok: bool, inside: str, stays: bool
) -> None:
    if exist_ok:
        (tmp_path / "exp").mkdir()
    run = RunName(tmp_path, "exp", exist_ok)

    def fail() -> None:
        with run.opened() as folder:
            if inside:
                (folder / inside).touch()
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail()
    assert (tmp_path / "exp").is_dir() == stays


@pytest.mark.parametrize(
    ("program", "words", "sentence"),
    [
        ("train", "--data {data} --weights broken.pt", "broken.pt"),
        ("train", "--data {data} --weights {weights} --freeze 99", "freeze names layer"),
        ("evolve", "--trials 1 --data {data} --weights broken.pt", "broken.pt"),
        ("val", "--data {data} --weights broken.pt", "broken.pt"),
        ("detect", "--source images --weights broken.pt", "broken.pt"),
        ("detect", "--source images --weights {weights}", "no image of --source images"),
        ("mine", "--source images --weights {weights}", "no image can be read"),
        ("mine", "--source images --weights {weights} views=upside", "the setting views"),
    ],
)
def test_no_run_folder_is_left_by_what_failed_before_it_began(
    program: str,
    words: str,
    sentence: str,
    data_yaml: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for name in ("broken.pt", "images/a.jpg"):
        Path(name).write_text("not what it is called")
    filled = words.format(data=data_yaml, weights=weights)
    with pytest.raises(TaskError, match=sentence):
        importlib.import_module(program).main([*filled.split(), "--img", "64", "--device", "cpu"])
    assert not list(tmp_path.glob("runs/*/*"))
