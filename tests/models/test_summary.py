"""Sizes of networks: the figures that v7.0 prints for every model, fused and not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.detector import Detector
from models.model_config import parse_model_config, read_model_config
from models.summary import Summary, count_gflops, count_layers, summarize

STOCK = sorted(
    path.relative_to(Path(__file__).parents[2]).as_posix()
    for path in (Path(__file__).parents[2] / "models").rglob("*.yaml")
)


@pytest.mark.parametrize("name", STOCK)
def test_figures_equal_the_reference(name, golden):
    """tests/golden/models.json: v7.0 and its counter thop 0.1.1 on its own configs."""
    reference = json.loads(golden("models.json").read_text())[name]
    with torch.device("meta"):
        detector = Detector(read_model_config(name))
    for network, expected in (detector, reference), (detector.fused(), reference["fused"]):
        summary = summarize(network)
        assert summary.layers == expected["layers"]
        assert summary.parameters == expected["parameters"]
        assert summary.gflops == pytest.approx(expected["gflops_640"], rel=1e-6)


def test_operations_worked_out_by_hand(tiny_definition):
    """One convolution to half the side and a head of one level, 32 x 32 pixels in."""
    definition = {
        **tiny_definition,
        "anchors": [[10, 13]],
        "backbone": [[-1, 1, "Conv", [8, 3, 2]]],
        "head": [[[0], 1, "Detect", ["nc", "anchors"]]],
    }
    convolution = 16 * 16 * 8 * (3 * 3 * 3)
    normalisation = 16 * 16 * 8 * 4
    head = 16 * 16 * (3 + 5) * 8
    expected = 2 * (convolution + normalisation + head) / 1e9 * 20**2
    detector = Detector(parse_model_config(definition))
    assert count_gflops(detector) == pytest.approx(expected)
    # Network, list, unit with two parts, head with a list and a convolution, the activation.
    assert count_layers(detector) == 2 + 3 + 3 + 1


def test_nothing_is_touched(tiny):
    detector = tiny().train()
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    summarize(detector)
    assert torch.equal(torch.rand(3), expected)
    assert all(module.training for module in detector.modules())
    assert all(not module._forward_hooks for module in detector.modules())
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())
    assert all(parameter.requires_grad for parameter in detector.parameters())


def test_one_line_for_the_log():
    line = "214 layers, 1.77 M parameters, 4.2 GFLOPs at 640 px"
    assert str(Summary(214, 1_765_270, 4.1923)) == line
