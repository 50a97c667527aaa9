"""Batches in pieces: halved when memory runs out, nothing lost, nothing done twice."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import needs_gpu
from tests.pretend_gpu import PretendGpu
from utils.errors import Code, TaskError
from utils.memory import Pieces

ERRORS = [
    torch.cuda.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("fitting", "sizes"),
    [(99, [7]), (4, [4, 3]), (3, [2, 2, 2, 1]), (1, [1] * 7)],
)
def test_pieces_are_halved_until_they_fit_and_stay_so(
    error: Exception, fitting: int, sizes: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    pieces, numbers = Pieces(), list(range(7))

    def work(part: slice) -> list[int]:
        if len(numbers[part]) > fitting:
            raise error
        return numbers[part]

    found = pieces.run(work, len(numbers))
    assert [len(one) for one in found] == sizes
    assert [number for one in found for number in one] == numbers
    halvings = len(caplog.records)
    assert halvings == {7: 0, 4: 1, 2: 2, 1: 3}[sizes[0]]
    assert pieces.run(work, len(numbers)) == found
    assert len(caplog.records) == halvings


def test_what_was_done_is_not_done_again() -> None:
    """The third image is too large for company."""
    done: list[int] = []

    def work(part: slice) -> None:
        numbers = list(range(6))[part]
        if 2 in numbers and len(numbers) > 1:
            raise MemoryError
        done.extend(numbers)

    pieces = Pieces()
    pieces.run(work, 2)
    pieces.run(work, 6)
    assert done == [0, 1, 0, 1, 2, 3, 4, 5]
    assert pieces.most == 1


def test_a_single_image_that_does_not_fit_ends_with_its_code() -> None:
    def work(part: slice) -> None:
        raise ERRORS[0]

    with pytest.raises(TaskError, match="the GPU ran out of memory with a single image") as caught:
        Pieces().run(work, 8)
    assert caught.value.code == Code.OUT_OF_MEMORY


def test_other_errors_pass() -> None:
    def work(part: slice) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        Pieces().run(work, 8)


@needs_gpu
def test_what_a_failed_piece_held_is_free_before_the_next(pretend_gpu: PretendGpu) -> None:
    """Two images take 12 of 8 MiB; one fits only if they have gone."""
    pretend_gpu.memory = 8 << 20

    def work(part: slice) -> int:
        held = [torch.zeros(1 << 20, device="cuda") for _ in range(part.start, part.stop)]
        more = torch.zeros(len(held) << 19, device="cuda")
        return len(more) >> 19

    assert Pieces().run(work, 2) == [1, 1]
