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
    ("augment_on", "capability", "budget"),
    [
        pytest.param("host", (9, 0), 750, id="bfloat16"),
        pytest.param("host", (7, 5), 760, id="float16, scaled"),
        pytest.param("device", (9, 0), 810, id="augmented on the device"),
    ],
)
def test_a_training_step(
    splits: Sequence[DatasetIndex],
    tmp_path: Path,
    pretend_gpu: PretendGpu,
    augment_on: str,
    capability: tuple[int, int],
    budget: int,
) -> None:
    """Loader to EMA, after a warm-up: every other step adds up gradients and updates."""
    pretend_gpu.capability = capability
    few = [splits[0].subset([*range(16)] * 7), splits[1].subset(range(2))]
    change: dict[str, object] = {
        "batch_size": 16,
        "nominal_batch_size": 32,
        "img_size": 64,
        "epochs": 1,
    }
    change["augment_on"] = augment_on
    job = replace(make_job(few, tmp_path, **change), device=torch.device("cuda", 0))
    counter = StepCounter(pretend_gpu)
    train_one_epoch(prepare(job, None, [counter]), 0, Progress())
    counter.watch.close()
    for seen in counter.steps[-3:-1]:
        seen.assert_within(budget)
        assert set(seen.bytes) == {"h2d async"}
    updates = [seen.dispatches["_fused_sgd_"] for seen in counter.steps[-3:-1]]
    assert sorted(updates) == [0, 3], "one of them updates three groups of parameters"
