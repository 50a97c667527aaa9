"""Work on the images of a stream in groups of one shape, on the predictor's lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Protocol, TypeVar

from inference.batching import bucket_by_shape
from inference.predictor import Predictor
from settings.detect import MiningSettings


class Positioned(Protocol):
    """Something about one image of a stream."""

    @property
    def position(self) -> int:
        """The image's place in the stream."""
        ...


Item = TypeVar("Item", bound=Positioned)
Result = TypeVar("Result")


def map_by_shape(
    items: Iterable[Item],
    work: Callable[[list[Item]], Sequence[Result]],
    *,
    shape_of: Callable[[Item], tuple[int, ...] | None],
    predictor: Predictor,
    settings: MiningSettings,
) -> Iterator[Result]:
    """What `work` makes of groups of up to `batch_size` items, one after the other.

    Items of one shape come together, those without a shape alone, and no group holds items of two
    sections. Memory is bounded as in `bucket_by_shape`.
    """
    groups = bucket_by_shape(
        items,
        shape_of,
        settings.batch_size,
        section_of=lambda one: predictor.section_of(one.position),
    )
    return chain.from_iterable(predictor.lanes.map(work, groups))
