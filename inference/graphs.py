"""Forward passes as CUDA graphs: one launch for a batch of a shape that was seen before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor

from utils.errors import first_line

log = logging.getLogger(__name__)

MAX_GRAPHS = 16
"""Shapes that have a graph; batches of further ones are launched operator by operator."""

NetworkOutput = tuple[list[Tensor], Tensor]
"""Head maps float32 [b, anchors, y, x, 5 + nc] per level, and decoded rows [b, rows, 5 + nc]."""
Forward = Callable[[Tensor], NetworkOutput]
Replay = Callable[[], object]


def capture(forward: Forward, images: Tensor) -> tuple[Replay, NetworkOutput]:
    """Capture a pass over `images`; return what repeats it, and the tensors that it then fills.

    Raises RuntimeError where CUDA cannot.
    """
    graph = torch.cuda.CUDAGraph()
    # Only this thread's calls must be capturable: others pin memory meanwhile.
    with (
        torch.cuda.device(images.device),
        torch.cuda.graph(graph, capture_error_mode="thread_local"),
    ):
        output = forward(images)
    return graph.replay, output


@dataclass(frozen=True)
class _Graph:
    images: Tensor
    replay: Replay
    output: NetworkOutput


class Graphs:
    """The graphs of a forward pass, by shape and type of the images; may be called by many threads.

    The first batch of a shape is computed without one: cuDNN chooses its kernels then.
    """

    def __init__(
        self,
        forward: Forward,
        capture: Callable[[Forward, Tensor], tuple[Replay, NetworkOutput]] = capture,
    ) -> None:
        self._forward, self._capture = forward, capture
        self._graphs: dict[tuple[object, ...], _Graph | None] = {}
        self._is_possible = True
        self._lock = Lock()

    def __call__(self, images: Tensor, *, maps: bool = True) -> NetworkOutput:
        """Return the output of the forward pass, without head maps unless `maps`."""
        key = (*images.shape, *images.stride(), images.dtype)
        with self._lock:
            graph = self._graph(key, images)
            if graph is None:
                levels, rows = self._forward(images)
                return (levels if maps else []), rows
            graph.images.copy_(images)
            graph.replay()
            levels, rows = graph.output
            # Copies: the next batch overwrites these.
            return [level.clone() for level in levels if maps], rows.clone()

    def _graph(self, key: tuple[object, ...], images: Tensor) -> _Graph | None:
        """Return the graph of a shape, captured at its second batch; None without one."""
        if key not in self._graphs:
            if self._is_possible and len(self._graphs) < MAX_GRAPHS:
                self._graphs[key] = None
            return None
        if self._graphs[key] is None and self._is_possible:
            try:
                own = images.clone()
                self._graphs[key] = _Graph(own, *self._capture(self._forward, own))
            except RuntimeError as error:
                self._is_possible = False
                log.info("note: passes are launched without CUDA graphs (%s)", first_line(error))
        return self._graphs[key]
