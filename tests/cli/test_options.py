"""What the command lines share: settings as options, and run folders."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest

from cli.options import RunName, parse_detection_flags


def test_settings_that_no_flag_stands_for_are_options() -> None:
    words = "--weights a.pt --precision float32 --plots false --max-bad-fraction 0.5 --imgsz 320"
    defaults = {"iou_thres": 0.3, "max_bad_fraction": 0.1}
    parser = argparse.ArgumentParser()
    given, settings = parse_detection_flags(parser, "val", words.split(), defaults)
    assert given["weights"] == ["a.pt"]
    assert (settings.precision, settings.plots, settings.img_size) == ("float32", False, 320)
    assert (settings.iou_thres, settings.max_bad_fraction) == (0.3, 0.5)


@pytest.mark.parametrize("program", ["start", "train", "val", "detect", "export", "evolve"])
def test_every_program_explains_its_flags(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(program).main(["--help"])
    assert ended.value.code == 0
    assert "--" in capsys.readouterr().out


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
