"""Settings as options of a command line."""

from __future__ import annotations

import argparse

from cli.options import add_setting_options, given_settings
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
