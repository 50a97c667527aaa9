"""What a task looks at: sections, and the digest of all that its numbers depend on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tasks.looking import identity_of, log_of, prepare, section_size
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.distributed import DistContext
from ymir.task import Task, read_task

CPU = torch.device("cpu")


@pytest.fixture
def task(drawn: SourceDataset, weights: Path, tmp_path: Path) -> Task:
    settings = {"img_size": "64", "batch_size": "2"}
    kinds = ("mining", "infer")
    env_file = write_task(drawn, tmp_path / "t", kinds=kinds, settings=settings, weights=[weights])
    return read_task(env_file)


@pytest.mark.parametrize(
    ("device", "lanes", "size"), [("cpu", 2, 128), ("cpu", 16, 256), ("cuda", 1, 1024)]
)
def test_sections_hold_several_batches_for_every_lane(device: str, lanes: int, size: int) -> None:
    assert section_size(16, lanes, torch.device(device)) == size


def test_several_processes_look_as_one_does(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their share of the CPUs changes neither batches nor sections nor the digest."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(12)
        alone = prepare(task, CPU)
        shared = prepare(task, CPU, DistContext(1, 3, 1, 3))
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert shared.identity == alone.identity
    assert shared.section == alone.section == 24
    assert alone.predictor is not None
    assert shared.predictor is not None
    assert (alone.predictor.lanes.count, shared.predictor.lanes.count) == (12, 4)
    assert (alone.predictor.lanes_in_all, shared.predictor.lanes_in_all) == (12, 12)
    found = [
        {one.path: one.detections.tobytes() for one in looking.found(range(len(looking.paths)))}
        for looking in (alone, shared)
    ]
    assert found[0] == found[1]


def test_the_digest_follows_all_that_counts(task: Task) -> None:
    looking = prepare(task, CPU)
    weights = task.weights[0]
    assert task.mining is not None

    def identity(own: Task = task, where: str = "here") -> str:
        return identity_of(own, looking.candidates, weights, where)

    same = replace(task, mining=replace(task.mining, workers=3, plots=False))
    assert identity(same) == identity()
    assert identity(where="there") != identity()
    assert identity(replace(task, infer=None)) != identity()
    assert identity(replace(task, mining=replace(task.mining, seed=5))) != identity()
    assert identity_of(task, looking.candidates[1:], weights, "here") != identity()


@pytest.mark.parametrize(("mining", "folder"), [(True, "mining"), (False, "infer")])
def test_where_the_log_lies(task: Task, mining: bool, folder: str) -> None:
    assert log_of(replace(task, run_mining=mining)) == task.out.root / folder / "known.jsonl"
