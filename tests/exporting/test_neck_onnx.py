"""The trunk: the head's inputs, float32 also where it computes in half, the network untouched."""

from __future__ import annotations

import pytest
import torch

from exporting.neck_onnx import NeckExtractor, output_names, write_neck


@pytest.fixture(scope="module")
def network(detector):
    return detector.fused().to(memory_format=torch.channels_last)


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-5), (True, 0.05)])
def test_the_maps_are_those_before_the_head(network, half, tolerance):
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        found, expected = NeckExtractor(network, half=half)(images), network.head_inputs(images)
        raw = network.head(found)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).abs().max() <= tolerance * other.abs().max()
    if not half:
        torch.testing.assert_close(network.decode(raw), network.predict(images))


def test_the_network_stays_as_it_is(network, tmp_path):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    write_neck(network, tmp_path / "trunk.onnx", half=True)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    weight = network.model[0].conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_the_file_names_its_maps(network, tmp_path):
    onnx = pytest.importorskip("onnx")
    write_neck(network, tmp_path / "trunk.onnx")
    graph = onnx.load(tmp_path / "trunk.onnx").graph
    assert [one.name for one in graph.output] == output_names(3) == ["level0", "level1", "level2"]
    sides = [[side.dim_param for side in one.type.tensor_type.shape.dim] for one in graph.input]
    assert sides == [["batch", "", "height", "width"]]
