"""The bricks: shapes, equivalences that can be checked by hand, memory formats."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from models.activation import SILU, Activation
from models.blocks import C3, SPPF, Bottleneck, Concat, Conv, Sum


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "expected"),
    [(1, 1, None, 16), (3, 1, None, 16), (3, 2, None, 8), (6, 2, 2, 8)],
)
def test_conv_size(kernel, stride, padding, expected):
    unit = Conv(3, 8, kernel, stride, padding)
    assert unit(torch.rand(2, 3, 16, 16)).shape == (2, 8, expected, expected)
    assert unit.conv.bias is None
    assert (unit.bn.eps, unit.bn.momentum) == (1e-3, 0.03)


def test_conv_is_convolution_norm_silu():
    unit = Conv(3, 4, 3).eval()
    unit.bn.running_mean.uniform_()
    x = torch.rand(1, 3, 8, 8)
    expected = functional.silu(unit.bn(unit.conv(x)))
    torch.testing.assert_close(unit(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(unit(x), expected)


@pytest.mark.parametrize(
    ("kernel", "dilation", "padding"),
    [(3, 2, (2, 2)), (5, 1, (2, 2)), ((1, 3), 1, (0, 1)), ((3, 5), 2, (2, 4))],
)
def test_padding_follows_kernel_and_dilation(kernel, dilation, padding):
    unit = Conv(4, 4, kernel, d=dilation)
    assert unit.conv.padding == padding
    assert unit(torch.rand(1, 4, 9, 9)).shape == (1, 4, 9, 9)


@pytest.mark.parametrize(
    ("own", "chosen", "expected"),
    [
        pytest.param(True, None, SILU, id="the network's own"),
        pytest.param(True, Activation("ReLU"), Activation("ReLU"), id="another network's"),
        pytest.param(False, Activation("ReLU"), None, id="none stays none"),
        pytest.param(Activation("Mish"), Activation("ReLU"), Activation("Mish"), id="its own"),
    ],
)
def test_which_activation_a_unit_uses(own, chosen, expected):
    unit = Conv(3, 4, activation=own).eval()
    if chosen is not None:
        unit.follow(chosen)
    assert unit.activation == expected
    x = torch.randn(2, 3, 4, 4)
    plain = unit.bn(unit.conv(x)).detach()
    wanted = plain if expected is None else expected(plain.clone())
    torch.testing.assert_close(unit(x), wanted)
    with torch.no_grad():
        torch.testing.assert_close(unit(x), wanted)
        unit.fold()
        torch.testing.assert_close(unit(x), wanted)


def test_fold_keeps_the_output_and_runs_once():
    torch.manual_seed(0)
    unit = Conv(3, 4, 3).eval()
    unit.bn.running_mean.normal_()
    unit.bn.running_var.uniform_(0.5, 2)
    torch.nn.init.uniform_(unit.bn.weight)
    x = torch.rand(1, 3, 8, 8)
    before = unit(x)
    unit.fold()
    unit.fold()
    assert unit.bn is None
    torch.testing.assert_close(unit(x), before)


def test_inputs_are_left_as_they_are():
    x = torch.rand(1, 8, 8, 8)
    kept = x.clone()
    with torch.no_grad():
        for block in (Conv(8, 8), Bottleneck(8, 8), C3(8, 8), SPPF(8, 8)):
            block.eval()(x)
            assert torch.equal(x, kept)


@pytest.mark.parametrize(
    ("taken", "given", "shortcut", "added"),
    [(8, 8, True, True), (8, 8, False, False), (8, 16, True, False)],
)
def test_bottleneck_shortcut(taken, given, shortcut, added):
    block = Bottleneck(taken, given, shortcut).eval()
    x = torch.rand(1, taken, 4, 4)
    inner = block.cv2(block.cv1(x))
    expected = x + inner if added else inner
    torch.testing.assert_close(block(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(block(x), expected)


def test_sppf_equals_pools_of_5_9_13():
    block = SPPF(8, 8).eval()
    x = torch.randn(1, 8, 16, 16)
    hidden = block.cv1(x)
    pools = [functional.max_pool2d(hidden, k, 1, k // 2) for k in (5, 9, 13)]
    torch.testing.assert_close(block(x), block.cv2(torch.cat((hidden, *pools), 1)))


def test_concat_joins_in_order():
    first, second = torch.zeros(1, 2, 3, 3), torch.ones(1, 1, 3, 3)
    assert Concat(1)([first, second])[0, :, 0, 0].tolist() == [0, 0, 1]


def test_sum_weighs_all_but_the_first():
    """2 * sigmoid(-1/2) and 2 * sigmoid(-1) for the second and third map, as v7.0 starts."""
    maps = [torch.full((1, 1, 1, 1), value) for value in (1.0, 10.0, 100.0)]
    assert Sum(3)(maps).item() == pytest.approx(111.0)
    weighted = Sum(3, True)
    assert weighted.w.tolist() == [-0.5, -1.0]
    assert weighted(maps).item() == pytest.approx(1 + 10 * 0.7550813 + 100 * 0.5378828)
    assert maps[0].item() == 1


@pytest.mark.parametrize("block", [Conv(8, 8, 3), Bottleneck(8, 8), C3(8, 8, 2), SPPF(8, 8)])
def test_memory_format_is_kept(block):
    x = torch.rand(2, 8, 8, 8).contiguous(memory_format=torch.channels_last)
    y = block.eval().to(memory_format=torch.channels_last)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
