"""What a training step may ask of a GPU: launches and waits, counted on a pretended one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data.dataset_index import DatasetIndex
from reporting.callbacks import Callback
from tests.pretend_gpu import PretendGpu, Seen
from tests.training_example import make_job
from training.loop import train_one_epoch
from training.setup import prepare
from utils.progress import Progress


class StepCounter(Callback):
    """Counts what each step does, from the end of the step before to its own."""

    def __init__(self, gpu: PretendGpu) -> None:
        self.gpu, self.steps, self.watch = gpu, list[Seen](), ExitStack()

    def on_train_batch_end(self, epoch: int, step: int, images: Tensor, targets: Tensor) -> None:
        self.watch.close()
        self.steps.append(self.watch.enter_context(self.gpu.watch()))


@pytest.mark.parametrize(
    ("change", "capability", "budget"),
    [
        pytest.param({}, (9, 0), 750, id="bfloat16"),
        pytest.param({}, (7, 5), 750, id="float16, scaled"),
        pytest.param({"augment_on": "device"}, (9, 0), 810, id="augmented on the device"),
        # Enough steps for recordings; two graphs, zeros after the targets, rates, sums and EMA.
        pytest.param({"epochs": 50, "warmup_momentum": 0.937}, (9, 0), 9, id="recorded"),
    ],
)
def test_a_training_step(
    splits: Sequence[DatasetIndex],
    tmp_path: Path,
    pretend_gpu: PretendGpu,
    change: dict[str, object],
    capability: tuple[int, int],
    budget: int,
) -> None:
    """Loader to EMA, after a warm-up: every other step adds up gradients and updates."""
    pretend_gpu.capability = capability
    few = [splits[0].subset([*range(16)] * 7), splits[1].subset(range(2))]
    settings = {"batch_size": 16, "nominal_batch_size": 32, "img_size": 64, "epochs": 1}
    settings = {**settings, "augment_on": "host", **change}
    job = replace(make_job(few, tmp_path, **settings), device=torch.device("cuda", 0))
    counter = StepCounter(pretend_gpu)
    train_one_epoch(prepare(job, None, [counter]), 0, Progress())
    counter.watch.close()
    for seen in counter.steps[-3:-1]:
        seen.assert_within(budget)
        assert set(seen.bytes) == {"h2d async"}
    if settings["epochs"] == 1:
        updates = [seen.dispatches["_fused_sgd_"] for seen in counter.steps[-3:-1]]
        groups = 3 if capability >= (8, 0) else 4  # the EMA is a step of SGD where one may overflow
        assert sorted(updates) == [0, groups], "one of them updates three groups of parameters"
