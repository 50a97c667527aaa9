"""Activations: what may be named, what each computes, and that no text is run."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from models.activation import SILU, Activation, parse_activation

MODULES = [
    pytest.param("nn.SiLU()", nn.SiLU(), id="silu"),
    pytest.param("nn.ReLU()", nn.ReLU(), id="relu"),
    pytest.param("nn.ReLU6()", nn.ReLU6(), id="relu6"),
    pytest.param("nn.LeakyReLU(0.1)", nn.LeakyReLU(0.1), id="leaky"),
    pytest.param("nn.ELU(0.5)", nn.ELU(0.5), id="elu"),
    pytest.param("nn.GELU()", nn.GELU(), id="gelu"),
    pytest.param("nn.Hardswish()", nn.Hardswish(), id="hardswish"),
    pytest.param("nn.Mish()", nn.Mish(), id="mish"),
    pytest.param("nn.Sigmoid()", nn.Sigmoid(), id="sigmoid"),
    pytest.param("nn.Tanh()", nn.Tanh(), id="tanh"),
    pytest.param("nn.Identity()", nn.Identity(), id="identity"),
]


@pytest.mark.parametrize(("text", "module"), MODULES)
def test_each_computes_what_torch_does(text, module):
    x = torch.randn(2, 3, 4, 4) * 3
    activation = parse_activation(text)
    expected = module(x.clone())
    watched = x.clone().requires_grad_()
    torch.testing.assert_close(activation(watched), expected)
    assert torch.equal(watched, x)  # under autograd the input is left as it is
    torch.testing.assert_close(activation(x.clone()), expected)


@pytest.mark.parametrize(("text", "module"), MODULES)
def test_the_text_of_an_activation_is_read_back(text, module):
    activation = parse_activation(text)
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
def test_forms(text, expected):
    assert parse_activation(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("nn.PReLU()", "not one of SiLU, ReLU", id="has weights"),
        pytest.param("__import__('os').getcwd()", "not one of", id="program text"),
        pytest.param("nn.SiLU().eval()", "not one of", id="more than a name"),
        pytest.param("", "not one of", id="empty"),
        pytest.param(3, "not one of", id="number"),
        pytest.param(None, "not one of", id="nothing"),
        pytest.param("nn.SiLU(2)", "does not take", id="argument too many"),
        pytest.param("nn.LeakyReLU(0.1, 0.2)", "does not take", id="two numbers"),
        pytest.param("nn.LeakyReLU(steep)", "must be a number", id="slope is a word"),
        pytest.param("nn.LeakyReLU(nan)", "must be a number", id="slope is nan"),
        pytest.param("nn.LeakyReLU(alpha=0.1)", "must be a number", id="another name"),
    ],
)
def test_refusals(text, words):
    with pytest.raises(ValueError, match=words):
        parse_activation(text)
