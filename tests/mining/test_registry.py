"""What holds for every algorithm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import start
from mining.registry import ALGORITHMS
from tests.mining.colour_example import SETTINGS, ColourPredictor, mine
from tools.make_task import write_task
from tools.sources import SourceDataset


@pytest.mark.parametrize("name", sorted({*ALGORITHMS, "diverse cald"} - {"aldd"}))
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batch_size_and_order_change_nothing(
    paths: list[str], copies: list[str], name: str, batch_size: int
) -> None:
    algorithm, _, score = name.partition(" ")
    settings = replace(SETTINGS, mining_algorithm=algorithm, diverse_score=score or "entropy")
    images = paths + copies
    expected = mine(ColourPredictor(), images, settings)
    other = replace(settings, batch_size=batch_size)
    assert [path for path, _ in expected] == images
    assert mine(ColourPredictor(batch_size=batch_size), images, other) == expected
    assert dict(mine(ColourPredictor(), images[::-1], other)) == dict(expected)
    lowest = min(score for _, score in expected)
    assert [path for path, score in expected if score == lowest] == [paths[4], copies[5]]
    if algorithm not in {"diverse", "balanced"}:
        assert mine(ColourPredictor(), paths[3:4], other) == expected[3:4]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_task_with_inference_ranks_as_one_without_and_repeats_itself(
    drawn: SourceDataset, weights: Path, tmp_path: Path, name: str
) -> None:
    written = []
    settings = {"mining_algorithm": name, "img_size": "64", "conf_thres": "0.001", "plots": "no"}
    for kinds in (("mining",), ("mining", "infer"), ("mining",)):
        task = tmp_path / "task"
        env_file = write_task(
            drawn, task, kinds=kinds, settings=settings, weights=[weights], overwrite=True
        )
        assert start.main(["--env", str(env_file)]) == 0
        written.append((task / "out" / "result.tsv").read_text())
        assert (task / "out" / "monitor.txt").read_text().split()[2] == "1.000000"
    assert written[0] == written[1] == written[2]
    scores = [float(line.split("\t")[1]) for line in written[0].splitlines()]
    assert scores == sorted(scores, reverse=True)
