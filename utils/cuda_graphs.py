"""Work on a GPU that is recorded once as a CUDA graph, and done again by one launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

Work = Callable[[], object]


class Recorder(Protocol):
    """What records work on a device."""

    def warm_up(self, work: Work) -> None:
        """Do the work, as it will be recorded."""

    def record(self, work: Work) -> Work:
        """Return what does the work again, on the same tensors; it has not been done yet.

        Raises RuntimeError if the work cannot be recorded.
        """


class CudaGraphs:
    """Records CUDA graphs, all in the same memory: only one is replayed at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._stream = torch.cuda.Stream()
            self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> None:
        """Do the work on the stream of recordings."""
        with torch.cuda.device(self._device):
            outer = torch.cuda.current_stream()
            self._stream.wait_stream(outer)
            with torch.cuda.stream(self._stream):
                work()
            outer.wait_stream(self._stream)

    def record(self, work: Work) -> Work:
        """Record the work; see `Recorder`."""
        with torch.cuda.device(self._device):
            graph = torch.cuda.CUDAGraph()
            # The outer context comes back to this stream where a failed recording does not.
            # Other threads may use CUDA meanwhile: one pins the batches to come.
            with (
                torch.cuda.stream(torch.cuda.current_stream()),
                torch.cuda.graph(
                    graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
                ),
            ):
                work()
        return graph.replay
