"""The command line's options of detection, and class names to numbers."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest

from utils.config import InferSettings
from utils.detection_options import add_detection_options, class_indices, detection_options
from utils.errors import Code, TaskError


def parse(*words: str) -> InferSettings:
    parser = argparse.ArgumentParser()
    add_detection_options(parser)
    return detection_options(parser.parse_args(words))


def test_nothing_given_are_the_defaults() -> None:
    assert parse() == InferSettings()


def test_everything_given_arrives() -> None:
    words = "--augment --agnostic-nms --half --classes cat 2 --tile-size 640 --tile-overlap 0.3"
    assert parse(*words.split()) == replace(
        InferSettings(),
        augment=True,
        agnostic_nms=True,
        half=True,
        classes=("cat", "2"),
        tile_size=640,
        tile_overlap=0.3,
    )


def test_values_are_held_to_their_rules() -> None:
    with pytest.raises(TaskError, match=r"tile_overlap is 0\.95; it must be a number, 0 to 0\.9"):
        parse("--tile-overlap", "0.95")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param((), None, id="all"),
        pytest.param(("dog",), (1,), id="name"),
        pytest.param(("2", "0"), (0, 2), id="numbers"),
        pytest.param(("dog", "1"), (1,), id="the-same-twice"),
        pytest.param(("3",), (2,), id="a-name-that-is-a-number"),
    ],
)
def test_class_indices(wanted: tuple[str, ...], expected: tuple[int, ...] | None) -> None:
    assert class_indices(wanted, ["cat", "dog", "3"]) == expected


def test_unknown_classes_are_refused_with_those_there_are() -> None:
    with pytest.raises(TaskError, match=r"names cow, 7; .*: cat, dog \(0 to 1\)") as caught:
        class_indices(["cow", "cat", "7"], ["cat", "dog"])
    assert caught.value.code == Code.CONFIG
