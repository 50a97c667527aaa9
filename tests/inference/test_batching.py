from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from inference.batching import WorkerPool, bucket_by_shape

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_keep_the_order_of_the_items() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.05 if item == 0 else 0)
        return item * item

    assert list(WorkerPool(CPU).map(slow_first, range(7))) == [n * n for n in range(7)]


def test_each_worker_uses_one_thread_and_the_caller_keeps_its_own() -> None:
    pool = WorkerPool(CPU)
    assert pool.count == 2
    assert set(pool.map(lambda _: torch.get_num_threads(), range(6))) == {1}
    assert torch.get_num_threads() == 2


def test_only_a_few_items_are_taken_ahead() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(50):
            taken += 1
            yield number

    for given, _ in enumerate(WorkerPool(CPU).map(lambda item: item, items()), start=1):
        assert taken <= given + 2


def test_the_first_error_comes_out() -> None:
    with pytest.raises(ValueError, match="'x'"):
        list(WorkerPool(CPU).map(int, "12x4y6"))


def test_a_gpu_is_fed_by_the_calling_thread() -> None:
    pool = WorkerPool(torch.device("cuda"))
    assert pool.count == 1
    assert list(pool.map(lambda _: threading.current_thread(), [0])) == [threading.current_thread()]


def test_batches_end_with_each_shard() -> None:
    items = [("a", 0), ("b", 0), ("a", 0), ("a", 0), ("a", 1), ("b", 1), ("a", 2)]
    groups = list(bucket_by_shape(items, lambda item: item[0], 2, shard_of=lambda item: item[1]))
    assert [len(group) for group in groups] == [2, 1, 1, 1, 1, 1]
    assert [group[0] for group in groups] == [items[n] for n in (0, 1, 3, 4, 5, 6)]
