"""Programs run in turns, each in a process of its own, and what becomes of their results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench import comparison
from bench.comparison import (
    LOOP,
    YOLOV5,
    Comparison,
    PeakMemory,
    Row,
    parse_result,
    peer_interpreter,
    peer_variables,
    proportional_mib,
    run_program,
    table,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

HOLD = "import sys; block = bytearray(b'1') * (64 << 20); print(len(block), flush=True); input()"
CHILD = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]]); "
    "sys.exit(child.wait())"
)
SPEED = Row("files", "other", "images/s", (10.0, 12.0, 9.0), (5.0, 4.0, 6.0), remark="same")
MEMORY = Row("memory", "other", "MiB", (500.0,), (750.0,), more_is_better=False)


def test_ratios_say_how_many_times_as_good_ours_is() -> None:
    assert SPEED.ratios == [2.0, 3.0, 1.5]
    assert MEMORY.ratios == [1.5]
    lines = table([SPEED, MEMORY]).splitlines()
    assert lines[2] == "| files | images/s | 10 | other | 5 | 1.50 / **2.00** / 3.00 | same |"
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {8}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param('hello\n{"benchmark": "a", "seconds": [2]}\nbye\n', [2], id="among others"),
        pytest.param(
            '{"benchmark": "a", "seconds": [1]}\n{"benchmark": "a", "seconds": [3]}',
            [3],
            id="the last",
        ),
        pytest.param('{"benchmark": "a", "seconds": [4]}\n{"other": 1}\n7', [4], id="other JSON"),
        pytest.param("Traceback\n[1, 2]\n{broken", None, id="no result"),
    ],
)
def test_the_last_result_that_is_printed_counts(output: str, expected: list[int] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="no result"):
            parse_result(output)
    else:
        assert parse_result(output)["seconds"] == expected


def test_a_program_gets_its_start_time_and_its_memory_is_measured(tmp_path: Path) -> None:
    code = (
        "import json, os, time\n"
        "print('chatter')\n"
        "taken = time.time() - float(os.environ['BENCH_STARTED'])\n"
        "print(json.dumps({'benchmark': 'x', 'taken': taken}))"
    )
    result = run_program([sys.executable, "-c", code], tmp_path, os.environ)
    assert 0 < result["taken"] < 60
    assert result["peak_mib"] >= 0


def test_the_output_of_a_program_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no such thing"):
        run_program([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path, {})


@pytest.mark.parametrize("command", [["-c", HOLD], ["-c", CHILD, HOLD]], ids=["itself", "child"])
def test_peak_memory_includes_child_processes(command: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        with PeakMemory(process.pid, interval=0.01) as memory:
            pass
        process.stdin.write(b"\n")
        process.stdin.close()
    assert process.returncode == 0
    assert 64 < memory.mib < 200
    assert proportional_mib(process.pid) == 0


def test_programs_run_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def answer(command: list[str], folder: Path, given: Mapping[str, str]) -> dict[str, object]:
        order.append(command[2] if command[1] == "-m" else command[-1])
        path = next(Path(word) for word in command if word.endswith("job.json"))
        job = json.loads(path.read_text("utf-8"))
        assert (job["threads"], job["device"], job["x"]) == (1, "3", 5)
        assert given["OMP_NUM_THREADS"] == "1"
        about = {"torch": "2", "precision": "float32", "threads": 1, "program": order[-1]}
        return {**about, "seconds": [2.0], "images": 1000}

    monkeypatch.setattr(comparison, "run_program", answer)
    runs = Comparison(Path("python"), 2, 1, folder=tmp_path, device="3")
    ours, theirs = runs.results({"x": 5})
    assert order == ["bench.run_ours", "yolov5", "yolov5", "bench.run_ours"]
    assert [one["program"] for one in theirs] == ["yolov5"] * 2
    assert len(ours) == 2
    runs.run(LOOP, {"x": 5})
    assert set(runs.versions) == {"bench.run_ours", YOLOV5, LOOP}


def test_a_given_interpreter_of_the_peer_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert peer_interpreter(sys.executable) == Path(sys.executable)
    monkeypatch.setenv("PEER", str(tmp_path / "python"))
    with pytest.raises(SystemExit, match="no interpreter"):
        peer_interpreter()


def test_the_peer_finds_its_font_without_the_network(tmp_path: Path) -> None:
    folder = Path(peer_variables(tmp_path / "new")["YOLOV5_CONFIG_DIR"])
    assert (folder / "Arial.ttf").stat().st_size == (
        folder / "Ultralytics/Arial.ttf"
    ).stat().st_size
