"""A packed network gives what the plain one gives, whatever its blocks, shapes and threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from models import onednn as subject
from models.blocks import Conv, parse_activation
from models.detector import Detector
from models.model_config import read_model_config
from models.onednn import OneDnnConv, onednn_supports, to_onednn

FLOAT = torch.float32
HALF = torch.bfloat16
FORMATS = [
    pytest.param(
        kind,
        marks=pytest.mark.skipif(not onednn_supports(kind), reason=f"{kind} cannot be packed here"),
    )
    for kind in (FLOAT, HALF)
]


def network_of(seed: int = 0) -> Detector:
    """A fused yolov5n whose units are far from zero, so that an error shows in the maps."""
    torch.manual_seed(seed)
    detector = Detector(read_model_config("yolov5n", 3))
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


def look(network: Detector, images: Tensor, dtype: torch.dtype) -> list[Tensor]:
    with torch.inference_mode(), torch.autocast("cpu", dtype=HALF, enabled=dtype == HALF):
        return [level.float() for level in network(images)]


def units_of(network: Detector) -> list[OneDnnConv]:
    return [module for module in network.modules() if isinstance(module, OneDnnConv)]


def share_off(found: list[Tensor], expected: list[Tensor]) -> float:
    """Largest difference as a share of how much the map varies."""
    pairs = zip(found, expected, strict=True)
    return max(float((one - other).square().mean().sqrt() / other.std()) for one, other in pairs)


@pytest.mark.parametrize(("dtype", "most"), [(FLOAT, 1e-5), (HALF, 0.05)])
def test_maps_are_those_of_the_plain_network(dtype: torch.dtype, most: float) -> None:
    if not onednn_supports(dtype):
        pytest.skip(f"{dtype} cannot be packed here")
    network, images = network_of(), images_of(2, 64, 96)
    twin = to_onednn(network, dtype)
    assert len(units_of(twin)) == sum(isinstance(one, Conv) for one in network.modules())
    expected = look(network, images, FLOAT)
    assert share_off(look(twin, images, dtype), expected) < most
    assert share_off(look(to_onednn(network_of(1), dtype), images, dtype), expected) > 0.15


def test_bfloat16_is_rounded_less_often_than_under_autocast() -> None:
    if not onednn_supports(HALF):
        pytest.skip("bfloat16 cannot be packed here")
    network, images = network_of(), images_of(2, 96, 96)
    exact = look(network, images, FLOAT)
    twice = share_off(look(network, images, HALF), exact)
    assert share_off(look(to_onednn(network, HALF), images, HALF), exact) < twice


@pytest.mark.parametrize("dtype", FORMATS)
def test_numbers_do_not_depend_on_batch_order_or_kept_weights(dtype: torch.dtype) -> None:
    network, images = network_of(), images_of(5, 64, 64)
    twin = to_onednn(network, dtype)
    whole = look(twin, images, dtype)
    for index in range(5):
        alone = look(twin, images[index : index + 1], dtype)
        assert all(torch.equal(a[0], b[index]) for a, b in zip(alone, whole, strict=True))
    for unit in units_of(twin):
        unit.max_shapes = 0
        unit._blocked.clear()
    assert all(map(torch.equal, look(twin, images, dtype), whole))


@pytest.mark.parametrize("dtype", FORMATS)
def test_threads_may_look_at_once(dtype: torch.dtype) -> None:
    network = network_of()
    batches = [images_of(count, 32 * side, 64) for count in (1, 2) for side in (1, 2, 3)] * 3
    expected = [look(to_onednn(network, dtype), images, dtype) for images in batches]
    twin = to_onednn(network, dtype)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda images: look(twin, images, dtype), batches))
    for one, other in zip(found, expected, strict=True):
        assert all(map(torch.equal, one, other))


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(
    ("name", "inside"),
    [("SiLU", "swish"), ("ReLU", "relu"), ("LeakyReLU(0.1)", "none"), ("Mish", "none")],
)
def test_every_activation(name: str, inside: str, dtype: torch.dtype) -> None:
    unit = Conv(8, 8, 3, 2, g=2, activation=parse_activation(name)).eval().requires_grad_(False)
    unit.fuse()
    pack = OneDnnConv(unit, dtype, 1)
    images = images_of(2, 16, 16).repeat(1, 3, 1, 1)[:, :8] * 4 - 2
    with torch.inference_mode():
        assert pack.fused == inside
        assert torch.allclose(
            pack(images).float(), unit(images), atol=1e-5 if dtype == FLOAT else 0.05
        )


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_unit_without_activation_or_folding(dtype: torch.dtype) -> None:
    """GhostNet's units have none; a unit that was never normalised has no bias either."""
    unit = Conv(8, 4, 1, activation=False).eval().requires_grad_(False)
    unit.bn = None
    images = images_of(1, 8, 8).repeat(1, 3, 1, 1)[:, :8]
    with torch.inference_mode():
        found = OneDnnConv(unit, dtype, 1)(images).float()
        assert torch.allclose(found, unit(images), atol=1e-5 if dtype == FLOAT else 0.05)


def test_kept_weights_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    if not onednn_supports(FLOAT):
        pytest.skip("float32 cannot be packed here")
    network = network_of()
    weights = sum(one.conv.weight.numel() for one in network.modules() if isinstance(one, Conv))
    for times, shapes in ((0.5, 1), (2.5, 2)):
        monkeypatch.setattr(subject, "MAX_CACHED_BYTES", int(times * weights * FLOAT.itemsize))
        twin = to_onednn(network, FLOAT)
        for side in (32, 64, 96):
            expected = look(network, images_of(1, side, side), FLOAT)
            assert share_off(look(twin, images_of(1, side, side), FLOAT), expected) < 1e-5
        assert {len(unit._blocked) for unit in units_of(twin)} == {shapes}


def test_weights_are_shared_and_the_plain_network_stays() -> None:
    if not onednn_supports(FLOAT):
        pytest.skip("float32 cannot be packed here")
    network = network_of()
    twin = to_onednn(network, FLOAT)
    assert not units_of(network)
    own = {one.data_ptr() for one in network.parameters()}
    assert {one.data_ptr() for one in twin.parameters()} == own


@pytest.mark.parametrize("fault", [RuntimeError("no such operator"), AttributeError("mkldnn")])
def test_without_the_operators_the_network_itself(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Tensor:
        raise fault

    monkeypatch.setattr(OneDnnConv, "forward", fail)
    monkeypatch.setattr(subject, "onednn_supports", onednn_supports.__wrapped__)
    network = network_of()
    assert to_onednn(network, FLOAT) is network


def test_operators_that_compute_something_else_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OneDnnConv, "forward", lambda self, x: self.conv(x))
    assert not onednn_supports.__wrapped__(FLOAT)


def test_a_format_that_is_not_computed_here() -> None:
    assert not onednn_supports(torch.float16)
    network = network_of()
    assert to_onednn(network, torch.float16) is network
