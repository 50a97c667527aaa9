"""Joined maps are those of torch.cat, and so are their gradients, which are dense in bfloat16."""

from __future__ import annotations

import pytest
import torch

from models.blocks import C3, SPPF, Concat
from models.joining import join

LAST = torch.channels_last


def maps_of(dtype: torch.dtype, *, learn: bool = True) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, channels, 5, 6, generator=generator)
        .to(dtype, memory_format=LAST)
        .requires_grad_(learn)
        for channels in (3, 16, 1)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_cat(dtype: torch.dtype) -> None:
    ours, plain = maps_of(dtype), maps_of(dtype)
    joined, expected = join(ours), torch.cat(plain, 1)
    assert torch.equal(joined, expected)
    assert joined.is_contiguous(memory_format=LAST)
    weight = torch.randn(expected.shape).to(dtype, memory_format=LAST)
    joined.backward(weight)
    expected.backward(weight)
    for own, other in zip(ours, plain, strict=True):
        assert torch.equal(own.grad, other.grad)


@pytest.mark.parametrize(
    ("function", "dense"),
    [(join, [True, True]), (lambda maps: torch.cat(tuple(maps), 1), [False, False])],
)
def test_gradients_on_the_way_are_dense(function, dense: list[bool]) -> None:
    """What a map's own function is given: with torch.cat a view between other maps' channels."""
    seen: list[bool] = []
    maps = [one * 1 for one in maps_of(torch.bfloat16)]
    for one in maps[:2]:
        one.register_hook(lambda grad: seen.append(grad.is_contiguous(memory_format=LAST)))
    joined = function(maps)
    # Channels last, as from a convolution: a sum would give an expanded scalar.
    joined.backward(torch.ones_like(joined))
    assert seen == dense


def test_what_learns_nothing_gets_no_gradient() -> None:
    first, second, third = maps_of(torch.bfloat16)
    join([first, second.detach(), third]).sum().backward()
    assert second.grad is None
    assert (first.grad == 1).all()
    with torch.no_grad():
        assert join([first, second]).grad_fn is None
    assert join(maps_of(torch.bfloat16, learn=False)).grad_fn is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_formats_go_the_plain_way(dtype: torch.dtype) -> None:
    assert "Cat" in type(join(maps_of(dtype)).grad_fn).__name__
    mixed = [maps_of(dtype)[0], maps_of(torch.bfloat16)[1]]
    assert join(mixed).dtype == dtype


@pytest.mark.parametrize("block", [C3, SPPF])
def test_a_brick_learns_the_same_in_bfloat16(block, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights' gradients with dense and with cut gradients, to a rounding of bfloat16."""
    found = []
    for function in (join, lambda maps: torch.cat(tuple(maps), 1)):
        monkeypatch.setattr("models.blocks.join", function)
        torch.manual_seed(1)
        brick = block(16, 16).to(memory_format=LAST).train()
        x = torch.randn(2, 16, 8, 8).to(memory_format=LAST)
        with torch.autocast("cpu", torch.bfloat16):
            y = brick(x)
        y.float().square().sum().backward()
        found.append([one.grad.clone() for one in brick.parameters()])
    for dense, cut in zip(*found, strict=True):
        torch.testing.assert_close(dense, cut, rtol=1e-2, atol=1e-2 * float(cut.abs().max()))


def test_concat_along_another_axis() -> None:
    first, second, _ = maps_of(torch.bfloat16)
    assert Concat(0)([first, first]).shape == (4, 3, 5, 6)
    assert Concat(1)([first, second]).shape == (2, 19, 5, 6)
