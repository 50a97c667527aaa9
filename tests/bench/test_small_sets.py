"""Small sets: the table by hand, two tiny trainings of which none is run twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.small_sets import main, only_one, read_results, table, yolo_folder
from tools.sources import SourceDataset


def test_the_table_pairs_seeds_with_the_official_ones() -> None:
    key = {"data": "bees", "start": "scratch", "epochs": 9}
    figures = [("ours", 0, 0.5), ("ours", 1, 0.7), ("yolov5", 0, 0.4), ("yolov5", 1, 0.5)]
    rows: list[dict[str, Any]] = [
        {**key, "name": name, "seed": seed, "mAP50": value, "mAP50-95": value / 2}
        for name, seed, value in figures
    ]
    # Differences 0.1 and 0.2: mean 0.15, standard error 0.1 / 2.
    assert table(rows).splitlines()[2:] == [
        "| bees | scratch | 9 | ours | 2 | 0.6000 ± 0.1000 | +0.1500 ± 0.0500 "
        "| 0.3000 ± 0.0500 | +0.0750 ± 0.0250 |",
        "| bees | scratch | 9 | yolov5 | 2 | 0.4500 ± 0.0500 |  | 0.2250 ± 0.0250 |  |",
    ]


def test_a_line_that_was_cut_short_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert read_results(path) == []
    path.write_text('{"seed": 1}\n{"seed": 2, "mA', encoding="utf-8")
    assert read_results(path) == [{"seed": 1}]


def test_one_process_trains_in_a_folder(tmp_path: Path) -> None:
    with only_one(tmp_path) as first, only_one(tmp_path) as second:
        assert (first, second) == (True, False)
    with only_one(tmp_path) as again:
        assert again


def test_a_limit_draws_training_images(drawn: SourceDataset, tmp_path: Path) -> None:
    data = yolo_folder(drawn, tmp_path, 3)
    assert data == yolo_folder(drawn, tmp_path, 3)
    counts = {
        split: len(list((tmp_path / "images" / split).iterdir())) for split in ("train", "val")
    }
    assert counts == {"train": 3, "val": len(drawn.splits["val"])}


@pytest.mark.slow
def test_a_finished_training_is_not_repeated(
    drawn: SourceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(drawn.splits["train"][0].path.parents[1])
    words = ["--data", data, "--out", str(tmp_path), "--seeds", "3", "--programs", "ours"]
    words += ["--limit", "8", "--epochs", "1", "--img-size", "64"]
    killed = tmp_path / f"{Path(data).name}-8-scratch-1-ours-3" / "run" / "epoch of a killed one"
    killed.parent.mkdir(parents=True)
    killed.touch()
    main(words)
    assert not killed.exists()
    assert (killed.parent / "results.csv").is_file()
    first = capsys.readouterr().out
    results = (tmp_path / "results.jsonl").read_text("utf-8")
    main(words)
    assert (tmp_path / "results.jsonl").read_text("utf-8") == results
    assert capsys.readouterr().out == first
    assert "| scratch | 1 | ours | 1 | " in first
    assert len(json.loads(results)["curve"]) == 1
    assert (tmp_path / "curves.png").stat().st_size > 0
    with pytest.raises(SystemExit):
        main([*words, "--set", "lr0=0.1"])
