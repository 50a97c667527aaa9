"""Mining and inference tasks: stopped and resumed, shared by ranks, equal to an undisturbed run."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

import start
from inference.journal import Journal, Record, count_shard_files
from inference.shards import ShardWriter, failures
from mining.registry import ALGORITHMS
from mining.scores import Scored
from tasks.candidates import (
    Machine,
    identity_of,
    journal_path,
    prepare,
    run_candidates,
    shard_batches,
)
from tasks.shared import compute_shards, run_shards
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils import distributed
from utils.distributed import DistContext
from utils.errors import Code, TaskError, write_error_file
from utils.progress import Progress
from ymir.task import read_task

CPU = torch.device("cpu")
SETTINGS = {"img_size": "64", "batch_size": "1", "conf_thres": "0.001", "plots": "no"}
"""Batches of one image: shards of 8 on a machine of at most 8 cores."""
RESULTS = ("result.tsv", "infer-result.json")
MIXED = {"empty_images": "mixed"}
CASES = [
    *((("mining",), {"mining_algorithm": name, **MIXED}) for name in ALGORITHMS),
    (("mining", "infer"), {"mining_algorithm": "cald", **MIXED}),
    (("infer",), {}),
]
"""Kinds and settings of tasks."""
IMAGES = 16
"""Of the data set `drawn`: two shards."""


class Stopped(BaseException):
    """As sudden as a signal."""


def make(
    source: SourceDataset,
    weights: Path,
    folder: Path,
    kinds: tuple[str, ...],
    settings: Mapping[str, str],
    *,
    copy: bool = False,
) -> Path:
    return write_task(
        source,
        folder,
        kinds=kinds,
        settings={**SETTINGS, **settings},
        weights=[weights],
        candidates="train",
        overwrite=True,
        copy=copy,
    )


def everything(env_file: Path) -> dict[str, bytes]:
    """The results and the journal, as far as they are there."""
    task = read_task(env_file)
    files = [*(task.out.root / name for name in RESULTS), journal_path(task)]
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def clear(env_file: Path) -> None:
    """Remove what `everything` looks at."""
    task = read_task(env_file)
    shutil.rmtree(journal_path(task).parent, ignore_errors=True)
    for name in RESULTS:
        (task.out.root / name).unlink(missing_ok=True)


def undisturbed(env_file: Path) -> dict[str, bytes]:
    """What one process leaves, which is then removed."""
    assert start.main(["--env", str(env_file)]) == 0
    found = everything(env_file)
    clear(env_file)
    return found


def stop_after(patch: pytest.MonkeyPatch, kind: type[Journal | ShardWriter], images: int) -> None:
    append, count = kind.append, 0

    def appending(self: Journal, record: Record) -> None:
        nonlocal count
        count += 1
        if count > images:
            raise Stopped
        append(self, record)

    patch.setattr(kind, "append", appending)


def share(env_file: Path, rank: int = 0, world_size: int = 1, most: int = IMAGES) -> list[float]:
    """Compute `most` images as a rank of a new start; the progress that it reports."""
    seen: list[float] = []
    job = prepare(read_task(env_file), CPU, shared=True)
    name = uuid.uuid4().hex
    writer = ShardWriter(job.journal, rank=rank, world_size=world_size, start=name)
    writer.begin()
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, ShardWriter, most)
        with nullcontext() if most == IMAGES else pytest.raises(Stopped):
            compute_shards(job, writer, Progress(seen.append))
    return seen


def finish(env_file: Path) -> None:
    task = read_task(env_file)
    run_candidates(task, CPU, Progress(), shared=prepare(task, CPU, shared=True))


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks of this test take no share of the threads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("kinds", "settings"), CASES, ids=str)
def test_resumed_and_shared_tasks_give_the_files_of_an_undisturbed_one(
    drawn: SourceDataset,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    kinds: tuple[str, ...],
    settings: dict[str, str],
) -> None:
    env_file = make(drawn, weights, tmp_path / "task", kinds, settings)
    expected = undisturbed(env_file)
    assert len(expected) == len(kinds) + 1
    with monkeypatch.context() as patch:
        stop_after(patch, Journal, 13)
        with pytest.raises(Stopped):
            start.main(["--env", str(env_file)])
    assert list(everything(env_file)) == ["journal.jsonl"]
    assert everything(env_file)["journal.jsonl"].count(b"\n") == 14
    capfd.readouterr()
    assert start.main(["--env", str(env_file)]) == 0
    assert f"resumed after 8 of {IMAGES} candidates" in "".join(capfd.readouterr())
    assert everything(env_file) == expected

    clear(env_file)
    rising = share(env_file, 1, 2, most=8)
    assert rising == sorted(rising)
    assert rising[-1] == 8 / IMAGES
    assert share(env_file, 0, 2)[-1] == 1
    assert everything(env_file) == {}
    journal = journal_path(read_task(env_file))
    assert count_shard_files(journal) == 2
    capfd.readouterr()
    finish(env_file)
    assert "from shards of several processes" in "".join(capfd.readouterr())
    assert everything(env_file) == expected
    assert not (journal.parent / "shards").exists()


@pytest.mark.usefixtures("one_thread")
def test_a_stopped_rank_is_replaced_by_any_number(
    drawn: SourceDataset, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops within its second shard; then one process, one rank that computes all, or a gap."""
    env_file = make(drawn, weights, tmp_path / "task", ("mining",), {})
    expected = undisturbed(env_file)
    journal = journal_path(read_task(env_file))
    for resume in ("one process", "a rank", "a gap"):
        clear(env_file)
        share(env_file, most=12)
        assert count_shard_files(journal) == 1
        if resume == "one process":
            assert start.main(["--env", str(env_file)]) == 0
        elif resume == "a rank":
            share(env_file, 1, 2)
        else:
            next(journal.parent.glob("shards/*/000000.jsonl")).unlink()
            share(env_file, 1, 2, most=8)
        if resume != "one process":
            finish(env_file)
        assert everything(env_file) == expected

    journal.write_bytes(b"".join(expected["journal.jsonl"].splitlines(keepends=True)[:10]))
    (tmp_path / "task" / "out" / "result.tsv").unlink()
    share(env_file)  # after the shard that one process has left
    assert count_shard_files(journal) == 1
    finish(env_file)
    assert everything(env_file) == expected


@pytest.mark.usefixtures("one_thread")
def test_images_that_disappear_end_a_rank_and_are_computed_again(
    drawn: SourceDataset, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file = make(drawn, weights, tmp_path / "task", ("infer",), {})
    expected = undisturbed(env_file)
    assets, away = tmp_path / "task/in/assets", tmp_path / "away"
    positions = ShardWriter.positions

    def lose(writer: ShardWriter) -> object:
        os.rename(assets, away)
        return positions(writer)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "positions", lose)
        with pytest.raises(TaskError, match="candidate images disappeared") as caught:
            share(env_file)
    assert caught.value.code == Code.DATASET
    os.rename(away, assets)
    share(env_file)
    finish(env_file)
    assert everything(env_file) == expected


def test_what_a_started_task_resumes(
    drawn: SourceDataset, weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An unreadable image is tried again; another seed starts anew, other workers do not."""
    folder = tmp_path / "task"
    env_file = make(drawn, weights, folder, ("mining",), {}, copy=True)
    images = sorted((folder / "in").rglob("*.jpg"))
    images[0].write_bytes(b"no picture")

    def resumed() -> bool:
        capfd.readouterr()
        assert start.main(["--env", str(env_file)]) == 0
        return f"resumed after {len(images)} of" in "".join(capfd.readouterr())

    assert [resumed(), resumed()] == [False, True]
    images[0].write_bytes(images[1].read_bytes())
    assert [resumed(), resumed()] == [False, True]
    assert len((folder / "out/result.tsv").read_text().splitlines()) == len(images)
    config = folder / "in/config.yaml"
    for name, value, expected in (("workers", 1, True), ("seed", 1, False)):
        config.write_text(config.read_text() + f"{name}: {value}\n")
        assert resumed() == expected


def test_a_moved_task_resumes_and_other_images_of_its_names_are_predicted(
    drawn: SourceDataset, weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    env_file = make(drawn, weights, tmp_path / "task", ("mining", "infer"), {}, copy=True)
    assert start.main(["--env", str(env_file)]) == 0
    expected = everything(env_file)

    def again(name: str) -> str:
        capfd.readouterr()
        assert start.main(["--env", str(tmp_path / name / "in/env.yaml")]) == 0
        return "".join(capfd.readouterr())

    (tmp_path / "task").rename(tmp_path / "moved")
    assert f"resumed after {IMAGES} of {IMAGES}" in again("moved")
    assert everything(tmp_path / "moved/in/env.yaml") == expected
    shutil.copytree(tmp_path / "moved", tmp_path / "other")
    images = sorted((tmp_path / "other/in/assets").rglob("*.jpg"))
    images[0].write_bytes(images[1].read_bytes())
    assert "resumed after" not in again("other").replace(f"resumed after {IMAGES // 2} of", "")
    found = everything(tmp_path / "other/in/env.yaml")["infer-result.json"]
    detections = json.loads(found)["detection"]
    assert detections[images[0].name] == detections[images[1].name]


def test_ranks_compute_as_one_process_does(
    drawn: SourceDataset, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their share of the CPUs changes neither batches nor shards nor the identity."""
    env_file = make(drawn, weights, tmp_path / "task", ("mining", "infer"), {"batch_size": "2"})
    task = read_task(env_file)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(12)
        alone, machine, ranks = prepare(task, CPU), Machine.of(CPU), DistContext(1, 3, 1, 3)
        ranks.share_threads()
        rank = prepare(task, CPU, ranks, machine=machine)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert rank.journal == alone.journal
    assert alone.journal.shard_size == 24
    assert alone.predictor is not None
    assert rank.predictor is not None
    assert (alone.predictor.pool.count, rank.predictor.pool.count) == (12, 4)
    assert alone.pool_workers == rank.pool_workers == 12


def test_an_error_of_an_earlier_start_is_not_told_again(
    drawn: SourceDataset, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other machine's rank does not come."""
    task = read_task(make(drawn, weights, tmp_path / "task", ("infer",), {}))
    folder = failures(journal_path(task))
    folder.mkdir(parents=True)
    write_error_file(Code.NOT_A_NUMBER, "the weights are damaged.", "", folder)
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(server.port))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setattr(distributed, "MEETING", timedelta(seconds=1))
    with pytest.raises(TaskError, match="of 2 processes 1 did not come within") as caught:
        run_shards(task, CPU, DistContext(0, 2), Progress())
    assert caught.value.code == Code.CONTAINER


@pytest.mark.parametrize(
    ("candidates", "batch_size", "batches", "busy"),
    [(5000, 16, 9, 8), (900, 16, 1, 8), (900, 64, 1, 8), (100_000, 16, 64, 8), (3, 16, 1, 1)],
)
def test_shards_keep_eight_gpus_busy(
    candidates: int, batch_size: int, batches: int, busy: int
) -> None:
    assert shard_batches(candidates, batch_size) == batches
    shards = -(-candidates // (batches * batch_size))
    rounds = -(-shards // 8)
    assert min(shards, 8) == busy
    if shards > 8:
        assert shards / (8 * rounds) > 0.85


def test_the_identity_follows_all_that_numbers_depend_on(
    drawn: SourceDataset, weights: Path, tmp_path: Path
) -> None:
    task = read_task(make(drawn, weights, tmp_path / "task", ("mining", "infer"), {}))
    assert task.mining is not None
    candidates = prepare(task, CPU).candidates
    identity = identity_of(task, candidates, "here")
    same = replace(task, mining=replace(task.mining, workers=3, plots=False))
    assert identity_of(same, candidates, "here") == identity
    other_weights = tmp_path / "other.pt"
    other_weights.write_bytes(weights.read_bytes() + b"0")
    others = {
        identity_of(task, candidates, "there"),
        identity_of(task, candidates[1:], "here"),
        identity_of(task, candidates[::-1], "here"),
        identity_of(replace(task, infer=None), candidates, "here"),
        identity_of(replace(task, mining=replace(task.mining, seed=5)), candidates, "here"),
        identity_of(replace(task, weights=(other_weights,)), candidates, "here"),
    }
    assert len(others - {identity}) == 6


@pytest.mark.parametrize(
    "scored",
    [
        Scored(
            1,
            "b",
            1 / 3,
            class_vector=np.array([0, 0.1, 0, 0.7], np.float32),
            feature=np.array([2048, -3, 0], np.float32),
        ),
        Scored(0, "a", None),
        Scored(2, "c", None, empty=True),
        Scored(3, "d", 0.1 + 0.2, class_vector=np.zeros(3)),
    ],
    ids=["all", "unreadable", "empty", "no class"],
)
def test_plain_values_restore_a_score(scored: Scored) -> None:
    def plain(one: Scored) -> tuple[object, ...]:
        arrays = (one.class_vector, one.feature)
        return (*one[:4], *(None if a is None else (a.dtype, a.tolist()) for a in arrays))

    explained = scored._replace(breakdown={"view": "flip"})
    assert explained.to_plain()["breakdown"] == {"view": "flip"}
    assert plain(Scored.from_plain(scored.position, scored.path, explained.to_plain())) == plain(
        scored
    )
