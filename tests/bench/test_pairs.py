"""Both programs in turns, each in a process of its own, and what they say of themselves."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench import pairs
from bench.pairs import Contest, run_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_a_program_knows_its_start_and_its_memory_is_known(tmp_path: Path) -> None:
    code = (
        "import json, os, time\n"
        "print('chatter')\n"
        "taken = time.time() - float(os.environ['BENCH_STARTED'])\n"
        "print(json.dumps({'benchmark': 'x', 'taken': taken}))"
    )
    result = run_program([sys.executable, "-c", code], tmp_path, os.environ)
    assert isinstance(result["taken"], float)
    assert 0 < result["taken"] < 60
    assert isinstance(result["peak_mib"], float)


def test_a_program_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no such thing"):
        run_program([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path, {})


def test_both_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def answer(command: list[str], folder: Path, given: Mapping[str, str]) -> dict[str, object]:
        order.append("ours" if "bench.run_ours" in command else Path(command[1]).name)
        job = json.loads(Path(command[-1]).read_text("utf-8"))
        assert (job["threads"], job["device"], job["x"]) == (1, "3", 5)
        seconds = [2.0] if order[-1] == "ours" else [6.0]
        about = {"torch": "2", "precision": "float32", "threads": 1, "objects": 7}
        return {**about, "seconds": seconds, "images": 1000, "peak_mib": 1.0}

    monkeypatch.setattr(pairs, "run_program", answer)
    contest = Contest(Path("python"), 2, 1, folder=tmp_path, device="3")
    row = contest.measure("task", {"x": 5})
    assert order == ["ours", "run_peer.py", "run_peer.py", "ours"]
    assert (row.ours, row.peer) == ((2.0, 2.0), (6.0, 6.0))
    assert row.remark == "7 and 7 objects"
    other = contest.against("run_ultralytics.py")
    other.results({"x": 5})
    assert order[5] == "run_ultralytics.py"
    assert set(contest.settings) == {"ours", "peer", "ultralytics"}
