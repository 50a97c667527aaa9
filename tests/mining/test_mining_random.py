"""Random mining: a draw that follows the name, and a task that needs nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

import start
from inference.predictions import Prediction
from mining.mining_random import random_score, random_scores
from mining.registry import mine
from mining.scores import ScoringContext
from ops.tiling import Window
from settings.detect import MiningSettings
from tools.make_task import write_task
from tools.sources import SourceDataset

SETTINGS = MiningSettings(mining_algorithm="random", workers=1)


def test_draw_follows_seed_and_name() -> None:
    assert random_score(0, "folder/a.jpg") == random_score(0, "elsewhere/a.jpg")
    assert random_score(0, "a.jpg") != random_score(0, "b.jpg")
    assert random_score(0, "a.jpg") != random_score(1, "a.jpg")


def test_an_image_in_tiles_counts_once() -> None:
    window = Window(0, 0, 9, 9)
    parts = [Prediction(0, "a", (9, 9), window=window, tiles=2)] * 2
    assert (
        len(
            list(
                random_scores(
                    [*parts, Prediction(1, "b", (9, 9))], ScoringContext(None, SETTINGS, 2)
                )
            )
        )
        == 2
    )


def test_order_changes_nothing_and_a_bad_file_comes_last(
    drawn: SourceDataset, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    paths = [*[str(image.path) for image in drawn.splits["train"]], str(bad)]
    scores = dict(mine(None, paths, SETTINGS))
    assert dict(mine(None, paths[::-1], SETTINGS)) == scores
    assert scores[str(bad)] == -1
    assert min(scores.values()) == -1


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
