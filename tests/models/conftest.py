"""A network small enough for every test, also as the official code would save it."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

import pytest
import torch
from torch import nn

from models.assigner import Assignment
from models.blocks import C3, SPPF, Activation, Bottleneck, Concat, Conv
from models.detector import Detector
from models.head import Detect
from models.model_config import parse_model_config

TINY = {
    "nc": 3,
    "depth_multiple": 1.0,
    "width_multiple": 1.0,
    "anchors": [[10, 13, 16, 30], [60, 50, 90, 120]],
    "backbone": [
        [-1, 1, "Conv", [8, 6, 2, 2]],
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "C3", [8]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "SPPF", [16, 5]],
    ],
    "head": [
        [-1, 1, "Conv", [8, 1, 1]],
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 2], 1, "Concat", [1]],
        [-1, 1, "C3", [8, False]],
        [[8, 4], 1, "Detect", ["nc", "anchors"]],
    ],
}


def levels_of(match: Assignment) -> list[Assignment]:
    """Return the matches of each level apart."""
    rows = {name: one for name, one in vars(match).items() if name not in ("counts", "sizes")}
    split = {name: values.split(match.sizes) for name, values in rows.items()}
    return [
        Assignment(
            **{name: parts[level] for name, parts in split.items()},
            counts=match.counts[level : level + 1],
            sizes=[size],
        )
        for level, size in enumerate(match.sizes)
    ]


def randomize_statistics(detector: Detector) -> Detector:
    """Draw the running statistics, so that a fault of normalisation shows."""
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return detector


@pytest.fixture
def tiny() -> Callable[..., Detector]:
    """Build the tiny network (strides 4 and 8, two anchors each) with drawn statistics."""

    def build(nc: int = 3, seed: int = 0, width: float = 1.0) -> Detector:
        torch.manual_seed(seed)
        config = parse_model_config({**TINY, "width_multiple": width}, nc)
        return randomize_statistics(Detector(config))

    return build


@pytest.fixture
def tiny_definition() -> dict[str, object]:
    """The tiny network as a model definition."""
    return dict(TINY)


OFFICIAL_HOMES = {
    **{Detector: ("models.yolo", "DetectionModel"), Detect: ("models.yolo", "Detect")},
    **{block: ("models.common", block.__name__) for block in (Conv, C3, Bottleneck, SPPF, Concat)},
}


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], type[nn.Module]]:
    """An empty module class that pickles under any dotted name, as long as the test runs."""
    made: dict[str, types.ModuleType] = {}

    def find(path: str) -> type[nn.Module]:
        home, _, name = path.rpartition(".")
        if home not in made:
            made[home] = types.ModuleType(home)
            monkeypatch.setitem(sys.modules, home, made[home])
        if not hasattr(made[home], name):
            members = {"__module__": home, "__qualname__": name}
            setattr(made[home], name, type(name, (nn.Module,), members))
        return getattr(made[home], name)

    return find


@pytest.fixture
def official(
    named: Callable[[str], type[nn.Module]], tiny: Callable[..., Detector]
) -> Callable[..., nn.Module]:
    """Turn the tiny network into a module tree that pickles under the official names."""

    def disguise(module: nn.Module, root: str) -> nn.Module:
        if type(module) not in OFFICIAL_HOMES:
            # Containers: the official code has Sequential where ours has ModuleList.
            if isinstance(module, nn.ModuleList | nn.Sequential):
                return nn.Sequential(*(disguise(child, root) for child in module))
            return module
        home, name = OFFICIAL_HOMES[type(module)]
        twin = named(f"{home}.{root if name == 'DetectionModel' else name}")()
        twin._parameters.update(module._parameters)
        twin._buffers.update(module._buffers)
        twin._non_persistent_buffers_set = set(module._non_persistent_buffers_set)
        for key, child in module._modules.items():
            twin._modules[key] = None if child is None else disguise(child, root)
        if isinstance(module, Conv):
            twin.act = (module.activation or Activation("Identity")).module()
        if isinstance(module, Bottleneck):
            twin.add = module.residual
        return twin

    def build(
        names: object = ("a", "b", "c"), seed: int = 0, root: str = "DetectionModel"
    ) -> nn.Module:
        detector = tiny(seed=seed)
        model = disguise(detector, root).half()
        model.yaml = dict(detector.config.definition)
        if names is not None:
            model.names = names
        return model

    return build
