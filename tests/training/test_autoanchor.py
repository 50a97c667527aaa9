"""When anchors are replaced, when not, and that every file knows the new ones."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.dataset_index import DatasetIndex
from data.instances import Instances
from models.checkpoint import build_detector, checkpoint_of, load_checkpoint, save_checkpoint
from models.detector import Detector
from models.model_config import read_model_config
from models.transfer import transfer
from settings.train import TrainSettings
from training.autoanchor import fit_anchors, with_anchor_count
from training.build import build_network
from utils.errors import Code, TaskError

NAMES = ("a", "b")


def index_of(sizes: np.ndarray) -> DatasetIndex:
    """One image of 640 x 640 whose boxes have these sizes (w, h)."""
    boxes = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
    return DatasetIndex.build(
        ["a.png"], [[640, 640]], Instances(boxes, np.zeros(len(boxes))), [len(boxes)], NAMES
    )


def thin(count: int = 200) -> DatasetIndex:
    """Boxes 20 times as wide as high: no stock anchor answers for them."""
    width = np.random.default_rng(0).uniform(60, 600, count)
    return index_of(np.stack([width, width / 20], axis=1))


def fitting(count: int = 200) -> DatasetIndex:
    return index_of(np.random.default_rng(0).uniform(12, 300, (count, 1)).repeat(2, axis=1))


def network(anchors: int = 0) -> Detector:
    return Detector(with_anchor_count(read_model_config("yolov5n", len(NAMES)), anchors))


def pixels(detector: Detector) -> np.ndarray:
    return (detector.anchors * detector.stride.view(-1, 1, 1)).numpy()


def fit(detector: Detector, index: DatasetIndex, **change: Any) -> bool:
    return fit_anchors(detector, index, 640, TrainSettings(**change))


def test_anchors_that_fit_stay_to_the_bit(caplog: pytest.LogCaptureFixture) -> None:
    detector = network()
    before = detector.anchors.clone()
    caplog.set_level(logging.INFO)
    assert not fit(detector, fitting())
    assert torch.equal(detector.anchors, before)
    assert detector.definition() == detector.config.definition
    assert [record.message.split(":")[0] for record in caplog.records] == ["anchors"]


def test_a_poor_fit_is_mended_and_said_before_and_after(caplog: pytest.LogCaptureFixture) -> None:
    detector = network()
    caplog.set_level(logging.INFO)
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert fit(detector, thin())
    assert "best possible recall 0.0" in caplog.messages[0]
    assert caplog.messages[-1].startswith("new anchors: best possible recall 1.000")
    areas = pixels(detector).prod(axis=2).mean(axis=1)
    assert (np.diff(areas) > 0).all()
    # Nothing is drawn from the global generators.
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert (np.random.get_state()[1] == numpy_before).all()


def test_noautoanchor_keeps_a_poor_fit(caplog: pytest.LogCaptureFixture) -> None:
    detector = network()
    before = detector.anchors.clone()
    assert not fit(detector, thin(), noautoanchor=True)
    assert torch.equal(detector.anchors, before)
    assert "noautoanchor keeps them" in caplog.text


@pytest.mark.parametrize(
    ("names", "changes", "kept"),
    [
        pytest.param(NAMES, {}, True, id="same classes"),
        pytest.param(("b", "x"), {}, True, id="a class by name"),
        pytest.param(("x", "y"), {}, False, id="new classes"),
        pytest.param(NAMES, {"anchors": 3}, False, id="new anchors asked for"),
    ],
)
def test_anchors_of_a_kept_head_stay(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    names: tuple[str, ...],
    changes: dict[str, Any],
    kept: bool,
) -> None:
    weights = tmp_path / "best.pt"
    save_checkpoint(weights, checkpoint_of(network(), NAMES))
    settings = TrainSettings(**changes)
    detector, head_kept = build_network(settings, weights, names)
    before = detector.anchors.clone()
    assert fit_anchors(detector, thin(), 640, settings, head_kept=head_kept) is not kept
    assert torch.equal(detector.anchors, before) is kept
    assert ("they stay with the head of the weights" in caplog.text) is kept


@pytest.mark.parametrize("per_level", [3, 5])
def test_a_number_of_anchors_gives_new_ones_whatever_the_fit(per_level: int) -> None:
    detector = network(per_level)
    before = detector.anchors.clone()
    assert fit(detector, fitting(), anchors=per_level)
    assert detector.anchors.shape == (3, per_level, 2)
    assert not torch.equal(detector.anchors, before)
    maps = detector(torch.zeros(1, 3, 64, 64))
    assert [level.shape[1] for level in maps] == [per_level] * 3


def test_placeholders_are_replaced_without_being_asked() -> None:
    detector = network()
    with torch.no_grad():  # what v7.0 builds for `anchors: 3`
        detector.anchors.copy_(torch.arange(6.0).view(1, 3, 2) / detector.stride.view(-1, 1, 1))
    assert fit(detector, fitting())
    assert (detector.anchors > 0).all()


@pytest.mark.parametrize(
    ("held", "asked"), [(0, 3), (2, 0)], ids=["anchors-forced", "placeholders"]
)
def test_anchors_that_are_needed_and_forbidden_are_refused(held: int, asked: int) -> None:
    with pytest.raises(TaskError, match="noautoanchor is set") as caught:
        fit(network(held), thin(), anchors=asked, noautoanchor=True)
    assert caught.value.code == Code.CONFIG


def test_a_file_a_reload_and_a_transfer_agree(tmp_path: Path) -> None:
    detector = network(4)
    fit(detector, thin(), anchors=4)
    save_checkpoint(tmp_path / "a.pt", checkpoint_of(detector, NAMES))
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    stated = np.array(checkpoint.definition["anchors"]).reshape(3, 4, 2)
    np.testing.assert_array_equal(stated, pixels(detector))
    assert torch.equal(build_detector(checkpoint).anchors, detector.anchors)
    # Another head, the same anchors.
    assert torch.equal(build_detector(checkpoint, nc=7).anchors, detector.anchors)
    images = torch.rand(1, 3, 64, 64)
    again = build_detector(checkpoint).eval()
    assert torch.equal(again.predict(images), detector.eval().predict(images))


def test_a_checkpoint_states_the_anchors_that_loaded_weights_brought() -> None:
    """Official files of networks with searched anchors keep the old ones in their definition."""
    detector = network()
    fit(detector, thin())
    fresh = network()
    transfer(fresh, checkpoint_of(detector, NAMES), NAMES)
    stated = np.array(checkpoint_of(fresh, NAMES).definition["anchors"]).reshape(3, 3, 2)
    np.testing.assert_array_equal(stated, pixels(detector))
