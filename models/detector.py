"""The detector: a network built from a model configuration."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from models.anchors import in_stride_order
from models.at_once import cast_weights, count_batch
from models.blocks import Conv
from models.extra_blocks import BottleneckCSP, MixConv2d
from models.head import Detect
from models.model_config import IMAGE, Layer, ModelConfig
from models.registry import BLOCKS
from utils.errors import Code, TaskError


class Detector(nn.Module):
    """A YOLOv5 v7.0 detector.

    State-dict keys are those of v7.0 (`model.<layer>.…`). Initial weights are torch's defaults and
    the head's biases, drawn from torch's global generator.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self._kept = config.kept
        head = Detect(
            config.nc,
            in_stride_order(config.anchors, config.strides),
            config.strides,
            config.head_channels,
        )
        self.model = nn.ModuleList([*(_build(layer) for layer in config.layers), head])
        self.units = [one for one in self.model.modules() if isinstance(one, Conv)]
        """Every Conv, in the order of the layers."""
        for module in self.model.modules():
            if isinstance(module, Conv):
                module.set_activation(config.activation)
            elif isinstance(module, (BottleneckCSP, MixConv2d)):
                module.act = config.joint_activation.module()
            elif isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = config.batch_norm

    @property
    def head(self) -> Detect:
        """The detection head: the last layer."""
        head = self.model[-1]
        assert isinstance(head, Detect)
        return head

    @property
    def nc(self) -> int:
        """Number of classes."""
        return self.config.nc

    @property
    def stride(self) -> Tensor:
        """Pixels per cell of each level, [levels]."""
        return self.head.stride

    @property
    def anchors(self) -> Tensor:
        """Anchors [levels, anchors, 2] (w, h) in grid cells; times the stride they are pixels."""
        return self.head.anchors

    @property
    def has_placeholder_anchors(self) -> bool:
        """Whether some anchor has no size, so that it must be fitted before training."""
        return not bool((self.anchors > 0).all())

    def set_anchors(self, anchors_px: Sequence[Sequence[float]]) -> None:
        """Replace the anchors, also in `config`: (w, h) pairs in pixels, one row per level."""
        levels, per_level, _ = self.anchors.shape
        pixels = torch.tensor(anchors_px, dtype=torch.float32).view(levels, per_level, 2)
        grid = pixels.to(self.anchors.device) / self.stride.view(-1, 1, 1)
        self.anchors.copy_(grid.to(self.anchors.dtype))
        rows = tuple(tuple(row) for row in pixels.flatten(1).tolist())
        definition = {**self.config.definition, "anchors": [list(row) for row in rows]}
        self.config = replace(self.config, anchors=rows, definition=definition)

    def definition(self) -> dict[str, object]:
        """Return the model definition in plain types, with the anchors in force.

        Loaded weights may have other anchors than the file that they were made from.
        """
        pixels = (self.anchors * self.stride.view(-1, 1, 1)).flatten(1).tolist()
        stated = [list(row) for row in in_stride_order(self.config.anchors, self.config.strides)]
        same = len(stated[0]) == len(pixels[0]) and np.allclose(stated, pixels, rtol=1e-6)
        return {**self.config.definition, **({} if same else {"anchors": pixels})}

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map RGB images [b, 3, h, w], 0 to 1, to logits [b, anchors, y, x, 5 + classes] per level.

        h and w are multiples of `config.input_multiple`. The same in training and evaluation mode.
        """
        if self.training:
            count_batch(self.units)
        with cast_weights(self.units, images.device):
            raw: list[Tensor] = self.head(self.head_inputs(images))
        return raw

    def head_inputs(self, images: Tensor) -> list[Tensor]:
        """Map images as in `forward` to the inputs [b, c, y, x] of the head, per level."""
        outputs = self._run(images, self.config.layers)
        return [outputs[source] for source in self.config.head_sources]

    def backbone(self, images: Tensor) -> Tensor:
        """Map images as in `forward` to the last map [b, c, y, x] of the backbone."""
        end = self.config.backbone_end
        return self._run(images, self.config.layers[: end + 1])[end]

    def _run(self, images: Tensor, layers: Sequence[Layer]) -> dict[int, Tensor]:
        """Run the first layers; return the kept outputs and the last, by layer number."""
        outputs: dict[int, Tensor] = {IMAGE: images}
        x = images
        for layer, module in zip(layers, self.model, strict=False):
            # Every source but the layer just before is among the kept outputs.
            before = layer.index - 1
            maps = [x if source == before else outputs[source] for source in layer.sources]
            x = module(maps) if BLOCKS[layer.block].takes_list else module(maps[0])
            if layer.index in self._kept:
                outputs[layer.index] = x
        outputs[layers[-1].index] = x
        return outputs

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """Decode logits to [b, rows, 5 + classes]; see `Detect.decode`."""
        return self.head.decode(raw)

    def predict(self, images: Tensor) -> Tensor:
        """Map images as in `forward` to decoded rows [b, rows, 5 + classes], without gradients."""
        with torch.no_grad():
            return self.decode(self(images))

    def fused(self) -> Detector:
        """Return a copy in evaluation mode with normalisation folded into the convolutions."""
        twin = copy.deepcopy(self).eval().requires_grad_(False)
        for unit in twin.units:
            unit.fuse()
        return twin


def _build(layer: Layer) -> nn.Module:
    try:
        copies = [BLOCKS[layer.block].build(*layer.arguments) for _ in range(layer.repeats)]
    except (TypeError, ValueError) as error:
        raise TaskError(
            Code.CONFIG,
            f"Model definition: layer {layer.index} ({layer.block}) cannot be built with the "
            f"arguments {layer.arguments} ({error}); compare with models/yolov5s.yaml.",
        ) from error
    return copies[0] if len(copies) == 1 else nn.Sequential(*copies)
