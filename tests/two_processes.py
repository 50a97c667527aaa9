"""The ranks of a distributed run, for tests: `torchrun ... -m tests.two_processes FOLDER`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from bench.training import read_splits
from models.detector import Detector
from models.model_config import read_model_config
from tests.conftest import NAMES
from tests.training_example import make_job
from training import loop, setup
from training.job import TrainingJob
from training.loop import evaluate_ema
from training.setup import prepare
from training.step import network_input
from utils.distributed import DistContext
from utils.progress import Progress
from utils.shutdown import exit_process

CPU = torch.device("cpu")


def communicate(processes: DistContext, folder: Path) -> None:
    """Use every collective once."""
    rank = processes.rank
    assert processes.all_reduce(torch.tensor([rank + 1])).item() == 3
    assert processes.mean(torch.tensor([float(rank)])).item() == 0.5
    assert processes.normaliser(torch.tensor([0, 3 * rank])).tolist() == [0.5, 1.5]
    assert processes.broadcast(7 + rank) == 7
    assert processes.broadcast_text(f"Größe {rank}") == "Größe 0"
    processes.assert_equal(4, "never")
    gathered = processes.gather(b"x" * (5 * rank))
    assert gathered == ([b"", b"xxxxx"] if processes.is_main else [])
    try:
        processes.assert_equal(rank, "here {numbers}")
    except Exception as error:
        (folder / f"{rank}.txt").write_text(str(error))


def agree(processes: DistContext) -> None:
    """Rank 0 has a GPU with bfloat16, rank 1 one without."""
    kinds = (torch.bfloat16, torch.float16)
    network = Detector(read_model_config("yolov5n"))
    with patch.object(setup, "compute_dtype", lambda *_: kinds[processes.rank]):
        assert setup.common_precision(network, "auto", processes) == "float16"
    assert setup.common_precision(network, "auto", processes) == "auto"


def job_of(processes: DistContext, folder: Path, **change: object) -> TrainingJob:
    """Return a tiny training; `data.txt` in `folder` names the folder in/ of its data."""
    task = Path((folder / "data.txt").read_text()).parent
    own = folder / f"{processes.rank} of {processes.world_size}"
    job = make_job(read_splits(task, NAMES), own, precision="float32", **change)
    return replace(job, weights=task / "out/models/best/best.pt", processes=processes)


def evaluate(processes: DistContext, folder: Path) -> None:
    """Evaluate an EMA whose batch statistics differ between the ranks."""
    job = job_of(processes, folder, batch_size="6")
    state = prepare(replace(job, validation=job.train))  # three batches
    for name, one in state.ema.module.named_buffers():
        if name.endswith("running_mean"):
            one.add_(processes.rank)
    found = evaluate_ema(state, Progress())
    if processes.is_main:
        torch.save(found, folder / f"evaluation {processes.world_size}.pt")


def backpropagate(processes: DistContext, folder: Path) -> None:
    """Compute the gradients of one batch in float64: nothing but the sharing differs.

    Batch statistics are those of the evaluation, as each rank sees its share only.
    """
    torch.set_default_dtype(torch.float64)
    try:
        job = replace(job_of(processes, folder, batch_size="8"), weights=None)
        state = prepare(job)
        state.network.model[:-1].eval()
        state.loader.set_epoch(0)
        batch = next(iter(state.loader))
        normaliser = processes.normaliser if processes.is_distributed else None
        maps = state.step.gradients.model(network_input(batch.images, CPU).double())
        losses = state.criterion(maps, batch.targets, normaliser)
        losses.total.backward()
        processes.add_up([one.grad for one in state.network.parameters() if one.grad is not None])
        if processes.is_main:
            gradients = {name: one.grad for name, one in state.network.named_parameters()}
            torch.save(gradients, folder / f"gradients {processes.world_size}.pt")
    finally:
        torch.set_default_dtype(torch.float32)


def train(processes: DistContext, folder: Path, *, disturbed: bool) -> None:
    """Train an epoch of two steps of two batches; save losses, steps and momenta.

    If `disturbed`, rank 1 runs out of memory after the backward pass of the second batch. Batch
    statistics are those of the evaluation, as those of a batch in pieces differ.
    """
    change = {"batch_size": "4", "nominal_batch_size": "8"}
    state = prepare(job_of(processes, folder, **change))
    backward, calls = Tensor.backward, 0

    def failing(total: Tensor, *given: Tensor | None) -> None:
        nonlocal calls
        calls += 1
        backward(total, *given)
        if disturbed and processes.rank == 1 and calls == 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with (
        patch.object(Tensor, "backward", failing),
        patch.object(loop, "set_train_mode", lambda network: network.model[:-1].eval()),
    ):
        losses = loop.train_one_epoch(state, 1, Progress())  # after the warm-up
    pieces = state.step.gradients.pieces
    assert pieces
    assert (pieces.most == 1) == (disturbed and processes.rank == 1)
    of = state.optimizer_step.optimizer.state
    momenta = {name: of[one]["momentum_buffer"] for name, one in state.network.named_parameters()}
    found = losses, state.optimizer_step.steps, momenta
    torch.save(found, folder / f"trained {processes.rank} {disturbed}.pt")


def run(processes: DistContext, folder: Path) -> None:
    """Do everything that a single process and several must do alike."""
    evaluate(processes, folder)
    backpropagate(processes, folder)


if __name__ == "__main__":
    ranks = DistContext.from_environment()
    with ranks.process_group(CPU):
        communicate(ranks, Path(sys.argv[1]))
        agree(ranks)
        run(ranks, Path(sys.argv[1]))
        for disturbed in (False, True):
            train(ranks, Path(sys.argv[1]), disturbed=disturbed)
    exit_process(0)
