"""Whole tasks through `start.py`, as the platform runs them, and what it reads of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import yaml

import start
from models.checkpoint import load_checkpoint
from tests.conftest import NAMES
from tests.reporting.page_reader import read_page_file
from tests.task_results import edit, findings, record
from tools.make_task import write_task
from tools.sources import SourceDataset

CANDIDATES = {"img_size": "96", "batch_size": "4", "conf_thres": "0.01"}


def run(env_file: Path) -> int:
    return start.main(["--env", str(env_file)])


def test_a_training_leaves_what_the_platform_reads(trained: Path) -> None:
    assert findings(trained) == []
    models = trained / "out" / "models"
    result = yaml.safe_load((models / "result.yaml").read_text("utf-8"))
    assert result["best_stage_name"] == "best"
    assert result["model_stages"]["best"]["files"] == ["best.pt", "best.onnx"]
    report = models / "attachments" / "report"
    assert set(result["attachments"]["report"]) == {path.name for path in report.glob("[!.]*")}
    assert {"report.html", "results.csv", "classes.csv", "results.png", "validation.jpg"} <= set(
        result["attachments"]["report"]
    )
    assert list((trained / "out" / "tensorboard").glob("events.*"))
    page = read_page_file(report / "report.html")
    assert "red_cell" in page.text
    assert "best.onnx (" in page.text
    assert f"command python start.py --env {trained / 'in' / 'env.yaml'} written" in page.text
    assert record(trained)[2:5] == ["1.000000", "2", "0"]
    lines = (report / "results.csv").read_text().splitlines()
    assert [line.split(",")[0].strip() for line in lines] == ["epoch", "0", "1"]
    assert isinstance(torch.load(models / "best" / "best.pt", weights_only=True), dict)
    assert load_checkpoint(models / "best" / "best.pt").class_names == NAMES


Results = Callable[..., dict[str, bytes]]


@pytest.fixture
def results(drawn: SourceDataset, weights: Path, tmp_path: Path) -> Results:
    """Run a task on candidates, check it, and return its result files."""

    def run_task(
        kinds: Sequence[str], protocol: str | None = "1.1.0", **settings: object
    ) -> dict[str, bytes]:
        task = tmp_path / "task"
        env_file = write_task(
            drawn, task, kinds=kinds, weights=[weights], protocol=protocol, overwrite=True
        )
        edit(task / "in" / "config.yaml", **{**CANDIDATES, **settings})
        assert run(env_file) == 0
        assert findings(task) == []
        assert record(task)[2:5] == ["1.000000", "2", "0"]
        page = read_page_file(task / "out" / "tensorboard" / "report.html")
        assert ("Label these first" in page.text) == ("mining" in kinds)
        files = [path for path in (task / "out").iterdir() if path.is_file()]
        return {path.name: path.read_bytes() for path in files if path.name != "monitor.txt"}

    return run_task


def test_mining_with_inference_gives_the_files_of_each_alone(results: Results) -> None:
    mining, inference = results(["mining"]), results(["infer"])
    assert set(mining) == {"result.tsv"}
    assert set(inference) == {"infer-result.json"}
    assert results(["mining", "infer"]) == mining | inference
    typed = {"img_size": 96, "batch_size": 4, "conf_thres": 0.01}
    assert results(["mining", "infer"], None, **typed) == mining | inference


def test_tiles_and_augmentation_in_mining_with_inference(results: Results) -> None:
    """Images of 160 x 120 pixels in tiles of 96; each option changes what is written."""
    both = ["mining", "infer"]
    low = {"conf_thres": "0.001", "balance_window": "0"}
    plain, tiled, augmented = (
        results(both, **low, **options)
        for options in ({}, {"tile_size": "96"}, {"augment": "true"})
    )
    # The whole of an image is among its tiles, and its score that of the best of them.
    scores, tiled_scores = (
        dict(line.split("\t") for line in files["result.tsv"].decode().splitlines())
        for files in (plain, tiled)
    )
    assert scores.keys() == tiled_scores.keys()
    assert all(float(tiled_scores[path]) >= float(score) for path, score in scores.items())
    assert len({files["infer-result.json"] for files in (plain, tiled, augmented)}) == 3
    assert augmented["result.tsv"] == plain["result.tsv"]  # mining has no augmentation


def test_without_a_task_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "none" / "in" / "env.yaml") == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("FAILED (300001): the task's environment file ")
    assert "`python -m tools.make_task` writes a task" in line
    assert not (tmp_path / "none").exists()
