"""Suppression of a whole batch gives the rows of the loop over images, or says that it may not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ops import suppression
from ops.nms import Detections, NmsConfig, non_max_suppression
from ops.suppression import Suppressed, suppress_at_once, suppress_batch
from tests.conftest import DEVICES, ROOT
from tests.ops.test_nms import random_prediction
from tests.pretend_gpu import PretendGpu

CASES = json.loads((ROOT / "tests" / "golden" / "nms.json").read_text())
CONFIGS = {
    "detection": NmsConfig(),
    "evaluation": NmsConfig(0.001, 0.6),
    "few": NmsConfig(0.3, 0.3, 5),
    "none": NmsConfig(0.2, 0.5, 0),
    "classes": NmsConfig(0.01, 0.45, 20, (0, 2, 90)),
    "no class": NmsConfig(classes=()),
    "agnostic": NmsConfig(0.3, classes=(1,), class_agnostic=True),
    "strict": NmsConfig(0.2, 0.0),
}


def equal(found: list[Detections], expected: list[Detections]) -> bool:
    return all(
        torch.equal(one.rows, other.rows.cpu()) and torch.equal(one.source, other.source.cpu())
        for one, other in zip(found, expected, strict=True)
    )


def compare(prediction: Tensor, config: NmsConfig, *, multi_label: bool) -> Suppressed:
    """Assert that sure images have the rows of the loop, and after correction all of them."""
    expected = non_max_suppression(prediction, config, multi_label=multi_label)
    found = suppress_at_once(prediction, config, multi_label=multi_label).to_host()
    for sure, *pair in zip(found.sure, found.detections(), expected, strict=True):
        assert not sure or equal([pair[0]], [pair[1]])
    put_right = found.corrected(prediction, config, multi_label=multi_label)
    assert equal(put_right.detections(), expected)
    return found


def with_ties(prediction: Tensor) -> Tensor:
    """Four scores only, and boxes on a grid: many are equal."""
    scores = (prediction[..., 4:] * 4).round() / 4
    return torch.cat(((prediction[..., :4] / 20).round() * 20 + 20, scores), -1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_equals_the_loop(config: NmsConfig, multi_label: bool, device: str) -> None:
    prediction = random_prediction()
    prediction[1, :, 4] = 0
    prediction[2, 7, 6] = torch.nan
    for given in (prediction, with_ties(prediction), prediction[:, :3], prediction.bfloat16()):
        assert compare(given.to(device), config, multi_label=multi_label).sure.all()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case["labels"]])
def test_equals_the_loop_in_the_recorded_cases(name, golden) -> None:
    """They are compared with v7.0 in test_nms.py."""
    case = CASES[name]
    arrays = dict(np.load(golden("nms.npz"))) | dict(np.load(golden("nms_80_classes.npz")))
    classes = case["classes"] and tuple(case["classes"])
    config = NmsConfig(
        *(case["conf_thres"], case["iou_thres"], case["max_det"], classes, case["agnostic"])
    )
    compare(torch.from_numpy(arrays[case["input"]]), config, multi_label=case["multi_label"])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("confidence", [0.001, 0.2])
def test_more_candidates_than_it_looks_at(
    monkeypatch: pytest.MonkeyPatch, confidence: float, multi_label: bool, device: str
) -> None:
    """Enough detections among the best are sure; a list that may go on is not."""
    for name, value in (("CANDIDATES", 96), ("POOL", 256), ("FIRST", 32), ("LOW_CANDIDATES", 96)):
        monkeypatch.setattr(suppression, name, value)
    prediction = random_prediction(batch=4, rows=600).to(device)
    prediction[3, 50:, 4] *= 0.001
    sure = []
    for limit in (10, 40, 300):
        for given in (prediction, with_ties(prediction)):
            config = NmsConfig(confidence, 0.6, limit)
            sure.append(compare(given, config, multi_label=multi_label).sure[:3].tolist())
    assert sure[:2] == [[1, 1, 1], [1, 1, 1]]
    assert sure[-2] == [0, 0, 0]


def chain(length: int) -> Tensor:
    """Boxes in a row, each of which overlaps with the next by an IoU of 1/2, in falling score."""
    steps = torch.arange(length)
    ones = torch.ones(length)
    scores = 1 - 0.5 * steps / length
    return torch.stack((10 + 10 * steps, 20 * ones, 30 * ones, 30 * ones, scores, ones), 1)[None]


@pytest.mark.parametrize("config", [NmsConfig(iou=0.4), NmsConfig(0.01, 0.4)], ids=["high", "low"])
def test_a_long_chain_is_not_sure(config: NmsConfig) -> None:
    """A suppresses B, which so does not suppress C: one round for each link, as far as needed."""
    short, long = (chain(n) for n in (suppression.ROUNDS - 1, suppression.LOW_ROUNDS + 6))
    assert compare(short, config, multi_label=False).sure.all()
    assert not compare(long, config, multi_label=False).sure.any()
    few = replace(config, max_detections=2)
    assert compare(long, few, multi_label=False).sure.all()


@pytest.mark.parametrize("shape", [(0, 7, 8), (2, 0, 8)], ids=["no-images", "no-rows"])
def test_nothing_in_nothing_out(shape: tuple[int, ...]) -> None:
    found = suppress_batch(torch.zeros(shape), NmsConfig())
    assert found.rows.shape == (shape[0], 1, 6)
    assert not found.present.any()


def test_large_batches_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, config = random_prediction(batch=5, rows=60), NmsConfig()
    whole = suppress_at_once(prediction, config)
    monkeypatch.setattr(suppression, "CELLS", 2 * suppression.CANDIDATES**2)
    assert torch.equal(suppress_at_once(prediction, config).packed, whole.packed)


@pytest.mark.parametrize(
    ("config", "multi_label", "budget"),
    [(NmsConfig(), False, 50), (NmsConfig(0.001, 0.6, 30), True, 88)],
    ids=["detection", "evaluation"],
)
def test_budget_on_a_gpu(
    pretend_gpu: PretendGpu,
    monkeypatch: pytest.MonkeyPatch,
    config: NmsConfig,
    multi_label: bool,
    budget: int,
) -> None:
    """Counts do not depend on sizes, as long as there are more candidates than are looked at."""
    monkeypatch.setattr(suppression, "LOW_CANDIDATES", 256)
    monkeypatch.setattr(suppression, "FIRST", 128)
    prediction = random_prediction(rows=1200).to("cuda")
    with pretend_gpu.watch() as seen:
        found = suppress_batch(prediction, config, multi_label=multi_label)
    seen.assert_within(budget)
    assert not seen.copies
    with pretend_gpu.watch() as seen:
        found.to_host().corrected(prediction, config)
    assert seen.waits.total() == 1
