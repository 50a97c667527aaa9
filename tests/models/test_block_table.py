"""The names of blocks: those of v7.0, each with the module of that name."""

from __future__ import annotations

import pytest
from torch import nn

from models.block_table import BLOCKS, JOINTS


@pytest.mark.parametrize("name", sorted(set(BLOCKS) - {"nn.BatchNorm2d"}))
def test_a_name_is_that_of_its_module(name):
    block = BLOCKS[name]
    assert isinstance(block, type)
    assert issubclass(block, nn.Module)
    assert block.__name__ == name.removeprefix("nn.")
    assert block.__module__.startswith("torch." if name.startswith("nn.") else "models.")


def test_a_normalisation_has_the_constants_of_v7():
    norm = BLOCKS["nn.BatchNorm2d"](8)
    assert (norm.eps, norm.momentum) == (1e-3, 0.03)


def test_joints_are_blocks():
    assert set(BLOCKS) > JOINTS
