"""Building blocks: shapes, equivalences by hand, activations, gradients of concatenated maps."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from models.blocks import (
    C3,
    SILU,
    SPPF,
    Activation,
    Bottleneck,
    Concat,
    Conv,
    Sum,
    concat_channels,
    parse_activation,
)
from models.extra_blocks import GhostBottleneck, GhostConv

LAST = torch.channels_last
PLAIN = "SiLU ReLU ReLU6 GELU Hardswish Mish Sigmoid Tanh Identity"
ACTIVATIONS = [
    *((f"nn.{name}()", getattr(nn, name)()) for name in PLAIN.split()),
    *[("nn.LeakyReLU(0.1)", nn.LeakyReLU(0.1)), ("nn.ELU(0.5)", nn.ELU(0.5))],
]


@pytest.mark.parametrize(("text", "module"), ACTIVATIONS)
def test_an_activation_computes_what_torch_does_and_is_written_as_it_was_read(text, module):
    x = torch.randn(2, 3, 4, 4) * 3
    activation = parse_activation(text)
    expected = module(x.clone())
    watched = x.clone().requires_grad_()
    torch.testing.assert_close(activation(watched), expected)
    assert torch.equal(watched, x)  # under autograd the input is left as it is
    torch.testing.assert_close(activation(x.clone()), expected)
    assert str(activation) == text
    assert copy.deepcopy(activation) == activation


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("SiLU", SILU, id="bare name"),
        pytest.param("torch.nn.SiLU()", SILU, id="full name"),
        pytest.param("nn.ReLU(inplace=True)", Activation("ReLU"), id="in place"),
        pytest.param("nn.LeakyReLU()", Activation("LeakyReLU", 0.01), id="torch's own slope"),
        pytest.param("nn.LeakyReLU(0.1, inplace=True)", Activation("LeakyReLU", 0.1), id="both"),
        pytest.param(" nn.LeakyReLU(negative_slope = 2e-1) ", Activation("LeakyReLU", 0.2), id="="),
    ],
)
def test_forms_of_an_activation(text, expected):
    assert parse_activation(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("nn.PReLU()", "not one of SiLU, ReLU", id="has weights"),
        pytest.param("__import__('os').getcwd()", "not one of", id="program text"),
        pytest.param("nn.SiLU().eval()", "not one of", id="more than a name"),
        pytest.param(3, "not one of", id="number"),
        pytest.param("nn.SiLU(2)", "does not take", id="argument too many"),
        pytest.param("nn.LeakyReLU(0.1, 0.2)", "does not take", id="two numbers"),
        pytest.param("nn.LeakyReLU(steep)", "must be a number", id="slope is a word"),
        pytest.param("nn.LeakyReLU(nan)", "must be a number", id="slope is nan"),
        pytest.param("nn.LeakyReLU(alpha=0.1)", "must be a number", id="another name"),
    ],
)
def test_activations_that_are_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_activation(text)


@pytest.mark.parametrize(
    ("kernel", "options", "padding", "size"),
    [
        *[(1, {}, (0, 0), 16), (3, {}, (1, 1), 16), (3, {"s": 2}, (1, 1), 8)],
        *[(6, {"s": 2, "p": 2}, (2, 2), 8), (3, {"d": 2}, (2, 2), 16)],
        *[((1, 3), {}, (0, 1), 16), ((3, 5), {"d": 2}, (2, 4), 16)],
    ],
)
def test_conv_keeps_the_size_at_stride_one(kernel, options, padding, size):
    unit = Conv(3, 8, kernel, **options)
    assert unit.conv.padding == padding
    assert unit(torch.rand(2, 3, 16, 16)).shape == (2, 8, size, size)
    assert unit.conv.bias is None
    assert (unit.bn.eps, unit.bn.momentum) == (1e-3, 0.03)


@pytest.mark.parametrize(
    ("own", "chosen", "expected"),
    [
        pytest.param(True, None, SILU, id="SiLU by default"),
        pytest.param(True, Activation("ReLU"), Activation("ReLU"), id="the network's"),
        pytest.param(False, Activation("ReLU"), None, id="none stays none"),
        pytest.param(Activation("Mish"), Activation("ReLU"), Activation("Mish"), id="its own"),
    ],
)
def test_conv_is_convolution_norm_activation_also_when_fused(own, chosen, expected):
    torch.manual_seed(0)
    unit = Conv(3, 4, 3, activation=own).eval()
    unit.bn.running_mean.normal_()
    unit.bn.running_var.uniform_(0.5, 2)
    nn.init.uniform_(unit.bn.weight)
    if chosen is not None:
        unit.set_activation(chosen)
    assert unit.activation == expected
    x = torch.randn(2, 3, 4, 4)
    plain = unit.bn(unit.conv(x)).detach()
    wanted = plain if expected is None else expected(plain.clone())
    torch.testing.assert_close(unit(x), wanted)
    with torch.no_grad():
        torch.testing.assert_close(unit(x), wanted)
    unit.fuse()
    unit.fuse()  # once more changes nothing
    assert unit.bn is None
    torch.testing.assert_close(unit(x), wanted)


@pytest.mark.parametrize(
    "block",
    [
        *(Conv(8, 8, 3), Bottleneck(8, 8), C3(8, 8, 2), SPPF(8, 8)),
        *(GhostConv(8, 8), GhostBottleneck(8, 8)),
    ],
)
def test_inputs_and_memory_format_are_kept(block):
    x = torch.rand(2, 8, 8, 8).contiguous(memory_format=LAST)
    kept = x.clone()
    with torch.no_grad():
        y = block.eval().to(memory_format=LAST)(x)
    assert y.is_contiguous(memory_format=LAST)
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


def test_sum_weights_all_but_the_first():
    """2 * sigmoid(-1/2) and 2 * sigmoid(-1) for the second and third map, as v7.0 starts."""
    maps = [torch.full((1, 1, 1, 1), value) for value in (1.0, 10.0, 100.0)]
    assert Sum(3)(maps).item() == pytest.approx(111.0)
    weighted = Sum(3, True)
    assert weighted.w.tolist() == [-0.5, -1.0]
    assert weighted(maps).item() == pytest.approx(1 + 10 * 0.7550813 + 100 * 0.5378828)
    assert maps[0].item() == 1


def maps_of(dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, channels, 5, 6, generator=generator)
        .to(dtype, memory_format=LAST)
        .requires_grad_()
        for channels in (3, 16, 1)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_concatenated_values_and_gradients_are_those_of_cat(dtype: torch.dtype) -> None:
    ours, plain = maps_of(dtype), maps_of(dtype)
    joined, expected = Concat()(ours), torch.cat(plain, 1)
    assert torch.equal(joined, expected)
    assert joined.is_contiguous(memory_format=LAST)
    weight = torch.randn(expected.shape).to(dtype, memory_format=LAST)
    joined.backward(weight)
    expected.backward(weight)
    for own, other in zip(ours, plain, strict=True):
        assert torch.equal(own.grad, other.grad)


def test_gradients_of_bfloat16_maps_are_dense() -> None:
    """With torch.cat the gradient of a map is a view between the channels of the others."""
    seen: list[bool] = []
    maps = [one * 1 for one in maps_of(torch.bfloat16)]
    for one in maps[:2]:
        one.register_hook(lambda grad: seen.append(grad.is_contiguous(memory_format=LAST)))
    joined = concat_channels(maps)
    # Channels last, as from a convolution: a sum would give an expanded scalar.
    joined.backward(torch.ones_like(joined))
    assert seen == [True] * 2


def test_maps_without_gradient_get_none() -> None:
    first, second, third = maps_of(torch.bfloat16)
    concat_channels([first, second.detach(), third]).sum().backward()
    assert second.grad is None
    assert (first.grad == 1).all()
