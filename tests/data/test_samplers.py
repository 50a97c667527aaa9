"""The order of an epoch: whole, repeatable, shared among processes, weighted or rectangular."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler

from data.dataset_index import DatasetIndex
from data.instances import Instances
from data.samplers import (
    QuadBatchSampler,
    RectangularBatches,
    TrainingSampler,
    WeightedSampler,
    image_weights,
    shared_positions,
)


class TestSampler:
    def test_every_image_once_in_an_order_of_its_epoch(self) -> None:
        sampler = TrainingSampler(50, seed=3)
        orders = []
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            keys = list(sampler)
            assert {key[0] for key in keys} == {epoch}
            orders.append([image for _, image in keys])
            assert sorted(orders[-1]) == list(range(50))
        assert orders[0] != orders[1]
        assert orders[0] != [image for _, image in TrainingSampler(50, seed=4)]

    @pytest.mark.parametrize(("count", "world"), [(10, 2), (10, 3), (2, 5), (7, 1)])
    def test_processes_share_the_images(self, count: int, world: int) -> None:
        parts = [
            [image for _, image in TrainingSampler(count, seed=0, rank=rank, world=world)]
            for rank in range(world)
        ]
        assert {len(part) for part in parts} == {-(-count // world)}
        assert set(itertools.chain(*parts)) == set(range(count))


def rare_class_index(common: int = 30) -> DatasetIndex:
    """Images with a box of class 0 each, but the last: class 1, and one without boxes before it."""
    counts = [1] * common + [0, 1]
    instances = Instances([[0, 0, 4, 4]] * (common + 1), [0] * common + [1])
    paths, sizes = [str(number) for number in range(len(counts))], [(8, 8)] * len(counts)
    return DatasetIndex.build(paths, sizes, instances, counts, ("common", "rare"))


class TestWeightedSampler:
    def sampler(self, **change: int) -> WeightedSampler:
        index = rare_class_index()
        return WeightedSampler(index, shared_positions(len(index)), **({"seed": 5} | change))

    def test_rare_images_come_often_and_empty_ones_never(self) -> None:
        """Class weights 1/30 and 1 make 30 common images as likely together as the rare one."""
        sampler = self.sampler()
        drawn: Counter[int] = Counter()
        for epoch in range(40):
            sampler.set_epoch(epoch)
            drawn.update(key[1] for key in sampler)
        assert drawn.total() == 40 * 32
        assert drawn[30] == 0
        assert 0.45 < drawn[31] / drawn.total() < 0.55

    def test_what_is_found_already_comes_less(self) -> None:
        sampler = self.sampler()
        sampler.update_class_weights(np.array([0.0, 1.0]))
        assert 31 not in [key[1] for key in sampler]
        sampler.update_class_weights(np.array([1.0, 1.0]))  # nothing left to learn: all alike
        np.testing.assert_array_equal(sampler.weights, np.ones(32))

    def test_an_image_drawn_again_has_a_key_of_its_own(self) -> None:
        sampler = self.sampler()
        sampler.set_epoch(3)
        keys = list(sampler)
        assert len(set(keys)) == len(keys) == 32
        assert [key[1] for key in keys] == sampler.mosaic_candidates.tolist()
        rare = sorted(key for key in keys if key[1] == 31)
        assert rare == [(3, 31), *[(3, 31, repeat) for repeat in range(1, len(rare))]]

    def test_processes_share_one_draw(self) -> None:
        whole = list(self.sampler())
        parts = [list(self.sampler(rank=rank, world=2)) for rank in range(2)]
        assert [key for pair in zip(*parts, strict=True) for key in pair] == whole


class TestRectangularBatches:
    order = np.array([4, 0, 3, 1, 2])

    def test_groups_in_order_every_epoch(self) -> None:
        batches = RectangularBatches(self.order, 2)
        assert len(batches) == 3
        for epoch in (0, 1):
            batches.set_epoch(epoch)
            images = [[4, 0], [3, 1], [2]]
            assert list(batches) == [[(epoch, image) for image in batch] for batch in images]

    def test_processes_share_whole_groups(self) -> None:
        parts = [list(RectangularBatches(self.order, 2, rank=rank, world=2)) for rank in range(2)]
        assert parts == [[[(0, 4), (0, 0)], [(0, 2)]], [[(0, 3), (0, 1)], [(0, 4), (0, 0)]]]


def test_in_fours() -> None:
    sampler = TrainingSampler(11, seed=0)
    plain = list(BatchSampler(sampler, 6, drop_last=False))
    fours = QuadBatchSampler(BatchSampler(sampler, 6, drop_last=False))
    assert len(fours) == 2
    batches = list(fours)
    assert [[len(keys) for keys in batch] for batch in batches] == [[4, 2], [4, 1]]
    assert [list(itertools.chain(*batch)) for batch in batches] == plain


def test_shared_positions_are_seen_by_a_forked_process() -> None:
    positions = shared_positions(3)
    assert positions.tolist() == [0, 1, 2]
    context = torch.multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    ready = context.Event()

    def look() -> None:
        ready.wait()
        queue.put(positions.tolist())

    process = context.Process(target=look)
    process.start()
    positions[:] = [7, 8, 9]
    ready.set()
    assert queue.get() == [7, 8, 9]
    process.join()
    assert shared_positions(0).tolist() == []


INDEX = DatasetIndex.build(
    ["a", "b", "c"],
    [(9, 9)] * 3,
    Instances([[0, 0, 2, 2]] * 5, [0, 0, 1, 0, 0]),
    [3, 0, 2],
    ("dog", "cat", "owl"),
)
"""a: dog, dog, cat; b: nothing; c: dog, dog. No owl anywhere."""


def test_image_weights_by_hand() -> None:
    """Counts 4, 1, 0: inverses 1/4, 1, 1 of sum 9/4; times 3: class weights 1/3, 4/3, 4/3.

    A dog is worth (1/3)(1 - 1/2)^2 / 3 = 1/36, a cat (4/3)(1 - 0)^2 / 3 = 4/9.
    """
    weights = image_weights(INDEX, np.array([0.5, 0.0, 0.9]))
    np.testing.assert_allclose(weights, [2 / 36 + 4 / 9, 0, 2 / 36])
