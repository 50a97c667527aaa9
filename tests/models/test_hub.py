"""Every graph of models/hub at an eighth of its width: forward, decode, fusion, one step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.checkpoint import build_detector, checkpoint_of, load_checkpoint, save_checkpoint
from models.detector import Detector
from models.loss import DetectionLoss, LossConfig, LossGains
from models.model_config import parse_model_config, read_model_config

FILES = sorted(path.stem for path in (Path(__file__).parents[2] / "models" / "hub").glob("*.yaml"))
# At one width and depth the sizes of a graph are the same network.
GRAPHS = [name for name in FILES if name not in {f"yolov5{size}6" for size in "smlx"}]
NAMES = ("cat", "owl")


def _narrow(name: str) -> Detector:
    """The graph with few channels and few repeats, lively statistics, and anchors that fit."""
    definition = {
        **read_model_config(name).definition,
        "depth_multiple": 0.33,
        "width_multiple": 0.125,
    }
    torch.manual_seed(0)
    detector = Detector(parse_model_config(definition, nc=2))
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    if detector.has_placeholder_anchors:
        detector.anchors.copy_(torch.tensor([[1.0, 1.5], [2.0, 2.0], [3.5, 3.0]]))
    return detector


def _images(detector: Detector) -> torch.Tensor:
    """Two images, one cell of the coarsest map high and two wide."""
    multiple = detector.config.input_multiple
    return torch.rand(2, 3, multiple, 2 * multiple)


@pytest.mark.parametrize("name", GRAPHS)
def test_maps_have_the_size_that_the_config_says(name):
    detector = _narrow(name).eval()
    images = _images(detector)
    raw = detector(images)
    for level, stride in zip(raw, detector.config.strides, strict=True):
        rows, columns = (int(side / stride) for side in images.shape[2:])
        assert level.shape == (2, 3, rows, columns, 7)
    rows = detector.decode(raw)
    assert rows.shape == (2, sum(level[0, ..., 0].numel() for level in raw), 7)
    assert rows.isfinite().all()
    assert ((rows[..., 4:] >= 0) & (rows[..., 4:] <= 1)).all()


@pytest.mark.parametrize("name", GRAPHS)
def test_neither_fusion_nor_memory_format_changes_a_number(name):
    """In double precision, where rounding cannot hide a mistake."""
    detector = _narrow(name).double().eval()
    images = _images(detector).double()
    expected = detector.predict(images)
    fused = detector.fused()
    torch.testing.assert_close(fused.predict(images), expected, rtol=1e-9, atol=1e-9)
    turned = images.contiguous(memory_format=torch.channels_last)
    for network in (detector, fused):
        found = network.to(memory_format=torch.channels_last).predict(turned)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPHS)
def test_one_step_of_training_reaches_every_parameter(name):
    detector = _narrow(name).train()
    criterion = DetectionLoss(detector.anchors, 2, LossConfig(LossGains(0.05, 1.0, 0.5)))
    sizes = [0.05, 0.1, 0.2, 0.4, 0.8]
    targets = torch.tensor([[i % 2, i % 2, 0.45, 0.55, size, size] for i, size in enumerate(sizes)])
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.01)
    losses = criterion(detector(_images(detector)), targets)
    assert losses.total.isfinite()
    assert losses.box > 0
    losses.total.backward()
    for key, parameter in detector.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key
    optimizer.step()
    assert criterion(detector(_images(detector)), targets).total.isfinite()


@pytest.mark.parametrize("name", ["yolov5s-LeakyReLU", "yolov5s-transformer", "yolov3-tiny"])
def test_a_checkpoint_brings_the_same_network_back(name, tmp_path):
    detector = _narrow(name).eval()
    save_checkpoint(tmp_path / "best.pt", checkpoint_of(detector, NAMES))
    again = build_detector(load_checkpoint(tmp_path / "best.pt")).eval()
    assert again.config == detector.config
    images = _images(detector)
    assert torch.equal(again.predict(images), detector.predict(images))


def test_fitted_anchors_come_back_from_a_checkpoint(tmp_path):
    """The file says 3; the sizes that are in force go with the weights."""
    save_checkpoint(tmp_path / "best.pt", checkpoint_of(_narrow("yolov5-p34"), NAMES))
    again = build_detector(load_checkpoint(tmp_path / "best.pt"))
    assert not again.config.has_placeholder_anchors
    assert not again.has_placeholder_anchors


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", GRAPHS)
def test_cuda_equals_cpu(name):
    detector = _narrow(name).double().eval()
    images = _images(detector).double()
    expected = detector.predict(images)
    found = detector.cuda().predict(images.cuda()).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
