"""The steps of `bench.scale` on a few candidates: what they do, and that their cost is there."""

from __future__ import annotations

import json
import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.scale import (
    Step,
    drawn_detections,
    line,
    main,
    measured,
    merge,
    task_in,
    write_index,
    write_shares,
)
from data.index_file import Candidate, read_candidates

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize("shares", [1, 3, 20])
def test_shares_put_together_are_the_whole(tmp_path: Path, shares: int) -> None:
    """As by one process that writes `known.jsonl` itself, whatever the number of shares."""
    candidates = [Candidate(f"{n}.jpg", f"/in/{n}.jpg") for n in range(300)]
    task, known = task_in(tmp_path), tmp_path / "out/mining/known.jsonl"
    detections = drawn_detections(2)
    write_shares(known, candidates, detections, shares)
    scores = merge(task, known, candidates)
    assert scores.tolist() == np.random.default_rng(1).random(300).tolist()
    lines = known.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["n"] for line in lines[1:]] == list(range(300))
    found = json.loads(task.out.infer_result.read_text("utf-8"))["detection"]
    assert list(found) == [one.text for one in candidates]
    assert not list(known.parent.glob("parts*"))


def test_the_index_has_as_many_names_as_asked(tmp_path: Path) -> None:
    write_index(tmp_path / "index.tsv", 5000)
    candidates, repeated = read_candidates(tmp_path / "index.tsv", tmp_path)
    assert (len(candidates), repeated) == (5000, 0)


def test_a_step_knows_the_memory_it_took(tmp_path: Path) -> None:
    steps: list[Step] = []
    (tmp_path / "file").write_bytes(b"12345")

    def fill() -> np.ndarray:
        """64 MiB of fresh pages: memory that the allocator has at hand would not be seen."""
        block = np.frombuffer(mmap.mmap(-1, 2**26), np.uint8)
        block[:] = 1
        return block

    kept = measured("fill", fill, steps, file=tmp_path / "file")
    assert kept.nbytes == 64 * 2**20
    assert steps[0].peak - steps[0].before > 50
    assert steps[0].size == 5


def test_the_command_writes_both_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--images", "50", "--boxes", "2", "--out", str(tmp_path)])
    lines = (tmp_path / "out/result.tsv").read_text("utf-8").splitlines()
    scores = [float(text.split("\t")[1]) for text in lines]
    assert len(lines) == 50
    assert scores == sorted(scores, reverse=True)
    found = json.loads((tmp_path / "out/infer-result.json").read_text("utf-8"))["detection"]
    assert len(found) == 50
    assert all(len(one["boxes"]) == 2 for one in found.values())
    assert capsys.readouterr().out.count("\n| ") == 5


def test_a_line_of_the_table() -> None:
    assert line(Step("read", 1.25, 10, 20, 3_000_000)) == "| read | 1.2 | 10 | 20 | 3.0 |"
