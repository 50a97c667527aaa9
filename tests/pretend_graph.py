"""A stand-in for CUDA graphs where `tests/pretend_gpu.py` pretends a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from tests.pretend_gpu import PretendGpu


class Recording:
    """Operators as they were called, to be done again on the same memory.

    As on CUDA nothing is done while it is recorded, as far as can be seen: what was there before
    gets its numbers back at the end. Numbers of the host stay what they were.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.known: dict[int, tuple[Tensor, Tensor] | None] = {}
        """By storage: what was there before, as bytes and a copy; None if made meanwhile."""

    def before(self, tensors: list[Tensor]) -> None:
        """Keep what tensors hold before an operator runs on them."""
        for one in tensors:
            self.known.setdefault(_place(one), self._kept(one))

    def _kept(self, one: Tensor) -> tuple[Tensor, Tensor] | None:
        if _place(one) in self.known:
            return None
        whole = torch.empty(0, dtype=torch.uint8).set_(one.untyped_storage())  # type: ignore[call-overload]
        return whole, whole.clone()

    def after(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Note an operator on tensors of the CPU, and what it returned."""
        made = [one for one in tree_leaves(out) if isinstance(one, Tensor)]
        for one in made:
            self.known.setdefault(_place(one), None)
        if not func.is_view:
            self.calls.append((func, args, kwargs, made))

    def end(self) -> None:
        """Give back what was there before."""
        for kept in self.known.values():
            if kept:
                kept[0].copy_(kept[1])

    def replay(self) -> None:
        """Do the operators."""
        for func, args, kwargs, made in self.calls:
            new = tree_leaves(func(*args, **kwargs))
            for one, value in zip(made, [n for n in new if isinstance(n, Tensor)], strict=True):
                if _place(one) != _place(value):
                    one.copy_(value)


def graph_classes(gpu: PretendGpu) -> tuple[type, type]:
    """Return what stands in for torch.cuda.CUDAGraph and torch.cuda.graph."""

    class CudaGraph:
        recording: Recording

        def replay(self) -> None:
            gpu.launched("graph")
            with torch.no_grad(), _disable_current_modes():
                self.recording.replay()

    class Graph:
        def __init__(self, graph: CudaGraph, **_: object) -> None:
            self.graph = graph

        def __enter__(self) -> None:
            torch.cuda.synchronize()
            gpu.recording = Recording()

        def __exit__(self, *_: object) -> None:
            assert gpu.recording
            self.graph.recording, gpu.recording = gpu.recording, None
            with torch.no_grad(), _disable_current_modes():
                self.graph.recording.end()

    return CudaGraph, Graph


def _place(one: Tensor) -> int:
    return one.untyped_storage().data_ptr()
