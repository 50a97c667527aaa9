"""Scores through the log and back, and who is told of what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from inference.journal import Journal
from inference.predictions import Prediction
from mining.scores import Scored
from tasks.going_on import Stream

ROWS = np.array([[1, 2, 30.1, 40, 0.7, 1]], np.float32)
SCORED = [
    Scored(
        1,
        "b",
        1 / 3,
        class_vector=np.array([0, 0.1, 0, 0.7], np.float32),
        feature=np.array([2048, -3, 0], np.float32),
    ),
    Scored(0, "a", None),
    Scored(2, "c", None, empty=True),
    Scored(3, "d", 0.1 + 0.2, class_vector=np.zeros(3)),
]


def prediction(n: int) -> Prediction:
    return Prediction(n, "abcd"[n], (9, 9) if n else None, ROWS[:n], error=None if n else "broken")


def run(path: Path, *, stop: int = 9) -> tuple[list[Scored], list[int], list[int]]:
    """Scores that came, positions that a watcher heard of, first positions asked for."""
    heard: list[int] = []
    asked: list[int] = []
    with Journal(path, identity="x", section=2, total=4) as log:
        stream = Stream(log, [lambda one: heard.append(one.position)])

        def rest(first: int) -> Iterator[Scored]:
            asked.append(first)
            for n in range(first, 4):
                stream.watch(prediction(n))
            yield from [one for one in SCORED if one.position >= first][:stop]

        return list(stream.scores(rest)), heard, asked


def same(found: list[Scored]) -> bool:
    def plain(one: Scored) -> tuple[object, ...]:
        vectors = (one.class_vector, one.feature)
        return (*one[:4], *(None if v is None else (v.dtype, v.tolist()) for v in vectors))

    return [plain(one) for one in found] == [plain(one) for one in SCORED]


def test_a_second_run_has_all_from_disk(tmp_path: Path) -> None:
    for asked in (0, 4):
        scores, heard, first = run(tmp_path / "log")
        assert same(scores)
        assert heard == [0, 1, 2, 3]
        assert first == [asked]


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    run(tmp_path / "log", stop=3)
    scores, heard, first = run(tmp_path / "log")
    assert same(scores)
    assert heard == [0, 1, 2, 3]
    assert first == [2]


def test_images_without_scores_come_back_too(tmp_path: Path) -> None:
    for asked in (0, 4):
        heard: list[Prediction] = []
        with Journal(tmp_path / "log", identity="x", section=3, total=4) as log:
            stream = Stream(log, [heard.append])
            firsts: list[int] = []

            def rest(first: int, firsts: list[int] = firsts) -> Iterator[Prediction]:
                firsts.append(first)
                return map(prediction, range(first, 4))

            assert list(stream.seen(rest)) == [0, 1, 2, 3]
            assert firsts == [asked]
        assert [one.error for one in heard] == ["broken", None, None, None]
        assert [len(one.detections) for one in heard] == [0, 1, 1, 1]
        assert np.array_equal(heard[1].detections, ROWS)
