"""What mining may ask of a GPU beside the forward passes, counted on a pretended one."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from inference.network import Network
from inference.predictor import Predictor, PredictorConfig
from mining.mining_aldd import disagreement, heat_maps
from models.detector import Detector
from models.model_config import read_model_config
from ops.nms import NmsConfig
from settings.detect import MiningSettings
from tests.mining.colour_example import GREEN, RED, draw, mine
from tests.pretend_gpu import PretendGpu, Seen

CUDA = torch.device("cuda", 0)
BATCH = 8


def find_objects() -> Predictor:
    """A network that is untrained, but finds something: by one anchor of the coarsest map."""
    torch.manual_seed(0)
    detector = Detector(read_model_config("yolov5n", nc=3))
    with torch.no_grad():
        detector.head.m[2].bias[4:8] = 1
    nms = NmsConfig(confidence=0.25, iou=0.9, max_detections=40)
    config = PredictorConfig(image_size=160, batch_size=BATCH, workers=1, nms=nms)
    return Predictor.build(detector, ["a", "b", "c"], device=CUDA, config=config)


def beside_the_passes(gpu: PretendGpu, paths: list[str], settings: MiningSettings) -> Seen:
    """Return what a batch asks for."""
    predictor, passes, own = find_objects(), list[Seen](), list[bool]()

    def watched(name: str) -> Any:
        inner = getattr(Network, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if own:
                return inner(*args, **kwargs)
            own.append(True)
            with gpu.watch() as seen:
                result = inner(*args, **kwargs)
            own.clear()
            passes.append(seen)
            return result

        return mock.patch.object(Network, name, call)

    for _ in range(2):  # tables are copied, and graphs captured
        mine(predictor, paths, settings)
    with ExitStack() as stack:
        for name in ("__call__", "rows", "backbone_map"):
            stack.enter_context(watched(name))
        seen = stack.enter_context(gpu.watch())
        mine(predictor, paths, settings)
    for one in passes:
        for kind in ("dispatches", "places", "waits"):
            getattr(seen, kind).subtract(getattr(one, kind))
    assert len(passes) <= 3
    return seen


@pytest.fixture
def many_paths(tmp_path: Path) -> list[str]:
    boxes = ((20, 10, 60, 30), RED), ((50, 5, 90, 20), GREEN)
    return [draw(tmp_path / f"{n}.png", (32, 96), boxes[n % 2]) for n in range(BATCH)]


@pytest.mark.parametrize(
    ("settings", "dispatches", "waits"),
    [
        pytest.param({"mining_algorithm": "cald"}, 250, 4, id="cald"),
        pytest.param({"mining_algorithm": "entropy"}, 60, 2, id="entropy"),
        pytest.param({"mining_algorithm": "diverse"}, 70, 3, id="diverse"),
        pytest.param({"mining_algorithm": "balanced"}, 80, 3, id="balanced"),
        pytest.param({"mining_algorithm": "misses"}, 200, 6, id="misses"),
    ],
)
def test_a_batch(
    pretend_gpu: PretendGpu,
    many_paths: list[str],
    settings: dict[str, Any],
    dispatches: int,
    waits: int,
) -> None:
    """From files to scores: first look, views, suppression, comparison; as many for any batch."""
    own = MiningSettings(**settings, img_size=160, batch_size=BATCH)
    seen = beside_the_passes(pretend_gpu, many_paths, own)
    seen.assert_within(dispatches, waits)
    fewer = beside_the_passes(pretend_gpu, many_paths[: BATCH // 2], own)
    assert seen.dispatches.total() == fewer.dispatches.total()
    assert not {kind for kind, _ in seen.copies if "pageable" in kind}


def test_aldd_of_eighty_classes(pretend_gpu: PretendGpu) -> None:
    """An image's share of a batch of eight is at most 10."""
    levels = [torch.rand(8, 3, 64 // s, 96 // s, 85, device=CUDA) for s in (8, 16, 32)]
    disagreement(heat_maps(levels, [0]), (64, 96))  # copies the matrices
    with pretend_gpu.watch() as seen:
        disagreement(heat_maps(levels, range(80)), (64, 96))
    seen.assert_within(80)
