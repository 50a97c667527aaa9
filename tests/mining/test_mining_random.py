"""Random mining: a draw that follows the name, and a task that needs nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

import start
from inference.predictions import Prediction
from mining.mining_random import random_score, random_scores
from mining.scores import ScoringContext
from ops.tiling import Window
from settings.detect import MiningSettings
from tests.mining.colour_example import mine
from tools.make_task import write_task
from tools.sources import SourceDataset


def test_draw_follows_seed_and_name() -> None:
    assert random_score(0, "folder/a.jpg") == random_score(0, "elsewhere/a.jpg")
    assert random_score(0, "a.jpg") != random_score(0, "b.jpg")
    assert random_score(0, "a.jpg") != random_score(1, "a.jpg")


def test_an_image_in_tiles_counts_once() -> None:
    parts = [Prediction(0, "a", (9, 9), window=Window(0, 0, 9, 9), tiles=2)] * 2
    images = [*parts, Prediction(1, "b", (9, 9))]
    scored = random_scores(images, ScoringContext(None, MiningSettings(), 2))
    assert [one.path for one in scored] == ["a", "b"]


def test_no_predictor_is_needed(paths: list[str]) -> None:
    settings = MiningSettings(mining_algorithm="random")
    expected = [(path, random_score(settings.seed, path)) for path in paths]
    expected[4] = (paths[4], -1)
    assert mine(None, paths, settings) == expected


@pytest.mark.parametrize("gpu", ["", "0"])
def test_task_without_weights_or_gpu(drawn: SourceDataset, tmp_path: Path, gpu: str) -> None:
    task = tmp_path / "task"
    settings = {"mining_algorithm": "random"}
    env_file = write_task(drawn, task, kinds=("mining",), settings=settings, gpu_id=gpu)
    assert start.main(["--env", str(env_file)]) == 0
    rows = [line.split("\t") for line in (task / "out" / "result.tsv").read_text().splitlines()]
    assert [float(score) for _, score in rows] == pytest.approx(
        sorted((random_score(0, path) for path, _ in rows), reverse=True), abs=1e-6
    )
