"""The loop of labelling, training and mining: refusals, and a run killed between its rounds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bench import active_learning
from bench.active_rounds import epochs_of
from bench.round_log import START, RoundResult, read_results
from tests.conftest import ROOT
from tools.draw_dataset import draw_dataset
from tools.sources import read_source
from utils.errors import TaskError

TINY = [
    *("--strategies", "random", "cald", "--seeds", "4", "--start", "4", "--per-round", "2"),
    *("--rounds", "2", "--epochs", "1", "--set", "img_size=96", "--set", "batch_size=4"),
    *("--set", "nominal_batch_size=4", "--set", "workers=0", "--set", "precision=float32"),
    *("--mining-set", "precision=float32", "--mining-set", "workers=0"),
    # A network of one epoch is sure of nothing: without this, mining would rank empty images.
    *("--mining-set", "conf_thres=0.0001", "--mining-set", "max_det=20"),
]
KEYS = [(4, START, 0), *((4, name, number) for name in ("random", "cald") for number in (1, 2))]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw_dataset(folder, images=24, size_wh=(160, 120), seed=1)
    return folder


@pytest.mark.parametrize(
    ("labels", "steps", "expected"),
    [
        pytest.param(20, 0, 7, id="fixed epochs"),
        pytest.param(20, 100, 50, id="2 batches an epoch"),
        pytest.param(48, 100, 34, id="3 batches an epoch, the last epoch whole"),
        pytest.param(5, 1, 1, id="at least one"),
    ],
)
def test_epochs_of(labels: int, steps: int, expected: int) -> None:
    assert epochs_of(labels=labels, batch_size=16, epochs=7, steps=steps) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--rounds", "9"], "make 22, but the training split .* has 16", id="few"),
        pytest.param(["--strategies", "dice"], "mining_algorithm", id="unknown algorithm"),
        pytest.param(["--set", "epochs=3"], "--set epochs", id="not to be set"),
        pytest.param(["--set", "batch_size=-1", "--steps", "9"], "batch_size", id="no batch size"),
        pytest.param(["--weights", "none.pt"], "no weights at none.pt", id="no weights"),
    ],
)
def test_refusals(data: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        active_learning.main(
            ["--data", str(data), "--out", str(tmp_path / "out"), *TINY, *arguments]
        )
    assert not list(tmp_path.rglob("results.jsonl"))


def test_a_folder_of_something_else_stays_untouched(data: Path, tmp_path: Path) -> None:
    precious = tmp_path / "letter.txt"
    precious.write_text("dear", encoding="utf-8")
    with pytest.raises(TaskError, match="no folder of this benchmark"):
        active_learning.main(["--data", str(data), "--out", str(tmp_path), *TINY])
    assert list(tmp_path.iterdir()) == [precious]


def test_a_kill_while_the_data_are_laid_out_leaves_a_folder_that_can_be_used(
    data: Path, tmp_path: Path
) -> None:
    source, out = read_source(data), tmp_path / "out"
    setup: dict[str, object] = {"start": 4}
    (out / active_learning.POOL / "in" / "assets").mkdir(parents=True)
    for name in ("lock", ".experiment.json.123.tmp"):
        (out / name).touch()
    active_learning.place(out, source, setup)
    index = out / active_learning.POOL / "in" / "train-index.tsv"
    assert len(index.read_text("utf-8").splitlines()) == 16
    index.write_text("as it was", encoding="utf-8")
    active_learning.place(out, source, setup)
    assert index.read_text("utf-8") == "as it was"  # laid out once
    with pytest.raises(TaskError, match="start was 4, is 6"):
        active_learning.place(out, source, {"start": 6})


def command(data: Path, out: Path, *further: str) -> list[str]:
    module = [sys.executable, "-m", "bench.active_learning"]
    return [*module, "--data", str(data), "--out", str(out), *TINY, *further]


def run_whole(data: Path, out: Path, *further: str) -> list[RoundResult]:
    subprocess.run(command(data, out, *further), cwd=ROOT, check=True)
    return read_results(out / "seed-4" / "results.jsonl")


def without_time(results: list[RoundResult]) -> list[RoundResult]:
    return [replace(result, seconds=0.0) for result in results]


def kill_after(lines: int, data: Path, out: Path) -> None:
    """Start the run and kill it, without warning, once so many rounds are on disk."""
    results = out / "seed-4" / "results.jsonl"
    with subprocess.Popen(command(data, out), cwd=ROOT) as process:
        deadline = time.monotonic() + 300
        while not results.is_file() or results.read_bytes().count(b"\n") < lines:
            assert process.poll() is None, "the run ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_outcome(data: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = run_whole(data, whole)
    kill_after(2, data, killed)
    before = read_results(killed / "seed-4" / "results.jsonl")
    assert [result.key for result in before] == KEYS[:2]
    kill_after(4, data, killed)
    found = run_whole(data, killed)

    assert [result.key for result in expected] == KEYS
    assert without_time(found) == without_time(expected)
    assert found[:2] == before  # their time too: nothing was run again
    for name in ("random", "cald"):
        chosen = [i for one in found if one.strategy in (START, name) for i in one.added]
        assert len(set(chosen)) == len(chosen) == 8
    assert [one.labels for one in found] == [4, 6, 8, 6, 8]
    assert all(one.boxes > 0 for one in found)
    assert all(loss > 0 for one in found for loss in one.losses)

    for out in (whole, killed):
        lines = (out / "report.md").read_text(encoding="utf-8").splitlines()
        assert [line.split(" | ")[:2] for line in lines[2:]] == [["| random", "1"], ["| cald", "1"]]
        with Image.open(out / "learning_curves.png") as picture:
            assert picture.size == (960, 600)
    assert (whole / "report.md").read_text("utf-8") == (killed / "report.md").read_text("utf-8")

    described = killed / "experiment.json"
    setup = json.loads(described.read_text(encoding="utf-8"))
    assert (setup["start"], setup["per round"], setup["device"]) == (4, 2, "cpu")
    with pytest.raises(TaskError, match=r"start was 4, is 5"):
        active_learning.main([*command(data, killed)[3:], "--start", "5"])

    # More rounds later, also when somebody has removed the weights that they begin with.
    shutil.rmtree(killed / "seed-4" / "cald")
    longer = [run_whole(data, out, "--rounds", "3") for out in (whole, killed)]
    assert without_time(longer[0]) == without_time(longer[1])
    assert [one.key for one in longer[0]] == [*KEYS, (4, "random", 3), (4, "cald", 3)]
