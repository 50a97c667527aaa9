"""Lines from what programs said, and which jobs each part asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from bench import parts
from bench.pairs import Contest
from bench.parts import PARTS, QUICK, Measurement, memory_line, rate_line
from tools.draw_dataset import draw_dataset
from tools.sources import SourceDataset, read_source

RESULTS = {
    "ours": [{"seconds": [1.0, 3.0], "images": 10, "peak_mib": 100.0, "objects": 4, "map50": 0.5}],
    "peer": [{"seconds": [8.0], "images": 10, "peak_mib": 150.0, "objects": 5, "map50": 0.5}],
}


class Answers(Contest):
    """A contest whose programs have run already."""

    def results(self, job: Mapping[str, object]) -> dict[str, list[dict[str, object]]]:
        self.settings[f"{self.script} {job['kind']}"] = str(job.get("batch_size"))
        return {name: list(map(dict, found)) for name, found in RESULTS.items()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceDataset:
    folder = tmp_path_factory.mktemp("data")
    draw_dataset(folder, images=4, size_wh=(64, 48), seed=0)
    return read_source(folder)


@pytest.fixture
def measurement(source: SourceDataset, tmp_path: Path) -> Measurement:
    contest = Answers(Path("python"), 1, 1, folder=tmp_path)
    return Measurement(contest, source, None, QUICK)


def test_lines_by_hand() -> None:
    speed, memory = rate_line("task", RESULTS), memory_line("task", RESULTS)
    assert (speed.ours, speed.others, speed.ratios()) == ((5.0,), (1.25,), (4.0,))
    assert (memory.unit, memory.ratios()) == ("MiB at most", (1.5,))


@pytest.mark.parametrize(
    ("part", "jobs", "lines"),
    [
        ("training", {"run_peer.py training": "8"}, 4),
        ("evaluation", {"run_peer.py evaluation": "32"}, 1),
        ("inference", {"run_peer.py inference": "1", "run_ultralytics.py inference": "1"}, 4),
        ("start", {"run_peer.py start": "16"}, 1),
    ],
)
def test_a_part_runs_its_jobs(
    measurement: Measurement, part: str, jobs: dict[str, str], lines: int
) -> None:
    PARTS[part](measurement)
    assert measurement.contest.settings == jobs
    assert len(measurement.lines) == lines
    assert all(line.ratios() for line in measurement.lines)
    assert all(rate > 0 for _, rate in measurement.reached)


def test_mining_has_its_own_loop(measurement: Measurement, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"auto": [0.5], "reference": [2.0]}
    monkeypatch.setattr(parts, "measure_mining", lambda job, programs, rounds: times)
    PARTS["mining"](measurement)
    assert measurement.lines[0].ratios() == (4.0,)
    measurement.contest.device = "0"
    PARTS["mining"](measurement)
    assert len(measurement.lines) == 1
    assert measurement.remarks == ["mining is measured on the CPU only"]


def test_shares_of_the_ceiling(measurement: Measurement, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"float32": 200.0, "bfloat16": 400.0}
    monkeypatch.setattr(parts, "matmul_rate", lambda name, device, side: rates[name])
    measurement.reached.append(("a task", 100.0))
    assert parts.ceiling(measurement).endswith(
        "- a task: 100 GFLOP/s, 50% of float32, 25% of bfloat16"
    )
