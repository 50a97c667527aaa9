"""Bricks of earlier versions: equivalences that can be checked by hand, and names of parts."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from models.activation import parse_activation
from models.blocks import SPPF
from models.classic_blocks import C3SPP, SPP, BottleneckCSP, C3x, CrossConv


def test_spp_equals_sppf_with_the_same_weights():
    slow, fast = SPP(8, 16).eval(), SPPF(8, 16).eval()
    fast.load_state_dict(slow.state_dict())
    x = torch.randn(1, 8, 16, 16)
    torch.testing.assert_close(slow(x), fast(x))


def test_spp_takes_other_windows():
    assert SPP(8, 16, (3, 5)).cv2.conv.weight.shape == (16, 12, 1, 1)


def test_csp_joins_before_it_normalises():
    block = BottleneckCSP(8, 16, 2).eval()
    block.bn.running_mean.normal_()
    x = torch.randn(2, 8, 4, 4)
    joined = torch.cat((block.cv3(block.m(block.cv1(x))), block.cv2(x)), 1)
    torch.testing.assert_close(block(x), block.cv4(functional.silu(block.bn(joined))))
    keys = set(block.state_dict())
    assert {"cv2.weight", "cv3.weight", "bn.weight", "cv4.conv.weight"} <= keys
    assert not {"cv2.bias", "cv3.bias"} & keys
    assert (block.bn.eps, block.bn.momentum) == (1e-3, 0.03)


@pytest.mark.parametrize(("shortcut", "given"), [(True, 8), (False, 8), (True, 16)])
def test_cross_convolution(shortcut, given):
    block = CrossConv(8, given, 3, 1, 1, 0.5, shortcut).eval()
    x = torch.randn(1, 8, 6, 6)
    inner = block.cv2(block.cv1(x))
    torch.testing.assert_close(block(x), x + inner if shortcut and given == 8 else inner)
    assert block.cv1.conv.weight.shape == (given // 2, 8, 1, 3)
    assert block.cv2.conv.weight.shape == (given, given // 2, 3, 1)


def test_cross_convolution_halves_both_sides():
    assert CrossConv(8, 8, 3, 2)(torch.rand(1, 8, 6, 10)).shape == (1, 8, 3, 5)


@pytest.mark.parametrize(
    ("block", "inside"),
    [
        pytest.param(C3x(8, 16, 2), "m.1.cv2.conv.weight", id="C3x"),
        pytest.param(C3SPP(8, 16), "m.cv2.conv.weight", id="C3SPP"),
    ],
)
def test_kinds_of_c3(block, inside):
    assert inside in block.state_dict()
    assert block(torch.rand(1, 8, 16, 16)).shape == (1, 16, 16, 16)


def test_joints_that_keep_silu_are_not_touched_by_the_networks_activation():
    block = BottleneckCSP(8, 8).eval()
    for unit in (block.cv1, block.cv4):
        unit.follow(parse_activation("nn.Identity()"))
    x = torch.randn(1, 8, 4, 4)
    joined = torch.cat((block.cv3(block.m(block.cv1(x))), block.cv2(x)), 1)
    expected = block.cv4.bn(block.cv4.conv(functional.silu(block.bn(joined))))
    torch.testing.assert_close(block(x), expected)
