"""A pretend GPU: code runs with `device="cuda:0"` on a machine without one, computed on the CPU.

    with PretendGpu() as gpu, gpu.watch() as seen:
        network.to("cuda:0")(images.to("cuda:0"))
    print(seen.report())  # dispatches, host waits and copies with their places

A «CUDA» tensor wraps a CPU tensor, and has the C++ device and dispatch keys of CUDA: torch's own
autograd, autocast and device checks work. It raises where CUDA raises: tensors of two devices in
one operation, `numpy()`, a generator of another device, CUDA in a forked process. It does not tell
how a GPU's kernels round, of races between streams, of NCCL, or what a kernel costs.
Needs a CUDA build of torch (`supported`). `tests/pretend_cuda.py` stands in for the driver.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock
from weakref import finalize

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from tests.pretend_graph import Recording

ROOT = Path(__file__).resolve().parent.parent
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
NOT_A_PLACE = re.compile(r"site-packages|lib/python3|/pretend_(gpu|cuda)\.py|<frozen|<string>")
COPIES = ("aten::_to_copy", "aten::copy_")
INDEXING = ("aten::index", "aten::index_put_", "aten::_index_put_impl_")
WAITS = dict.fromkeys(
    (
        *("aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim"),
        *("aten::unique_consecutive", "aten::equal", "aten::is_nonzero"),
        *("aten::_local_scalar_dense", "aten::_linalg_check_errors", "torchvision::nms"),
    ),
    1,
) | {"aten::bincount": 2}
"""Host waits inside one operator on CUDA: known from torch's kernels, not measured."""
NO_LAUNCH = re.compile(r"aten::(empty|new_empty|detach|alias|lift|_unsafe_view|set_|_local_scalar)")
NO_BYTES = re.compile(r"aten::(_?upsample_|grid_sampler|native_batch_norm)")
"""Operators that CUDA does not have for uint8."""


COUNTED: list[tuple[str, tuple[int, int], tuple[int, int]]] = []
"""Test, dispatches and waits, and the budget of both, whenever one was held to."""


def supported() -> bool:
    """Return whether this torch can be pretended to: a CUDA build, no older than tried."""
    version = tuple(int(number) for number in torch.__version__.split(".")[:2])
    return torch.version.cuda is not None and version >= (2, 14)


@dataclass
class Seen:
    """What was done while somebody watched; a place is the innermost line outside of torch."""

    dispatches: Counter[str] = field(default_factory=Counter)
    """Operators that launch something, by name."""
    places: Counter[str] = field(default_factory=Counter)
    """The same by place."""
    waits: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Where the host waits, by reason and place."""
    copies: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Copies between host and device by kind, such as «h2d async», and place."""
    bytes: Counter[str] = field(default_factory=Counter)
    """Bytes of these by kind."""
    peak: int = 0
    """Most bytes in live tensors of the device."""

    def report(self, most: int = 40) -> str:
        """Return all of it in lines, the places of most dispatches first."""
        sizes = ", ".join(f"{kind} {size:,} B" for kind, size in sorted(self.bytes.items()))
        lines = [
            f"{self.dispatches.total()} dispatches, {self.waits.total()} waits, "
            f"{self.copies.total()} copies ({sizes}), peak {self.peak:,} B"
        ]
        for word, found in (("waits", self.waits), ("copies", self.copies)):
            lines += [f"{n:6d} {word} {kind}  {at}" for (kind, at), n in found.most_common()]
        lines += [f"{n:6d} dispatches  {at}" for at, n in self.places.most_common(most)]
        return "\n".join(lines)

    def assert_within(self, dispatches: int, waits: int = 0) -> None:
        """Raise AssertionError that names the places if a budget is exceeded."""
        found = self.dispatches.total(), self.waits.total()
        COUNTED.append((os.environ.get("PYTEST_CURRENT_TEST", ""), found, (dispatches, waits)))
        within = found[0] <= dispatches and found[1] <= waits
        assert within, f"more than {dispatches} dispatches, {waits} waits:\n{self.report()}"


class CudaTensor(torch.Tensor):
    """A tensor that says cuda:n and holds its numbers in `inner`, on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor, index: int = 0) -> CudaTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=f"cuda:{index}",
        )
        made.inner = inner
        current().allocated(inner)
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return current().run(func, args, kwargs or {})

    def tolist(self):
        return self.cpu().tolist()

    def record_stream(self, stream) -> None:
        """Do nothing: there are no streams."""

    def numpy(self, *, force: bool = False):
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(f"can't convert {self.device} device type tensor to numpy.")

    def new_tensor(self, data, *, dtype=None, device=None, requires_grad=False):
        host = torch.tensor(data, dtype=dtype or self.dtype)
        return host.to(device or self.device).requires_grad_(requires_grad)

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            with torch.no_grad():
                made = self.detach().clone().requires_grad_(self.requires_grad)
            made.__dict__.update({k: v for k, v in self.__dict__.items() if k != "inner"})
            memo[id(self)] = made
        return memo[id(self)]

    def __reduce_ex__(self, protocol):  # as if loaded with map_location="cpu"
        return self.detach().cpu().__reduce_ex__(protocol)

    def __repr__(self, **_):
        return f"{self.detach().cpu()!r} on {self.device}"

    def __tensor_flatten__(self):  # makes Module.to exchange parameters in place
        return ["inner"], self.device.index

    @staticmethod
    def __tensor_unflatten__(inner, index, *_):
        return CudaTensor(inner["inner"], index)


class PretendGpu(TorchDispatchMode):
    """Pretends `count` GPUs of `memory` bytes in the thread that entered it."""

    entered: PretendGpu | None = None

    def __init__(self, count: int = 1, *, memory: int = 139 << 30) -> None:
        super().__init__()
        self.count, self.memory = count, memory
        self.process, self.depth, self.patches = os.getpid(), 0, ExitStack()
        self.capability = (9, 0)
        self.strict = False
        """Whether a wait raises, as after `torch.cuda.set_sync_debug_mode("error")`."""
        self.watchers: list[Seen] = []
        self.recording: Recording | None = None
        """What takes down operators, between the two ends of a recorded graph."""
        self.in_use = self.peak = 0

    def __enter__(self):
        from tests.pretend_cuda import replacements

        if self.depth == 0:
            PretendGpu.entered = self
            for target, name, value in replacements(self):
                self.patches.enter_context(mock.patch.object(target, name, value))
            torch._C._set_only_lift_cpu_tensors(True)
        self.depth += 1
        return super().__enter__()

    def __exit__(self, *error):
        done = super().__exit__(*error)
        self.depth -= 1
        if self.depth == 0:
            torch._C._set_only_lift_cpu_tensors(False)
            self.patches.close()
        return done

    @contextmanager
    def watch(self) -> Iterator[Seen]:
        """Record what is done inside."""
        seen = Seen(peak=self.in_use)
        self.watchers.append(seen)
        try:
            yield seen
        finally:
            self.watchers = [one for one in self.watchers if one is not seen]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.run(func, args, kwargs or {})

    def run(self, func, args, kwargs):
        """Run one operator: checked as on CUDA, computed on the CPU, counted."""
        flat, form = tree_flatten((args, kwargs))
        tensors = [one for one in flat if isinstance(one, torch.Tensor)]
        own = [one for one in tensors if isinstance(one, CudaTensor)]
        asked = next((one for one in flat if isinstance(one, torch.device)), None)
        makes = asked is not None and asked.type == "cuda"
        if not own and not makes:
            return func(*args, **kwargs)
        if os.getpid() != self.process:
            raise RuntimeError("Cannot re-initialize CUDA in forked subprocess.")
        name, has = func._schema.name, torch._C._dispatch_has_kernel_for_dispatch_key
        if has(func.name(), "CompositeImplicitAutograd") and not has(func.name(), "CUDA"):
            modes = torch.utils._python_dispatch._get_current_dispatch_mode_stack()
            with nullcontext() if self in modes else self:
                # The kernel in C++, not torch's decompositions in Python, which a GPU never runs.
                return func._op_dk(COMPOSITE, *args, **kwargs)
        self._check(func, name, flat, tensors, own)
        cpu_args, cpu_kwargs = tree_unflatten([_on_cpu(one) for one in flat], form)
        self._note(func, name, args, kwargs, own, asked)
        if self.recording:
            self.recording.before([one.inner for one in own])
        out = func(*cpu_args, **cpu_kwargs)
        if self.recording:
            self.recording.after(func, cpu_args, cpu_kwargs, out)
        if func._schema.is_mutable:
            return _changed(func, args, kwargs)
        if asked is not None and not makes:
            return out
        index = (asked.index or 0) if makes else own[0].device.index
        ordinary = func.is_view and not own[0].is_inference()  # and so is its view
        with torch.inference_mode(False) if ordinary else nullcontext():
            return tree_map(
                lambda x: CudaTensor(x, index) if isinstance(x, torch.Tensor) else x, out
            )

    def _check(self, func, name, flat, tensors, own) -> None:
        """Raise where CUDA does."""
        if any(isinstance(one, torch.Generator) and one.device.type != "cuda" for one in flat):
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        if own and own[0].dtype == torch.uint8 and NO_BYTES.match(name):
            raise RuntimeError(f"\"{name}\" not implemented for 'Byte' on CUDA")
        devices = sorted({str(one.device) for one in tensors if one.device.type != "meta"})
        if len(devices) < 2 or name in COPIES:
            return
        if "cpu" in devices and len(devices) == 2:
            foreign = [one for one in tensors if one.device.type == "cpu"]
            first = isinstance(tensors[0], CudaTensor)
            if first and name in INDEXING:
                return
            small = all(one.ndim == 0 for one in foreign) and (first or not func._schema.is_mutable)
            like_numbers = name.startswith(("aten::_foreach", "aten::fill"))
            if small and (like_numbers or torch.Tag.pointwise in func.tags):
                return
        found = " and ".join(devices)
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found {found} ({name})"
        )

    def _note(self, func, name, args, kwargs, own, asked) -> None:
        if not self.watchers and not self.strict and not self.recording:
            return
        if name in COPIES:
            target, source = args[:2] if name == "aten::copy_" else (None, args[0])
            to_gpu = isinstance(target, CudaTensor) or (
                target is None and (not asked or asked.type == "cuda")
            )
            if isinstance(source, CudaTensor) != to_gpu:
                later = bool(kwargs.get("non_blocking") or args[2:3] == (True,))
                self._copied(source, to_gpu, later)
                return
        if not func.is_view and not NO_LAUNCH.match(name):
            self.launched(name.removeprefix("aten::"))
        why = name.split("::")[1]
        if name in INDEXING:
            given = [one for one in args[1] if one is not None]
            writes_number = (
                name != "aten::index" and args[2].numel() == 1 and args[2].device.type == "cpu"
            )
            masks = sum(one.dtype in (torch.bool, torch.uint8) for one in given)
            self.waited(f"{why} by a mask", 0 if writes_number else masks)
            for one in (one for one in given if not isinstance(one, CudaTensor)):
                self._copied(one, True, False)
        elif name == "aten::repeat_interleave":
            self.waited(why, int(kwargs.get("output_size") is None))
        elif name == "aten::isin" and len(own) == 2:
            self.waited(why, int(args[1].numel() >= 10 * max(args[0].numel(), 1) ** 0.145))
        else:
            self.waited(why, WAITS.get(name, 0))

    def _copied(self, source: torch.Tensor, to_gpu: bool, later: bool) -> None:
        kind = "d2h async" if later else "d2h"
        if to_gpu:
            pinned = "async" if later else "pinned"
            kind = f"h2d {pinned if is_pinned(source) else 'pageable'}"
        for seen in [] if self.recording else self.watchers:
            seen.copies[kind, place()] += 1
            seen.bytes[kind] += source.numel() * source.element_size()
        self.waited(kind, int(not kind.endswith("async")))

    def launched(self, name: str) -> None:
        """Record a dispatch, unless a graph takes it down."""
        at = place()
        for seen in [] if self.recording else self.watchers:
            seen.dispatches[name] += 1
            seen.places[at] += 1

    def waited(self, why: str, times: int = 1) -> None:
        """Record waits of the host, or raise if these are errors."""
        if times and self.recording:
            raise RuntimeError(f"operation not permitted when stream is capturing ({why})")
        if times and self.strict:
            raise RuntimeError(f"called a synchronizing CUDA operation ({why})")
        for seen in self.watchers if times else ():
            seen.waits[why, place()] += times

    def allocated(self, inner: torch.Tensor) -> None:
        """Count the bytes of a tensor as long as its storage lives."""
        storage: Any = inner.untyped_storage()
        if not getattr(storage, "pretend_counted", False):
            if self.in_use + storage.nbytes() > self.memory:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory (pretended)")
            storage.pretend_counted = True
            self._more(storage.nbytes())
            finalize(storage, self._more, -storage.nbytes())

    def _more(self, size: int) -> None:
        self.in_use += size
        self.peak = max(self.peak, self.in_use)
        for seen in self.watchers:
            seen.peak = max(seen.peak, self.in_use)


def current() -> PretendGpu:
    assert PretendGpu.entered is not None
    return PretendGpu.entered


def is_pinned(tensor: torch.Tensor) -> bool:
    return getattr(tensor.untyped_storage(), "pretend_pinned", False)


def _on_cpu(one: Any) -> Any:
    """Return an argument as the CPU's operator takes it."""
    if isinstance(one, CudaTensor):
        return one.inner
    if isinstance(one, torch.Generator):
        return None if one.device.type == "cuda" else one
    return torch.device("cpu") if isinstance(one, torch.device) and one.type == "cuda" else one


def _changed(func, args, kwargs):
    """Return what an operator that changes its arguments returns: these."""
    slots = func._schema.arguments
    given = {
        slot.name: kwargs.get(slot.name, args[number] if number < len(args) else None)
        for number, slot in enumerate(slots)
    }
    wrapped = [one for one in given.values() if isinstance(one, CudaTensor)]
    if any(one.inner.shape != one.shape for one in wrapped):
        raise NotImplementedError(f"{func} changes a shape in place")
    owner = {frozenset(s.alias_info.before_set): s.name for s in slots if s.alias_info}
    back = [
        given[owner[frozenset(result.alias_info.before_set)]] if result.alias_info else None
        for result in func._schema.returns
    ]
    return None if not back else back[0] if len(back) == 1 else tuple(back)


def place() -> str:
    """Return the innermost line outside of torch and of this file."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and NOT_A_PLACE.search(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return "backward"
    path = Path(frame.f_code.co_filename)
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f"{shown}:{frame.f_lineno} {frame.f_code.co_name}"
