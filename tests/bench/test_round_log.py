"""Finished rounds on disk: whatever a kill leaves, what is read back is what was over."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.round_log import (
    START,
    RoundResult,
    alone,
    append_result,
    check_setup,
    finished_rounds,
    read_results,
)
from utils.errors import Code, TaskError


def result(strategy: str, number: int, *, seed: int = 0, map50: float = 0.25) -> RoundResult:
    return RoundResult(
        seed=seed,
        strategy=strategy,
        round_number=number,
        added=(f"{strategy}-{number}.jpg", "ä.jpg"),
        labels=20 + 20 * number,
        boxes=100,
        epochs=3,
        map50=map50,
        map50_95=map50 / 2,
        losses=(0.1, 0.2, 0.30000000000000004),
        seconds=1.5,
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "seed-0" / "results.jsonl"
    assert read_results(path) == []
    results = [result(START, 0), result("cald", 1), result("random", 1)]
    for one in results:
        append_result(path, one)
    assert read_results(path) == results


def test_a_kill_at_any_byte_leaves_the_lines_before(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first, second, third = result(START, 0), result("cald", 1), result("cald", 2)
    append_result(path, first)
    begin = path.stat().st_size
    append_result(path, second)
    content = path.read_bytes()
    for size in range(begin, len(content)):
        path.write_bytes(content[:size])
        assert read_results(path) == [first]
        append_result(path, third)
        assert read_results(path) == [first, third]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(b"nonsense\n", "line 2 .*no finished round", id="no JSON"),
        pytest.param(b"\xff\xfe\n", "line 2 .*no finished round", id="no text"),
        pytest.param(b"[1]\n", "line 2 .*no finished round", id="no object"),
        pytest.param(b'{"seed": 0}\n', "line 2 .*no finished round", id="other fields"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "results.jsonl"
    append_result(path, result(START, 0))
    with path.open("ab") as file:
        file.write(line)
    with pytest.raises(TaskError, match=message) as caught:
        read_results(path)
    assert caught.value.code is Code.CONFIG


def test_a_repeated_round_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append_result(path, result("cald", 1))
    append_result(path, result("cald", 1, map50=0.5))
    with pytest.raises(TaskError, match=r"line 2 .*repeats round 1 of cald, seed 0"):
        read_results(path)


RESULTS = [
    result(START, 0),
    result("cald", 1),
    result("cald", 2),
    result("random", 2),
    result("cald", 1, seed=1),
]


@pytest.mark.parametrize(
    ("seed", "strategy", "rounds", "expected"),
    [
        pytest.param(0, "cald", 2, [(START, 0), ("cald", 1), ("cald", 2)], id="whole"),
        pytest.param(0, "cald", 1, [(START, 0), ("cald", 1)], id="fewer rounds asked for"),
        pytest.param(0, "cald", 3, [(START, 0), ("cald", 1), ("cald", 2)], id="one is left"),
        pytest.param(0, "random", 2, [(START, 0)], id="nothing counts after a gap"),
        pytest.param(0, "entropy", 2, [(START, 0)], id="new strategy, shared start"),
        pytest.param(1, "cald", 2, [], id="no start"),
    ],
)
def test_finished_rounds(
    seed: int, strategy: str, rounds: int, expected: list[tuple[str, int]]
) -> None:
    over = finished_rounds(RESULTS, seed=seed, strategy=strategy, rounds=rounds)
    assert [(one.strategy, one.round_number) for one in over] == expected


def test_another_setup_is_refused_with_what_differs() -> None:
    path = Path("experiment.json")
    check_setup({"start": 20, "data": "x"}, {"data": "x", "start": 20}, path)
    with pytest.raises(TaskError, match="start was 20, is 10; steps was None, is 5"):
        check_setup({"start": 20}, {"start": 10, "steps": 5}, path)


def test_only_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        alone(tmp_path / "lock"),
        pytest.raises(TaskError, match="another process"),
        alone(tmp_path / "lock"),
    ):
        pytest.fail("two at a time")
    with alone(tmp_path / "lock"):
        pass  # free again
