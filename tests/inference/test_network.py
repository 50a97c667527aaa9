"""The forward pass: independent of its parts, and of the type of the images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inference import network as module
from inference.network import Network
from models.detector import Detector
from models.model_config import read_model_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    detector = Detector(read_model_config("yolov5n", 3))
    return Network.build(detector, device=CPU, precision="float32")


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (5, 3, 96, 64), generator=torch.manual_seed(0)).byte()


@pytest.mark.parametrize("images_per_pass", [1, 2, 4])
def test_a_batch_is_split_into_parts(
    network: Network, images: Tensor, images_per_pass: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps and features are equal but for rounding, however many images a part has."""
    monkeypatch.setattr(module, "PIXELS_PER_PASS", 5 * 96 * 64)
    maps, rows = network(images)
    features = network.backbone_map(images)
    monkeypatch.setattr(module, "PIXELS_PER_PASS", images_per_pass * 96 * 64 + 1)
    assert len(next(network._split(images))) == images_per_pass
    own_maps, own_rows = network(images)
    torch.testing.assert_close(own_maps, maps, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(own_rows, rows, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(network.backbone_map(images), features, rtol=1e-5, atol=1e-5)


def test_bytes_and_floats_are_the_same_images(network: Network, images: Tensor) -> None:
    maps, rows = network(images)
    own_maps, own_rows = network(images.float() / 255)
    assert all(map(torch.equal, own_maps, maps))
    assert torch.equal(own_rows, rows)
    assert torch.equal(network.pixels(images), images.float() / 255)
    assert rows.shape == (5, 3 * (12 * 8 + 6 * 4 + 3 * 2), 8)


def test_the_output_is_that_of_the_fused_detector(network: Network, images: Tensor) -> None:
    expected = network.detector.predict(images.float() / 255)
    torch.testing.assert_close(network(images)[1], expected, rtol=1e-3, atol=1e-3)
