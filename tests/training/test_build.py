"""From settings to the parts of a training: what is taken, and what is said about the rest."""

from __future__ import annotations

import logging

import pytest

from data.samplers import BatchingConfig
from settings.parse import parse_settings
from settings.train import TrainSettings
from training.build import augmentation, batching


def settings_of(**values: object) -> TrainSettings:
    return parse_settings(TrainSettings, values)[0]


def test_augmentation_takes_every_field() -> None:
    chosen = augmentation(settings_of(mixup=0.1, mosaic9=0.2, degrees=5, albumentations=True))
    assert (chosen.mixup, chosen.mosaic9, chosen.degrees) == (0.1, 0.2, 5)
    assert chosen.albumentations is True


@pytest.mark.parametrize(("value", "warnings"), [(0, 0), (0.1, 1)])
def test_copy_paste_is_said_to_do_nothing(
    value: float, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert augmentation(settings_of(copy_paste=value)) == augmentation(TrainSettings())
    assert caplog.text.count("copy_paste has no effect") == warnings


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param({}, BatchingConfig(mosaic_epochs=100), id="default"),
        pytest.param(
            {"close_mosaic": 10, "epochs": 30}, BatchingConfig(mosaic_epochs=20), id="close"
        ),
        pytest.param(
            {"close_mosaic": 9, "epochs": 3}, BatchingConfig(mosaic_epochs=0), id="too many"
        ),
        pytest.param({"rect": True}, BatchingConfig(rect=True, mosaic_epochs=100), id="rect"),
        pytest.param({"quad": True}, BatchingConfig(quad=True, mosaic_epochs=100), id="quad"),
    ],
)
def test_arrangement(values: dict[str, object], expected: BatchingConfig) -> None:
    assert batching(settings_of(**values)) == expected


def test_image_weights_win_over_rect(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        chosen = batching(settings_of(rect=True, image_weights=True))
    assert chosen == BatchingConfig(image_weights=True, mosaic_epochs=100)
    assert "rect has no effect" in caplog.text
