"""The blocks that a model file may name, and the module that each one becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from models.attention import C3TR, TransformerBlock
from models.blocks import C3, SPPF, Bottleneck, Concat, Conv, Sum, batch_norm
from models.classic_blocks import C3SPP, SPP, BottleneckCSP, C3x, CrossConv
from models.depthwise import DWConv, DWConvTranspose2d, MixConv2d
from models.ghost import C3Ghost, GhostBottleneck, GhostConv
from models.rearrange import Contract, Expand, Focus

# `channel_rules.RULES` says for the same names how channels and sizes are worked out.
BLOCKS: Mapping[str, Callable[..., nn.Module]] = {
    "Conv": Conv,
    "DWConv": DWConv,
    "GhostConv": GhostConv,
    "CrossConv": CrossConv,
    "MixConv2d": MixConv2d,
    "Focus": Focus,
    "Bottleneck": Bottleneck,
    "GhostBottleneck": GhostBottleneck,
    "BottleneckCSP": BottleneckCSP,
    "C3": C3,
    "C3Ghost": C3Ghost,
    "C3SPP": C3SPP,
    "C3TR": C3TR,
    "C3x": C3x,
    "SPP": SPP,
    "SPPF": SPPF,
    "TransformerBlock": TransformerBlock,
    "Concat": Concat,
    "Sum": Sum,
    "Contract": Contract,
    "Expand": Expand,
    "DWConvTranspose2d": DWConvTranspose2d,
    "nn.ConvTranspose2d": nn.ConvTranspose2d,
    "nn.Upsample": nn.Upsample,
    "nn.MaxPool2d": nn.MaxPool2d,
    "nn.ZeroPad2d": nn.ZeroPad2d,
    "nn.BatchNorm2d": batch_norm,
    "nn.Identity": nn.Identity,
}

JOINTS = frozenset({"Concat", "Sum"})
"""Blocks that take a list of maps instead of one."""
