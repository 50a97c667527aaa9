"""Work on a batch in smaller pieces once memory has run out."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TypeVar

import torch

from utils.classify_error import out_of_memory
from utils.errors import Code, TaskError

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Pieces:
    """The most images that are computed at once: halved for good whenever memory runs out."""

    def __init__(self) -> None:
        self.most = sys.maxsize

    def run(self, work: Callable[[slice], Result], count: int) -> list[Result]:
        """Return `work` of slices that together are `count` images, in order: one while all fit.

        A slice that runs out of memory is done again in halves; what was done before it stays.
        Raises TaskError(OUT_OF_MEMORY) where a single image does not fit, and the error itself
        where a CUDA graph is recorded, which can only be dropped.
        """
        results: list[Result] = []
        start = 0
        while start < count:
            size = min(self.most, count - start)
            try:
                results.append(work(slice(start, start + size)))
                start += size
                continue
            except Exception as error:
                where = out_of_memory(error)
                if where is None or _is_recorded():
                    raise
                if size == 1:
                    raise TaskError(
                        Code.OUT_OF_MEMORY,
                        f"{where} ran out of memory with a single image: lower img_size, or choose "
                        "a smaller model.",
                    ) from error
            # Not in the handler: the error's frames hold what has to be freed first.
            self._halve(size, where)
        return results

    def _halve(self, size: int, where: str) -> None:
        half = -(-size // 2)
        if half < self.most:  # else another thread was first
            self.most = half
            log.warning(
                "%s ran out of memory with %d images at once: going on with %d at most",
                *(where, size, half),
            )
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def _is_recorded() -> bool:
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
