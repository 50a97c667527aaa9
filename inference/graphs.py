"""Forward passes as CUDA graphs: one launch for a batch of a shape that was seen before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from torch import Tensor

from utils.cuda_graphs import Recorder, Work
from utils.errors import first_line

log = logging.getLogger(__name__)

MAX_GRAPHS = 16
"""Shapes that have a graph; batches of further ones are launched operator by operator."""

NetworkOutput = tuple[list[Tensor], Tensor]
"""Head maps float32 [b, anchors, y, x, 5 + nc] per level, and decoded rows [b, rows, 5 + nc]."""
Forward = Callable[[Tensor], NetworkOutput]


@dataclass(frozen=True)
class _Graph:
    images: Tensor
    replay: Work
    output: NetworkOutput


class Graphs:
    """The graphs of a forward pass, by shape and type of the images; may be called by many threads.

    The first batch of a shape is computed without one: cuDNN chooses its kernels then.
    """

    def __init__(self, forward: Forward, recorder: Recorder) -> None:
        self._forward = forward
        self._recorder: Recorder | None = recorder
        self._graphs: dict[tuple[object, ...], _Graph | None] = {}
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
            if self._recorder is not None and len(self._graphs) < MAX_GRAPHS:
                self._graphs[key] = None
            return None
        if self._graphs[key] is None and self._recorder is not None:
            try:
                self._graphs[key] = self._recorded(images.clone(), self._recorder)
            except RuntimeError as error:
                self._recorder = None
                log.info("note: passes are launched without CUDA graphs (%s)", first_line(error))
        return self._graphs[key]

    def _recorded(self, images: Tensor, recorder: Recorder) -> _Graph:
        outputs: list[NetworkOutput] = []

        def work() -> None:
            outputs[:] = [self._forward(images)]

        recorder.warm_up(work)
        replay = recorder.record(work)
        return _Graph(images, replay, outputs[0])
