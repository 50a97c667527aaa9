"""Trainings under torchrun: on two machines, and restarted when a rank is killed."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.killing_example import kill_rank, running, wait_for

TORCHRUN = ("-m", "torch.distributed.run", "--local-addr", "127.0.0.1")
TRAIN = (
    "--cfg yolov5n --img 64 --batch-size 8 --device cpu --epochs 3 onnx=false plots=no workers=0 "
    "nominal_batch_size=4 --output"
)


def run_on_two_machines(logs: Path, restarts: int, *words: object) -> str:
    """Run one rank under each of two launchers that meet on this machine; return their output."""
    # Not a free port: until the launcher listens, another process might be given the same.
    port = 20000 + os.getpid() % 10000  # below those that the system gives
    meeting = f"--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-id {port} --rdzv-endpoint"
    command = [*TORCHRUN, *meeting.split(), f"127.0.0.1:{port}", "--max-restarts", restarts]
    paths = [logs / f"machine {number}.txt" for number in range(2)]
    with ExitStack() as stack:
        started = [stack.enter_context(running(path, *command, *words)) for path in paths]
        statuses = [process.wait(300) for process in started]
    text = "\n".join(path.read_text() for path in paths)
    assert statuses == [0, 0], text
    return text


@pytest.mark.slow
def test_restarted_ranks_of_two_machines_find_each_other(tmp_path: Path) -> None:
    """Each in turn is killed, and late afterwards; the launchers count restarts each for itself."""
    folder = tmp_path / "starts"
    folder.mkdir()
    run_on_two_machines(tmp_path, 2, "-m", "tests.restarting_example", folder, 2)
    starts = {f"start {start} {rank}" for start in range(3) for rank in range(2)}
    assert {path.name for path in folder.iterdir()} == starts | {"done 0", "done 1"}


@pytest.mark.slow
def test_two_machines_and_one_whose_rank_is_killed_train_the_same(
    data_yaml: Path, tmp_path: Path
) -> None:
    two, one, log = tmp_path / "two", tmp_path / "one", tmp_path / "one.txt"
    train = ("train.py", "--data", data_yaml, *TRAIN.split())
    text = run_on_two_machines(tmp_path, 0, *train, two)
    assert sorted(path.name for path in two.rglob("*.pt")) == ["best.pt", "last.pt"]
    assert text.count("best weights") == 1

    restarting = "--standalone --nproc-per-node 2 --max-restarts 1 -m tests.paused_example"
    command = [*TORCHRUN, *restarting.split(), *train, one]
    with running(log, *command, PAUSE="0 sleep") as process:
        assert wait_for(lambda: "PAUSED" in log.read_text() or process.poll() is not None, 300)
        kill_rank(process.pid, 0)
        assert process.wait(300) == 0, log.read_text()
    assert log.read_text().count("going on after epoch 1 of 3") == 1
    tables = [list(folder.rglob("results.csv")) for folder in (two, one)]
    assert [len(found) for found in tables] == [1, 1]
    assert tables[0][0].read_text() == tables[1][0].read_text()
