"""Settings as options of a command line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from cli.options import add_setting_options, given_settings, newest_run, run_folder
from settings.detect import InferSettings
from settings.train import TrainSettings


def test_settings_that_no_flag_stands_for_become_options() -> None:
    parser = argparse.ArgumentParser()
    taken = ("weights", "img_size")
    add_setting_options(parser, InferSettings, taken)
    options = vars(parser.parse_args(["--precision", "float32", "--max-bad-fraction", "0.5"]))
    assert given_settings(InferSettings, {**options, "img_size": 3, "source": "a"}, taken) == {
        "precision": "float32",
        "max_bad_fraction": "0.5",
    }


def test_a_setting_that_is_true_or_false_may_stand_alone() -> None:
    parser = argparse.ArgumentParser()
    add_setting_options(parser, TrainSettings, ())
    options = vars(parser.parse_args(["--noautoanchor", "--plots", "false", "--epochs", "3"]))
    assert options == {"noautoanchor": True, "plots": "false", "epochs": "3"}


def test_every_run_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    names = [run_folder(tmp_path / "runs", "exp").name for _ in range(3)]
    assert names == ["exp", "exp2", "exp3"]
    assert all((tmp_path / "runs" / name).is_dir() for name in names)


def test_a_free_number_is_taken(tmp_path: Path) -> None:
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp3").mkdir()
    assert run_folder(tmp_path, "exp").name == "exp2"
    assert run_folder(tmp_path, "exp").name == "exp4"


def test_exist_ok_uses_the_same_folder(tmp_path: Path) -> None:
    for _ in range(2):
        assert run_folder(tmp_path, "exp", exist_ok=True) == tmp_path / "exp"


def test_a_file_of_that_name_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "exp").write_text("")
    assert run_folder(tmp_path, "exp", exist_ok=True).name == "exp2"


@pytest.mark.parametrize("newest", ["exp", "exp2"])
def test_the_newest_run_is_that_of_the_newest_file(newest: str, tmp_path: Path) -> None:
    for name in ("exp", "exp2", "exp3"):
        (tmp_path / name / "weights").mkdir(parents=True)
    for name in ("exp", "exp2"):
        file = tmp_path / name / "weights" / "last.pt"
        file.write_text("")
        os.utime(file, (1, 2 if name == newest else 1))
    assert newest_run(tmp_path, Path("weights/last.pt")) == tmp_path / newest


def test_no_run_at_all(tmp_path: Path) -> None:
    assert newest_run(tmp_path / "none", Path("last.pt")) is None
