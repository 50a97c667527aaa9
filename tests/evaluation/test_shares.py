"""Shares of an evaluation, sent and joined, against one that has seen everything."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from data.loaders import LoaderConfig, evaluation_loader
from evaluation.evaluator import Evaluation, Evaluator
from evaluation.shares import BatchResult, RankResults, joined, of_all, packed, unpacked
from tests.evaluation.evaluation_example import split
from tests.utils.test_distributed import launch
from utils.distributed import SINGLE_PROCESS, DistContext

CLASSES = 3


def found_in(batches: range) -> RankResults:
    """Batches of one to three images with random boxes; those with an even number have none."""
    found = RankResults(Evaluator(CLASSES))
    for number in batches:
        rng = np.random.default_rng(number)
        positions = tuple(100 - 3 * number - place for place in range(1 + number % 3))
        for position in positions:
            corners = rng.uniform(0, 60, (7, 2)).astype(np.float32)
            boxes = np.concatenate([corners, corners + 25], axis=1)
            classes = rng.integers(0, CLASSES, (7, 1))
            sure = np.sort(rng.uniform(0, 1, (7, 1)), axis=0)[::-1]
            # Half of the images have neither label nor detection.
            kept = 7 * (position % 2)
            rows = np.concatenate([boxes + 1, sure, classes], axis=1).astype(np.float32)[:kept]
            labels = np.concatenate([classes, boxes], axis=1).astype(np.float32)[:kept]
            found.tally.add(rows, labels)
            found.shown[position] = rows[rows[:, 4] >= 0.25]
        found.batches.append(BatchResult(number, positions, torch.from_numpy(rng.random(3))))
    return found


def same(one: object, other: object) -> None:
    """Equal to the last bit, in kind and in order."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)  # type: ignore[call-overload]
        for key, value in one.items():
            same(value, other[key])  # type: ignore[index]
    elif isinstance(one, tuple):
        for mine, theirs in zip(one, other, strict=True):  # type: ignore[call-overload]
            same(mine, theirs)
    elif hasattr(one, "__dict__"):
        same(vars(one), vars(other))
    else:
        assert one == other


def evaluated(found: RankResults) -> Evaluation:
    figures = found.tally.evaluation(
        report_confidence=0.25, losses=found.mean_losses(), by_size=True
    )
    return Evaluation(**{**vars(figures), "detections": found.shown})


@pytest.mark.parametrize(
    ("batches", "world"),
    [
        pytest.param(9, 2, id="two"),
        pytest.param(10, 3, id="three"),
        pytest.param(1, 2, id="nothing for the second"),
        pytest.param(0, 2, id="nothing for anybody"),
    ],
)
def test_joined_shares_are_the_whole(batches: int, world: int) -> None:
    shares = [found_in(range(rank, batches, world)) for rank in range(world)]
    whole = joined([unpacked(packed(share), CLASSES) for share in shares])
    expected = found_in(range(batches))
    same(evaluated(whole), evaluated(expected))
    assert [seen.number for seen in whole.batches] == list(range(batches))


def test_a_share_is_not_the_whole() -> None:
    """The comparison above can fail."""
    with pytest.raises(AssertionError):
        same(evaluated(found_in(range(0, 9, 2))), evaluated(found_in(range(9))))


def test_one_alone_sends_nothing() -> None:
    found = found_in(range(3))
    assert of_all(found, SINGLE_PROCESS) is found


def test_every_batch_is_in_one_share(tmp_path: Path) -> None:
    index = split(tmp_path, classes=2, images=7)
    loaders = [
        evaluation_loader(index, LoaderConfig(64, 2, workers=0), processes=who)
        for who in (SINGLE_PROCESS, *(DistContext(rank, 3, rank, 3) for rank in range(3)))
    ]
    (alone, *shares) = [{b.number: b.indices for b in loader} for loader in loaders]
    assert list(alone) == [0, 1, 2, 3]
    assert [list(share) for share in shares] == [[0, 3], [1], [2]]
    assert {number: own for share in shares for number, own in share.items()} == alone
    assert [len(loader) for loader in loaders] == [4, 2, 1, 1]


@pytest.mark.slow
def test_several_processes_evaluate_what_one_does(trained: Path, tmp_path: Path) -> None:
    """The averaged network of a training, where each process has batch statistics of its own."""
    (tmp_path / "data.txt").write_text(str(trained / "in"))
    for count in (1, 2, 3):
        launch(count, "-m", "tests.two_processes", "evaluation", tmp_path)
    one, *others = (
        torch.load(tmp_path / f"evaluation {n}.pt", weights_only=False) for n in (1, 2, 3)
    )
    assert one.scores.map50 > 0
    assert len(one.detections) > 6
    for other in others:
        assert {field.name for field in fields(other)} == {field.name for field in fields(one)}
        same(other, one)
