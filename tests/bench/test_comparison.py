"""Programs run in turns, each in a process of its own, and what becomes of their results."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench import comparison
from bench.comparison import (
    LOOP,
    YOLOV5,
    Comparison,
    Row,
    peer_interpreter,
    peer_variables,
    run_program,
    table,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SPEED = Row("files", "other", "images/s", (10.0, 12.0, 9.0), (5.0, 4.0, 6.0), remark="same")
MEMORY = Row("memory", "other", "MiB", (500.0,), (750.0,), more_is_better=False)


def test_ratios_say_how_many_times_as_good_ours_is() -> None:
    assert SPEED.ratios == [2.0, 3.0, 1.5]
    assert MEMORY.ratios == [1.5]
    lines = table([SPEED, MEMORY]).splitlines()
    assert lines[2] == "| files | images/s | 10 | other | 5 | 1.50 / **2.00** / 3.00 | same |"
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {8}


def test_a_program_gets_its_start_time_and_the_memory_of_its_child_is_measured(
    tmp_path: Path,
) -> None:
    code = "import time; block = bytearray(b'1') * (64 << 20); time.sleep(1)"
    (tmp_path / "hold.py").write_text(code)
    lines = [
        "import json, os, subprocess, sys, time",
        "assert 0 < time.time() - float(os.environ['BENCH_STARTED']) < 60",
        "print(json.dumps({'benchmark': 'x', 'number': 1}))",
        "subprocess.run([sys.executable, 'hold.py'], check=True)",
        "print(json.dumps({'benchmark': 'x', 'number': 2}), flush=True)",
        "print(json.dumps({'other': 3}))",
    ]
    result = run_program([sys.executable, "-c", "\n".join(lines)], tmp_path, os.environ)
    assert result["number"] == 2  # the last result that is printed counts
    assert 64 < result["peak_mib"] < 200


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("raise SystemExit('no such thing')", pytest.raises(SystemExit, match="no such thing")),
        ("print('{broken'); print([1])", pytest.raises(ValueError, match="no result")),
    ],
)
def test_a_program_without_a_result_is_an_error(tmp_path: Path, code: str, error: Any) -> None:
    with error:
        run_program([sys.executable, "-c", code], tmp_path, {})


@pytest.mark.parametrize(("before", "seen"), [(None, "3"), ("4,5,6,7", "7")])
def test_programs_run_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, seen: str
) -> None:
    """On the GPU that was asked for, by its number among those that are visible."""
    order = []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)

    def answer(command: list[str], folder: Path, given: Mapping[str, str]) -> dict[str, object]:
        order.append(command[2] if command[1] == "-m" else command[-1])
        path = next(Path(word) for word in command if word.endswith("job.json"))
        job = json.loads(path.read_text("utf-8"))
        assert (job["threads"], job["device"], job["x"]) == (1, "3", 5)
        assert (given["OMP_NUM_THREADS"], given["CUDA_VISIBLE_DEVICES"]) == ("1", seen)
        about = {"torch": "2", "precision": "float32", "on": "CPU", "program": order[-1]}
        return {**about, "seconds": [2.0], "images": 1000}

    monkeypatch.setattr(comparison, "run_program", answer)
    runs = Comparison(Path("python"), 2, 1, folder=tmp_path, device="3")
    ours, theirs = runs.results({"x": 5})
    assert order == ["bench.run_ours", "yolov5", "yolov5", "bench.run_ours"]
    assert [one["program"] for one in theirs] == ["yolov5"] * 2
    assert len(ours) == 2
    runs.run(LOOP, {"x": 5})
    assert set(runs.versions) == {f"{name} in float32" for name in ("bench.run_ours", YOLOV5, LOOP)}


def test_a_given_interpreter_of_the_peer_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert peer_interpreter(sys.executable) == Path(sys.executable)
    monkeypatch.setenv("PEER", str(tmp_path / "python"))
    with pytest.raises(SystemExit, match="no interpreter"):
        peer_interpreter()


def test_the_peer_finds_its_font_without_the_network(tmp_path: Path) -> None:
    folder = Path(peer_variables(tmp_path / "new")["YOLOV5_CONFIG_DIR"])
    fonts = [(folder / name).read_bytes() for name in ("Arial.ttf", "Ultralytics/Arial.ttf")]
    assert fonts[0] == fonts[1]
