"""A network's answer does not depend on passes, nor on whether images are bytes or numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inference import network as looks
from inference.network import Looks
from models.detector import Detector
from models.model_config import read_model_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> Looks:
    torch.manual_seed(0)
    return Looks(Detector(read_model_config("yolov5n", 3)), device=CPU, precision="float32")


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (5, 3, 96, 64), generator=torch.manual_seed(0)).byte()


@pytest.mark.parametrize("images_a_pass", [1, 2, 4])
def test_a_batch_goes_through_the_network_in_passes(
    network: Looks, images: Tensor, images_a_pass: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps and features are the same but for rounding, however many images a pass takes."""
    monkeypatch.setattr(looks, "PIXELS_A_PASS", 5 * 96 * 64)
    maps, rows = network(images)
    features = network.backbone_map(images)
    sizes: list[int] = []
    plain = network.pixels

    def note(part: Tensor) -> Tensor:
        sizes.append(len(part))
        return plain(part)

    monkeypatch.setattr(network, "pixels", note)
    monkeypatch.setattr(looks, "PIXELS_A_PASS", images_a_pass * 96 * 64 + 1)
    own_maps, own_rows = network(images)
    assert max(sizes) == images_a_pass
    assert sum(sizes) == 5
    torch.testing.assert_close(own_maps, maps, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(own_rows, rows, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(network.backbone_map(images), features, rtol=1e-5, atol=1e-5)


def test_bytes_and_numbers_are_the_same_images(network: Looks, images: Tensor) -> None:
    maps, rows = network(images)
    own_maps, own_rows = network(images.float() / 255)
    assert all(map(torch.equal, own_maps, maps))
    assert torch.equal(own_rows, rows)
    assert torch.equal(network.pixels(images), images.float() / 255)
    assert rows.shape == (5, 3 * (12 * 8 + 6 * 4 + 3 * 2), 8)


def test_the_answer_is_that_of_the_fused_network(network: Looks, images: Tensor) -> None:
    expected = network.network.predict(images.float() / 255)
    torch.testing.assert_close(network(images)[1], expected, rtol=1e-3, atol=1e-3)


def test_freed_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first look: a look frees and takes the same maps as the one before."""
    asked: list[bool] = []
    monkeypatch.setattr(looks, "keep_freed_memory", lambda: asked.append(True))
    Looks(Detector(read_model_config("yolov5n", 1)), device=CPU, precision="float32")
    assert asked == [True]
