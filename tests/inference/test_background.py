"""Work behind a stream: in order, done before it is reported, errors to the caller."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from inference.background import ITEMS_BEHIND, done_behind


def test_every_item_comes_in_order_after_its_work_in_another_thread() -> None:
    done, seen = list[int](), set[threading.Thread]()

    def work(item: int) -> None:
        time.sleep(0.001 * (item % 3))
        seen.add(threading.current_thread())
        done.append(item)

    for number, item in enumerate(done_behind(range(200), work)):
        assert item == number
        assert done[item] == item
    assert done == [*range(200)]
    assert len(seen) == 1
    assert threading.current_thread() not in seen


def test_the_stream_runs_ahead_of_slow_work_by_so_many_items() -> None:
    go, taken = threading.Event(), 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            if taken > ITEMS_BEHIND:
                go.set()  # no sooner does the first work end
            yield number

    stream = done_behind(items(), lambda item: go.wait(10))
    assert next(stream) == 0
    assert ITEMS_BEHIND <= taken <= ITEMS_BEHIND + 2
    stream.close()


def test_an_error_of_the_work_comes_out_and_ends_it() -> None:
    done, given = list[int](), list[int]()

    def work(item: int) -> None:
        if item == 5:
            raise OSError("disk full")
        done.append(item)

    with pytest.raises(OSError, match="disk full"):
        given.extend(done_behind(range(100), work))
    assert done == given == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("by_consumer", [False, True])
def test_what_is_out_of_the_stream_is_worked_on_whoever_ends_it(by_consumer: bool) -> None:
    done, taken = list[int](), list[int]()

    def items() -> Iterator[int]:
        for number in range(30):
            if number == 20 and not by_consumer:
                raise KeyboardInterrupt
            taken.append(number)
            yield number

    def work(item: int) -> None:
        time.sleep(0.002)
        done.append(item)

    stream = done_behind(items(), work)
    if by_consumer:
        next(stream)
        stream.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            list(stream)
    assert done == taken
    assert not [one for one in threading.enumerate() if one.name.startswith("writer")]
