"""What evaluation may ask of a GPU, counted on a pretended one, and its figures there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from data.dataset_index import DatasetIndex
from data.instances import Instances
from data.loaders import EvaluationLoader, LoaderConfig, evaluation_loader
from evaluation import batches as batches_module
from evaluation.batches import EvaluationWork
from evaluation.evaluate import evaluate, evaluate_split
from evaluation.evaluator import EvaluationConfig
from evaluation.speed import Stopwatch
from inference.predictor import Predictor, PredictorConfig
from models.checkpoint import build_detector, load_checkpoint
from models.loss import DetectionLoss, LossConfig
from ops import suppression
from ops.nms import NmsConfig, non_max_suppression
from ops.suppression import Suppressed, pack
from tests.conftest import NAMES
from tests.evaluation.evaluation_example import assert_same
from tests.pretend_gpu import PretendGpu, is_pinned
from utils.device import Upload

CUDA = torch.device("cuda", 0)


def predictor_of(weights: Path, **options: object) -> Predictor:
    nms = NmsConfig(0.001, 0.6)
    config = replace(PredictorConfig(96, nms=nms, precision="float32", workers=0), **options)
    detector = build_detector(load_checkpoint(weights))
    return Predictor.build(detector, NAMES, device=CUDA, config=config)


def loader_of(index: DatasetIndex, batch_size: int, **options: object) -> EvaluationLoader:
    return evaluation_loader(index, LoaderConfig(96, batch_size, workers=0, on_gpu=True, **options))


def loss_of(weights: Path) -> DetectionLoss:
    detector = build_detector(load_checkpoint(weights))
    return DetectionLoss(detector.anchors, detector.nc, LossConfig(0.05, 1.0, 0.5)).to(CUDA)


def test_a_batch_of_32(
    pretend_gpu: PretendGpu,
    weights: Path,
    splits: Sequence[DatasetIndex],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Confidence .001, suppression and matching included, beside the forward pass.

    Counts do not depend on how many candidates there are, as long as every stage is needed.
    """
    monkeypatch.setattr(suppression, "FIRST", 64)
    monkeypatch.setattr(suppression, "LOW_CANDIDATES", 192)
    index = splits[0].subset([*range(16)] * 2)
    (batch,) = loader_of(index, 32)
    predictor = predictor_of(weights, nms=NmsConfig(0.001, 0.6, 20))
    for _ in range(2):
        predictor.network.rows(batch.images)
    with pretend_gpu.watch() as forward:
        predictor.network.rows(batch.images)
    work = EvaluationWork(predictor, index, None, Upload(CUDA))
    with pretend_gpu.watch() as seen:
        done = work.steps(batch)
    assert len(done.images) == 32
    assert seen.dispatches["bmm"] == suppression.LOW_ROUNDS, "not every stage was needed"
    seen.assert_within(forward.dispatches.total() + 120, 2)
    assert set(seen.bytes) == {"h2d async", "d2h async"}


def test_stages_are_timed_without_a_wait(
    pretend_gpu: PretendGpu, weights: Path, splits: Sequence[DatasetIndex]
) -> None:
    """By events of the GPU: of the pretended one, a millisecond from each to the next."""
    index, predictor = splits[0].subset(range(6)), predictor_of(weights)
    waits = []
    for stopwatch in (None, Stopwatch(CUDA)):
        with pretend_gpu.watch() as seen:
            config = EvaluationConfig(stopwatch=stopwatch)
            evaluate(predictor, index, loader_of(index, 3), config)
        waits.append(seen.waits.total())
    assert stopwatch is not None
    assert waits[1] <= waits[0]
    assert (stopwatch.seconds["network"], stopwatch.images) == (pytest.approx(0.002), 6)
    assert stopwatch.seconds["NMS"] >= 0.002


def one_by_one(rows: Tensor, config: NmsConfig, *, multi_label: bool) -> Suppressed:
    found = pack(non_max_suppression(rows.cpu(), config, multi_label=multi_label))
    return Suppressed(found.packed.to(CUDA))


def test_figures_are_those_of_the_loop_over_images(
    pretend_gpu: PretendGpu,
    weights: Path,
    splits: Sequence[DatasetIndex],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once, by the loop, and where NMS is never sure; with losses and crowd regions.

    Labels are some of what is found, so that there are hits.
    """
    found: dict[int, np.ndarray] = {}
    predictor, plain = predictor_of(weights), splits[0].subset(range(6))
    evaluate(predictor, plain, loader_of(plain, 3), on_image=found.__setitem__)
    known = [found[position][5::20][:8] for position in range(6)]
    rows = np.concatenate(known)
    regions = Instances(np.array([[10, 10, 90, 70]] * 3), np.arange(3)), np.arange(3)
    index = DatasetIndex.build(
        *(plain.paths, plain.sizes, Instances(rows[:, :4] + 0.5, rows[:, 5].astype(int))),
        *([len(own) for own in known], NAMES),
    ).with_crowds(*regions)
    loader, criterion = loader_of(index, 3), loss_of(weights)
    with pretend_gpu.watch() as seen:
        at_once = evaluate(predictor, index, loader, criterion=criterion)
    assert seen.waits.total() <= 2 * 2 + 1, seen.report()  # one for capturing a graph
    monkeypatch.setattr(batches_module, "suppress_batch", one_by_one)
    assert_same(evaluate(predictor, index, loader, criterion=criterion), at_once)
    monkeypatch.undo()
    monkeypatch.setattr(batches_module, "are_sure", lambda doubts: doubts[:, 0] > 1)
    assert_same(evaluate(predictor, index, loader, criterion=criterion), at_once)
    assert at_once.scores.tp
    assert at_once.scores.fp
    assert min(at_once.losses) > 0


def test_kept_batches_stay_pinned(pretend_gpu: PretendGpu, splits: Sequence[DatasetIndex]) -> None:
    loader = loader_of(splits[1], 2, cache="ram")
    for _ in range(2):
        for batch in loader:
            assert is_pinned(batch.images)
            assert is_pinned(batch.targets)
    assert loader.cached


def test_a_split_is_loaded_for_the_device(
    pretend_gpu: PretendGpu, weights: Path, splits: Sequence[DatasetIndex]
) -> None:
    """As val.py does it."""
    predictor = predictor_of(weights, batch_size=2)
    with pretend_gpu.watch() as seen:
        evaluate_split(predictor, splits[1])
    assert set(seen.bytes) == {"h2d async", "d2h async"}, seen.report()
