"""What holds for every algorithm."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import start
from inference.network import Network
from mining.registry import ALGORITHMS
from tests.conftest import DEVICES
from tests.mining.colour_example import SETTINGS, ColourPredictor, mine, untrained
from tools.make_task import write_task
from tools.sources import SourceDataset

MODULES = [f"mining.mining_{name}" for name in ALGORITHMS]


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


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - {"random"}))
@pytest.mark.parametrize("place", ["_pass", "stack_inputs"])
def test_memory_that_runs_out_changes_no_score(
    paths: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    device: str,
    place: str,
) -> None:
    """From the second batch on only one image fits, in the network or beside it."""
    settings, images = replace(SETTINGS, mining_algorithm=name), paths * 2
    predictor = untrained(3, torch.device(device))
    expected = mine(predictor, images, settings)
    calls = 0
    modules = [module for module in map(sys.modules.get, MODULES) if hasattr(module, place)]
    for owner in [Network] if place == "_pass" else modules:
        real = getattr(owner, place)

        def scarce(*words: Any, real: Callable[..., Any] = real) -> Any:
            nonlocal calls
            calls += 1
            if calls > 1 and len(words[-1]) > 1:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return real(*words)

        monkeypatch.setattr(owner, place, scarce)
    found = mine(untrained(3, torch.device(device)), images, settings)
    assert [path for path, _ in found] == images
    assert [score for _, score in found] == pytest.approx(
        [score for _, score in expected], abs=1e-6
    )
    assert ("ran out of memory with" in caplog.text) == (calls > 0)
    assert "going on with 1 at most" in caplog.text or calls == 0
