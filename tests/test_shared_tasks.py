"""Mining and inference in two real processes, also when one or all are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

from inference.journal import count_shard_files
from tests.conftest import ROOT
from tests.killing_example import kill_rank, read_without_pause, running, wait_for
from tests.task_results import findings, record
from tests.tasks.test_candidates import clear, everything, make
from tests.test_torchrun import TORCHRUN
from tools.sources import SourceDataset
from utils.errors import Code
from utils.shutdown import processes_below

PROGRAM = ROOT / "tests" / "sharing_example.py"

pytestmark = pytest.mark.slow


def run(log: Path, count: int, env_file: Path, **variables: str) -> int:
    """Run the task in a number of processes with one thread each; return its exit status."""
    with running(log, PROGRAM, count, env_file, **variables) as process:
        return process.wait(300)


@pytest.fixture(scope="module")
def task(
    many: SourceDataset, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, bytes]]:
    """A task for mining and inference, and the files that one process leaves of it."""
    folder = tmp_path_factory.mktemp("shared")
    env_file = make(many, weights, folder / "task", ("mining", "infer"), {"img_size": "256"})
    assert run(folder / "log.txt", 1, env_file) == 0, (folder / "log.txt").read_text()
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
    with (
        running(log, PROGRAM, 2, env_file) as task_process,
        read_without_pause(out / "monitor.txt") as records,
    ):
        assert wait_for(
            lambda: count_shard_files(journal) > 1 or task_process.poll() is not None, 240
        )
        kill_rank(task_process.pid, rank)
        assert task_process.wait(240) == 0, log.read_text()
    text = log.read_text()
    assert text.count("starting again") == 1
    assert f"process {rank} of the mining was killed (SIGKILL)" in text
    assert "FAILED" not in text
    assert text.count("DONE") == 1
    assert "merging the mining of 2 processes" in text
    assert everything(env_file) == expected
    assert findings(out.parent) == []
    columns = [line.split("\t") for line in records if line.count("\t") > 3]
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

    with running(log, PROGRAM, first, env_file) as process:
        assert wait_for(lambda: under_way() or process.poll() is not None, 240)
        below = processes_below(process.pid)
        for one in (process.pid, *below):
            os.kill(one, signal.SIGKILL)
        assert process.wait(60) < 0
    assert wait_for(lambda: not any(Path(f"/proc/{one}").exists() for one in below), 60)
    assert "result.tsv" not in everything(env_file)
    assert run(log, second, env_file) == 0, log.read_text()
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
    assert run(log, 2, env_file, FATE=fate) == 1
    columns = record(tmp_path / "task")
    assert columns[3:5] == ["4", str(int(code))]
    assert words in columns[5]
    text = log.read_text()
    assert text.strip().splitlines()[-1].startswith(f"FAILED ({int(code)}): ")
    assert text.count("starting again") == starts - 1
    assert not (tmp_path / "task/out/infer-result.json").exists()


@contextmanager
def two_machines(
    logs: Path, env_file: Path, other: Path | None = None, **variables: str
) -> Iterator[list[Popen[bytes]]]:
    """Start the task under two launchers, as on two machines; `variables` are of the second."""
    port = 20000 + os.getpid() % 10000  # below those that the system gives
    meeting = f"--nnodes 2 --rdzv-backend c10d --rdzv-id {port} --rdzv-endpoint 127.0.0.1:{port}"
    with ExitStack() as stack:
        machines = []
        for number, path in enumerate((env_file, other or env_file)):
            command = [*TORCHRUN, *meeting.split(), "--rdzv-conf", f"is_host={1 - number}"]
            more = variables if number else {}
            log = logs / f"machine {number}.txt"
            machines.append(stack.enter_context(running(log, *command, PROGRAM, 0, path, **more)))
        yield machines


def test_two_machines_leave_the_files_of_one_process(
    task: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    env_file, expected = task
    clear(env_file)
    with two_machines(tmp_path, env_file) as machines:
        assert [one.wait(300) for one in machines] == [0, 0], text_of(tmp_path)
    text = text_of(tmp_path)
    assert text.count("DONE") == 1
    assert "merged candidates 1 to 42 of 42 from shards of several processes" in text
    assert everything(env_file) == expected
    assert findings(env_file.parents[1]) == []
    assert float(record(env_file.parents[1])[2]) == 1


def test_another_machine_takes_over_the_shards_of_one_that_is_lost(
    task: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    env_file, expected = task
    clear(env_file)
    with two_machines(tmp_path, env_file, FATE="lost") as machines:
        assert wait_for(lambda: "DONE" in text_of(tmp_path), 300), text_of(tmp_path)
        assert machines[1].poll() == -signal.SIGKILL
    assert everything(env_file) == expected
    assert record(env_file.parents[1])[3:5] == ["2", "0"]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"FATE": "damaged"}, Code.NOT_A_NUMBER, "the weights are damaged."),
        ({"OMP_NUM_THREADS": "2"}, Code.CONFIG, "would compute different numbers"),
        ({"own": "out"}, Code.CONFIG, "the task's output folder must be shared"),
    ],
    ids=["an error", "another machine", "another folder"],
)
def test_an_error_on_one_machine_ends_all(
    drawn: SourceDataset,
    weights: Path,
    tmp_path: Path,
    change: dict[str, str],
    code: Code,
    words: str,
) -> None:
    env_file = make(drawn, weights, tmp_path / "task", ("infer",), {})
    other = None
    if change.pop("own", ""):
        other = make(drawn, weights, tmp_path / "other", ("infer",), {})
    with two_machines(tmp_path, env_file, other, **change) as machines:
        assert wait_for(lambda: text_of(tmp_path).count("FAILED") == 2, 300), text_of(tmp_path)
        assert machines[0].wait(300) == 1
    columns = record(tmp_path / "task")
    assert columns[3:5] == ["4", str(int(code))]
    assert words in columns[5]
    assert not (tmp_path / "task/out/infer-result.json").exists()


def text_of(logs: Path) -> str:
    """What both machines have printed."""
    return "\n".join(path.read_text() for path in sorted(logs.glob("machine *.txt")))
