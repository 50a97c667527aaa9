"""Shares of a task, done one after the other: together they are what one process does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import start
from inference.claims import ShardLocks
from inference.journal import parts_done, parts_folder
from inference.section_parts import ShardWriter
from settings.detect import MiningSettings
from tasks.candidates import run_candidates
from tasks.looking import log_of
from tasks.shards import can_be_shared, look
from tests.tasks.test_candidates import CASES, RESULTS, Stopped, make
from tools.sources import SourceDataset
from utils.distributed import DistContext
from utils.errors import Code, TaskError
from utils.progress import Progress
from ymir.task import read_task

CPU = torch.device("cpu")
Share = Callable[..., list[float]]


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Share:
    """One process's share of a task: the sections that `mine` picks; returns what progress said."""
    monkeypatch.setattr("tasks.looking.UNSEEN_SECTION", 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "attempt" / "0" / "error.json"))

    def run(env_file: Path, rank: int, mine: Callable[[int], bool]) -> list[float]:
        told: list[float] = []
        with monkeypatch.context() as patch:
            patch.setattr(ShardLocks, "take", lambda claims, number: mine(number))
            look(read_task(env_file), CPU, DistContext(rank, 2, rank, 2), Progress(told.append))
        return told

    return run


def finish(env_file: Path) -> None:
    run_candidates(read_task(env_file), CPU, Progress(lambda fraction: None), looked_at=True)


def everything(env_file: Path) -> dict[str, bytes]:
    """The results there are, and the log."""
    task = read_task(env_file)
    files = [*(task.out.root / name for name in RESULTS), log_of(task)]
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def clear(env_file: Path) -> None:
    for folder in ("mining", "infer"):
        shutil.rmtree(env_file.parents[1] / "out" / folder, ignore_errors=True)
    for name in RESULTS:
        (env_file.parents[1] / "out" / name).unlink(missing_ok=True)


@pytest.mark.parametrize(("name", "kinds"), CASES, ids=str)
def test_the_files_of_two_are_those_of_one(
    many: SourceDataset,
    weights: Path,
    tmp_path: Path,
    share: Share,
    capfd: pytest.CaptureFixture[str],
    name: str,
    kinds: tuple[str, ...],
) -> None:
    settings = {"mining_algorithm": name, "empty_images": "mixed"} if "mining" in kinds else {}
    env_file = make(many, weights, tmp_path / "task", kinds, settings)
    assert start.main(["--env", str(env_file)]) == 0
    alone = everything(env_file)
    assert len(alone) == len(kinds) + 1
    clear(env_file)
    known = log_of(read_task(env_file))
    rising = share(env_file, 0, lambda number: number % 2 == 0)
    assert rising == sorted(rising)
    assert rising[-1] == 40 / 42  # it has done the sections 0, 2 and 4
    share(env_file, 1, lambda number: number % 2 == 1)
    assert everything(env_file) == {}
    assert parts_done(known) == 6
    capfd.readouterr()
    finish(env_file)
    assert "are those of several processes" in "".join(capfd.readouterr())
    assert everything(env_file) == alone
    assert not parts_folder(known).exists()


@pytest.mark.parametrize("kinds", [("mining",), ("infer",)], ids="+".join)
@pytest.mark.parametrize("second", ["one", "two"])
def test_a_stopped_share_is_done_by_whoever_goes_on(
    many: SourceDataset,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    share: Share,
    kinds: tuple[str, ...],
    second: str,
) -> None:
    """A process stops in the midst of its second section; one or two do the rest."""
    env_file = make(many, weights, tmp_path / "task", kinds, {})
    assert start.main(["--env", str(env_file)]) == 0
    alone = everything(env_file)
    clear(env_file)
    with monkeypatch.context() as patch:
        add, count = ShardWriter.add, 0

        def adding(parts: ShardWriter, entry: object) -> None:
            nonlocal count
            count += 1
            if count > 12:
                raise Stopped
            add(parts, entry)  # type: ignore[arg-type]

        patch.setattr(ShardWriter, "add", adding)
        with pytest.raises(Stopped):
            share(env_file, 0, lambda number: True)
    assert parts_done(log_of(read_task(env_file))) == 1
    if second == "two":
        share(env_file, 1, lambda number: number != 1)
        share(env_file, 0, lambda number: number == 1)
        finish(env_file)
    else:
        assert start.main(["--env", str(env_file)]) == 0
    assert everything(env_file) == alone


def test_several_go_on_where_one_has_stopped(
    many: SourceDataset, weights: Path, tmp_path: Path, share: Share
) -> None:
    env_file = make(many, weights, tmp_path / "task", ("mining",), {})
    assert start.main(["--env", str(env_file)]) == 0
    alone = everything(env_file)
    known = log_of(read_task(env_file))
    (tmp_path / "task" / "out" / "result.tsv").unlink()
    known.write_bytes(b"".join(known.read_bytes().splitlines(keepends=True)[:10]))
    share(env_file, 0, lambda number: True)
    assert parts_done(known) == -(-len(alone["result.tsv"].splitlines()) // 8) - 1
    finish(env_file)
    assert everything(env_file) == alone


def test_a_section_that_got_lost_is_done_in_the_end(
    many: SourceDataset, weights: Path, tmp_path: Path, share: Share
) -> None:
    env_file = make(many, weights, tmp_path / "task", ("mining",), {})
    assert start.main(["--env", str(env_file)]) == 0
    alone = everything(env_file)
    clear(env_file)
    share(env_file, 0, lambda number: number != 1)
    finish(env_file)
    assert everything(env_file) == alone


def test_images_that_disappear_meanwhile(
    many: SourceDataset, weights: Path, tmp_path: Path, share: Share
) -> None:
    """An error at once, and no section of unreadable images counts when they are back."""
    env_file = make(many, weights, tmp_path / "task", ("infer",), {})
    assert start.main(["--env", str(env_file)]) == 0
    alone = everything(env_file)
    clear(env_file)
    assets, away = tmp_path / "task/in/assets", tmp_path / "away"

    def lose(number: int) -> bool:
        if number == 0:
            os.rename(assets, away)
        return True

    with pytest.raises(TaskError, match="candidate images disappeared") as caught:
        share(env_file, 0, lose)
    assert caught.value.code == Code.DATASET
    os.rename(away, assets)
    share(env_file, 0, lambda number: True)
    finish(env_file)
    assert everything(env_file) == alone


@pytest.mark.parametrize(
    ("kinds", "network", "expected", "words"),
    [
        pytest.param("aaa", True, True, "", id="alike"),
        pytest.param("aba", True, False, "the GPUs differ (a, b)", id="two kinds"),
        pytest.param("ab", False, True, "", id="no network is needed"),
    ],
)
def test_what_can_be_shared(
    caplog: pytest.LogCaptureFixture,
    kinds: str,
    network: bool,
    expected: bool,
    words: str,
) -> None:
    mining = MiningSettings(mining_algorithm="entropy")
    task = SimpleNamespace(mining=mining, needs_network=network)
    found = can_be_shared(task, range(len(kinds)), kind=lambda device: kinds[device.index])
    assert found == expected
    assert words in caplog.text
    assert bool(caplog.text) == bool(words)
