"""Groups hold one shape and one section, at most a batch, and lose nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

from inference.batching import WorkerPool
from mining.groups import map_by_shape
from settings.detect import MiningSettings


class Item(NamedTuple):
    position: int
    shape: tuple[int, ...] | None


def test_groups_by_hand() -> None:
    """Sections of 4: the two of shape (2,) in the first are no company for that in the second."""
    predictor: Any = SimpleNamespace(
        section_of=lambda position: position // 4, lanes=WorkerPool(torch.device("cpu"))
    )
    shapes = [(1,), (2,), (1,), (2,), (2,), None, (1,)]
    groups: list[list[int]] = []

    def work(group: list[Item]) -> list[int]:
        groups.append([one.position for one in group])
        return [10 * one.position for one in group]

    made = map_by_shape(
        (Item(position, shape) for position, shape in enumerate(shapes)),
        work,
        shape_of=lambda one: one.shape,
        predictor=predictor,
        settings=MiningSettings(batch_size=2),
    )
    assert sorted(made) == [0, 10, 20, 30, 40, 50, 60]
    assert sorted(groups) == [[0, 2], [1, 3], [4], [5], [6]]
