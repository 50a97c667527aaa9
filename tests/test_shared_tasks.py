"""Mining and inference in two real processes, also when one or all are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inference.journal import count_shard_files
from tests.conftest import ROOT
from tests.killing_example import kill_rank, processes_below, read_without_pause, wait_for
from tests.tasks.test_candidates import clear, everything, make
from tools.check_out import check_out
from tools.sources import SourceDataset
from utils.errors import Code

PROGRAM = ROOT / "tests" / "sharing_example.py"

pytestmark = pytest.mark.slow


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


@pytest.fixture(scope="module")
def task(
    many: SourceDataset, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, bytes]]:
    """A task for mining and inference, and the files that one process leaves of it."""
    folder = tmp_path_factory.mktemp("shared")
    env_file = make(many, weights, folder / "task", ("mining", "infer"), {"img_size": "256"})
    assert begin(folder / "log.txt", 1, env_file).wait(300) == 0, (folder / "log.txt").read_text()
    return env_file, everything(env_file)


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_leave_the_files_of_one_though_one_is_killed(
    task: tuple[Path, dict[str, bytes]], tmp_path: Path, rank: int
) -> None:
    env_file, expected = task
    assert len(expected) == 3
    clear(env_file)
    log, out = tmp_path / "log.txt", env_file.parents[1] / "out"
    journal = out / "mining/journal.jsonl"
    (out / "monitor.txt").write_text("t0001\t1\t0\t1\n")
    running = begin(log, 2, env_file)
    try:
        with read_without_pause(out / "monitor.txt") as records:
            assert wait_for(
                lambda: count_shard_files(journal) > 1 or running.poll() is not None, 240
            )
            kill_rank(running.pid, rank)
            assert running.wait(240) == 0, log.read_text()
    finally:
        running.kill()
    text = log.read_text()
    assert text.count("starting again") == 1
    assert f"process {rank} of the mining was killed (SIGKILL)" in text
    assert "FAILED" not in text
    assert text.count("DONE") == 1
    assert "merging the mining of 2 processes" in text
    assert everything(env_file) == expected
    assert [f.sentence for f in check_out(out.parent, failed=False)] == []
    columns = [record.split("\t") for record in records if record.count("\t") > 3]
    assert {row[3] for row in columns} == {"2"}
    for column in (1, 2):
        rising = [float(row[column]) for row in columns]
        assert rising == sorted(rising)
    assert float(columns[-1][2]) == 1


@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2)])
def test_a_task_that_was_killed_resumes_with_any_number(
    task: tuple[Path, dict[str, bytes]], tmp_path: Path, first: int, second: int
) -> None:
    env_file, expected = task
    clear(env_file)
    log, journal = tmp_path / "log.txt", env_file.parents[1] / "out/mining/journal.jsonl"

    def under_way() -> bool:
        lines = journal.read_bytes().count(b"\n") if journal.is_file() else 0
        first_shard = any(journal.parent.glob("shards/*/000000.jsonl"))
        return lines > 9 or (first_shard and count_shard_files(journal) > 1)

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
    assert begin(log, second, env_file).wait(300) == 0, log.read_text()
    assert everything(env_file) == expected
    words = "from shards of several processes" if second == 1 else "resumed after 8 of"
    assert words in log.read_text()


@pytest.mark.parametrize(
    ("fate", "code", "words", "starts"),
    [
        ("killed", Code.CONTAINER, "of the inference was killed (SIGKILL)", 2),
        ("damaged", Code.NOT_A_NUMBER, "the weights are damaged.", 1),
    ],
)
def test_what_fails_again_and_again_ends_with_its_error(
    drawn: SourceDataset,
    weights: Path,
    tmp_path: Path,
    fate: str,
    code: Code,
    words: str,
    starts: int,
) -> None:
    env_file = make(drawn, weights, tmp_path / "task", ("infer",), {})
    log = tmp_path / "log.txt"
    assert begin(log, 2, env_file, fate).wait(300) == 1
    columns = (tmp_path / "task/out/monitor.txt").read_text().splitlines()[0].split("\t")
    assert columns[3:5] == ["4", str(int(code))]
    assert words in columns[5]
    text = log.read_text()
    assert text.strip().splitlines()[-1].startswith(f"FAILED ({int(code)}): ")
    assert text.count("starting again") == starts - 1
    assert not (tmp_path / "task/out/infer-result.json").exists()
