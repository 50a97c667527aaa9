"""Further blocks: equivalences by hand, names of children, and channels shared out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from models import extra_blocks as extra
from models.blocks import SPPF, parse_activation

FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize(
    ("block", "inside"),
    [
        pytest.param(extra.C3x(8, 16, 2), "m.1.cv2.conv.weight", id="C3x"),
        pytest.param(extra.C3SPP(8, 16), "m.cv2.conv.weight", id="C3SPP"),
        pytest.param(extra.C3Ghost(8, 16, 2), "m.1.conv.0.cv1.conv.weight", id="C3Ghost"),
        pytest.param(extra.C3TR(8, 16, 3), "m.tr.2.ma.in_proj_weight", id="C3TR"),
    ],
)
@pytest.mark.parametrize("memory", FORMATS)
def test_kinds_of_c3(block, inside, memory):
    assert inside in block.state_dict()
    block = block.eval().to(memory_format=memory)
    x = torch.rand(2, 8, 4, 6).contiguous(memory_format=memory)
    kept = x.clone()
    with torch.no_grad():
        assert block(x).shape == (2, 16, 4, 6)
        assert torch.equal(x, kept)
        torch.testing.assert_close(block(x), block(x.contiguous()))


def test_spp_equals_sppf_with_the_same_weights():
    slow, fast = extra.SPP(8, 16).eval(), SPPF(8, 16).eval()
    fast.load_state_dict(slow.state_dict())
    x = torch.randn(1, 8, 16, 16)
    torch.testing.assert_close(slow(x), fast(x))
    assert extra.SPP(8, 16, (3, 5)).cv2.conv.weight.shape == (16, 12, 1, 1)


@pytest.mark.parametrize("activation", ["nn.SiLU()", "nn.Identity()"])
def test_csp_joins_then_normalises_then_silu_whatever_the_network_uses(activation):
    block = extra.BottleneckCSP(8, 16, 2).eval()
    block.bn.running_mean.normal_()
    for unit in (block.cv1, block.cv4):
        unit.set_activation(parse_activation(activation))
    x = torch.randn(2, 8, 4, 4)
    joined = torch.cat((block.cv3(block.m(block.cv1(x))), block.cv2(x)), 1)
    torch.testing.assert_close(block(x), block.cv4(functional.silu(block.bn(joined))))
    keys = set(block.state_dict())
    assert {"cv2.weight", "cv3.weight", "bn.weight", "cv4.conv.weight"} <= keys
    assert not {"cv2.bias", "cv3.bias"} & keys


@pytest.mark.parametrize(("shortcut", "given"), [(True, 8), (False, 8), (True, 16)])
def test_cross_convolution(shortcut, given):
    block = extra.CrossConv(8, given, 3, 1, 1, 0.5, shortcut).eval()
    x = torch.randn(1, 8, 6, 6)
    inner = block.cv2(block.cv1(x))
    torch.testing.assert_close(block(x), x + inner if shortcut and given == 8 else inner)
    assert block.cv1.conv.weight.shape == (given // 2, 8, 1, 3)
    assert block.cv2.conv.weight.shape == (given, given // 2, 3, 1)
    assert extra.CrossConv(8, 8, 3, 2)(torch.rand(1, 8, 6, 10)).shape == (1, 8, 3, 5)


@pytest.mark.parametrize(("taken", "given", "groups"), [(8, 8, 8), (8, 12, 4), (8, 9, 1)])
def test_depth_wise_groups_are_the_common_divisor(taken, given, groups):
    assert extra.DWConv(taken, given, 3).conv.groups == groups
    transposed = extra.DWConvTranspose2d(taken, given, 4, 2, 1)
    assert transposed.groups == groups
    assert transposed(torch.rand(1, taken, 5, 7)).shape == (1, given, 10, 14)
    assert set(transposed.state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize(
    ("kernels", "equal", "channels"),
    [
        pytest.param((1, 3), True, [8, 8], id="two equal shares"),
        pytest.param((1, 3, 5), True, [6, 5, 5], id="three nearly equal shares"),
        # 14.4 and 1.6 would have 14.4 weights each for every input channel.
        pytest.param((1, 3), False, [14, 2], id="equal numbers of weights"),
    ],
)
def test_mixed_kernels(kernels, equal, channels):
    unit = extra.MixConv2d(8, 16, kernels, 2, equal)
    assert [convolution.weight.shape[0] for convolution in unit.m] == channels
    assert [convolution.kernel_size[0] for convolution in unit.m] == list(kernels)
    assert unit(torch.rand(2, 8, 8, 8)).shape == (2, 16, 4, 4)
    assert (unit.bn.eps, unit.bn.momentum) == (1e-3, 0.03)


def test_half_of_the_ghost_channels_derive_from_the_other_half():
    unit = extra.GhostConv(8, 12, 3, 2).eval()
    x = torch.rand(2, 8, 8, 8)
    y = unit(x)
    assert y.shape == (2, 12, 4, 4)
    torch.testing.assert_close(y[:, :6], unit.cv1(x))
    torch.testing.assert_close(y[:, 6:], unit.cv2(unit.cv1(x)))
    assert (unit.cv2.conv.groups, unit.cv2.conv.kernel_size) == (6, (5, 5))


def test_ghost_bottleneck_adds_its_input_or_a_strided_shortcut():
    block = extra.GhostBottleneck(8, 8).eval()
    x = torch.rand(2, 8, 8, 8)
    torch.testing.assert_close(block(x), block.conv(x) + x)
    assert isinstance(block.conv[1], nn.Identity)
    last = block.conv[2]
    assert (last.cv1.activation, last.cv2.activation) == (None, None)
    strided = extra.GhostBottleneck(8, 16, 3, 2)
    assert strided(x).shape == (2, 16, 4, 4)
    for taken, given, stride in ((8, 16, 1), (8, 8, 3)):
        with pytest.raises(ValueError, match="stride 2, or 1 with equal channels"):
            extra.GhostBottleneck(taken, given, 3, stride)


def test_transformer_layer_has_torch_multihead_attention_to_the_bit():
    layer = extra.TransformerLayer(32, 4)
    nn.init.normal_(layer.ma.in_proj_bias)
    tokens = torch.randn(6, 2, 32)
    attended, _ = layer.ma(layer.q(tokens), layer.k(tokens), layer.v(tokens), need_weights=False)
    assert torch.equal(layer.attend(tokens), attended)
    summed = attended + tokens
    assert torch.equal(layer(tokens), layer.fc2(layer.fc1(summed)) + summed)


def test_transformer_block_adds_a_linear_map_of_the_cells_and_puts_them_back():
    block = extra.TransformerBlock(8, 8, 2, 2).double()
    x = torch.randn(2, 8, 2, 3, dtype=torch.float64)
    tokens = torch.stack([x[:, :, row, column] for row in range(2) for column in range(3)])
    expected = block.tr(tokens + block.linear(tokens))
    y = block(x)
    for row in range(2):
        for column in range(3):
            torch.testing.assert_close(y[:, :, row, column], expected[row * 3 + column])
    # Cells have no position: mirrored cells give a mirrored map.
    torch.testing.assert_close(block(x.flip(3)), y.flip(3))


def test_focus_takes_the_four_pixels_of_a_square_column_by_column():
    """Order of v7.0: (even row, even column), (odd, even), (even, odd), (odd, odd)."""
    focus = extra.Focus(2, 8)
    focus.conv = nn.Identity()
    rows = focus(torch.arange(16.0).view(1, 2, 2, 4))
    assert rows.shape == (1, 8, 1, 2)
    assert rows[0, :, 0, 0].tolist() == [0, 8, 4, 12, 1, 9, 5, 13]
    focus = extra.Focus(3, 8, 3)
    assert focus(torch.rand(2, 3, 8, 12)).shape == (2, 8, 4, 6)
    assert focus.conv.conv.weight.shape == (8, 12, 3, 3)


@pytest.mark.parametrize("gain", [1, 2, 3])
@pytest.mark.parametrize("memory", FORMATS)
def test_expand_is_the_inverse_of_contract(gain, memory):
    x = torch.arange(8.0).view(1, 2, 2, 2)
    assert extra.Contract(2)(x)[0, :, 0, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    x = torch.rand(2, 5, 6, 12).contiguous(memory_format=memory)
    small = extra.Contract(gain)(x)
    assert small.shape == (2, 5 * gain**2, 6 // gain, 12 // gain)
    assert torch.equal(extra.Expand(gain)(small), x)
