"""Class counts travel in the weights from training to mining, and nothing else is believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inference.predictor import load_predictor
from models.labelled_set import labelled_metadata, objects_per_image
from settings.detect import MiningSettings
from tools.sources import SourceDataset


def test_there_and_back() -> None:
    # 6 objects in 4 images are 1.5 an image.
    assert objects_per_image(labelled_metadata([6, 0, 2], 4), 3) == (1.5, 0.0, 0.5)


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({}, id="nothing"),
        pytest.param(labelled_metadata([6, 0], 4), id="other classes"),
        pytest.param(labelled_metadata([6, 0, 2], 0), id="no image"),
        pytest.param({"labelled_images": 4, "labelled_objects": "6 0 2"}, id="text"),
        pytest.param({"labelled_images": "4", "labelled_objects": [6, 0, 2]}, id="text images"),
        pytest.param({"labelled_images": 4, "labelled_objects": [6, -1, 2]}, id="negative"),
        pytest.param({"labelled_images": 4, "labelled_objects": [6, float("nan"), 2]}, id="nan"),
        pytest.param({"labelled_images": 4, "labelled_objects": [6, None, 2]}, id="a gap"),
    ],
)
def test_what_is_no_count_is_not_believed(metadata: dict[str, object]) -> None:
    assert objects_per_image(metadata, 3) is None


def test_a_training_notes_its_counts(drawn: SourceDataset, weights: Path) -> None:
    predictor = load_predictor(weights, MiningSettings(img_size=64), torch.device("cpu"))
    images = drawn.splits["train"]
    counts = np.bincount(np.concatenate([image.classes for image in images]), minlength=3)
    assert counts.sum() > 0
    assert predictor.labelled_objects == pytest.approx((counts / len(images)).tolist())
