"""What one of several processes does in the tests: `python -m tests.two_processes WHAT FOLDER`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from data.read_dataset import read_dataset
from settings.parse import parse_settings
from settings.train import TrainSettings
from tests.conftest import NAMES, TINY_TRAINING
from training.freezing import training_mode
from training.job import TrainingJob
from training.loop import evaluate_average, network_input
from training.setup import prepare
from training.sync_batch_norm import normalise_over_all
from utils.distributed import DistContext
from utils.progress import Progress
from utils.shutdown import exit_process

CPU = torch.device("cpu")


def speak(processes: DistContext, folder: Path) -> None:
    """Every kind of message once."""
    rank = processes.rank
    assert processes.all_reduce(torch.tensor([rank + 1])).item() == 3
    assert processes.mean(torch.tensor([float(rank)])).item() == 0.5
    assert processes.normaliser(torch.tensor([0, 3 * rank])).tolist() == [0.5, 1.5]
    assert processes.broadcast(7 + rank) == 7
    assert processes.broadcast_text(f"Größe {rank}") == "Größe 0"
    processes.assert_equal(4, "never")
    heard = processes.gather(b"x" * (5 * rank))
    assert heard == ([b"", b"xxxxx"] if processes.is_main else [])
    try:
        processes.assert_equal(rank, "here {numbers}")
    except Exception as error:
        (folder / f"{rank}.txt").write_text(str(error))


def normalise(processes: DistContext, folder: Path) -> None:
    """One batch norm of all on this process's half of a batch."""
    holder = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    normalise_over_all(holder, CPU)
    images = torch.load(folder / "images.pt")[processes.rank :: 2].requires_grad_()
    out = holder(images)
    (out * torch.load(folder / "factors.pt")[processes.rank :: 2]).sum().backward()
    torch.save((out, images.grad, holder.state_dict()), folder / f"{processes.rank}.pt")


def job_of(processes: DistContext, folder: Path, **changes: object) -> TrainingJob:
    """A tiny training on the CPU, of which `folder` says where the data is."""
    source = Path((folder / "data.txt").read_text())
    tiny = {**TINY_TRAINING, "onnx": False, "plots": False, "workers": 0, "precision": "float32"}
    settings, _ = parse_settings(TrainSettings, {**tiny, **changes})
    data = [
        read_dataset(source / f"{one}-index.tsv", NAMES, root=source, max_bad_fraction=0)[0]
        for one in ("train", "val")
    ]
    own = folder / f"{processes.rank} of {processes.world_size}"
    return TrainingJob(
        settings=settings,
        train=data[0],
        validation=data[1],
        device=CPU,
        folder=own,
        stage_folder=lambda stage: own / stage,
        on_saved=lambda saved: None,
        weights=source.parent / "out/models/best/best.pt",
        processes=processes,
    )


def evaluation(processes: DistContext, folder: Path) -> None:
    """The evaluation of averaged weights whose batch statistics differ between the processes."""
    job = job_of(processes, folder, batch_size="6")
    job = replace(job, validation=job.train)  # three batches
    run = prepare(job)
    for name, one in run.average.module.named_buffers():
        if name.endswith("running_mean"):
            one.add_(processes.rank)
    found = evaluate_average(run, Progress(lambda fraction: None))
    if processes.is_main:
        torch.save(found, folder / f"evaluation {processes.world_size}.pt")


def gradients(processes: DistContext, folder: Path) -> None:
    """The gradients of one batch, before any step, in float64: nothing but the sharing differs."""
    torch.set_default_dtype(torch.float64)
    job = replace(job_of(processes, folder, batch_size="8", sync_bn=True), weights=None)
    run = prepare(job)
    training_mode(run.network, ())
    run.loader.set_epoch(0)
    batch = next(iter(run.loader))
    share = processes.normaliser if processes.is_distributed else None
    maps = run.model(network_input(batch.images, CPU).double())
    losses = run.criterion(maps, batch.targets, share)
    (losses.total * processes.world_size).backward()
    found = {name: one.grad for name, one in run.network.named_parameters()}
    statistics = dict(run.network.named_buffers())
    if processes.is_main:
        torch.save((found, statistics), folder / f"{processes.world_size}.pt")


if __name__ == "__main__":
    deeds = (speak, normalise, evaluation, gradients)
    what = {deed.__name__: deed for deed in deeds}[sys.argv[1]]
    who = DistContext.from_environment()
    with who.process_group(CPU):
        what(who, Path(sys.argv[2]))
    exit_process(0)
