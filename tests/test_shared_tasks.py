"""Mining and inference in two real processes: the files of one, also when one or all are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from inference.journal import parts_done, parts_folder
from tests.conftest import ROOT
from tests.killing_example import kill_rank, processes_below, read_without_pause, wait_for
from tests.tasks.test_candidates import CASES
from tests.tasks.test_shards import clear, everything
from tools.check_out import check_out
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.errors import Code

PROGRAM = ROOT / "tests" / "sharing_example.py"
SETTINGS = {"img_size": "64", "batch_size": "1", "conf_thres": "0.001", "plots": "no"}
SLOWER = {"img_size": "256"}


def make(
    source: SourceDataset,
    weights: Path,
    folder: Path,
    kinds: Sequence[str],
    settings: Mapping[str, str],
) -> Path:
    return write_task(
        source,
        folder,
        kinds=kinds,
        settings={**SETTINGS, **settings},
        weights=[weights],
        candidates="train",
    )


def begin(log: Path, count: int, env_file: Path, *fate: str) -> subprocess.Popen[bytes]:
    """The task in a number of processes with one thread each."""
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), str(count), str(env_file), *fate],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def alone(env_file: Path, log: Path) -> dict[str, bytes]:
    """What one process leaves, which is then removed."""
    assert begin(log, 1, env_file).wait(300) == 0, log.read_text()
    found = everything(env_file)
    clear(env_file)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kinds"), CASES, ids=str)
def test_two_processes_leave_the_files_of_one(
    many: SourceDataset, weights: Path, tmp_path: Path, name: str, kinds: tuple[str, ...]
) -> None:
    settings = {"mining_algorithm": name, "empty_images": "mixed"} if "mining" in kinds else {}
    env_file, log = make(many, weights, tmp_path / "task", kinds, settings), tmp_path / "log.txt"
    expected = alone(env_file, log)
    assert len(expected) == len(kinds) + 1
    assert begin(log, 2, env_file).wait(300) == 0, log.read_text()
    assert everything(env_file) == expected
    assert [f.sentence for f in check_out(tmp_path / "task", failed=False)] == []
    text = log.read_text()
    assert text.count("DONE") == 1
    assert "of 2 processes is put together" in text
    assert "of several processes" in text


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_is_killed_and_the_task_ends_well(
    many: SourceDataset, weights: Path, tmp_path: Path, rank: int
) -> None:
    env_file = make(many, weights, tmp_path / "task", ("mining", "infer"), SLOWER)
    log, known = tmp_path / "log.txt", tmp_path / "task/out/mining/known.jsonl"
    expected = alone(env_file, log)
    (tmp_path / "task/out/monitor.txt").write_text("t0001\t1\t0\t1\n")
    running = begin(log, 2, env_file)
    try:
        with read_without_pause(tmp_path / "task/out/monitor.txt") as records:
            assert wait_for(lambda: parts_done(known) > 1 or running.poll() is not None, 240)
            kill_rank(running.pid, rank)
            assert running.wait(240) == 0, log.read_text()
    finally:
        running.kill()
    text = log.read_text()
    assert text.count("starting again") == 1
    assert f"process {rank} of the mining was killed (SIGKILL)" in text
    assert "FAILED" not in text
    assert everything(env_file) == expected
    columns = [record.split("\t") for record in records if record.count("\t") > 3]
    assert {row[3] for row in columns} == {"2"}
    for column in (1, 2):
        rising = [float(row[column]) for row in columns]
        assert rising == sorted(rising)
    assert float(columns[-1][2]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2), (2, 2)])
def test_a_task_that_was_killed_goes_on_with_any_number(
    many: SourceDataset, weights: Path, tmp_path: Path, first: int, second: int
) -> None:
    env_file = make(many, weights, tmp_path / "task", ("mining",), SLOWER)
    log, known = tmp_path / "log.txt", tmp_path / "task/out/mining/known.jsonl"
    expected = alone(env_file, log)

    def under_way() -> bool:
        lines = known.read_bytes().count(b"\n") if known.is_file() else 0
        first_part = any(parts_folder(known).glob("*/000000.jsonl"))
        return lines > 9 or (first_part and parts_done(known) > 1)

    running = begin(log, first, env_file)
    try:
        assert wait_for(lambda: under_way() or running.poll() is not None, 240)
        below = processes_below(running.pid)
        for process in (running.pid, *below):
            os.kill(process, signal.SIGKILL)
        assert running.wait(60) < 0
    finally:
        running.kill()
    assert wait_for(lambda: not any(Path(f"/proc/{one}").exists() for one in below), 60)
    assert "result.tsv" not in everything(env_file)
    left = parts_done(known) + known.is_file()
    assert left
    assert begin(log, second, env_file).wait(300) == 0, log.read_text()
    assert everything(env_file) == expected
    if second == 1:
        assert "are those of several processes" in log.read_text()
    elif first == 1:
        assert "going on after 8 of" in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fate", "code", "words", "starts"),
    [
        ("killed", Code.CONTAINER, "of the inference was killed (SIGKILL)", 2),
        ("damaged", Code.NOT_A_NUMBER, "the weights are damaged.", 1),
    ],
)
def test_what_fails_again_and_again_ends_with_its_error(
    many: SourceDataset,
    weights: Path,
    tmp_path: Path,
    fate: str,
    code: Code,
    words: str,
    starts: int,
) -> None:
    env_file = make(many, weights, tmp_path / "task", ("infer",), {})
    log = tmp_path / "log.txt"
    assert begin(log, 2, env_file, fate).wait(300) == 1
    columns = (tmp_path / "task/out/monitor.txt").read_text().splitlines()[0].split("\t")
    assert columns[3:5] == ["4", str(int(code))]
    assert words in columns[5]
    text = log.read_text()
    assert text.strip().splitlines()[-1].startswith(f"FAILED ({int(code)}): ")
    assert text.count("starting again") == starts - 1
    assert not (tmp_path / "task/out/infer-result.json").exists()
