"""oneDNN kernels give what the plain network gives, whatever its blocks, shapes and threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from models import onednn as subject
from models.blocks import Conv, parse_activation
from models.detector import Detector
from models.model_config import parse_model_config, read_model_config
from models.onednn import OneDnnConv, onednn_supports, to_onednn

FLOAT, HALF = torch.float32, torch.bfloat16
needs_float, needs_half = (
    pytest.mark.skipif(not onednn_supports(dtype), reason=f"no {dtype} kernels here")
    for dtype in (FLOAT, HALF)
)
FORMATS = [pytest.param(FLOAT, marks=needs_float), pytest.param(HALF, marks=needs_half)]


def network_of(seed: int = 0) -> Detector:
    """A fused network whose units are far from zero, so that an error shows in the maps."""
    torch.manual_seed(seed)
    definition = {**read_model_config("yolov5n").definition, "width_multiple": 0.125}
    detector = Detector(parse_model_config(definition, 3))
    for module in detector.modules():
        if isinstance(module, Conv):
            torch.nn.init.normal_(module.conv.weight, std=module.conv.weight[0].numel() ** -0.5)
            assert module.bn is not None
            torch.nn.init.uniform_(module.bn.bias, -1, 1)
    return detector.fused().to(memory_format=torch.channels_last)


def images_of(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(shape[0], 3, *shape[1:], generator=generator)
    return images.contiguous(memory_format=torch.channels_last)


def forward(network: Detector, images: Tensor, dtype: torch.dtype) -> list[Tensor]:
    with torch.inference_mode(), torch.autocast("cpu", dtype=HALF, enabled=dtype == HALF):
        return [level.float() for level in network(images)]


def units_of(network: Detector) -> list[OneDnnConv]:
    return [module for module in network.modules() if isinstance(module, OneDnnConv)]


def error_of(found: list[Tensor], expected: list[Tensor]) -> float:
    """Largest error as a share of how much the map varies."""
    pairs = zip(found, expected, strict=True)
    return max(float((one - other).square().mean().sqrt() / other.std()) for one, other in pairs)


@pytest.mark.parametrize("dtype", FORMATS)
def test_maps_are_those_of_the_plain_network(dtype: torch.dtype) -> None:
    network, images = network_of(), images_of(2, 64, 96)
    twin = to_onednn(network, dtype)
    assert len(units_of(twin)) == sum(isinstance(one, Conv) for one in network.modules())
    assert not units_of(network)
    own = {one.data_ptr() for one in network.parameters()}
    assert {one.data_ptr() for one in twin.parameters()} == own
    expected = forward(network, images, FLOAT)
    # In bfloat16 rounded less often than under autocast.
    plain = error_of(forward(network, images, dtype), expected)
    assert error_of(forward(twin, images, dtype), expected) < (1e-5 if dtype == FLOAT else plain)
    assert error_of(forward(to_onednn(network_of(1), dtype), images, dtype), expected) > 0.15


@pytest.mark.parametrize("dtype", FORMATS)
def test_numbers_do_not_depend_on_batch_order_or_cached_weights(dtype: torch.dtype) -> None:
    images = images_of(5, 64, 64)
    twin = to_onednn(network_of(), dtype)
    whole = forward(twin, images, dtype)
    for index in range(5):
        alone = forward(twin, images[index : index + 1], dtype)
        assert all(torch.equal(a[0], b[index]) for a, b in zip(alone, whole, strict=True))
    for unit in units_of(twin):
        unit.max_shapes = 0
        unit._blocked.clear()
    assert all(map(torch.equal, forward(twin, images, dtype), whole))


@pytest.mark.parametrize("dtype", FORMATS)
def test_threads_may_run_at_once(dtype: torch.dtype) -> None:
    network = network_of()
    batches = [images_of(count, 32 * side, 64) for count in (1, 2) for side in (1, 2, 3)] * 3
    expected = [forward(to_onednn(network, dtype), images, dtype) for images in batches]
    twin = to_onednn(network, dtype)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda images: forward(twin, images, dtype), batches))
    for one, other in zip(found, expected, strict=True):
        assert all(map(torch.equal, one, other))


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(
    ("name", "fused"),
    [
        *[("SiLU", "swish"), ("ReLU", "relu"), ("LeakyReLU(0.1)", "none"), ("Mish", "none")],
        ("", "none"),  # GhostNet's units have no activation
    ],
)
def test_every_activation(name: str, fused: str, dtype: torch.dtype) -> None:
    activation = parse_activation(name) if name else False
    unit = Conv(8, 8, 3, 2, g=2, activation=activation).eval().requires_grad_(False)
    unit.fuse()
    kernel = OneDnnConv(unit, dtype, 1)
    assert kernel.fused == fused
    images = images_of(2, 16, 16).repeat(1, 3, 1, 1)[:, :8] * 4 - 2
    tolerance = 1e-5 if dtype == FLOAT else 0.05
    with torch.inference_mode():
        assert torch.allclose(kernel(images).float(), unit(images), atol=tolerance)


@needs_float
def test_cached_weights_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of()
    weights = sum(one.conv.weight.numel() for one in network.modules() if isinstance(one, Conv))
    for times, shapes in ((0.5, 1), (2.5, 2)):
        monkeypatch.setattr(subject, "MAX_CACHED_BYTES", int(times * weights * FLOAT.itemsize))
        twin = to_onednn(network, FLOAT)
        for images in (images_of(1, side, side) for side in (32, 64, 96)):
            expected = forward(network, images, FLOAT)
            assert error_of(forward(twin, images, FLOAT), expected) < 1e-5
        assert {len(unit._blocked) for unit in units_of(twin)} == {shapes}


def wrong_result(self: OneDnnConv, x: Tensor) -> Tensor:
    return self.conv(x)


def no_operator(self: OneDnnConv, x: Tensor) -> Tensor:
    raise RuntimeError("no such operator")


@pytest.mark.parametrize("forward", [wrong_result, no_operator])
def test_where_the_operators_fail_the_network_itself_is_used(forward, monkeypatch) -> None:
    monkeypatch.setattr(OneDnnConv, "forward", forward)
    monkeypatch.setattr(subject, "onednn_supports", onednn_supports.__wrapped__)
    network = network_of()
    assert to_onednn(network, FLOAT) is network
    assert to_onednn(network, torch.float16) is network
